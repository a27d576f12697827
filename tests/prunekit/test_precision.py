import pytest
import torch
from torch import nn

from prunekit.accounting import account
from prunekit.precision import _switches, ieee


def settings():
    return [torch.get_float32_matmul_precision(), *(getattr(part, name) for part, name, _ in _switches())]


IEEE = ["highest", *(value for _, _, value in _switches())]


@pytest.fixture
def fast():
    """TF32 wherever a GPU has it; then as before."""
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def test_within_all_products_are_ieees_and_afterwards_what_they_were(fast):
    before = settings()
    assert not set(before) & set(IEEE)
    with ieee():
        assert settings() == IEEE
    assert settings() == before


def test_masked_and_compact_are_compared_as_ieee(fast):
    network, seen = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), []

    def predict(module, x):
        seen.append(settings())
        return module(x)

    account(network, 0, [], torch.ones(1, 3), predict)
    assert seen[:2] == [IEEE] * 2
    assert seen[2] != IEEE  # latencies are those of the network as it is used
