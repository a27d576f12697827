"""A recogniser that looks at a stream: it says what it sees as it changes, and how the stream ended."""

import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from prunekit.app.live import Live, summary
from prunekit.app.live_reader import LiveReader
from prunekit.app.predict import Predictor
from prunekit.app.predict import main as predict_main
from prunekit.data_modules.frames import read_frames
from prunekit.data_modules.stream_frames import Counts
from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.step_files import STEP
from prunekit.streams import Stream, load_stream
from tests.app import long_stream
from tests.app.live_export import write_export
from tests.data_modules.test_stream_frames import write_ts
from tests.data_modules.videos import write_levels

ROOT = Path(__file__).parents[2]
GREYS = [40] * 20 + [200] * 20 + [40] * 10  # 2 seconds


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("live") / "export")


def run(export, source, *more, capsys=None):
    with pytest.raises(SystemExit) as end:
        predict_main([str(export), "--stream", str(source), *more])
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


@pytest.mark.parametrize("by", ["weights", "onnx"])
def test_the_class_is_said_as_it_changes(by, export, tmp_path, capsys):
    path = write_levels(tmp_path / "a.mp4", GREYS)
    code, out, err = run(export, path, "--by", by, capsys=capsys)
    assert (code, err) == (0, "")
    changes = [line.split(maxsplit=4) for line in out.splitlines() if " s  " in line and "%" in line]
    assert [(float(second), label, *early) for second, _, label, _, *early in changes] == [
        (0.04, "Dark", "(after 1 of 5 frames)"), (0.84, "Bright"), (1.64, "Dark"),
    ]  # fmt: skip
    for words in ("50, 48x32", "25, one every 0.08 s", "dropped", "decoding", "backbone", "network", "ms at 95 %"):
        assert words in out


def test_a_clip_read_as_a_stream_ends_with_its_prediction(export, tmp_path):
    path = write_levels(tmp_path / "a.mp4", [40] * 6 + [120] * 4)  # 0.4 seconds: five frames, as in training
    clip = Predictor(export)(path)
    stream = load_stream(export)
    predictor = Predictor(export)
    with path.open("rb") as file, torch.no_grad():
        features = predictor.encoder(torch.from_numpy(read_frames(file, 5, (32, 48))))
    shares = stream.step(features[None])[0].softmax(0)
    assert max(clip.probabilities.values()) == pytest.approx(float(shares.max()), abs=1e-6)


def test_a_network_begins_anew_when_it_is_told_to(export, tmp_path, capsys, monkeypatch):
    path, steps, reset = write_levels(tmp_path / "a.mp4", [200] * 15), [], Stream.reset
    monkeypatch.setattr(Stream, "reset", lambda self: (steps.append(self.steps), reset(self)))
    code, out, _ = run(export, path, "--anew", "2", "--every", "0.12", capsys=capsys)
    assert code == 0
    assert "5, one every 0.12 s" in out
    assert steps == [0, 2, 2]  # taken since the last time


def test_until_it_has_seen_as_many_frames_as_in_training_what_it_says_is_marked(export, tmp_path):
    path = write_levels(tmp_path / "a.mp4", [200] * 15)
    for anew, counts in ((0, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 2, 3, 1, 2, 3, 1])):
        live, seen = Live(Predictor(export), export, every=0.08, anew=anew), []
        live.watch(LiveReader(str(path), live.size, live.between, False, 5), seen.append)
        assert [each.frames for each in seen] == counts
        assert live.frames == 5


def test_memory_does_not_grow_with_what_is_remembered(export, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("prunekit.app.live.REMEMBERED", 3)
    predictor = Predictor(export)
    live = Live(predictor, export, every=0.04)
    reader = LiveReader(str(write_levels(tmp_path / "a.mp4", [200] * 15)), live.size, live.between, False, 5)
    seen = []
    live.watch(reader, seen.append)
    assert len(seen) == live.steps == 15
    assert {len(seconds) for seconds in live.seconds.values()} == {3}


def test_what_goes_wrong_with_a_source_is_said(export, tmp_path, capsys):
    path = write_levels(tmp_path / "a.mp4", GREYS)
    path.write_bytes(path.read_bytes()[:-300])
    code, out, err = run(export, path, capsys=capsys)
    assert code == 2
    assert f"error: {path}: no frame of it could be read" in err
    assert "frames looked at" in out
    joined = tmp_path / "joined.ts"
    sizes = [write_ts(tmp_path / f"{n}.ts", GREYS, size) for n, size in enumerate([(32, 48), (64, 64)])]
    joined.write_bytes(b"".join(path.read_bytes() for path in [*sizes, sizes[0]]))
    code, out, err = run(export, joined, capsys=capsys)
    assert code == 0
    assert err.count("the source's frames are now 64x64; they are stretched") == 1
    assert err.count("stretched") == 1  # said once, however often it changes
    (tmp_path / "none.y4m").write_bytes(long_stream.header())
    code, out, err = run(export, tmp_path / "none.y4m", capsys=capsys)
    assert (code, err) == (2, f"error: {tmp_path / 'none.y4m'}: it holds no frame\n")


def test_a_camera_is_watched_as_it_goes_and_frames_that_come_too_soon_are_dropped(export, capsys, monkeypatch):
    step = Stream.step
    monkeypatch.setattr(Stream, "step", lambda self, x: (time.sleep(0.15), step(self, x))[1])  # six a second
    camera = "lavfi:color=white:size=64x48:rate=25:duration=2,realtime"  # by the way of any of FFmpeg's devices
    code, out, err = run(export, camera, "--every", "0.04", capsys=capsys)
    assert (code, err) == (0, "")
    assert "Bright" in out
    assert "50, 64x48" in out
    looked, dropped = (int(re.search(rf"frames {words} +│ ([0-9]+)", out)[1]) for words in ("looked at", "dropped"))
    assert looked + dropped == 50
    assert dropped > 10


def test_the_summary_has_medians_and_what_all_but_one_in_twenty_stay_below():
    times = [0.001 * number for number in range(100, 0, -1)]
    live = SimpleNamespace(steps=100, between=Fraction(1, 5), seconds={"decoding": times, "network": [0.25]})
    reader = SimpleNamespace(counts=Counts(), dropped=7)
    console = Console(width=100, file=io.StringIO())
    console.print(summary(live, reader, 4.0))
    out = console.file.getvalue()
    assert "50.5 ms median, 95.0 ms at 95 %" in out
    assert "250.0 ms median, 250.0 ms at 95 %" in out
    assert "0.0 decoded, 25.0 looked at" in out


def test_exports_that_are_no_streams_are_refused(export, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        predict_main([str(export)])
    assert "one of the two: clips, or --stream" in capsys.readouterr().err
    code, _, err = run(tmp_path, "a.mp4", capsys=capsys)
    assert (code, "which has no network.json" in err) == (2, True)
    whole = (export / STEP).read_text()
    for seconds in (None, 0, "soon", 1e9, True):
        said = {key: value for key, value in (json.loads(whole) | {"seconds": seconds}).items() if key != "digest"}
        (export / STEP).write_text(json.dumps(said | {"digest": digest(said)}))
        code, _, err = run(export, "a.mp4", capsys=capsys)
        assert (code, "every: got" in err) == (2, True)
    (export / STEP).write_text(whole)
    code, _, err = run(export, "a.mp4", "--every", "nan", capsys=capsys)
    assert (code, "every: got nan" in err) == (2, True)
    code, _, err = run(export, "a.mp4", "--patience", "0", capsys=capsys)
    assert (code, "patience: got 0.0" in err) == (2, True)
    with pytest.raises(ArgumentError, match="by: got"):
        load_stream(export, "exec")


def started(export, source, *more, **how):
    command = [sys.executable, "-m", "prunekit", "predict", str(export), "--stream", str(source), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=heard, **pipes, **how)  # noqa: PLW1509


@pytest.mark.slow
def test_frames_come_by_standard_input(export, tmp_path):
    path = write_levels(tmp_path / "a.mkv", GREYS)
    with path.open("rb") as file:
        reader = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        with reader.stdout:
            out, err = started(export, "-", stdin=reader.stdout).communicate(timeout=60)
        reader.wait()
    assert [line.split()[2] for line in out.splitlines() if "%" in line and " s  " in line] == [
        "Dark", "Bright", "Dark",
    ]  # fmt: skip
    assert err == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_stream_with_its_summary(name, export, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = started(export, tmp_path / "pipe", "--patience", "60")
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(write_ts(tmp_path / "a.ts", GREYS).read_bytes())
        pipe.flush()
        assert "Dark" in process.stdout.readline()
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.Signals[name]
    assert "frames looked at" in out
    assert f"stopped by {name}" in err


@pytest.mark.slow
def test_a_process_that_is_stopped_for_a_while_goes_on(export, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    whole = write_ts(tmp_path / "a.ts", GREYS).read_bytes()
    process = started(export, tmp_path / "pipe", "--patience", "4")
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(whole[: len(whole) // 2])
        pipe.flush()
        assert "Dark" in process.stdout.readline()
        time.sleep(0.5)  # nothing comes any more, and it has seen that
        process.send_signal(signal.SIGSTOP)
        time.sleep(6)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # long enough to see how late it is
        pipe.write(whole[len(whole) // 2 :])
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "Bright" in out


@pytest.mark.slow
def test_a_pipe_that_stalls_ends_with_a_message(export, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = started(export, tmp_path / "pipe", "--patience", "2")
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(write_ts(tmp_path / "a.ts", GREYS).read_bytes())
        pipe.flush()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == f"error: {tmp_path / 'pipe'}: it has stalled: nothing came for 2 seconds\n"
    assert "frames looked at" in out


@pytest.mark.slow
def test_a_long_stream_takes_no_more_memory_nor_time_and_says_what_one_pass_says(tmp_path):
    found = long_stream.watch(600, tmp_path)
    assert "15,000, 48x32" in found.summary
    assert len(found.said) > 10
    assert [one[:2] for one in found.said] == [one[:2] for one in found.wanted]
    assert [one[2] for one in found.said] == pytest.approx([one[2] for one in found.wanted], abs=0.06)
    assert max(found.memory[2:]) - found.memory[1] < 8e6
    assert statistics.median(found.seconds[4:]) < 1.5 * statistics.median(found.seconds[:4])
