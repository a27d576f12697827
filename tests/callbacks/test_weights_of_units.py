"""As many single weights as units would take with them."""

import pytest
import torch
from torch import nn

from prunekit.callbacks.weights_of_units import WeightsOfUnits, weights_of_units
from prunekit.errors import ArgumentError
from tests.callbacks.units import NAMES, SaveAfter, fit

SHAPES = [{"num_layers": 1}, {"num_layers": 3}, {"num_layers": 2, "bidirectional": True}, {"bias": False}]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_counts_are_those_of_a_network_of_fewer_units(kind, shape):
    def network(units):
        width = units * (1 + shape.get("bidirectional", False))
        head = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 2))
        return nn.ModuleDict({"memory": kind(3, units, **shape), "say": head})

    whole, small = network(8), dict(network(2).named_parameters())
    with torch.no_grad():
        whole["memory"].weight_hh_l0[0] = 0.0  # what happens to be 0 is counted as everything else
    counts = weights_of_units(whole, "memory", "say", 0.75, "every")
    expected = {
        name: (p.numel() - small[name].numel(), p.numel())
        for name, p in whole.named_parameters()
        if p.dim() > 1 and p.shape != small[name].shape
    }
    assert counts == expected


def test_of_the_last_layer_alone_the_others_stay_whole():
    net = nn.ModuleDict({"memory": nn.LSTM(3, 8, 2), "say": nn.Linear(8, 2)})
    counts = weights_of_units(net, "memory", "say", 0.5)
    assert counts == {"memory.weight_ih_l1": (128, 256), "memory.weight_hh_l1": (192, 256), "say.weight": (8, 16)}


def test_the_smallest_go_over_rounds_and_stay_gone_while_training(tmp_path):
    def callback():
        return WeightsOfUnits(0.75, **NAMES, layers="every", rounds=2, retrain_epochs=2, start_epoch=1)

    module, _ = fit(tmp_path / "whole", [ours := callback(), SaveAfter(2)], 5)
    counts = weights_of_units(module, **NAMES, rate=0.75, layers="every")
    gone = {name: int((~kept).sum()) for name, kept in ours.mask.items()}
    assert set(gone) == set(counts)
    assert sum(gone.values()) == sum(goes for goes, _ in counts.values())
    assert gone != {name: goes for name, (goes, _) in counts.items()}  # ranked together, each for itself
    for name, kept in ours.mask.items():
        weights = module.get_parameter(name)
        assert not weights[~kept].any()
        assert weights[kept].all()
    again, _ = fit(tmp_path / "again", [callback()], 5, ckpt_path=str(tmp_path / "whole" / "a.ckpt"))
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in module.named_parameters())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": None}, "head: got None"),
        ({"head": "net.speak"}, "head: got 'net.speak'; accepted: the part"),
        ({"lstm": "net"}, "lstm: got 'net'"),
        ({"rate": 0.99}, "rate: got 0.99; accepted: one that leaves some of 12 units"),
        ({"head": "net.memory"}, "head: got 'net.memory: "),
    ],
)
@pytest.mark.parametrize("layers", ["last", "every"])
def test_what_does_not_fit_is_refused_at_the_start(given, said, layers, tmp_path):
    with pytest.raises(ArgumentError, match=said):
        fit(tmp_path, [WeightsOfUnits(**{"rate": 0.5, **NAMES, "layers": layers, **given})], 1)
