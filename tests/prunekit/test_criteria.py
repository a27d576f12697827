import copy
import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import nn

from prunekit.calibration import Calibration, Seen
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.output_energy import OutputEnergy
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.groups import Weights
from prunekit.masks import Mask
from prunekit.pruning import check_parts, prune
from prunekit.units.codes import encode_outputs, encode_target, equal_width, quantile
from prunekit.units.grouping import Gates, Units
from prunekit.units.network_units import NetworkUnits
from prunekit.units.series import Recorder
from prunekit.units.transfer_entropy import count_transitions, miller_madow, transfer_entropy


class Net(nn.Module):
    def __init__(self, layers=1, batch_first=True, units=6):
        super().__init__()
        torch.manual_seed(0)
        self.memory = nn.LSTM(4, units, layers, batch_first=batch_first)
        self.out = nn.Linear(units, 3)

    def forward(self, x):
        h = self.memory(x if self.memory.batch_first else x.transpose(0, 1))[0]
        return self.out(h[:, -1] if self.memory.batch_first else h[-1])


X = torch.randn(40, 7, 4, generator=torch.Generator().manual_seed(1)) * 3
Y = torch.arange(40) % 3


UNITS = Units("memory", "out")


def see(net, size=40, needs=("outputs", "success")):
    batches = list(zip(X.split(size), Y.split(size), strict=True))
    return UNITS.observe(net.eval(), frozenset(needs), Calibration(batches))


def record(net, size=40):
    return see(net, size).outputs


def score(criterion, net, seen=None, grouping=UNITS):
    groups = grouping(net, Mask.full(net, grouping.parameters(net)))
    return criterion.scores(net, groups, seen or Seen())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_pass_records_what_the_last_layer_and_the_head_do(layers, batch_first):
    net = Net(layers, batch_first)
    series = record(net)
    with torch.no_grad():
        h = net.memory(X if batch_first else X.transpose(0, 1))[0]
        h = h if batch_first else h.transpose(0, 1)
        logits = net.out(h)
    assert torch.equal(series.levels, encode_outputs(h))
    assert torch.allclose(series.magnitude, h.double().abs().mean(0))
    probability = logits.softmax(2)[torch.arange(40), :, Y]
    assert torch.allclose(series.target("probability"), probability)
    hit = logits.argmax(2) == Y[:, None]
    assert torch.equal(series.target("hit"), hit.double())
    assert torch.equal(series.target("accuracy"), hit.double().mean(0).expand(40, 7))
    assert 0 < hit.double().mean() < 1


@pytest.mark.parametrize("size", [1, 7, 39])
def test_scores_do_not_depend_on_the_batches(size):
    net = Net()
    whole, parts = see(net), see(net, size)
    assert torch.equal(whole.outputs.levels, parts.outputs.levels)
    for criterion in (TransferEntropy(), Entropy(), TransferEntropy("hit", 4, 2, "quantile", "surrogate", 5)):
        one, other = (score(criterion, net, seen) for seen in (whole, parts))
        assert torch.equal(one.values, other.values)
        assert (one.p_values is None) == (criterion.name == "entropy" or criterion.correction != "surrogate")


CRITERIA = [
    TransferEntropy(), TransferEntropy("accuracy", 4, 4, "quantile"), Entropy(),
    TransferEntropy("hit", correction="miller_madow"), TransferEntropy(correction="surrogate", surrogates=7),
]  # fmt: skip


@pytest.mark.parametrize("criterion", CRITERIA)
def test_ranks_add_up_to_what_one_process_finds(criterion):
    """Two ranks, as two threads that meet wherever ranks would."""
    everyone, sent = Barrier(2, timeout=30), [torch.empty(0)] * 2
    nets = [Net(), Net()]  # not made in the threads, which share one random generator

    def rank(number):
        def sum_over_ranks(local):
            sent[number] = local
            everyone.wait()
            total = sent[0] + sent[1]
            everyone.wait()
            return total

        net, rows = nets[number], torch.arange(number, 40, 2)
        here = Calibration([(X[rows], Y[rows])], rows=rows, samples=40, sum_over_ranks=sum_over_ranks)
        return score(criterion, net, UNITS.observe(net, criterion.needs, here))

    alone = score(criterion, nets[0], see(nets[0]))
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(rank, range(2)):
            assert torch.equal(found.values, alone.values)
            assert found.p_values is None or torch.equal(found.p_values, alone.p_values)


@pytest.mark.parametrize("target", ["probability", "hit", "accuracy"])
@pytest.mark.parametrize("edges", ["equal_width", "quantile"])
def test_transfer_entropy_is_that_of_the_coded_series(target, edges):
    net = Net()
    seen = see(net)
    series = seen.outputs
    x = (equal_width if edges == "equal_width" else quantile)(series.levels, 4)
    counts = count_transitions(x, encode_target(series.target(target), 3), 4, 3)
    found = score(TransferEntropy(target, 4, 3, edges), net, seen)
    assert torch.equal(found.values, transfer_entropy(counts))
    corrected = score(TransferEntropy(target, 4, 3, edges, "miller_madow"), net, seen)
    assert torch.equal(corrected.values, transfer_entropy(counts) + miller_madow(counts))
    assert found.values.abs().sum() > 0


def test_entropy_is_scipys():
    net = Net()
    seen = see(net, needs=["outputs"])
    series = seen.outputs
    found = score(Entropy(bins=8), net, seen).values
    for unit in range(6):
        counts = torch.bincount(series.levels[..., unit].flatten().long() // 32, minlength=8)
        assert found[unit].item() == pytest.approx(scipy_entropy(counts, base=2), abs=1e-12)


def test_l1_norm_adds_the_four_gates_of_the_last_layer():
    net = Net(layers=2)
    lstm = net.memory
    found = score(L1Norm(), net).values
    for unit in range(6):
        total = 0.0
        for gate in range(4):
            for weight in (lstm.weight_ih_l1, lstm.weight_hh_l1):
                total += weight[gate * 6 + unit].double().abs().sum().item()
        assert found[unit].item() == pytest.approx(total, abs=1e-12)


def test_random_scores_follow_their_seed():
    net = nn.ModuleDict({"lstm": nn.LSTM(2, 500)})
    one, again, other = (score(Random(seed), net, grouping=Units("lstm")).values for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len(one.unique()) == 500
    assert len(score(Random(1), net, grouping=Gates("lstm")).values) == 2000


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_l1_norm_scores_every_layer_and_direction_by_its_own_weights(kind, gates, bidirectional):
    torch.manual_seed(0)
    net = nn.ModuleDict({"memory": kind(4, 5, 3, bidirectional=bidirectional)})
    suffixes = ["", "_reverse"] if bidirectional else [""]
    for every in (True, False):
        found = score(L1Norm(), net, grouping=Units("memory", every=every)).values
        expected = []
        for layer in range(3) if every else [2]:
            for suffix in suffixes:
                for unit in range(5):
                    weights = [net["memory"].get_parameter(f"weight_{end}_l{layer}{suffix}") for end in ("ih", "hh")]
                    rows = [weight[gate * 5 + unit] for weight in weights for gate in range(gates)]
                    expected.append(sum(row.double().abs().sum().item() for row in rows))
        assert found.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransferEntropy("loss"), r"^target: got 'loss'"),
        (lambda: TransferEntropy(bins=3), r"^bins: got 3; accepted: one of 2, 4, 8, 16"),
        (lambda: TransferEntropy(target_bins=1), r"^target_bins: got 1"),
        (lambda: TransferEntropy(target_bins=17), r"^target_bins: got 17"),
        (lambda: TransferEntropy(edges="kmeans"), r"^edges: got 'kmeans'"),
        (lambda: TransferEntropy(correction="bonferroni"), r"^correction"),
        (lambda: TransferEntropy(surrogates=0), r"^surrogates: got 0"),
        (lambda: Entropy(1), r"^bins: got 1"),
        (lambda: Random(-1), r"^seed: got -1"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_what_cannot_be_recorded_is_refused():
    head = nn.Linear(6, 3)
    for wrong in (nn.LSTM(4, 6, bidirectional=True), nn.LSTM(4, 6, proj_size=2)):
        with pytest.raises(ValueError, match="two directions or with a projection"):
            Recorder(wrong, head)
    net = Net()
    twice = Recorder(net.memory, net.out)
    batch = Calibration([(X, Y)])
    with pytest.raises(ValueError, match="does not call its layer once"):
        twice.run(lambda x: (net(x), net(x)), batch)
    packed = Recorder(net.memory, net.out)
    with pytest.raises(ValueError, match="unpacked"):
        packed.run(lambda x: net.memory(nn.utils.rnn.pack_sequence([x[0]])), batch)
    for classes in (None, Y[:3], Y[:, None].expand(-1, 7)):
        with pytest.raises(ValueError, match="one class for each sequence"):
            Recorder(net.memory, net.out).run(net, Calibration([(X, classes)]))
    with pytest.raises(ValueError, match="no training clip"):
        Recorder(net.memory, net.out).series(batch)
    with pytest.raises(ValueError, match="wants a head and classes"):
        see(net, needs=["outputs"]).outputs.target("hit")
    with torch.no_grad():
        net.memory.weight_ih_l0[0, 0] = math.nan
    with pytest.raises(ValueError, match="are NaN"):
        record(net)
    assert not net.memory._forward_hooks  # whatever happened, the model is let go of


def test_a_criterion_scores_the_groups_that_it_is_for():
    for criterion in (Entropy(), L1Norm(), TransferEntropy(), Random(0)):
        for grouping in (UNITS, Gates("memory")):
            check_parts(grouping, criterion, "ascending")
    with pytest.raises(ArgumentError, match=r"^criterion: got 'reconstruction'; accepted: one that scores each gate"):
        check_parts(Gates("memory"), Reconstruction(), "ascending")
    with pytest.raises(ArgumentError, match=r"^criterion: got 'l1_norm'; accepted: one that scores each weight"):
        check_parts(Weights(), L1Norm(), "ascending")
    with pytest.raises(ArgumentError, match=r"^order: got 'descending'; accepted: ascending for reconstruction"):
        check_parts(UNITS, Reconstruction(), "descending")


def test_output_energy_is_the_slope_of_scaling_a_unit_away():
    net = Net().double()
    batches = list(X.double().split(20))
    grouping = NetworkUnits(["memory"])
    scores = prune(copy.deepcopy(net), grouping, OutputEnergy(), 0.0, batches).scores.values
    step, rows = 1e-6, torch.arange(4) * 6
    for unit in range(6):
        slopes = []
        for batch in batches:
            energies = []
            for scale in (1 + step, 1 - step):
                scaled = copy.deepcopy(net)
                with torch.no_grad():
                    for parameter in scaled.memory.parameters():
                        parameter[rows + unit] *= scale
                    energies.append(float(scaled(batch).square().sum() / 2))
            slopes.append(abs(energies[0] - energies[1]) / (2 * step))
        assert scores[unit] == pytest.approx(sum(slopes) / 2, rel=1e-5)


def test_output_energy_leaves_a_frozen_network_frozen_and_refuses_what_has_no_slope():
    net = Net(layers=2).requires_grad_(False)
    net.memory.dropout = 0.5  # and what it drops in training is no part of it
    one, other = (prune(copy.deepcopy(net), NetworkUnits(), OutputEnergy(), 0.5, [X]).scores.values for _ in "ab")
    assert torch.equal(one, other)
    prune(net, NetworkUnits(), OutputEnergy(), 0.5, [X])
    assert net.memory.training
    assert net.memory.dropout == 0.5
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())
    with pytest.raises(ArgumentError, match="criterion: got 'output_energy, while the outputs have no gradient'"):
        prune(net, NetworkUnits(), OutputEnergy(), 0.5, [X], predict=lambda net, x: (net(x).detach(), None))
