"""Files of streams that are damaged or of an attacker: they are refused, and nothing in them is run."""

import json
import re
import shutil
from pathlib import Path

import pytest

from prunekit import load_stream
from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.exports import NETWORK
from prunekit.step_files import STEP, STEP_ONNX, STEP_PT2
from prunekit.streams import BY
from tests.prunekit.networks_of_steps import EXPORTED, WAYS


def change(folder, **values):
    """Another ``step.json``, with the digest that it has: an attacker's."""
    said = json.loads((folder / STEP).read_text()) | values
    del said["digest"]
    (folder / STEP).write_text(json.dumps(said | {"digest": digest(said)}))


def flip(path, place=-9):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def scribble(folder):
    """Another value under the digest of the one before."""
    text = (folder / STEP).read_text()
    assert '"time": 1' in text
    (folder / STEP).write_text(text.replace('"time": 1', '"time": 0'))


def other_network(folder):
    said = json.loads((folder / NETWORK).read_text()) | {"more": 2}
    del said["digest"]
    (folder / NETWORK).write_text(json.dumps(said | {"digest": digest(said)}))


def swap_programs(folder):
    """One program under the other's name, with the digest that it has."""
    shas = json.loads((folder / STEP).read_text())["files"]
    (folder / STEP_ONNX).rename(folder / "x")
    (folder / STEP_PT2).rename(folder / STEP_ONNX)
    (folder / "x").rename(folder / STEP_PT2)
    change(folder, files={STEP_ONNX: shas[STEP_PT2], STEP_PT2: shas[STEP_ONNX]})


INPUT = {"shape": [None, None, 3], "time": 1, "dtype": "float32"}
STATES = [["lstm.h", [1, None, 4], "float32"], ["lstm.c", [1, None, 4], "float32"]]
STATES += [["sum", [None, 4], "float64"], ["count", [], "int64"]]
LYING = {
    "fewer states": STATES[:3],
    "another width": [["lstm.h", [1, None, 5], "float32"], *STATES[1:]],
    "another type": [["lstm.h", [1, None, 4], "float64"], *STATES[1:]],
    "another layer": [["head.h", [1, None, 4], "float32"], *STATES[1:]],
    "no layer of it": [[f"x.{number}", *state[1:]] for number, state in enumerate(STATES)],
}  # fmt: skip
HOSTILE = {
    "no states": [],
    "a million states": [[str(n), [1, None, 1], "float32"] for n in range(10_000)],
    "huge": [["lstm.h", [1, None, 2**40], "float32"]],
    "many dimensions": [["lstm.h", [1, None] + [2] * 40, "float32"]],
    "very many dimensions": [["lstm.h", [1, None, 4] + [1] * 10**4, "float32"]],
    "negative": [["lstm.h", [1, None, -4], "float32"]],
    "truth for a number": [["lstm.h", [True, None, 4], "float32"]],
    "no type": [["lstm.h", [1, None, 4], "__class__"]],
    "twice": [STATES[0], STATES[0]],
    "no list": 5,
    "huge together": [[f"{n}.h", [1, None, 2**25], "float32"] for n in range(3)],
}  # fmt: skip
DAMAGES = {
    "no step.json": (lambda folder: (folder / STEP).unlink(), "whose step.json cannot be read .FileNotFound"),
    "another value, silently": (scribble, "step.json is not as it was written"),
    "a later format": (lambda folder: change(folder, format=2), "another format"),
    "another network": (other_network, "is not of the network.json beside it"),
    "deep": (lambda folder: (folder / STEP).write_text("[" * 10**5), "RecursionError"),
    "another dimension of steps": (lambda f: change(f, input=INPUT | {"time": 5}), "sequences of"),
    "no features": (lambda f: change(f, input=INPUT | {"shape": [None, None, 0]}), "cannot be read"),
    "no files": (lambda f: change(f, files=[5]), "cannot be read"),
    "no input": (lambda f: change(f, input=[]), "cannot be read"),
    **{name: (lambda f, s=states: change(f, states=s), "cannot be read") for name, states in HOSTILE.items()},
    **{name: (lambda f, s=states: change(f, states=s), "does not fit its") for name, states in LYING.items()},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_and_hostile_descriptions_are_refused(damage, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "e")
    spoil, message = DAMAGES[damage]
    spoil(folder)
    for by in ("weights", "onnx") if "layer" in damage else WAYS:  # states have no names in the other
        with pytest.raises(ArgumentError, match=f"folder: got .*{message}"):
            load_stream(folder, by)


@pytest.mark.parametrize("by", EXPORTED)
def test_programs_that_are_not_those_written_are_not_opened(by, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.export.load", lambda *a: pytest.fail("opened"))
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *a, **k: pytest.fail("opened"))
    folder = shutil.copytree(whole, tmp_path / "e")
    for spoil in (flip, lambda path: path.write_bytes(b""), Path.unlink):
        spoil(folder / BY[by])
        with pytest.raises(ArgumentError, match=f"folder: got .*{re.escape(BY[by])}"):
            load_stream(folder, by)


@pytest.mark.parametrize("by", EXPORTED)
def test_programs_under_each_others_names_are_refused(by, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "e")
    swap_programs(folder)
    with pytest.raises(ArgumentError, match=f"folder: got .*{re.escape(BY[by])}"):
        load_stream(folder, by)
