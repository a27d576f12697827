"""The stand-in for a GPU in the place of CUDA: what ``auto`` means, and what ``device: auto`` computes features on."""

import pytest
import torch

from prunekit import gpu
from tests import standin


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
    """The stand-in's first device, while the stand-in is what ``auto`` means; skips the test where it cannot be built."""
    try:
        backend = standin.load()
    except standin.NoCompilerError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(gpu, "KIND", standin.NAME)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "as it was")  # Lightning sets it, and must not leave it to others
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before, deterministic = backend.current_device(), torch.are_deterministic_algorithms_enabled()
    backend.forget_touches()
    yield torch.device(standin.NAME, 0)
    backend.set_device(before)
    backend.without_float64(False)
    torch.use_deterministic_algorithms(deterministic)
