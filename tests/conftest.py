"""What tests share: composing a config, running it, and finding real data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from prunekit.door import quiet_lightning
from prunekit.life import Run

quiet_lightning()


def compose_config(*overrides: str) -> DictConfig:
    """The config that the command line with these overrides would run."""
    with initialize_config_module("conf", version_base="1.3"):
        return compose("train", list(overrides))


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    """Make a run of overrides, all in a folder of the test's own; small and quiet."""

    def make(*overrides: str) -> Run:
        paths = [f"paths.runs_dir={tmp_path / 'runs'}", f"paths.cache_dir={tmp_path / 'cache'}"]
        return Run(compose_config(*paths, "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", *overrides))

    return make


SHORT = (
    "experiment=digits_region",
    "dense_epochs=2",
    "trainer.limit_train_batches=12",
    "callbacks.region_mean_mask.retrain_epochs=1",
)


@pytest.fixture
def short_run(new_run: Callable[..., Run]) -> Callable[..., Run]:
    """A whole run on the digits, over in a second: two dense epochs of twelve batches, then pruning."""
    return lambda *overrides: new_run(*SHORT, "~callbacks.heatmaps", *overrides)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; without it the test is skipped, or fails where CI demands it."""
    folder = os.environ.get("PRUNEKIT_DATA_DIR")
    if folder and Path(folder).is_dir():
        return Path(folder)
    if os.environ.get("PRUNEKIT_REQUIRE_DATA"):
        pytest.fail("PRUNEKIT_REQUIRE_DATA is set but PRUNEKIT_DATA_DIR names no folder")
    pytest.skip("set PRUNEKIT_DATA_DIR to a folder with MNIST/raw")
