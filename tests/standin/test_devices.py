"""Which device a run is on, whichever it is told, and what is done where a device has no float64."""

import pytest
import torch
from pytorch_lightning.accelerators import MPSAccelerator
from torch import nn

from prunekit import gpu
from prunekit.app.build import build, build_trainer
from prunekit.app.config import resolve
from prunekit.latency import medians
from prunekit.models.backbone import FEATURES, FrozenBackbone
from prunekit.random_state import random_state, undisturbed
from prunekit.units.compaction import compact
from tests import standin
from tests.conftest import SHORT, compose_config
from tests.prunekit.test_precision import IEEE, settings
from tests.standin import watching
from tests.standin.test_runs import GATES, LINEAR, SALIENCY, UNITS, assert_equal_files

pytestmark = pytest.mark.standin


@pytest.mark.filterwarnings("ignore:GPU available but not used")
def test_auto_is_never_a_macs_gpu(device, tmp_path, monkeypatch):
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    config = resolve(compose_config())[0]
    assert build_trainer(config, tmp_path, [], 1).strategy.root_device == device
    monkeypatch.setattr(gpu, "KIND", "cuda")
    assert build_trainer(config, tmp_path, [], 1).strategy.root_device == torch.device("cpu")


@pytest.mark.parametrize(
    "overrides", [SHORT, pytest.param((*UNITS, "~callbacks.unit_curve"), marks=pytest.mark.slow)], ids=["mlp", "lstm"]
)
def test_a_run_that_names_its_device_touches_no_other(overrides, device, go):
    run = go(*overrides, "trainer.devices=[1]")
    assert run.results["device"] == "stand-in 1"
    assert standin.load().touched() == [1]


@pytest.mark.parametrize(
    "overrides",
    [SALIENCY, pytest.param(LINEAR, marks=pytest.mark.slow), pytest.param(GATES, marks=pytest.mark.slow)],
    ids=["saliency", "linear compensation", "gates"],
)
def test_a_device_without_float64_finds_the_same_masks(overrides, device, go, monkeypatch):
    monkeypatch.setattr(gpu, "WITHOUT_FLOAT64", {standin.NAME})
    standin.load().without_float64(True)
    ours, theirs = go(*overrides), go(*overrides, on="cpu")
    assert_equal_files(ours.folder, theirs.folder, "masks.safetensors")
    assert ours.results["callbacks"] == theirs.results["callbacks"]
    assert ours.results["macs"] == theirs.results["macs"]


def test_times_are_taken_when_the_device_has_done_its_work(device, monkeypatch):
    macs = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: macs.append(1))
    with watching() as seen:
        medians({"nothing": lambda: None}, repeats=1)
    assert sum(seen.waits().values()) == len(macs) == 4  # before and after, in the turn that warms up too


def test_what_is_drawn_on_one_device_is_forgotten_and_other_devices_are_not_asked(device, monkeypatch):
    """``fork_rng()`` asks all devices, and warns at length where there are several."""
    monkeypatch.setattr(torch.random, "fork_rng", None)
    standin.load().forget_touches()
    before = random_state(device)["standin"]
    with undisturbed(device):
        drawn = torch.rand(3, device=device)
    assert torch.equal(random_state(device)["standin"], before)
    assert torch.equal(torch.rand(3, device=device), drawn)
    assert standin.load().touched() == [0]


def test_features_are_ieees_and_their_recipe_names_the_kind_of_device(device, miniature, tmp_path, monkeypatch):
    seen = set()

    class Encoder(nn.Module):
        def forward(self, frames):
            seen.add((frames.device.type, *settings()))
            return torch.zeros(len(frames), FEATURES, device=frames.device)

    monkeypatch.setattr(FrozenBackbone, "build", lambda self: Encoder())
    overrides = ("experiment=synthetic_te", *miniature("synthetic_te"), f"paths.cache_dir={tmp_path}")
    config, _ = resolve(compose_config(*overrides))
    recipes = []
    for on in ("cpu", "auto"):
        build({**config["data"], "device": on}, "data").extract()
        recipes.append(sum(path.is_dir() for path in (tmp_path / "features").iterdir()))
    assert seen == {(on, *IEEE) for on in ("cpu", "standin")}
    assert recipes == [1, 2]


def test_copies_of_recurrent_layers_have_their_weights_in_one_piece(device):
    layer = nn.LSTM(4, 5).to(device)
    network = nn.ModuleDict({"lstm": layer, "head": nn.Linear(5, 2).to(device)})
    outputs, _ = compact(network, []).module["lstm"](torch.ones(2, 3, 4, device=device))  # refused in pieces
    assert torch.equal(outputs.cpu(), layer(torch.ones(2, 3, 4, device=device))[0].cpu())
