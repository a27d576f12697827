"""Gates that are constants, against an LSTM that spells them out in plain Python."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prunekit.criteria.gate_means import GateMeans
from prunekit.units.removal import gate_mask, gates_kept, unit_mask
from torch import nn

from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.masks import HeldMask, Mask
from prunekit.models.recognizer import Recognizer
from prunekit.units.compaction import compact, difference
from prunekit.units.gates import gate_activations, gate_constants, on_one_scale
from prunekit.units.series import Recorder


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
    mask = gate_mask(lstm, "a", kept)
    values = gate_constants("a", ~kept, means)
    values["a.bias_ih_l0"].masked_fill_(~alive.repeat(4), 0.0)  # a removed unit takes its gates' constants along
    (mask & unit_mask(lstm, "a", alive)).apply(net, values)
    constants = {
        (row // units, row % units): float(means[row])
        for row in range(4 * units) if not kept[row] and alive[row % units]
    }  # fmt: skip
    h = lstm(x)[0]
    assert (h[..., ~alive] == 0).all()
    for clip, own in zip(x, h, strict=True):
        assert torch.allclose(own, spelled_out(lstm, clip, constants)[0], rtol=1e-9, atol=1e-12)
    assert torch.equal(gates_kept(mask, "a.weight_hh_l0"), kept)
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
    values = gate_constants("lstm", ~kept, torch.rand(24) * 0.8 + 0.1)
    held = HeldMask(gate_mask(net.lstm, "lstm", kept), net, [own], values)
    at_first = net.lstm.bias_ih_l0.detach().clone()
    whole = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
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
        assert not torch.equal(parameter, whole[name])  # what is kept is trained
    held.release()


def record(lstm, head, x, y, size=40):
    recorder = Recorder(lstm, head, gates=True)
    recorder.run(lambda batch: head(lstm(batch)[0][:, -1]), zip(x.split(size), y.split(size), strict=True))
    return recorder.series()


def test_series_and_scores_are_of_gates():
    torch.manual_seed(0)
    lstm, head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)
    x, y = 3 * torch.randn(40, 7, 4), torch.arange(40) % 3
    series = record(lstm, head, x, y)
    activations = gate_activations(lstm, x, lstm(x)[0]).detach()
    assert torch.allclose(series.mean, activations.double().mean((0, 1)), atol=1e-6)
    assert torch.allclose(series.magnitude, activations.double().abs().mean(0), atol=1e-6)
    assert torch.equal(record(lstm, head, x, y, 7).levels, series.levels)
    assert torch.equal(GateMeans().gate_scores(lstm, series).values, series.mean)
    for criterion in (TransferEntropy("hit"), Entropy(), L1Norm(), Random(1)):
        values = criterion.gate_scores(lstm, series).values
        assert values.shape == (24,)
        assert len(set(values.tolist())) > 12
    rows = lstm.weight_ih_l0.abs().sum(1) + lstm.weight_hh_l0.abs().sum(1)
    assert torch.allclose(L1Norm().gate_scores(lstm, None).values.float(), rows)
    units = L1Norm().scores(lstm, None).values
    assert torch.allclose(L1Norm().gate_scores(lstm, None).values.view(4, 6).sum(0), units)
    bits = Entropy(bins=2).gate_scores(lstm, series).values
    for row in range(24):
        share = (activations[..., row] >= (0.0 if row // 6 == 2 else 0.5)).double().mean().item()
        expected = -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)
        assert bits[row] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(NotImplementedError, match="reconstruction does not score gates"):
        Reconstruction().gate_scores(lstm, series)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"num_layers": 2}, "several layers"), ({"bias": False}, "without biases")]
)
def test_an_lstm_whose_gates_cannot_be_seen_or_held_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recorder(nn.LSTM(2, 3, **arguments), nn.Linear(3, 2), gates=True)


def test_constants_stay_in_the_compact_network():
    torch.manual_seed(0)
    net = Recognizer(3, 4, partial(torch.optim.Adam), units=6, hidden=5).eval()
    kept, alive = torch.rand(24) < 0.5, torch.arange(6) < 4
    values = gate_constants("lstm", ~kept & alive.repeat(4), torch.rand(24) * 0.8 + 0.1)
    (gate_mask(net.lstm, "lstm", kept) & unit_mask(net.lstm, "lstm", alive)).apply(net, values)
    made = compact(net).module
    x = torch.randn(5, 7, 3)
    assert difference(net(x), made(x)) <= 1e-6
    assert made.lstm.hidden_size == 4
    assert Mask.full(made, ["lstm.bias_ih_l0"]).removed() == 0
