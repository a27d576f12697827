"""The stand-in for a GPU in the place of CUDA: what ``auto`` means, and what ``device: auto`` computes features on."""

import pytest
import torch

from prunekit import gpu
from prunekit.app.life import Run
from tests import standin
from tests.conftest import compose_config


def pytest_collection_finish(session):
    """Load the backend before any test has run, as autograd counts devices at the first backward pass of a process."""
    if any("standin" in item.keywords for item in session.items):
        try:
            standin.load()
        except standin.NoCompilerError:
            return  # the fixture says so
        from tests.standin import accelerator

        accelerator.register()


@pytest.fixture
def device(monkeypatch):
    """The stand-in's first device, while it is what ``auto`` means; the test is skipped where it cannot be built."""
    try:
        backend = standin.load()
    except standin.NoCompilerError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(gpu, "KIND", standin.NAME)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "as it was")  # Lightning sets it, and must not leave it to others
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before, deterministic = backend.current_device(), torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)  # which a run before this test may have left on
    backend.forget_touches()
    yield torch.device(standin.NAME, 0)
    backend.set_device(before)
    backend.without_float64(False)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def go(tmp_path, miniature, monkeypatch):
    """Run overrides on the stand-in, or on the CPU; features are computed there as well."""

    def run(*overrides, on=standin.NAME, folder=None):
        monkeypatch.setattr(gpu, "KIND", on if on == standin.NAME else "cuda")
        small = miniature("synthetic_te") if "experiment=synthetic_te" in overrides else []
        paths = (f"paths.runs_dir={tmp_path / (folder or on)}", f"paths.cache_dir={tmp_path / on}")
        quiet = ("trainer.enable_progress_bar=false",)
        made = Run(compose_config(*paths, *quiet, *(o for o in small if o != "data.device=cpu"), *overrides))
        made.results = made.go()
        return made

    return run
