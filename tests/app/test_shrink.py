"""A checkpoint of somebody's class, made smaller by the command."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prunekit.app.shrink import main
from prunekit.exports import load_compact


class Reader(nn.Module):
    """A GRU that reads, and a layer that says."""

    def __init__(self, units=16):
        super().__init__()
        self.memory, self.say = nn.GRU(3, units, batch_first=True), nn.Linear(units, 2)

    def forward(self, x):
        return self.say(self.memory(x)[0][:, -1])


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    np.save("data.npy", np.random.default_rng(0).standard_normal((256, 6, 3)))
    net = Reader(12)
    save_file(net.state_dict(), "net.safetensors")
    torch.save({"epoch": 3, "model_state": net.state_dict()}, "net.ckpt")
    return net


ARGUMENTS = ("--class", "tests.app.test_shrink:Reader", "--calibrate", "data.npy", "--out", "small")


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["shrink", *arguments])
    main()


@pytest.mark.parametrize("weights", ["net.safetensors", "net.ckpt"])
def test_a_checkpoint_becomes_a_smaller_one(weights, files, monkeypatch, capsys):
    run(monkeypatch, weights, *ARGUMENTS, "--arguments", '{"units": 12}', "--rate", "0.5")
    told = capsys.readouterr().out
    assert re.search(r"^memory +GRU +12 -> 6 ", told, re.M)
    assert "prunekit.load_compact('small', into=Reader(...))" in told
    small = load_compact("small", into=Reader())
    assert small.memory.hidden_size == 6
    x = torch.randn(50, 6, 3)
    with torch.no_grad():
        assert float((small(x) - files(x)).norm() / files(x).norm()) < 0.3


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "none.ckpt"}, "weights: got 'none.ckpt"),
        ({"weights": "bomb.ckpt"}, "weights: got 'bomb.ckpt"),
        ({"weights": "empty.ckpt"}, "weights: got 'empty.ckpt, which holds no tensors"),
        ({"--class": "tests.app.test_shrink:Nothing"}, "--class: got 'tests.app.test_shrink:Nothing"),
        ({"--class": "json:loads"}, "--arguments: got"),
        ({"--arguments": '{"units": 7}'}, "weights: got 'net.ckpt .*size mismatch"),
        ({"--arguments": "12"}, "--arguments: got '12"),
        ({"--calibrate": "bomb.npy"}, "--calibrate: got 'bomb.npy"),
        ({"--calibrate": "wide.npy"}, "batches: got 'one with which the model fails"),
        ({"--batch": "0"}, "--batch: got 0"),
        ({"--rate": "2"}, "rate: got 2"),
        ({"--out": "data.npy"}, "--out: got 'data.npy'"),
    ],
)
def test_what_cannot_work_is_one_line_and_nothing_is_executed(change, message, files, monkeypatch, capsys, tmp_path):
    Path("bomb.ckpt").write_bytes(pickle.dumps(Bomb()))
    np.save("bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.save("wide.npy", np.zeros((64, 6, 5)))
    torch.save({"epoch": 3}, "empty.ckpt")
    given = {"weights": "net.ckpt", **dict(zip(ARGUMENTS[::2], ARGUMENTS[1::2], strict=True))}
    given |= {"--arguments": '{"units": 12}', "--rate": "0.5"} | change
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, given.pop("weights"), *[word for pair in given.items() for word in pair])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(f"error: {message}", line.replace('"', "'")), line
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "small").exists()


def test_layers_may_have_rates_of_their_own(files, monkeypatch, capsys):
    run(monkeypatch, "net.safetensors", *ARGUMENTS, "--arguments", '{"units": 12}', "--rate", "memory=0.25")
    assert re.search(r"^memory +GRU +12 -> 9 ", capsys.readouterr().out, re.M)


@pytest.mark.parametrize("words", [["half"], ["memory=half"], ["0.5", "memory=0.5"], ["memory=0.1", "memory=0.2"]])
def test_a_rate_that_is_none_is_refused(words, files, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "net.safetensors", *ARGUMENTS, "--arguments", '{"units": 12}', "--rate", *words)
    assert stop.value.code == 2
    assert f"error: --rate: got '{' '.join(words)}'; accepted: a number from 0 to 1" in capsys.readouterr().err
