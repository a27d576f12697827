"""Killed while features are computed or while the recogniser trains, a run loses nothing that was finished."""

import random
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.end_to_end import killing

pytestmark = pytest.mark.slow

BASE = (
    "experiment=synthetic_dense", "data.source.groups=6", "data.source.frames=6", "data.frames=4",
    "data.source.frame_size=[32,32]", "data.frame_size=[32,32]", "model.units=48", "model.hidden=16", "dense_epochs=12",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "data.device=cpu",
    "callbacks.checkpoints.every_n_steps=3", "reuse=false",
)  # fmt: skip
CLIPS = 72


def overrides(folder: Path) -> tuple[str, ...]:
    return (*BASE, f"run_dir={folder}", f"paths.runs_dir={folder}-home", f"paths.cache_dir={folder}-cache")


def features(folder: Path) -> dict[str, tuple[int, float]]:
    """The cached features' files, with when they were written."""
    files = Path(f"{folder}-cache").glob("features/*/*.safetensors")
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run, its features, and how long it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    killing.warm_up()
    started = time.perf_counter()
    assert killing.finish(*overrides(folder)) == 0
    return killing.outcome(folder), folder, time.perf_counter() - started


def check_resumed(folder: Path, whole) -> None:
    expected, first, _ = whole
    before = features(folder)
    assert killing.finish(*overrides(folder)) == 0
    killing.assert_equal(killing.outcome(folder), expected)
    after = features(folder)
    assert {name: after[name] for name in before} == before  # what was finished was not written again
    assert len(after) == CLIPS
    for path in Path(f"{first}-cache").glob("features/*/*.safetensors"):
        (other,) = Path(f"{folder}-cache").glob(f"features/*/{path.name}")
        killing.assert_equal(load_file(other), load_file(path))
    assert not list(Path(f"{folder}-cache", "synthetic_actions").rglob("*.part"))


MOMENTS = {
    "while clips are written": (killing.die_before, ("prunekit.data_modules.synthetic_actions", "write_mp4", 30), 0),
    "before the first feature": (killing.die_before, ("prunekit.cache.Cache", "keep", 1), 0),
    "in the middle": (killing.die_after, ("prunekit.cache.Cache", "keep", 40), 40),
    "in the middle of a file": (killing.die_in_the_middle_of_a_write, (".safetensors", 30), 29),
    "before the memo is written": (
        killing.die_before,
        ("prunekit.data_modules.features.ClipHashes", "flush", 1),
        CLIPS,
    ),
    "in the middle of the memo": (killing.die_in_the_middle_of_a_write, ("clips.json", 1), CLIPS),
    "in training": (killing.die_before, ("prunekit.models.recognizer.Recognizer", "training_step", 25), CLIPS),
    "after training": (killing.die_in_the_middle_of_a_write, ("results.json", 1), CLIPS),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_chosen_moment(moment, whole, tmp_path):
    prepare, arguments, finished = MOMENTS[moment]
    folder = tmp_path / "run"
    status = killing.finish(*overrides(folder), prepare=prepare, arguments=arguments)
    assert status == -signal.SIGKILL, "the run was over before the moment came"
    assert len(features(folder)) == finished
    check_resumed(folder, whole)


def test_killed_at_random_moments(whole, tmp_path):
    moments = random.Random(4)
    folder = killing.kill_often(moments, whole[2], (0.05, 0.7), 8, 3, tmp_path, overrides)
    check_resumed(folder, whole)


def test_killed_in_training_on_frames(tmp_path):
    on_frames = (
        "model/backbone=resnet18", "model.backbone.weights=untrained", "data.serve=frames", "dense_epochs=2",
        "trainer.limit_train_batches=3", "callbacks.checkpoints.every_n_steps=2", "~callbacks.sample_frames",
    )  # fmt: skip
    outcomes = []
    for name, arguments in (("whole", None), ("cut", ("prunekit.models.recognizer.Recognizer", "training_step", 5))):
        folder = tmp_path / name
        if arguments:
            status = killing.finish(*overrides(folder), *on_frames, prepare=killing.die_before, arguments=arguments)
            assert status == -signal.SIGKILL
        assert killing.finish(*overrides(folder), *on_frames) == 0
        outcomes.append(killing.outcome(folder))
    killing.assert_equal(*outcomes)
