from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from prunekit.calibration import Calibration
from prunekit.regions.saliency import weight_saliency


def small_network(function=nn.Sigmoid):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), function(), nn.Linear(4, 3)).double().eval()


def two_samples():
    return Calibration([(torch.randn(2, 6).double(), torch.tensor([0, 1]))])


@pytest.mark.parametrize("function", [nn.Sigmoid, partial(nn.ReLU, inplace=True)])
def test_it_is_the_mean_of_what_each_sample_alone_says(function):
    network, x, y = small_network(function), torch.randn(11, 6, dtype=torch.float64), torch.arange(11) % 3
    layer = network[0]
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for sample, target in zip(x, y, strict=True):
        (slope,) = torch.autograd.grad(cross_entropy(network(sample[None]).float(), target[None]), layer.weight)
        expected += (layer.weight.detach() * slope).abs()
    total, samples = weight_saliency(network, layer, Calibration(zip(x.split(4), y.split(4), strict=True)))
    assert samples == 11
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-9)


def test_it_leaves_no_trace_and_needs_no_grad_mode():
    network = small_network()
    with torch.no_grad():
        total, _ = weight_saliency(network, network[0], two_samples())
    assert total.sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network[0]._forward_hooks


def test_a_frozen_layer_has_the_same():
    network, batch = small_network(), two_samples()
    expected, _ = weight_saliency(network, network[0], batch)
    network.requires_grad_(False)
    assert torch.equal(weight_saliency(network, network[0], batch)[0], expected)


def test_what_it_cannot_be_taken_on_is_refused():
    network = small_network()
    with pytest.raises(ValueError, match="no samples"):
        weight_saliency(network, network[0], Calibration([]))
    with pytest.raises(ValueError, match="called 0 times"):
        weight_saliency(network, nn.Linear(6, 4), two_samples())
    layer = nn.Linear(3, 3)
    twice = nn.Sequential(layer, layer)
    with pytest.raises(ValueError, match="called 2 times"):
        weight_saliency(twice, layer, Calibration([(torch.randn(2, 3), torch.tensor([0, 1]))]))
    with pytest.raises(ValueError, match="wants the classes"):
        weight_saliency(network, network[0], Calibration([torch.randn(2, 6).double()]))
