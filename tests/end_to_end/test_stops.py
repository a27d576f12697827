"""Runs and sweeps that a signal stops: they save, say so, exit with its number, and end as if never stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prunekit.app.jobs import read_jobs
from prunekit.app.train import main, run_once
from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.stopping import Stopped
from tests.conftest import SHORT, compose_config
from tests.end_to_end import killing
from tests.end_to_end.signalling import TAG, end_of, kill_tagged, send_before, start, tagged, wait_for
from tests.end_to_end.test_kills import overrides

STOPPED = 128 + signal.SIGTERM
STEP = ("prunekit.models.mlp.Mlp", "training_step")
SETTINGS = [("momentum", "epochs"), ("adam", "accumulated")]


def _stop(*_: object, **__: object) -> None:
    raise Stopped(signal.SIGTERM)


def test_a_run_that_sigterm_stops_says_so_and_exits_with_its_number(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("prunekit.app.dense.fit", _stop)
    config = compose_config(*SHORT, f"paths.runs_dir={tmp_path}", "trainer.accelerator=cpu")
    with pytest.raises(SystemExit) as stop:
        run_once(config)
    assert stop.value.code == STOPPED
    assert "stopped by SIGTERM; the same command goes on" in capsys.readouterr().err


def test_a_sweep_that_sigterm_stops_lists_its_jobs_and_exits_with_its_number(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("prunekit.app.dense.fit", _stop)
    arguments = (*SHORT, f"paths.runs_dir={tmp_path}", "trainer.accelerator=cpu", "seed=0,1", "-m")
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == STOPPED
    told = capsys.readouterr()
    assert "sweep: 2 jobs, 0 finished, 2 not" in told.out
    assert told.err.count("stopped by SIGTERM; the same command goes on") == 1
    jobs = json.loads(next(tmp_path.glob("sweeps/*/jobs.json")).read_text())
    assert [job["state"] for job in jobs] == ["cut off", "not started"]


def signalled_while_a_config_is_opened() -> None:
    """Where Hydra's own clean-up would raise something else in place of what unwinds."""
    opened, sent = Path.open, []

    def open_signalled(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "digits_region.yaml" and not sent:  # once, as a sweep composes it several times
            sent.append(path)
            os.kill(os.getpid(), signal.SIGTERM)
        return opened(path, *arguments, **named)

    Path.open = open_signalled


@pytest.mark.parametrize("many", [(), ("seed=0,1", "-m")])
def test_a_signal_while_the_config_is_composed_stops_the_command_as_any_other(many, tmp_path):
    errors = tmp_path / "errors"
    arguments = (*SHORT, f"paths.runs_dir={tmp_path / 'runs'}", *many)
    process = start(*arguments, errors=errors, prepare=signalled_while_a_config_is_opened)
    assert end_of(process) == STOPPED, errors.read_text()
    assert errors.read_text().startswith("stopped by SIGTERM; the same command goes on from its newest checkpoint ")
    assert errors.read_text().count("\n") == 1
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run of each setting, and how long it took."""
    made = {}
    killing.warm_up()
    for setting in SETTINGS:
        folder = tmp_path_factory.mktemp("whole") / "run"
        started = time.perf_counter()
        assert killing.finish(*overrides(folder, *setting)) == 0
        made[setting] = killing.outcome(folder), time.perf_counter() - started
    return made


def check_resumed(folder: Path, setting: tuple[str, str], whole: dict) -> None:
    assert killing.finish(*overrides(folder, *setting)) == 0
    killing.assert_equal(killing.outcome(folder), whole[setting][0])
    assert list(folder.rglob("*.part")) == []


# The batch that a signal comes in, and the checkpoint that is saved at the end of its step.
IN_STEP = {
    "in a dense epoch": (SETTINGS[0], 60, "epoch0001-step00000060.ckpt"),
    "on a dense epoch's last batch": (SETTINGS[0], 80, "epoch0002-step00000080.ckpt"),
    "on the last dense batch": (SETTINGS[0], 120, "epoch0003-step00000120.ckpt"),
    "in retraining": (SETTINGS[0], 170, "epoch0004-step00000170.ckpt"),
    "while gradients are accumulated": (SETTINGS[1], 60, "epoch0001-step00000021.ckpt"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", IN_STEP)
def test_the_step_that_a_signal_comes_in_is_saved(moment, whole, tmp_path):
    setting, batch, name = IN_STEP[moment]
    folder, errors = tmp_path / "run", tmp_path / "errors"
    signalled = partial(send_before, *STEP, 1 + batch)  # after the one that a run rehearses
    process = start(*overrides(folder, *setting), errors=errors, prepare=signalled)
    assert end_of(process) == STOPPED, errors.read_text()
    own = [path for path in folder.rglob("*.ckpt") if path.name == name]
    assert errors.read_text() == f"stopped by SIGTERM; the same command goes on from {own[0]}\n"
    assert list_checkpoints(own[0].parent)[-1:] == own
    check_resumed(folder, setting, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "setting"), [("SIGTERM", SETTINGS[0]), ("SIGINT", SETTINGS[1]), ("SIGHUP", SETTINGS[0])]
)
def test_stopped_at_random_moments(name, setting, whole, tmp_path):
    """Five times in a row, wherever it is: while it composes, in dense epochs, while it prunes or retrains."""
    number, moments = signal.Signals[name], random.Random(f"{name} {setting}")
    folder, errors, stopped, seconds = tmp_path / "run", tmp_path / "errors", 0, whole[setting][1]
    for _ in range(12):
        errors.write_text("")
        process = start(*overrides(folder, *setting), errors=errors)
        time.sleep(moments.uniform(0.1, 0.6) * seconds)
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        status = end_of(process)
        assert status in (0, 128 + number, -number), errors.read_text()  # before it obeys, the system ends it
        if status == 0:  # it took less time than the whole run had: too late, and so once more
            shutil.rmtree(folder)
            seconds /= 2
        if status == 128 + number:
            stopped += 1
            assert errors.read_text().startswith(f"stopped by {name}; the same command goes on from ")
            assert errors.read_text().count("\n") == 1
            assert not (folder / "results.json").exists()
        if stopped == 4:
            break
    assert stopped >= 2
    check_resumed(folder, setting, whole)


GRID = (*SHORT, "~callbacks.heatmaps", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "threads=1")


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_stopped(tmp_path):
    arguments = (*GRID, f"paths.runs_dir={tmp_path / 'runs'}", "callbacks.region_mean_mask.rate=0.2,0.4", "-m")
    errors = tmp_path / "errors"
    # Each job has 3 epochs of 12 steps, of which the second takes the first's dense ones over.
    process = start(*arguments, errors=errors, prepare=partial(send_before, *STEP, 41, signal.SIGHUP))
    assert end_of(process) == 128 + signal.SIGHUP, errors.read_text()
    text = errors.read_text()
    assert text.startswith("stopped by SIGHUP; the same command goes on from ")
    assert text.count("\n") == 1
    jobs = read_jobs(next((tmp_path / "runs" / "sweeps").iterdir()))
    assert [job["state"] for job in jobs] == ["finished", "cut off"]
    process = start(*arguments, errors=errors)
    process.join(120)
    assert process.exitcode == 0
    assert len(list((tmp_path / "runs").rglob("results.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_stopped_sweep_leaves_no_process_of_its_own(name, tmp_path):
    """Killed, it can tell nobody: its workers see that it is gone."""
    arguments = (*GRID, "dense_epochs=2000", f"paths.runs_dir={tmp_path / 'runs'}", "seed=0,1")
    command = [sys.executable, "-m", "prunekit.app.train", *arguments, "hydra/launcher=processes"]
    tag = f"{tmp_path}"
    process = subprocess.Popen(
        [*command, "hydra.launcher.n_jobs=2", "-m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {TAG: tag, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wait_for(lambda: len({path.parent for path in tmp_path.rglob("*.ckpt")}) == 2, 60, "two jobs in training")
    process.send_signal(signal.Signals[name])
    output, errors = process.communicate(timeout=30)
    try:
        wait_for(lambda: not tagged(tag), 30, "the end of all processes")
    finally:
        kill_tagged(tag)
    if name == "SIGTERM":
        assert process.returncode == STOPPED, errors
        assert "stopped by SIGTERM; the same command goes on" in errors
        assert "sweep: 2 jobs, 0 finished, 2 not" in output
        assert "Traceback" not in errors
    jobs = read_jobs(next((tmp_path / "runs" / "sweeps").iterdir()))
    assert [job["state"] for job in jobs] == ["cut off", "cut off"]


@pytest.mark.slow
def test_a_signal_from_outside_stops_the_command_and_the_same_command_goes_on(tmp_path):
    arguments = ("experiment=digits_region", "dense_epochs=40", "~callbacks.heatmaps", "trainer.accelerator=cpu",
                 f"paths.runs_dir={tmp_path / 'runs'}")  # fmt: skip
    command = [sys.executable, "-m", "prunekit", "train", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    wait_for(lambda: list(tmp_path.rglob("*.ckpt")), 120, "a checkpoint")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED, errors
    assert "stopped by SIGTERM" in errors
    assert not list(Path(tmp_path).rglob("results.json"))
