"""Runs and sweeps that a signal stops: they say so, and their exit status does too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytorch_lightning.utilities.exceptions import SIGTERMException

from prunekit.app.train import main, run_once
from tests.conftest import SHORT, compose_config

STOPPED = 128 + signal.SIGTERM


def _stop(*_: object, **__: object) -> None:
    raise SIGTERMException


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
    assert "stopped by SIGTERM; the same command goes on" in told.err
    jobs = json.loads(next(tmp_path.glob("sweeps/*/jobs.json")).read_text())
    assert [job["state"] for job in jobs] == ["cut off", "not started"]


@pytest.mark.slow
@pytest.mark.parametrize("many", [(), ("seed=0,1", "-m")])
def test_a_signal_from_outside_stops_the_command_and_the_same_command_goes_on(tmp_path, many):
    arguments = ("experiment=digits_region", "dense_epochs=40", "~callbacks.heatmaps", "trainer.accelerator=cpu",
                 f"paths.runs_dir={tmp_path / 'runs'}", *many)  # fmt: skip
    command = [sys.executable, "-m", "prunekit.app.train", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED, errors
    assert "stopped by SIGTERM" in errors
    assert not list(Path(tmp_path).rglob("results.json"))
