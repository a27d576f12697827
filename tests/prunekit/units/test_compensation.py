"""Least squares by hand, and what it does to a network."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn

from prunekit.calibration import Calibration
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.errors import ArgumentError
from prunekit.masks import Mask
from prunekit.models.recognizer import Recognizer
from prunekit.pruning import prune
from prunekit.units.compensation import LEAST_RIDGE, compensate, fit
from prunekit.units.forward_selection import forward_selection
from prunekit.units.grouping import Units
from prunekit.units.moments import Moments, OutputMoments
from prunekit.units.repair import Linear
from prunekit.units.series import Recorder

UNITS = 10
KEPT = torch.arange(UNITS) % 3 != 0


def network(layers=1, bias=True, readout="last"):
    torch.manual_seed(0)
    net = Recognizer(4, 3, partial(torch.optim.Adam, lr=0.01), UNITS, layers, hidden=5, readout=readout).double()
    net.lstm = nn.LSTM(4, UNITS, layers, bias=bias, batch_first=True).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    return net.eval()


X = 2 * torch.randn(60, 7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def outputs(net, x=X):
    with torch.no_grad():
        return net.states(x)


@pytest.mark.parametrize("constant", [True, False])
def test_a_fit_is_the_ridge_regression_of_scikit_learn(constant):
    h = outputs(network()).flatten(0, 1)
    kept, removed = KEPT.nonzero().flatten(), (~KEPT).nonzero().flatten()
    found = fit(Moments.of(h), kept, removed, 1e-3, constant)
    spread = (h - h.mean(0) if constant else h).square().mean(0).mean().item()
    theirs = Ridge(1e-3 * spread * len(h), fit_intercept=constant).fit(h[:, kept].numpy(), h[:, removed].numpy())
    assert np.allclose(found.coefficients, theirs.coef_, rtol=1e-9, atol=1e-12)
    assert np.allclose(found.constant, theirs.intercept_, rtol=1e-9, atol=1e-12)
    assert np.abs(theirs.coef_).max() > 0.1


def test_moments_are_those_of_what_is_read_and_of_what_is_fed_back():
    h = outputs(network())
    moments = OutputMoments.of(h)
    back = torch.cat([torch.zeros(60, 1, UNITS, dtype=torch.float64), h[:, :-1]], 1)
    for seen, rows in ((moments.read, h.flatten(0, 1)), (moments.fed_back, back.flatten(0, 1))):
        assert seen.count == len(rows) == 420
        assert torch.allclose(seen.mean(), rows.mean(0), rtol=1e-12, atol=1e-15)
        assert np.allclose(seen.covariance(), np.cov(rows.T.numpy(), bias=True), rtol=1e-11, atol=1e-15)
        assert torch.allclose(seen.covariance(about_zero=True), rows.T @ rows / 420, rtol=1e-12, atol=1e-15)


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(1, 59), unique=True, max_size=8).map(sorted), ranks=st.integers(1, 3))
def test_moments_and_fits_agree_over_batches_and_ranks(cuts, ranks):
    h = outputs(network().float(), X.float())
    whole = OutputMoments.of(h)
    parts = [OutputMoments.of(part) for part in h.tensor_split(cuts)]
    sums = [sum(parts[rank::ranks][1:], parts[rank]) for rank in range(min(ranks, len(parts)))]
    total = sum(sums[1:], sums[0])
    kept, removed = KEPT.nonzero().flatten(), (~KEPT).nonzero().flatten()
    for name in ("read", "fed_back"):
        one, other = getattr(whole, name), getattr(total, name)
        assert torch.allclose(one.products, other.products, rtol=1e-12, atol=0)
        assert one.count == other.count
        for a, b in zip(fit(one, kept, removed), fit(other, kept, removed), strict=True):
            assert (a - b).abs().max() <= 1e-10 * a.abs().max()


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_network_reads_the_fit_instead_of_the_units(layers, bias, readout):
    net = network(layers, bias, readout)
    whole, h = copy.deepcopy(net), outputs(net)
    compensate(net.lstm, [net.head.hidden], OutputMoments.of(h), KEPT)
    kept, removed = KEPT.nonzero().flatten(), (~KEPT).nonzero().flatten()
    moments = OutputMoments.of(h)
    guess = h.clone()
    a, b = fit(moments.read, kept, removed)
    guess[..., removed] = h[..., kept] @ a.T + b
    expected = guess @ whole.head.hidden.weight.T + whole.head.hidden.bias
    weight = net.head.hidden.weight[:, kept]
    assert torch.allclose(h[..., kept] @ weight.T + net.head.hidden.bias, expected, rtol=1e-11, atol=1e-12)
    last = f"_l{layers - 1}"
    a, b = fit(moments.fed_back, kept, removed, constant=bias)
    new, old = (each.lstm.get_parameter(f"weight_hh{last}") for each in (net, whole))
    assert torch.allclose(new[:, kept], old[:, kept] + old[:, removed] @ a, rtol=1e-11, atol=1e-12)
    if bias:
        new_bias, old_bias = (each.lstm.get_parameter(f"bias_hh{last}") for each in (net, whole))
        assert torch.allclose(new_bias, old_bias + old[:, removed] @ b, rtol=1e-11, atol=1e-12)
    changed = {n for n, p in net.named_parameters() if not torch.equal(p, whole.get_parameter(n))}
    wanted = {f"lstm.weight_hh{last}", f"lstm.bias_hh{last}", "head.hidden.weight", "head.hidden.bias"}
    assert changed == wanted - (set() if bias else {f"lstm.bias_hh{last}"})


def copies(net):
    """A network whose units 6 to 9 say what 0 to 3 say, times a factor and plus a constant as far as h can."""
    with torch.no_grad():
        for name, parameter in net.lstm.named_parameters():
            rows = parameter.view(4, UNITS, -1)
            rows[:, 6:10] = rows[:, 0:4]
            if name.startswith("weight_hh"):
                parameter[:, 6:10] *= -0.5
    return net


def test_units_that_others_already_say_are_removed_without_a_trace():
    net = copies(network())
    dense, kept = net(X), torch.arange(UNITS) < 6
    moments = OutputMoments.of(outputs(net))
    masked = copy.deepcopy(net)
    mask = Units("lstm").mask(net, ~kept)
    mask.apply(masked)
    compensate(net.lstm, [net.head.hidden], moments, kept, ridge=1e-12)
    mask.apply(net)
    assert (masked(X) - dense).abs().max() > 0.1
    assert (net(X) - dense).abs().max() < 1e-6


def test_the_first_step_is_better_than_with_a_fit_over_all_outputs():
    """At t = 0 the constant acts as well, though h_-1 is 0."""
    net = network()
    with torch.no_grad():
        net.lstm.bias_ih_l0[2 * UNITS : 3 * UNITS] += 1.0  # outputs with a mean far from 0
    h, kept = outputs(net), torch.arange(UNITS) < 3
    moments, errors = OutputMoments.of(h), []
    for used in (moments, OutputMoments(moments.read, moments.read)):
        made = copy.deepcopy(net)
        compensate(made.lstm, [made.head.hidden], used, kept)
        errors.append((outputs(made)[:, 0] - h[:, 0])[:, kept].square().mean().item())
    assert errors[0] < 0.7 * errors[1]


def test_of_units_that_are_gone_already_nothing_is_read():
    net = network()
    before = torch.arange(UNITS) != 9
    Units("lstm").mask(net, ~before).apply(net)
    h, kept = outputs(net), torch.arange(UNITS) < 5
    whole = copy.deepcopy(net)
    compensate(net.lstm, [net.head.hidden], OutputMoments.of(h), kept, before)
    again = copy.deepcopy(whole)
    with torch.no_grad():
        again.head.hidden.weight[:, 9] = again.lstm.weight_hh_l0[:, 9] = 1e6
    compensate(again.lstm, [again.head.hidden], OutputMoments.of(h), kept, before)
    assert torch.equal(net.head.hidden.weight[:, kept], again.head.hidden.weight[:, kept])
    assert not torch.equal(net.head.hidden.weight[:, kept], whole.head.hidden.weight[:, kept])


@pytest.mark.parametrize("kept", [torch.ones(UNITS, dtype=torch.bool), torch.zeros(UNITS, dtype=torch.bool)])
def test_nothing_removed_changes_nothing_and_nothing_kept_leaves_the_means(kept):
    net = network()
    whole, h = copy.deepcopy(net), outputs(net)
    compensate(net.lstm, [net.head.hidden], OutputMoments.of(h), kept)
    if kept.all():
        assert all(torch.equal(p, whole.get_parameter(n)) for n, p in net.named_parameters())
    else:
        expected = whole.head.hidden.bias + whole.head.hidden.weight @ h.mean((0, 1))
        assert torch.allclose(net.head.hidden.bias, expected)


def error(covariance, reads, chosen):
    inner = torch.linalg.inv(covariance[chosen][:, chosen])
    left = covariance - covariance[:, chosen] @ inner @ covariance[chosen]
    return float((reads @ left @ reads.T).trace())


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 9), rows=st.integers(1, 6), ridge=st.sampled_from([1e-6, 1e-2]), seed=st.integers(0, 10**6))
def test_each_unit_taken_is_the_one_that_lowers_the_error_most(n, rows, ridge, seed):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(30, n, generator=generator, dtype=torch.float64)
    h = h @ torch.randn(n, n, generator=generator, dtype=torch.float64)
    reads = torch.randn(rows, n, generator=generator, dtype=torch.float64)
    covariance = h.T @ h / 30
    order = forward_selection(covariance, reads.T @ reads, ridge).tolist()
    assert sorted(order) == list(range(n))
    covariance.diagonal().add_(ridge * covariance.diagonal().mean())
    scale = error(covariance, reads, [])
    for step, unit in enumerate(order):
        errors = {other: error(covariance, reads, [*order[:step], other]) for other in order[step:]}
        assert errors[unit] <= min(errors.values()) + 1e-9 * scale


def test_of_equal_gains_the_lower_index_is_taken_and_constant_units_last():
    covariance = torch.diag(torch.tensor([0.0, 1.0, 1.0, 2.0, 0.0], dtype=torch.float64))
    assert forward_selection(covariance, torch.eye(5, dtype=torch.float64), 1e-9).tolist() == [3, 1, 2, 0, 4]


GROUPING, CLASSES = Units("lstm", "head"), torch.arange(60) % 3


def see(net, x=X, size=60):
    batches = list(zip(x.split(size), CLASSES.split(size), strict=True))
    return GROUPING.observe(net, Reconstruction.needs, Calibration(batches))


def places(net, seen, ridge=1e-4):
    groups = GROUPING(net, Mask.full(net, GROUPING.parameters(net)))
    return Reconstruction(ridge).scores(net, groups, seen).values


def test_reconstruction_keeps_what_the_rest_can_be_said_by():
    net = copies(network())
    seen = see(net)
    scores = places(net, seen, ridge=1e-9)
    assert sorted(scores.tolist()) == list(range(1, UNITS + 1))
    first = scores.argsort(descending=True)[:6].tolist()
    assert {unit if unit < 6 else unit - 6 for unit in first} == set(range(6))  # of a unit and its copy one
    fed_back = seen.moments[0].fed_back.covariance()
    best = []
    for unit in range(UNITS):
        kept, removed = torch.tensor([unit]), torch.tensor([u for u in range(UNITS) if u != unit])
        a, _ = fit(seen.moments[0].fed_back, kept, removed, 1e-9)
        share = 0.0
        for weight in (net.lstm.weight_hh_l0.detach(), net.head.hidden.weight.detach()):
            all_of_it = torch.einsum("mi,ij,mj->", weight, fed_back, weight)
            change = torch.eye(UNITS, dtype=torch.float64)
            change[removed] = 0.0
            change[removed, unit] = a[:, 0]
            miss = weight - weight @ change
            share += float(torch.einsum("mi,ij,mj->", miss, fed_back, miss) / all_of_it)
        best.append(share)
    assert int(scores.argmax()) % 6 == int(np.argmin(best)) % 6  # of a unit and its copy either


@pytest.mark.parametrize("size", [1, 7, 59])
def test_units_are_chosen_alike_whatever_the_batches(size):
    net = network().float()
    chosen = [places(net, see(net, X.float(), batch)) for batch in (60, size)]
    assert torch.equal(*chosen)


def test_reconstruction_wants_batches_and_a_ridge():
    net = network()
    for repair in (None, Linear()):
        with pytest.raises(ArgumentError, match=r"^batches: got None; accepted: .*moments, readers have to be seen"):
            prune(net, GROUPING, Reconstruction(), 0.5, repair=repair)
    for make in (Reconstruction, Linear):
        for ridge in (0.0, -1.0, 1e-16, float("inf"), float("nan"), True):
            with pytest.raises(ArgumentError, match=rf"^ridge: got {ridge}; accepted: a number of at least 1e-12"):
                make(ridge)
        assert make(LEAST_RIDGE).ridge == 1e-12


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 12), rank=st.integers(0, 3), seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-8, 1.0, 1e8]), ridge=st.sampled_from([1e-20, 1e-16, LEAST_RIDGE]),
)  # fmt: skip
@example(n=11, rank=2, seed=34, scale=1e-8, ridge=1e-16)
@example(n=11, rank=3, seed=94, scale=1e8, ridge=1e-20)
@example(n=9, rank=1, seed=116, scale=1e-8, ridge=1e-20)
def test_units_that_say_the_same_leave_a_whole_order_without_nan(n, rank, seed, scale, ridge):
    """Of a covariance without full rank, rounding may leave less than nothing."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(30, rank, generator=generator, dtype=torch.float64)
    h = scale * h @ torch.randn(rank, n, generator=generator, dtype=torch.float64)
    reads = torch.randn(4, n, generator=generator, dtype=torch.float64)
    order = forward_selection(h.T @ h / 30, reads.T @ reads, ridge)
    assert sorted(order.tolist()) == list(range(n))


def test_states_to_start_with_are_refused():
    net = network()
    recorder = Recorder(net.lstm, net.head)
    batch = Calibration([(X, torch.arange(60) % 3)])
    states = tuple(torch.full((1, 60, UNITS), value, dtype=torch.float64) for value in (0.0, 0.1))
    recorder.run(lambda x: net.lstm(x, tuple(map(torch.zeros_like, states))), batch)
    with pytest.raises(ValueError, match="starts with states other than 0"):
        recorder.run(lambda x: net.lstm(x, hx=states), batch)
