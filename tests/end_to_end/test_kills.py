"""A run killed anywhere, by `kill -9`, ends bitwise where it would have ended."""

import random
import signal
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.callbacks.checkpoints import list_checkpoints
from tests.end_to_end import killing

pytestmark = pytest.mark.slow

BASE = (
    "experiment=digits_region", "dense_epochs=3", "trainer.limit_train_batches=40", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "callbacks.region_mean_mask.retrain_epochs=2",
    "callbacks.region_mean_mask.rounds=2", "~callbacks.heatmaps", "reuse=false",
)  # fmt: skip
OPTIMIZERS = {
    "momentum": ("model.optimizer.momentum=0.9",),
    "adam": ("model/optimizer=adam",),
}
SAVING = {
    "epochs": (),
    "steps": ("callbacks.checkpoints.every_n_steps=7",),
    "steps that end epochs": ("callbacks.checkpoints.every_n_steps=20", "callbacks.checkpoints.every_n_epochs=2"),
    "accumulated": ("callbacks.checkpoints.every_n_steps=3", "trainer.accumulate_grad_batches=3"),
}


def overrides(folder: Path, optimizer: str, saving: str) -> tuple[str, ...]:
    return (*BASE, *OPTIMIZERS[optimizer], *SAVING[saving], f"run_dir={folder}", f"paths.runs_dir={folder}-home")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run of each setting, made once; and how long it took."""
    made = {}

    def get(optimizer: str, saving: str) -> tuple[dict, float]:
        if (optimizer, saving) not in made:
            folder = tmp_path_factory.mktemp("whole") / "run"
            killing.warm_up()
            started = time.perf_counter()
            assert killing.finish(*overrides(folder, optimizer, saving)) == 0
            made[optimizer, saving] = killing.outcome(folder), time.perf_counter() - started
        return made[optimizer, saving]

    return get


def check_resumed(folder: Path, optimizer: str, saving: str, expected: dict) -> None:
    assert killing.finish(*overrides(folder, optimizer, saving)) == 0
    killing.assert_equal(killing.outcome(folder), expected)
    assert list(folder.rglob("*.part")) == []
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("loss/train")] == list(range(1, 8))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("saving", SAVING)
def test_killed_at_random_moments(optimizer, saving, whole, tmp_path):
    """Five times in a row in each of eight settings: the moments, and what was there to go on from, differ."""
    expected, seconds = whole(optimizer, saving)
    moments = random.Random(f"{optimizer} {saving}")
    folder = killing.kill_often(
        moments, seconds, (0.1, 0.6), 5, 2, tmp_path, lambda folder: overrides(folder, optimizer, saving)
    )
    check_resumed(folder, optimizer, saving, expected)


PRUNING = "prunekit.callbacks.pruning.Pruning"
MOMENTS = {
    "in the middle of a dense epoch": (killing.die_before, ("prunekit.models.mlp.Mlp", "training_step", 60)),
    "on a dense epoch's last batch": (killing.die_after, ("prunekit.models.mlp.Mlp", "training_step", 81)),
    "in retraining": (killing.die_before, ("prunekit.models.mlp.Mlp", "training_step", 170)),
    "before the first event": (killing.die_before, (PRUNING, "_prune", 1)),
    "within the second event": (killing.die_after, (PRUNING, "_prune", 2)),
    "within the third event": (killing.die_before, (PRUNING, "_prune", 3)),
    "after the third event": (killing.die_after, ("prunekit.callbacks.curves.Curves", "after_pruning", 3)),
    "while a dense checkpoint is written": (killing.die_in_the_middle_of_a_write, (".ckpt", 2)),
    "while a pruned checkpoint is written": (killing.die_in_the_middle_of_a_write, (".ckpt", 5)),
    "when a checkpoint was written": (killing.die_after, ("prunekit.callbacks.checkpoints.Checkpoints", "_save", 4)),
    "before an old checkpoint is deleted": (killing.die_before, ("prunekit.callbacks.checkpoints.Path", "unlink", 2)),
    "between the dense part and pruning": (killing.die_before, ("prunekit.app.phases", "clear_remains", 1)),
    "before the dense checkpoint has its name": (killing.die_before, ("prunekit.app.dense", "clear", 1)),
    "while the masks are written": (killing.die_in_the_middle_of_a_write, ("masks.safetensors", 1)),
    "while the changes are written": (killing.die_in_the_middle_of_a_write, ("changes.safetensors", 1)),
    "while the results are written": (killing.die_in_the_middle_of_a_write, ("results.json", 1)),
    "before the results are written": (killing.die_before, ("prunekit.app.phases", "write_record", 1)),
}


# Each moment in one of two settings, by turns: all of them in both takes CI too long.
SETTINGS = [("momentum", "epochs"), ("adam", "steps")]
TURNS = [(moment, *SETTINGS[number % 2]) for number, moment in enumerate(MOMENTS)]


@pytest.mark.parametrize(("moment", "optimizer", "saving"), TURNS)
def test_killed_at_a_chosen_moment(moment, optimizer, saving, whole, tmp_path):
    expected, _ = whole(optimizer, saving)
    prepare, arguments = MOMENTS[moment]
    folder = tmp_path / "run"
    status = killing.finish(*overrides(folder, optimizer, saving), prepare=prepare, arguments=arguments)
    assert status == -signal.SIGKILL, "the run was over before the moment came"
    assert not (folder / "results.json").exists()
    check_resumed(folder, optimizer, saving, expected)


def test_step_checkpoints_change_nothing(whole):
    for optimizer in OPTIMIZERS:
        weights = [whole(optimizer, saving)[0]["weights"] for saving in ("epochs", "steps", "steps that end epochs")]
        killing.assert_equal(weights[0], weights[1])
        killing.assert_equal(weights[0], weights[2])


def test_a_checkpoint_is_taken_within_epochs(tmp_path):
    folder = tmp_path / "run"
    status = killing.finish(
        *overrides(folder, "adam", "steps"),
        prepare=killing.die_before,
        arguments=("prunekit.models.mlp.Mlp", "training_step", 60),
    )
    assert status == -signal.SIGKILL
    (dense,) = (folder / "dense").iterdir()
    assert [path.name for path in list_checkpoints(dense / "checkpoints")] == [
        "epoch0001-step00000049.ckpt",
        "epoch0001-step00000056.ckpt",
    ]
