"""Units as groups: which rows they are, and that a removed one says nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import ArgumentError
from prunekit.masks import Mask
from prunekit.units.grouping import Gates, Units
from prunekit.units.layers import GATES


def whole(net, grouping):
    full = Mask.full(net, grouping.parameters(net))
    return grouping(net, full)


@given(
    st.sampled_from(list(GATES)), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.booleans(),
    st.integers(0, 10**6), st.integers(1, 6),
)  # fmt: skip
def test_a_removed_unit_gives_exactly_zero_at_every_step(kind, units, layers, bias, batch_first, seed, steps):
    torch.manual_seed(seed)
    layer = kind(3, units, layers, bias=bias, batch_first=batch_first)
    kept = torch.rand(units) < 0.5
    at_first = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    model, grouping = nn.ModuleDict({"a": layer}), Units("a")
    mask = grouping.mask(model, ~kept)
    mask.apply(model)
    scale = 1 if kind is nn.GRU else 10  # a GRU's update gate that is 1 to the last bit keeps h at 0
    out, states = layer(scale * torch.randn(4, steps, 3))
    assert (out[..., ~kept] == 0).all()
    for state in states if kind is nn.LSTM else [states]:
        assert (state[-1][:, ~kept] == 0).all()
    assert not (out[..., kept] == 0).any()
    assert torch.equal(~grouping(model, mask).gone, kept)
    for name, parameter in layer.named_parameters():
        last = name.endswith(f"_l{layers - 1}")
        rows = kept.repeat(GATES[kind][0])
        assert torch.equal(parameter[rows] if last else parameter, at_first[name][rows] if last else at_first[name])


@pytest.mark.parametrize("kind", list(GATES))
@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_units_are_those_of_all_layers_and_directions(kind, bidirectional):
    torch.manual_seed(0)
    net = nn.ModuleDict({"a": kind(3, 4, 3, bidirectional=bidirectional)})
    directions, grouping = 1 + bidirectional, Units("a", every=True)
    groups = whole(net, grouping)
    assert len(groups) == 3 * directions * 4
    assert groups.within.tolist() == torch.arange(3 * directions).repeat_interleave(4).tolist()
    assert int(groups.sizes.sum()) == sum(parameter.numel() for parameter in net.parameters())
    assert grouping.parameters(net) == [name for name, _ in net.named_parameters()]
    for unit in range(len(groups)):
        mask = grouping.mask(net, torch.arange(len(groups)) == unit)
        assert mask.removed() == groups.sizes[unit]
    goes = torch.rand(len(groups)) < 0.5
    grouping.mask(net, goes).apply(net)
    outputs, states = net["a"](torch.randn(6, 2, 3))
    hidden = states[0] if kind is nn.LSTM else states
    assert torch.equal((hidden == 0).all(1).flatten(), goes)  # one row a layer and direction
    assert torch.equal((outputs == 0).all(0).all(0), goes[-4 * directions :])


def test_the_units_of_a_linear_layer_are_its_outputs():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    for name, units, size in (("0", 5, 4), ("2", 2, 5)):
        groups = whole(net, Units(name))
        assert (len(groups), groups.sizes.tolist(), groups.within.tolist()) == (units, [size] * units, [0] * units)
    goes = torch.tensor([True, False, False, True, True])
    Units("0").mask(net, goes).apply(net)
    assert torch.equal((net[0](torch.randn(7, 3)) == 0).all(0), goes)


def test_a_unit_of_which_anything_is_kept_is_not_gone():
    net = nn.ModuleDict({"a": nn.GRU(2, 3)})
    units = Units("a")
    for name in units.parameters(net):
        mask = units.mask(net, torch.tensor([True, True, False]))
        kept = mask[name].clone()
        kept[4] = True  # of unit 1
        assert units(net, Mask({**mask, name: kept})).gone.tolist() == [True, False, False]


def test_the_parameters_of_a_unit_are_named():
    net = nn.ModuleDict({"x": nn.ModuleDict({"lstm": nn.LSTM(2, 3)})})
    assert Units("x.lstm").parameters(net) == [
        "x.lstm.weight_ih_l0", "x.lstm.weight_hh_l0", "x.lstm.bias_ih_l0", "x.lstm.bias_hh_l0",
    ]  # fmt: skip
    net = nn.ModuleDict({"net": nn.ModuleDict({"lstm": nn.LSTM(2, 3, num_layers=2, bias=False)})})
    assert Units("net.lstm").parameters(net) == ["net.lstm.weight_ih_l1", "net.lstm.weight_hh_l1"]


def test_the_saved_share_is_that_of_the_last_layers_multiply_adds():
    net = nn.ModuleDict({"a": nn.GRU(4, 6, 2), "b": nn.Linear(6, 8)})
    assert Units("a").saved_share(net, 2) == pytest.approx(1 - 4 * (6 + 4) / (6 * (6 + 6)), abs=1e-15)
    assert Gates("c").saved_share(nn.ModuleDict({"c": nn.LSTM(4, 6)}), 6) == 0.25


NET = {"a": nn.LSTM(2, 3), "stack": nn.GRU(2, 3, 2, bidirectional=True), "say": nn.Linear(3, 2)}


@pytest.mark.parametrize(
    ("grouping", "needs", "message"),
    [
        (Units("b"), (), r"^layer: got 'b'; accepted: the name of an nn\.LSTM.*; recurrent ones: p, a, stack"),
        (Units("p"), (), r"^layer: got 'p'; accepted: a layer without projection"),
        (Units("a"), ("success",), r"^head: got None; accepted: the part of the model .*; p, a, stack, say"),
        (Units("a", "b"), ("readers",), r"^head: got 'b'; accepted: the part of the model"),
        (Units("a", "a"), ("readers",), r"^head: got 'a: .*; accepted: a head that begins with an nn\.Linear"),
        (Units("stack", "say"), ("outputs",), r"^layer: got 'stack, of two directions'; accepted: the last layer"),
        (Units("say"), ("outputs",), r"^layer: got 'say'; accepted: a recurrent layer, .* weights alone"),
        (
            Units("a"),
            ("saliency",),
            r"^criterion: got 'one that looks at saliency'; accepted: one that looks at what each unit does",
        ),
    ],
)
def test_what_does_not_fit_is_refused(grouping, needs, message):
    net = nn.ModuleDict({"p": nn.LSTM(2, 3, proj_size=2), **NET})
    with pytest.raises(ArgumentError, match=message):
        grouping.check(net, frozenset(needs))


def test_what_fits_is_not():
    net = nn.ModuleDict(NET)
    Units("a", "say").check(net, frozenset({"outputs", "success", "moments", "readers"}))
    Gates("a", "say").check(net, frozenset({"outputs", "success", "means"}))
    for grouping in (Units("stack"), Units("stack", every=True), Units("say")):
        grouping.check(net, frozenset())
        assert grouping.parameters(net)
