"""What tests share: composing a config, running it, and finding real data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from prunekit.app import phases
from prunekit.app.door import quiet_lightning
from prunekit.app.life import Run
from tests.data_modules.tasks import write_all
from tests.data_modules.videos import write_hmdb, write_ucf, write_ucf_lists

quiet_lightning()


@pytest.fixture(autouse=True)
def no_command_of_another_test() -> Iterator[None]:
    """A command that ran in this process leaves Hydra's view of it, which the next test would take for its own."""
    yield
    HydraConfig.instance().cfg = None


def compose_config(*overrides: str, with_hydra: bool = False) -> DictConfig:
    """The config that the command line with these overrides would run."""
    with initialize_config_module("prunekit.conf", version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=with_hydra)


def go_and_keep(run: Run) -> tuple[Any, Any]:
    """Run; the final network and the data, as they were in the run."""
    seen = []
    measured = phases.measured

    def watch(setting: Any, trainer: Any, module: Any, data: Any, *more: Any) -> Any:
        seen.append((module, data))
        return measured(setting, trainer, module, data, *more)

    with mock.patch("prunekit.app.phases.measured", watch):
        run.go()
    return seen[0]


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


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; without it the test is skipped, or fails where CI demands it."""
    folder = os.environ.get("PRUNEKIT_DATA_DIR")
    if folder and Path(folder).is_dir():
        return Path(folder)
    if os.environ.get("PRUNEKIT_REQUIRE_DATA"):
        pytest.fail("PRUNEKIT_REQUIRE_DATA is set but PRUNEKIT_DATA_DIR names no folder")
    pytest.skip("set PRUNEKIT_DATA_DIR to a folder with MNIST/raw, ucf101, hmdb51 and odd_clips")


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18's state_dict in a file: trained weights, as far as prunekit can tell."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18().state_dict(), file)
    return file


@pytest.fixture
def miniature(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """Overrides that give an experiment a data set small enough for a test, in its real layout."""

    def overrides(experiment: str) -> list[str]:
        config = compose_config(f"experiment={experiment}")
        data = config.data
        if config.model._target_.endswith("SequenceModel"):
            small = ["model.units=8", "data.batch_size=10"]
            if "mnist" in data._target_:
                return [*small, f"paths.data_dir={request.getfixturevalue('real_data')}", "data.scoring=100"]
            if not (tmp_path / "data").exists():
                write_all(tmp_path / "data")
            return [*small, f"paths.data_dir={tmp_path / 'data'}", "data.scoring=20"]
        if "mnist" in data._target_:
            return [f"paths.data_dir={request.getfixturevalue('real_data')}"]
        if "source" not in data:
            return []
        small = ["data.frames=3", "data.frame_size=[32,32]", "data.device=cpu"]
        if "synthetic" in data.source._target_:
            return [*small, "data.source.groups=5", "data.source.frames=8", "data.source.frame_size=[32,32]"]
        small += [f"data.backbone.weights={request.getfixturevalue('weights_file')}"]
        small += [f"paths.data_dir={tmp_path / 'data'}", "data.batch_size=8"]
        root = tmp_path / "data" / ("ucf101" if "ucf101" in data.source._target_ else "hmdb51")
        if not root.exists() and root.name == "ucf101":
            write_ucf_lists(root / "ucfTrainTestlist", write_ucf(root / "clips", {"Archery": 6, "Surfing": 6}))
        elif not root.exists():
            write_hmdb(root, {"pour": 6, "shoot_bow": 6})
        return small

    return overrides
