"""Linear compensation of all layers, directions and cells of a network."""

import copy

import pytest
import torch
from torch import nn

from prunekit.criteria.random import Random
from prunekit.pruning import prune
from prunekit.units.grouping import Units
from prunekit.units.network_units import NetworkUnits
from prunekit.units.repair import Linear

UNITS = 8


class Stack(nn.Module):
    def __init__(self, kind=nn.LSTM, layers=2, directions=2, bias=True, pad=False):
        super().__init__()
        self.memory = kind(3, UNITS, layers, bias=bias, batch_first=True, bidirectional=directions == 2)
        self.say = nn.Linear(UNITS * directions, 2)

    def forward(self, x):
        return self.say(self.memory(x)[0])


class Cells(nn.Module):
    def __init__(self, kind=nn.GRUCell):
        super().__init__()
        self.cell, self.gru, self.say = kind(3, UNITS), nn.GRU(UNITS, UNITS, batch_first=True), nn.Linear(UNITS, 2)

    def forward(self, x):
        state, found = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return self.say(self.gru(torch.stack(found, 1))[0])


@torch.no_grad()
def pair_units(net):
    """Have the second half of each part's units do what the first half does: they get the same rows."""
    for part in NetworkUnits(None).parts(net):
        for name in part.names:
            rows = net.get_parameter(name).view(part.gates, UNITS, -1)
            rows[:, UNITS // 2 :] = rows[:, : UNITS // 2]


class SecondHalf(Random):
    """Scores that have the second half of each part's units go first."""

    def scores(self, module, groups, seen):
        found = super().scores(module, groups, seen)
        number = torch.arange(len(found.values)) % UNITS
        return found._replace(values=(number < UNITS // 2).double())


NETWORKS = {
    "LSTM": Stack,
    "GRU": lambda: Stack(nn.GRU),
    "RNN, one way": lambda: Stack(nn.RNN, 3, 1),
    "no biases": lambda: Stack(nn.GRU, bias=False),
    "GRU cell": Cells,
    "LSTM cell": lambda: Cells(nn.LSTMCell),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_units_that_say_what_others_say_go_without_a_trace_from_every_layer(name):
    torch.manual_seed(0)
    net = NETWORKS[name]().double().eval()
    pair_units(net)
    # Different columns: what is read of a pair's second unit is its own and has to be read of the first.
    batches = [torch.randn(6, 5, 3, dtype=torch.float64) for _ in range(4)]
    before, alone = net(batches[0]), copy.deepcopy(net)
    how = {"criterion": SecondHalf(0), "rate": 0.5, "batches": batches, "scope": "within", "order": "ascending"}
    pruned = prune(net, NetworkUnits(None), **how, repair=Linear(1e-10), predict=lambda module, x: (module(x), None))
    assert int(pruned.goes.sum()) == len(pruned.goes) // 2
    torch.testing.assert_close(net(batches[0]), before, rtol=0, atol=1e-6)
    prune(alone, NetworkUnits(None), **how, predict=lambda module, x: (module(x), None))
    assert (alone(batches[0]) - before).abs().max() > 0.01


def test_of_one_layer_it_is_what_units_of_that_layer_get():
    torch.manual_seed(1)
    one = Stack(nn.LSTM, 1, 1).double().eval()
    other = copy.deepcopy(one)
    batches = [(torch.randn(6, 5, 3, dtype=torch.float64), None) for _ in range(4)]
    how = {"criterion": Random(0), "rate": 0.5, "batches": batches, "predict": lambda net, batch: (net(batch[0]), None)}
    prune(one, NetworkUnits(["memory"]), **how, repair=Linear())
    prune(other, Units("memory", "say"), **how, repair=Linear())
    for (name, here), there in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-12, msg=name)


def test_steps_of_padding_take_no_part():
    torch.manual_seed(2)
    net = Stack(nn.GRU, 2, 1).double().eval()
    short, tail = torch.randn(6, 4, 3, dtype=torch.float64), 50 * torch.randn(6, 3, 3, dtype=torch.float64)
    padded, again = copy.deepcopy(net), copy.deepcopy(net)
    how = {"criterion": Random(0), "rate": 0.5, "scope": "within", "predict": lambda module, x: (module(x), None)}

    def valid(x):
        return (torch.arange(x.shape[1]) < 4).expand(len(x), -1)

    long = [torch.cat([short, tail], 1)]
    prune(net, NetworkUnits(None), batches=[short], repair=Linear(), **how)
    prune(padded, NetworkUnits(None), batches=long, repair=Linear(), valid=valid, **how)
    prune(again, NetworkUnits(None), batches=long, repair=Linear(), **how)
    for (name, here), there in zip(net.named_parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-12, msg=name)
    assert any(not torch.allclose(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
