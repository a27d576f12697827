"""Under Slurm a warning that time is up: the run saves, and has its job put back into the queue."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from prunekit.app.stops import requeue, slurm_job
from tests.end_to_end import killing
from tests.end_to_end.signalling import end_of, send_before, start
from tests.end_to_end.test_kills import overrides
from tests.end_to_end.test_stops import STEP

SLURM = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
ARRAY = {"SLURM_ARRAY_JOB_ID": "15", "SLURM_ARRAY_TASK_ID": "2"}


def scontrol(folder: Path, ends: str = "exit 0") -> str:
    """A PATH with a stand-in for Slurm's command first, which notes what it is asked for."""
    tool = folder / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/asked"\n{ends}\n')
    tool.chmod(0o755)
    return f"{tool.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize(("more", "job"), [({}, "17"), (ARRAY, "15_2"), ({"SLURM_JOB_ID": "17; rm"}, None)])
def test_a_job_has_slurms_name(more, job, monkeypatch):
    for name, value in (SLURM | more).items():
        monkeypatch.setenv(name, value)
    assert slurm_job() == job


def test_why_a_job_is_not_queued_again_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", scontrol(tmp_path, "echo 'Requested operation is\npermitted not' >&2; exit 1"))
    assert requeue("17") == "Requested operation is permitted not"
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "scontrol" in requeue("17")


@pytest.mark.slow
@pytest.mark.parametrize(("more", "job"), [({}, "17"), (ARRAY, "15_2")])
def test_a_warned_run_saves_is_queued_again_and_goes_on(more, job, tmp_path):
    killing.warm_up()
    arguments = overrides(tmp_path / "run", "momentum", "epochs")
    errors, environment = tmp_path / "errors", SLURM | more | {"PATH": scontrol(tmp_path)}
    process = start(*arguments, errors=errors, prepare=partial(send_before, *STEP, 171, signal.SIGUSR1), **environment)
    assert end_of(process) == 128 + signal.SIGUSR1, errors.read_text()
    saved = tmp_path / "run" / "checkpoints" / "epoch0004-step00000170.ckpt"
    assert errors.read_text() == f"stopped by SIGUSR1; job {job} is queued again and goes on from {saved}\n"
    assert (tmp_path / "asked").read_text() == f"requeue {job}\n"
    assert saved.exists()
    assert not list(tmp_path.rglob("hpc_ckpt*"))  # Lightning's, which it would take for the newest
    process = start(*arguments, errors=errors, **environment)
    process.join(120)
    assert process.exitcode == 0
    assert (tmp_path / "run" / "results.json").exists()
