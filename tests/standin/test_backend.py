"""The stand-in itself: it computes as the CPU does, refuses what CUDA refuses, and tells what would be waited for."""

import copy

import pytest
import torch
from torch import nn

from tests.standin import load, watching

pytestmark = pytest.mark.standin


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda x, d: x @ torch.ones(4, 2), "one is on cpu"),
        (lambda x, d: nn.Linear(4, 2)(x), "one is on cpu"),
        (lambda x, d: x + x.cpu(), "on the same device"),
        (lambda x, d: torch.ones(9)[x.argmax(1)], "same device as the indexed"),
        (lambda x, d: x.mm(torch.ones(4, 2, device="standin:1")), "standin:0 and another on standin:1"),
        (lambda x, d: x.numpy(), "can't convert standin:0"),
        (lambda x, d: torch.randperm(3, device=d, generator=torch.Generator()), "generator"),
        (lambda x, d: torch.zeros(1, device="standin:2"), "no device 2"),
    ],
)
def test_what_cuda_refuses_is_refused(act, message, device):
    x = torch.ones(3, 4, device=device)
    with pytest.raises((RuntimeError, TypeError), match=message):
        act(x, device)


def test_the_host_may_give_numbers_and_rows(device):
    x = torch.arange(12.0, device=device).view(3, 4)
    assert (x * torch.tensor(2.0))[torch.tensor([2])].tolist() == [[16.0, 18.0, 20.0, 22.0]]


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x.mm(x.T),
        lambda x: x.median(),
        lambda x: x.cumsum(0),
        lambda x: torch.bincount(x[:, 0].long(), weights=x[:, 0]),
    ],
)
def test_without_a_deterministic_kernel_an_operation_is_refused(act, device):
    x = torch.ones(3, 4, device=device)
    act(x)
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError, match="deterministic"):
        act(x)


def test_float64_can_be_missing_as_it_is_on_macs(device):
    load().without_float64(True)
    with pytest.raises(RuntimeError, match="no float64"):
        torch.ones(2, device=device).double()
    assert torch.ones(2, device=device).cpu().double().sum() == 2


def test_waits_and_transfers_are_told_with_their_line(device):
    x = torch.ones(2, device=device)
    with watching() as seen:
        (x + 1).relu()
        assert not seen.lines
        x.sum().item()
        x.cpu()
        x[x > 0]
        torch.ones(3).to(device)
        x.to("standin:1")
    kinds = ["between devices", "to the device", "wait: aten::_local_scalar_dense", "wait: aten::nonzero"]
    assert sorted(what for what, _ in seen.lines) == [*kinds, "wait: to the host"]
    assert sum(seen.waits().values()) == 3


def test_random_numbers_come_from_the_devices_own_generators(device):
    torch.manual_seed(3)
    one, other = torch.rand(4, device=device), torch.rand(4, device="standin:1")
    assert torch.equal(one.cpu(), other.cpu())
    before = torch.get_rng_state()
    nn.functional.dropout(one)
    assert torch.equal(before, torch.get_rng_state())
    generator = torch.Generator(device).manual_seed(3)
    assert torch.equal(torch.rand(4, device=device, generator=generator), one)


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(4, 5, batch_first=True), lambda: nn.Conv1d(6, 5, 3), lambda: nn.Linear(4, 5)]
)
def test_layers_and_their_gradients_are_the_cpus(make, device):
    torch.manual_seed(0)
    layer = make()
    ours, x = copy.deepcopy(layer).to(device), torch.randn(3, 6, 4)
    for network, given in ((layer, x), (ours, x.to(device))):
        out = network(given)
        (out[0] if isinstance(out, tuple) else out).square().sum().backward()
    for one, other in zip(layer.parameters(), ours.parameters(), strict=True):
        assert other.grad.device == device
        torch.testing.assert_close(one.grad, other.grad.cpu(), rtol=1e-5, atol=1e-6)


def test_what_was_too_small_grows_as_on_the_cpu(device):
    x, out = torch.arange(6.0, device=device), torch.empty(0, device=device)
    torch.add(x, 1, out=out)
    assert torch.equal(out, x + 1)
    assert x.resize_(8)[:6].tolist() == list(range(6))


def test_a_recurrent_layer_whose_weights_are_in_pieces_is_refused(device):
    layer, x = nn.LSTM(4, 5), torch.ones(2, 3, 4, device=device)
    wanted = layer(x.cpu())[0]
    layer.to(device)
    torch.testing.assert_close(layer(x)[0].cpu(), wanted)
    with pytest.raises(RuntimeError, match="in 4 pieces"):
        copy.deepcopy(layer)(x)
