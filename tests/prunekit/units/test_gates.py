"""Gates that are constants, against an LSTM that spells them out in plain Python."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.calibration import Calibration
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.held_mask import HeldMask
from prunekit.masks import Mask
from prunekit.models.recognizer import Recognizer
from prunekit.units.compaction import compact, difference
from prunekit.units.gates import gate_activations, gate_constants, on_one_scale
from prunekit.units.grouping import Gates, Units
from prunekit.units.repair import Mean


def whole(net, grouping):
    """The mask that keeps all of a grouping's parameters, and the groups under it."""
    full = Mask.full(net, grouping.parameters(net))
    return full, grouping(net, full)


def gate_mask(net, name, kept, means):
    """The mask that removes gates and holds them at their means."""
    full, groups = whole(net, Gates(name))
    return groups.remove(~kept, full, gate_constants(name, ~kept, means))


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def spelled_out(lstm, clip, constants):
    """Outputs and gates of one clip, number by number; ``constants``: (gate, unit) -> activation."""
    units = lstm.hidden_size
    w_ih, w_hh, b_ih, b_hh = (parameter.tolist() for parameter in lstm.parameters())
    h, c, outputs, gates = [0.0] * units, [0.0] * units, [], []
    for x in clip.tolist():
        a = [[0.0] * units for _ in range(4)]
        for gate in range(4):
            for unit in range(units):
                row = gate * units + unit
                z = b_ih[row] + b_hh[row]
                z += sum(w * value for w, value in zip(w_ih[row], x, strict=True))
                z += sum(w * value for w, value in zip(w_hh[row], h, strict=True))
                own = math.tanh(z) if gate == 2 else sigmoid(z)
                a[gate][unit] = constants.get((gate, unit), own)
        c = [a[1][u] * c[u] + a[0][u] * a[2][u] for u in range(units)]
        h = [a[3][u] * math.tanh(c[u]) for u in range(units)]
        outputs.append(h)
        gates.append([value for gate in a for value in gate])
    return torch.tensor(outputs, dtype=torch.float64), torch.tensor(gates, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(
    units=st.integers(1, 5), steps=st.integers(1, 5), rate=st.sampled_from([0.0, 0.4, 1.0]),
    units_too=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_a_removed_gate_is_its_mean_at_every_step(units, steps, rate, units_too, seed):
    torch.manual_seed(seed)
    lstm = nn.LSTM(3, units, batch_first=True).double()
    net = nn.ModuleDict({"a": lstm})
    x = 2 * torch.randn(4, steps, 3, dtype=torch.float64)
    h = lstm(x)[0]
    activations = gate_activations(lstm, x, h).detach()
    for clip, own, found in zip(x, h, activations, strict=True):
        expected, gates = spelled_out(lstm, clip, {})
        assert torch.allclose(own, expected, rtol=1e-12, atol=1e-12)
        assert torch.allclose(found, gates, rtol=1e-12, atol=1e-12)
    means, kept = activations.mean((0, 1)), torch.rand(4 * units) >= rate
    alive = torch.rand(units) < 0.5 if units_too else torch.ones(units, dtype=torch.bool)
    mask = gate_mask(net, "a", kept, means)
    (mask & Units("a").mask(net, ~alive)).apply(net)  # a removed unit takes its gates' constants along
    constants = {
        (row // units, row % units): float(means[row])
        for row in range(4 * units) if not kept[row] and alive[row % units]
    }  # fmt: skip
    h = lstm(x)[0]
    assert (h[..., ~alive] == 0).all()
    for clip, own in zip(x, h, strict=True):
        assert torch.allclose(own, spelled_out(lstm, clip, constants)[0], rtol=1e-9, atol=1e-12)
    assert torch.equal(~Gates("a")(net, mask).gone, kept)
    assert not Units("a")(net, mask).gone.any()  # a unit all of whose gates are constants still says something
    for kind in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
        assert (lstm.get_parameter(kind)[~kept] == 0).all()


def test_activations_lie_on_the_scale_of_outputs():
    activations = torch.tensor([[0.0, 1.0, -1.0, 0.5]])
    assert on_one_scale(activations).tolist() == [[-1.0, 1.0, -1.0, 0.0]]


def test_a_mean_at_the_end_of_its_range_makes_a_finite_bias():
    values = gate_constants("a", torch.ones(4, dtype=torch.bool), torch.tensor([0.0, 1.0, 1.0, 0.5]))["a.bias_ih_l0"]
    assert values.isfinite().all()
    assert torch.sigmoid(values[:2]).tolist() == pytest.approx([0.0, 1.0], abs=2e-6)
    assert values[3] == 0


@pytest.mark.parametrize("optimizer", [
    partial(torch.optim.SGD, lr=0.5, momentum=0.9), partial(torch.optim.AdamW, lr=0.05, weight_decay=0.5),
])  # fmt: skip
def test_constants_are_held_to_the_bit_through_training(optimizer):
    torch.manual_seed(0)
    net = Recognizer(3, 4, optimizer, units=6, hidden=5)
    own = net.configure_optimizers()
    kept = torch.rand(24) < 0.5
    held = HeldMask(gate_mask(net, "lstm", kept, torch.rand(24) * 0.8 + 0.1), net, [own])
    at_first = net.lstm.bias_ih_l0.detach().clone()
    at_start = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    x, y = torch.randn(12, 5, 3), torch.arange(12) % 4
    for _ in range(5):
        own.zero_grad()
        net.training_step((x, y)).backward()
        assert (net.lstm.bias_ih_l0.grad[~kept] == 0).all()
        own.step()
        assert torch.equal(net.lstm.bias_ih_l0[~kept], at_first[~kept])
        assert (net.lstm.weight_hh_l0[~kept] == 0).all()
    assert (at_first[~kept] != 0).all()
    for name, parameter in net.named_parameters():
        assert not torch.equal(parameter, at_start[name])  # what is kept is trained
    held.release()


def test_series_and_scores_are_of_gates():
    torch.manual_seed(0)
    net = Recognizer(4, 3, partial(torch.optim.Adam), units=6, hidden=5).eval()
    lstm, gates, units = net.lstm, Gates("lstm", "head"), Units("lstm")
    x, y = 3 * torch.randn(40, 7, 4), torch.arange(40) % 3

    def see(size=40):
        batches = list(zip(x.split(size), y.split(size), strict=True))
        return gates.observe(net, frozenset({"outputs", "success", "means"}), Calibration(batches))

    def score(criterion, grouping=gates):
        return criterion.scores(net, whole(net, grouping)[1], seen).values

    seen = see()
    activations = gate_activations(lstm, x, lstm(x)[0]).detach()
    assert torch.allclose(seen.means, activations.double().mean((0, 1)), atol=1e-6)
    assert torch.allclose(seen.outputs.magnitude, activations.double().abs().mean(0), atol=1e-6)
    assert torch.equal(see(7).outputs.levels, seen.outputs.levels)
    for criterion in (TransferEntropy("hit"), Entropy(), L1Norm(), Random(1)):
        values = score(criterion)
        assert values.shape == (24,)
        assert len(set(values.tolist())) > 12
    rows = lstm.weight_ih_l0.abs().sum(1) + lstm.weight_hh_l0.abs().sum(1)
    assert torch.allclose(score(L1Norm()).float(), rows)
    assert torch.allclose(score(L1Norm()).view(4, 6).sum(0), score(L1Norm(), units))
    bits = score(Entropy(bins=2))
    for row in range(24):
        share = (activations[..., row] >= (0.0 if row // 6 == 2 else 0.5)).double().mean().item()
        expected = -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)
        assert bits[row] == pytest.approx(expected, abs=1e-12)


def test_a_repair_by_means_holds_the_gates_that_go_now_at_their_means():
    torch.manual_seed(0)
    net, gates = nn.ModuleDict({"a": nn.LSTM(3, 4, batch_first=True)}), Gates("a")
    full, groups = whole(net, gates)
    gone = torch.arange(16) % 5 == 0
    before = groups.remove(gone, full, {"a.bias_ih_l0": torch.full((16,), 0.25)})
    seen = gates.observe(net, Mean.needs, Calibration([torch.randn(5, 6, 3)], lambda net, x: (net["a"](x)[0], None)))
    groups = gates(net, before)
    assert torch.equal(groups.gone, gone)
    goes = gone | (torch.arange(16) % 3 == 0)
    mask = groups.remove(goes, before, Mean()(net, gates, groups, goes, seen))
    expected = gate_constants("a", goes & ~gone, seen.means)["a.bias_ih_l0"]
    assert torch.equal(mask.held["a.bias_ih_l0"], torch.where(gone, 0.25, expected))
    assert list(mask.held) == ["a.bias_ih_l0"]


def test_units_after_gates_take_their_constants_along():
    torch.manual_seed(0)
    net, units = nn.ModuleDict({"a": nn.LSTM(3, 4, batch_first=True)}), Units("a")
    kept = torch.arange(16) % 4 < 2  # of units 2 and 3 no gate is left, of 0 and 1 all are
    before = gate_mask(net, "a", kept & (torch.arange(16) != 1), torch.rand(16) * 0.8 + 0.1)
    groups = units(net, before)
    assert not groups.gone.any()
    goes = torch.tensor([False, True, True, False])
    mask = groups.remove(goes, before)
    held = before.held["a.bias_ih_l0"].masked_fill(goes.repeat(4), 0.0)
    assert torch.equal(mask.held["a.bias_ih_l0"], held)
    assert (held != 0).tolist() == [False, False, False, True] * 4
    assert torch.equal(units(net, mask).gone, goes)
    mask.apply(net)
    assert (net["a"](torch.randn(2, 5, 3))[0] != 0).any(0).any(0).tolist() == [True, False, False, True]


def test_gates_after_units_keep_what_is_gone_at_zero():
    torch.manual_seed(0)
    net, gates = nn.ModuleDict({"a": nn.LSTM(3, 4, batch_first=True)}), Gates("a")
    gone = torch.tensor([False, True, False, False])
    before = Units("a").mask(net, gone)
    groups = gates(net, before)
    assert torch.equal(groups.gone, gone.repeat(4))
    goes = gone.repeat(4) | (torch.arange(16) == 0)
    mask = groups.remove(goes, before, gate_constants("a", goes & ~groups.gone, torch.full((16,), 0.3)))
    assert mask.held["a.bias_ih_l0"].nonzero().flatten().tolist() == [0]
    mask.apply(net)
    assert (net["a"](torch.randn(2, 5, 3))[0][..., 1] == 0).all()


@pytest.mark.parametrize(
    ("lstm", "arguments", "message"),
    [
        (nn.LSTM, {"num_layers": 2}, "several layers"), (nn.LSTM, {"bias": False}, "without biases"),
        (nn.LSTM, {"bidirectional": True}, "no nn.LSTM of one direction"), (nn.GRU, {}, "no nn.LSTM of one direction"),
    ],
)  # fmt: skip
def test_an_lstm_whose_gates_cannot_be_seen_or_held_is_refused(lstm, arguments, message):
    with pytest.raises(ArgumentError, match=rf"^layer: got .a, .*{message}.*; accepted: for gates an LSTM"):
        Gates("a").check(nn.ModuleDict({"a": lstm(2, 3, **arguments)}), frozenset())


def test_constants_stay_in_the_compact_network():
    torch.manual_seed(0)
    net = Recognizer(3, 4, partial(torch.optim.Adam), units=6, hidden=5).eval()
    kept, alive = torch.rand(24) < 0.5, torch.arange(6) < 4
    (gate_mask(net, "lstm", kept, torch.rand(24) * 0.8 + 0.1) & Units("lstm").mask(net, ~alive)).apply(net)
    made = compact(net).module
    x = torch.randn(5, 7, 3)
    assert difference(net(x), made(x)) <= 1e-6
    assert made.lstm.hidden_size == 4
    assert Mask.full(made, ["lstm.bias_ih_l0"]).removed() == 0
