"""Ranks that ``torchrun`` has started wait for each other at a lock, for longer than a collective would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from prunekit.app.joining import join
from prunekit.app.life import Run
from prunekit.folders import LOCK
from tests.conftest import SHORT, compose_config
from tests.end_to_end.signalling import TAG, tagged, wait_for

SECONDS_A_COLLECTIVE_MAY_TAKE = 10


@pytest.mark.slow
def test_another_run_may_hold_the_dense_network_for_longer_than_a_collective_lasts(tmp_path):
    """What it holds is trained meanwhile: both ranks find it, and not the first alone."""
    small = (*SHORT, "~callbacks.heatmaps", "trainer.enable_progress_bar=false", f"paths.runs_dir={tmp_path / 'runs'}")
    limit = f"{{_target_: datetime.timedelta, seconds: {SECONDS_A_COLLECTIVE_MAY_TAKE}}}"
    ranks = (
        "trainer=ddp", "trainer.accelerator=cpu",
        f"trainer.strategy={{_target_: pytorch_lightning.strategies.DDPStrategy, timeout: {limit}}}",
    )  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {TAG: str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(name: str, *more: str) -> tuple[subprocess.Popen, Path]:
        words = [*command, "-m", "prunekit", "train", *small, *ranks, *more]
        with (tmp_path / name).open("w") as said:
            return subprocess.Popen(words, stdout=said, stderr=said, env=environment), tmp_path / name

    first, said = run("first")
    assert first.wait(120) == 0, said.read_text()
    (dense,) = (tmp_path / "runs" / "dense").iterdir()
    aside = dense / "aside.ckpt"
    (dense / "dense.ckpt").rename(aside)
    others = FileLock(dense / LOCK)
    others.acquire()
    waiting, said = run("second", "callbacks.region_mean_mask.rate=0.3")
    try:
        wait_for(lambda: "waiting for another process" in said.read_text(), 60, "rank 0 at the lock")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5 * SECONDS_A_COLLECTIVE_MAY_TAKE)
        aside.rename(dense / "dense.ckpt")
        others.release()
        assert waiting.wait(60) == 0, said.read_text()
    finally:
        others.release()
        waiting.terminate()
        waiting.wait(60)
    assert "Traceback" not in said.read_text()
    assert len(list((tmp_path / "runs").rglob("results.json"))) == 2
    assert not tagged(str(tmp_path))


def test_a_run_alone_meets_nobody(tmp_path, monkeypatch):
    """Room for several processes is no reason to wait, where the run wants one device."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = Run(compose_config(*SHORT, f"paths.runs_dir={tmp_path}", "trainer.accelerator=cpu"))
    assert join(run.config, run.folder) is None
