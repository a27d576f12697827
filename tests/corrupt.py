"""Damage to what a run leaves, and what each command then says: ``python -m tests.corrupt 500`` tries so many cases.

Bits are flipped, files cut, emptied, exchanged with others of the same kind, and their fields swapped. Each command has
to refuse with one message, or to mend with one, or to give what it gave before: nothing wrong in silence, no traceback.
"""

import contextlib
import io
import json
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prunekit.app.export import export
from prunekit.app.life import Run
from prunekit.app.rebuild import rebuild
from prunekit.app.report import main as report
from prunekit.errors import ArgumentError
from prunekit.exports import load_compact, plain_network, save_compact
from prunekit.models.recognizer import Recognizer
from prunekit.step_files import save_step
from prunekit.streams import load_stream
from tests.conftest import SHORT, compose_config

QUIET = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "~callbacks.heatmaps")
PRUNES_ONLY = "callbacks.region_mean_mask.retrain_epochs=0"  # such a run takes its weights from the dense network
READ = (
    "results.json",
    "config.yaml",
    "network.json",
    "masks.safetensors",
    "changes.safetensors",
    "compact.safetensors",
    "step.json",
    "step.onnx",
    "step.pt2",
)
WORDS = (b"", b"3", b"[]", b"null", b"{}", b"a: !!python/name:os.system\n", b"\xff\xfe")


def run_of(home: Path, *more: str) -> Run:
    """The run whose folder lies in ``home``."""
    paths = [f"paths.runs_dir={home}", f"paths.cache_dir={home / 'cache'}"]
    return Run(compose_config(*SHORT, *QUIET, PRUNES_ONLY, *paths, *more))


def prepare(home: Path) -> None:
    """Two finished runs, of which one is damaged and the other lends its files; an export and a stream of each."""
    for rate in ("0.5", "0.4"):
        run = run_of(home, f"callbacks.l2_mask.rate={rate}")
        run.go()
        export(run.folder, run.folder / "export")
        network = plain_network(Recognizer(3, 2, torch.optim.Adam, units=4, hidden=3))
        assert network is not None
        save_compact(run.folder / "stream", network)
        save_step(run.folder / "stream", network)


def damages(content: bytes, other: bytes, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Ways to spoil a file, without end."""
    while True:
        yield "another run's", other
        for _ in range(6):
            place = draw.randrange(len(content))
            flipped = bytes([content[place] ^ 1 << draw.randrange(8)])
            yield f"bit flipped in byte {place}", content[:place] + flipped + content[place + 1 :]
        place = draw.randrange(len(content))
        yield f"cut at {place}", content[:place]
        yield f"zeros from {place}", content[:place] + bytes(len(content) - place)
        yield "other words", draw.choice(WORDS)
        with contextlib.suppress(ValueError, UnicodeDecodeError):
            yield "values swapped", swapped(json.loads(content), draw)


def swapped(fields: dict[str, Any], draw: random.Random) -> bytes:
    """A JSON file with the values of two of its keys exchanged."""
    one, two = draw.sample(sorted(fields), 2)
    return json.dumps(fields | {one: fields[two], two: fields[one]}).encode()


def outcome(home: Path, command: str) -> Any:
    """What a command makes of a folder: its result, or the one message with which it refuses.

    Raises:
        Exception: any that is no message.
    """
    run = run_of(home, "callbacks.l2_mask.rate=0.5")
    try:
        if command == "report":
            return reported(run.home / run.config["name"])
        if command == "export":
            return rebuild(run.folder).module.state_dict()
        if command == "load":
            return load_compact(run.folder / "export").state_dict()
        if command == "stream":
            streams = {by: load_stream(run.folder / "stream", by) for by in ("weights", "onnx", "pt2")}
            return {by: stream.step(torch.ones(1, 2, 3)) for by, stream in streams.items()}
        again = run if command == "train" else run_of(home, "callbacks.l2_mask.rate=0.3")
        found = again.go()
        return found if command == "train" else load_file(again.folder / "masks.safetensors")
    except (ArgumentError, SystemExit) as error:
        return f"refused: {error}"


def reported(folder: Path) -> str:
    """The report's table; where a run is left out by name, that."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        report([str(folder)])
    said = (folder / "report" / "report.md").read_text()
    refused = any(word in said for word in ("damaged: ", "left out: "))
    return "refused: one run, by name" if refused else (folder / "report" / "results.csv").read_text()


COMMANDS = ("report", "export", "load", "stream", "train", "another run")


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal to the bit."""
    if isinstance(one, dict) and all(isinstance(value, torch.Tensor) for value in one.values()):
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    return bool(one == other)


def try_cases(whole: Path, number: int, seed: int = 0) -> list[str]:
    """Damage files of the runs in ``whole`` one after the other; what went wrong, in words."""
    draw = random.Random(seed)
    expected = {}
    for command in COMMANDS:
        with copied(whole) as home:
            expected[command] = outcome(home, command)
    mine = run_of(whole, "callbacks.l2_mask.rate=0.5").folder
    theirs = run_of(whole, "callbacks.l2_mask.rate=0.4").folder
    files = [path for path in sorted(mine.rglob("*")) if path.name in READ or path.suffix == ".ckpt"]
    files += sorted((whole / "dense").rglob("dense.*"))
    spoil = {}
    for path in files:
        other = theirs / path.relative_to(mine) if mine in path.parents else path
        spoil[path] = damages(path.read_bytes(), other.read_bytes(), draw)
    wrong = []
    for case in range(number):
        path = files[case % len(files)]
        how, content = next(spoil[path])
        command = draw.choice(COMMANDS)
        with copied(whole) as home:
            (home / path.relative_to(whole)).write_bytes(content)
            words = f"{path.relative_to(whole)}, {how}: {command}"
            try:
                found = outcome(home, command)
            except Exception as error:
                wrong.append(f"{words} ends with {type(error).__name__}: {error}")
                continue
        refused = isinstance(found, str) and found.startswith("refused")
        if not refused and not same(found, expected[command]):
            wrong.append(f"{words} gives another result, and no word")
    return wrong


@contextlib.contextmanager
def copied(whole: Path) -> Iterator[Path]:
    """A copy of the runs to be damaged, in the very place that they know."""
    kept = whole.with_name(f"{whole.name}-kept")
    shutil.copytree(whole, kept)
    try:
        yield whole
    finally:
        shutil.rmtree(whole)
        kept.rename(whole)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder, "runs"))
        found = try_cases(Path(folder, "runs"), int(sys.argv[1]) if len(sys.argv) > 1 else 500)
    print("\n".join(found) or "nothing wrong passed in silence, and there was no traceback")
    sys.exit(bool(found))
