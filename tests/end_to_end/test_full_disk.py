"""A disk that is full in the middle of a checkpoint or of TensorBoard's events: one line, and nothing is lost."""

import errno
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.app.checkpoint_file import read_checkpoint
from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.sealed import write_sealed
from tests.end_to_end import killing
from tests.end_to_end.signalling import end_of, start
from tests.end_to_end.test_kills import overrides

FULL = Path("/dev/full")
SETTING = ("momentum", "epochs")


@pytest.mark.skipif(not FULL.exists(), reason="wants /dev/full, which Linux has")
@pytest.mark.parametrize("buffering", [0, 100_000])
def test_a_tensor_file_on_a_full_disk_is_an_error_of_the_disk(buffering):
    with pytest.raises(OSError, match="No space left") as caught, FULL.open("wb", buffering) as file:  # noqa: PT012
        write_sealed(file, lambda inner: torch.save({"x": torch.ones(100_000)}, inner))
        file.flush()
    assert caught.value.errno == errno.ENOSPC


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, whose size the test sets: it holds two checkpoints of a run and no third."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1900k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here, as for users other than root: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    killing.warm_up()
    assert killing.finish(*overrides(folder, *SETTING)) == 0
    return killing.outcome(folder)


@pytest.mark.slow
def test_a_checkpoint_that_the_disk_has_no_room_for(small_disk, whole, tmp_path):
    folder, errors = small_disk / "run", tmp_path / "errors"
    process = start(*overrides(folder, *SETTING), errors=errors)
    assert end_of(process) == 2, errors.read_text()
    found = [path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name]
    (checkpoints,) = folder.glob("dense/*/checkpoints")
    third = checkpoints / "epoch0003-step00000120.ckpt"
    assert errors.read_text() == (
        f"error: cannot read or write: [Errno 28] No space left on device: '{third}'. "
        "What was written before is whole; make room there and run the same command again\n"
    )
    assert not [path for path in found if path.name.endswith(".part")]
    kept = list_checkpoints(checkpoints)
    assert [read_checkpoint(path).epochs_done for path in kept] == [1, 2]
    enlarge(small_disk)
    assert killing.finish(*overrides(folder, *SETTING)) == 0
    killing.assert_equal(killing.outcome(folder), whole)


def fill_before(owner: str, function: str, call: int, disk: Path) -> None:
    """Fill a disk to its last byte at a moment of the run."""

    def fill() -> None:
        with (disk / "ballast").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    killing.act(owner, function, call, before=True, action=fill)


@pytest.mark.slow
def test_events_that_the_disk_has_no_room_for(small_disk, tmp_path):
    """Epochs enough to fill what is left of the last block that the events' file has."""
    folder, errors = small_disk / "run", tmp_path / "errors"
    enlarge(small_disk)
    longer = ("dense_epochs=60", "callbacks.checkpoints.every_n_epochs=60", "trainer.limit_train_batches=5")
    settings = (*overrides(folder, *SETTING), *longer)
    killing.warm_up()
    full = partial(fill_before, "prunekit.models.mlp.Mlp", "training_step", 20, small_disk)
    process = start(*settings, errors=errors, prepare=full)
    assert end_of(process) == 2, errors.read_text()
    text = errors.read_text()
    assert text.count("\n") == 1, text
    assert re.match(r"error: cannot read or write: .*No space left on device: '.*events\.out\.tfevents", text), text
    (small_disk / "ballast").unlink()
    assert killing.finish(*settings) == 0
    (dense,) = folder.glob("dense/*")
    events = EventAccumulator(str(dense))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("loss/train")] == list(range(1, 61))
