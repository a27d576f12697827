"""What reads a layer's units is found, or it is said why it cannot be."""

import pytest
import torch
from torch import nn

from prunekit.calibration import Calibration
from prunekit.units.network_units import NetworkUnits

X = [torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))]


class Net(nn.Module):
    """A GRU of 6 units on 6 inputs, and what a test reads it by."""

    def __init__(self, read, **layers):
        super().__init__()
        self.memory = nn.GRU(6, 6, batch_first=True)
        self.say = nn.Linear(6, 2)
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.read = read

    def forward(self, x):
        return self.read(self, x)


def links(net, layer="memory"):
    net.eval()
    grouping = NetworkUnits([layer])
    return [link for part in grouping.parts(net) for link in grouping.links(net, part, Calibration(X))]


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda n, x: n.say(n.memory(x)[0].relu().mean(1)), [("say", 0)]),
        (lambda n, x: n.say(n.memory(x)[1][-1]), [("say", 0)]),
        (lambda n, x: n.say(n.memory(x)[0]) if x.sum() > -99 else x, [("say", 0)]),
        (lambda n, x: n.wide(torch.cat([x[:, 0], n.memory(x)[0][:, -1]], 1)), [("wide", 6)]),
        (lambda n, x: n.say(n.cell(n.memory(x)[0][:, 0])), [("cell", 0)]),
        (lambda n, x: n.say(n.memory(x)[0][:, 0]) + n.again(n.memory(x)[0][:, 1]), [("again", 0), ("say", 0)]),
    ],
)
def test_readers_are_found_wherever_they_read(read, expected):
    net = Net(read, wide=nn.Linear(12, 2), cell=nn.RNNCell(6, 6), again=nn.Linear(6, 2))
    assert sorted((link.reader, link.column) for link in links(net)) == expected


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (lambda n, x: n.say(n.memory(x)[0] + x), "say reads something else in the same places"),
        (lambda n, x: n.memory(x)[0], "outputs of the network"),
        (lambda n, x: n.say(n.norm(n.memory(x)[0])), "norm, an nn.LayerNorm, reads them"),
        (lambda n, x: n.say(n.memory(x)[0].flip(-1)), "say reads something that mixes them"),
        (lambda n, x: n.say(n.memory(x)[0] @ n.say.weight.T @ n.say.weight), "say reads something that mixes them"),
        (lambda n, x: n.say(n.other(x, n.memory(x)[1])[0]), "other begins with their states"),
        (lambda n, x: n.say(n.memory(x)[0] * float("nan")), "outputs are NaN already"),
        (lambda n, x: n.say(n.heads(n.memory(x)[0], x, x)[0]), "heads"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(read, why):
    net = Net(
        read,
        norm=nn.LayerNorm(6),
        other=nn.GRU(6, 6, batch_first=True),
        heads=nn.MultiheadAttention(6, 2, batch_first=True),
    )
    with pytest.raises(ValueError, match=why):
        links(net)


def test_an_inner_layer_whose_last_state_is_read_has_a_reader():
    net = Net(lambda n, x: n.say(n.deep(x)[1][0]), deep=nn.GRU(6, 6, 2, batch_first=True))
    found = links(net, "deep")
    assert [(link.part, link.reader, link.column) for link in found] == [((0, 0), "say", 0)]


def test_nothing_is_left_behind():
    net = Net(lambda n, x: n.say(n.memory(x)[0]))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    links(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
