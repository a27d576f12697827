"""Of a run on two ranks no process is left when one of them is gone, and what ended it is said."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.signalling import TAG, kill_tagged, tagged, wait_for

pytestmark = pytest.mark.slow
LONG = (
    "experiment=digits_region", "trainer=ddp", "trainer.accelerator=cpu", "dense_epochs=5000", "~callbacks.heatmaps",
    "trainer.enable_progress_bar=false",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path):
    yield
    kill_tagged(str(tmp_path))


def started(folder: Path) -> tuple[subprocess.Popen, str]:
    """A run on two ranks, and the tag of its processes."""
    command = [sys.executable, "-m", "prunekit", "train", *LONG, f"paths.runs_dir={folder / 'runs'}"]
    environment = os.environ | {TAG: str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(command, stderr=errors, stdout=errors, env=environment), str(folder)


def second(process: subprocess.Popen, tag: str) -> int:
    """The number of rank 1, once it is there."""
    return wait_for(lambda: [one for one in tagged(tag) if one != process.pid], 120, "rank 1")[0]


def all_ended(process: subprocess.Popen, tag: str) -> str:
    """What was said, once all have ended as soon as they must and the first has told that not all is well."""
    wait_for(lambda: process.poll() is not None, 30, "the end of rank 0")
    wait_for(lambda: not tagged(tag), 30, "the end of rank 1")
    assert process.returncode not in (0, None)
    return Path(tag, "errors").read_text()


# Who is sent what while both are training, and what is said.
TRAINING = {
    "all are asked to stop": ((0, 1), signal.SIGTERM, "stopped by SIGTERM; ranks are not at the same step"),
    "rank 0 is asked to stop": ((0,), signal.SIGTERM, "stopped by SIGTERM; ranks are not at the same step"),
    "rank 1 is asked to stop": ((1,), signal.SIGTERM, "was stopped by SIGTERM, and so the run ends"),
    "rank 0 is killed": ((0,), signal.SIGKILL, "rank 0 (process "),
    "rank 1 is killed": ((1,), signal.SIGKILL, "was ended by SIGKILL, and so the run ends"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_in_training(case, tmp_path):
    ranks, number, words = TRAINING[case]
    process, tag = started(tmp_path)
    other = second(process, tag)
    wait_for(lambda: list(tmp_path.rglob("*.ckpt")), 120, "a checkpoint")
    time.sleep(random.Random(case).uniform(0, 1))
    for rank in ranks:
        os.kill((process.pid, other)[rank], number)
    text = all_ended(process, tag)
    assert words in text
    assert "Traceback" not in text, text
    if number == signal.SIGTERM and 0 in ranks:
        assert process.returncode == 128 + number, text


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_while_rank_1_starts(rank, tmp_path):
    """Before there is a process group, whose store would tell."""
    process, tag = started(tmp_path)
    other = second(process, tag)
    time.sleep(random.Random(rank).uniform(0, 2))
    os.kill((process.pid, other)[rank], signal.SIGKILL)
    text = all_ended(process, tag)
    assert ("rank 0 (process " in text) if rank == 0 else "was ended by SIGKILL, and so the run ends" in text


def test_what_torchrun_started_ends_with_it(tmp_path):
    tag = str(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [*command, "-m", "prunekit", "train", *LONG, f"paths.runs_dir={tmp_path / 'runs'}"],
            stderr=errors, stdout=errors, env=os.environ | {TAG: tag, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    wait_for(lambda: list(tmp_path.rglob("*.ckpt")), 120, "a checkpoint")
    process.kill()
    text = all_ended(process, tag)
    assert "torchrun (process " in text
