"""Low rank: what is lost is what was said to be lost, less than by any other projection, and within the budget."""

import copy
import itertools

import pytest
import torch
from torch import nn

from prunekit.calibration import Calibration, Seen
from prunekit.errors import ArgumentError
from prunekit.masks import Mask
from prunekit.units.low_rank import LowRank, Spectrum, moments_read, project, ranks_within
from prunekit.units.moments import Moments
from prunekit.units.network_units import NetworkUnits
from prunekit.units.parts import parts_of
from prunekit.units.watching import watching

COVERED = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Reader(nn.Module):
    """Two layers in both directions, and a head."""

    def __init__(self, kind=nn.LSTM, bias=True):
        super().__init__()
        self.memory = kind(5, 6, 2, bidirectional=True, bias=bias, batch_first=True)
        self.say = nn.Linear(12, 4, bias=bias)

    def forward(self, x):
        return self.say(self.memory(x)[0].mean(1))


def data(n=64, steps=7):
    """Inputs of unlike scales and a mean that is not 0, so that what is read matters."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, steps, 5, generator=generator) * torch.tensor([4.0, 2.0, 1.0, 0.1, 0.1]) + 1.0
    return list(x.split(16))


def calibration(batches):
    return Calibration(batches, lambda module, batch: (module(batch), None))


def factored(net, budget, batches, weights=None):
    """A copy at low rank, and the repair that made it."""
    made = copy.deepcopy(net)
    repair = LowRank(weights or [name for name, p in net.named_parameters() if p.dim() > 1], budget)
    units = NetworkUnits(["memory"])
    groups = units(made, Mask.full(made, units.parameters(made)))
    none = torch.zeros(len(groups), dtype=torch.bool)
    assert not repair(made, units, groups, none, Seen(calibration=calibration(batches)))
    return made, repair


def name_of(part):
    return part.layer if part.layer == "say" else part.label()


def multiply_adds(net):
    return sum(p.numel() for p in net.parameters() if p.dim() > 1)


@pytest.mark.parametrize("biased", [True, False])
def test_what_is_lost_is_the_energy_of_what_is_left_out(biased):
    torch.manual_seed(0)
    weight, bias = torch.randn(6, 5).double(), torch.randn(6).double()
    z = data()[0].reshape(-1, 5).double()
    moments = Moments.of(z)
    spectrum = Spectrum.of(weight, moments.covariance(about_zero=not biased))
    for rank in range(6):
        new, shifted = weight.clone(), bias.clone()
        project([new, shifted] if biased else [new], moments.mean(), spectrum.directions[:, :rank])
        lost = ((z @ weight.T + bias) - (z @ new.T + shifted)).square().sum(1).mean()
        assert lost.item() == pytest.approx(spectrum.energies[rank:].sum().item(), abs=1e-9)
        assert torch.linalg.matrix_rank(new) == rank


def test_no_map_of_that_rank_is_nearer_on_the_data():
    torch.manual_seed(0)
    weight, z = torch.randn(6, 5).double(), data()[0].reshape(-1, 5).double()
    spectrum = Spectrum.of(weight, Moments.of(z).covariance(about_zero=True))
    u, s, vh = torch.linalg.svd(weight)
    plain = (u[:, :2] * s[:2]) @ vh[:2]
    best = spectrum.energies[2:].sum()
    assert (z @ (weight - plain).T).square().sum(1).mean() > 2 * best  # which does not look at what is read
    for _ in range(50):
        basis = torch.linalg.qr(torch.randn(6, 2).double()).Q
        assert (z @ (weight - basis @ basis.T @ weight).T).square().sum(1).mean() > best


def test_ranks_keep_within_the_budget_and_leave_no_room_for_another_direction():
    torch.manual_seed(0)
    spectra = [Spectrum.of(torch.randn(m, n), torch.eye(n)) for m, n in ((12, 5), (4, 9), (3, 3))]

    def cost(ranks):
        return sum(s.whole if r is None else s.cost(r) for s, r in zip(spectra, ranks, strict=True))

    every = sum(each.whole for each in spectra)
    for budget in range(every + 2):
        ranks = ranks_within(spectra, budget)
        assert cost(ranks) <= budget
        more = [s.cost(r + 1) - s.cost(r) for s, r in zip(spectra, ranks, strict=True) if r is not None]
        assert all(each > budget - cost(ranks) for each in more)
    assert ranks_within(spectra, 0) == [0, 0, 0]
    assert ranks_within(spectra, every) == [None] * 3


def test_of_matrices_of_one_shape_the_ranks_are_the_best_there_are():
    """Where each direction costs the same, the largest shares first is what trying all choices finds."""
    torch.manual_seed(0)
    spectra = [Spectrum.of(torch.randn(10, 10), torch.diag(torch.logspace(0, e, 10))) for e in (0, 2, 4)]

    def kept(ranks):
        return sum(float(s.energies[:r].sum() / s.energies.sum()) for s, r in zip(spectra, ranks, strict=True))

    found = ranks_within(spectra, 6 * 20)
    best = max((each for each in itertools.product(range(5), repeat=3) if sum(each) == 6), key=kept)
    assert found == list(best)


@pytest.mark.parametrize("kind", COVERED)
@pytest.mark.parametrize("bias", [True, False])
def test_a_whole_network_at_full_budget_stays_as_it_is_and_at_half_is_near(kind, bias):
    torch.manual_seed(0)
    net, batches = Reader(COVERED[kind], bias).eval(), data()
    whole = multiply_adds(net)
    same, repair = factored(net, whole, batches)
    assert set(repair.ranks.values()) == {None}
    assert all(torch.equal(p, same.get_parameter(name)) for name, p in net.named_parameters())
    made, repair = factored(net, whole // 2, batches)
    labels = ["memory.0", "memory.0 (reverse)", "memory.1", "memory.1 (reverse)", "say"]
    assert list(repair.ranks) == labels
    spent = 0
    for part in [*parts_of(net, "memory"), *parts_of(net, "say")]:
        joined = torch.cat([made.get_parameter(name) for name in part.names if "weight" in name], 1).detach()
        rank = repair.ranks[name_of(part)]
        assert rank is None or torch.linalg.matrix_rank(joined, rtol=1e-5) == rank
        spent += joined.numel() if rank is None else rank * sum(joined.shape)
    assert whole / 4 < spent <= whole // 2
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, made.get_parameter(name))}
    assert changed <= set(repair.changes(net, NetworkUnits()))
    random = copy.deepcopy(net)
    with torch.no_grad():
        for part in [*parts_of(net, "memory"), *parts_of(net, "say")]:
            own = [random.get_parameter(name) for name in part.names]
            if (rank := repair.ranks[name_of(part)]) is not None:
                read = sum(p.shape[1] for p in own if p.dim() > 1)
                project(own, torch.zeros(read), torch.linalg.qr(torch.randn(len(own[0]), rank).double()).Q)
        x = torch.cat(batches)
        near, far = ((each(x) - net(x)).norm() for each in (made, random))
    assert near < 0.5 * far


def test_moments_are_of_all_valid_steps_however_batches_are_cut():
    net, x = Reader(), torch.cat(data())
    valid = torch.arange(7) < torch.randint(1, 8, (len(x), 1), generator=torch.Generator().manual_seed(0))
    pairs = [list(zip(x.split(n), valid.split(n), strict=True)) for n in (64, 10)]
    found = [
        moments_read(
            net, parts_of(net, "memory"),
            Calibration(each, lambda module, pair: (module(pair[0]), None), valid=lambda pair: pair[1]),
        )
        for each in pairs
    ]  # fmt: skip
    with torch.no_grad(), watching(net, ["memory"], valid) as seen:
        net(x)
    (call,) = seen["memory", 1, 1]
    expected = torch.cat([call.inputs, call.earlier], 1).double()
    assert len(expected) == int(valid.sum())
    for each in found:
        assert each[3].count == len(expected)
        assert torch.allclose(each[3].products, expected.T @ expected)


def test_a_layer_that_is_not_called_is_refused():
    net = Reader()
    net.other = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="other is not called"):
        factored(net, 10, data(), ["memory.weight_ih_l0", "other.weight"])
    with pytest.raises(ArgumentError, match="layers"):
        NetworkUnits(["say"]).parts(net)
