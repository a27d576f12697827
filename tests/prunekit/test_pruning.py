"""Pruning a plain torch module, without Lightning."""

import copy

import pytest
import torch
from torch import nn

from prunekit.criteria.criterion import Criterion, Scores
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.magnitude import Magnitude
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.groups import Weights
from prunekit.held_mask import HeldMask
from prunekit.masks import Mask
from prunekit.pruning import prune
from prunekit.selection import exact_count
from prunekit.units.grouping import Gates, Units
from prunekit.units.repair import Linear, Mean
from tests.prunekit.test_groups import Channels

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
UNITS = 12


class Reader(nn.Module):
    """A recurrent layer and a head on its last output."""

    def __init__(self, kind="gru", layers=1, bidirectional=False):
        super().__init__()
        torch.manual_seed(0)
        self.memory = KINDS[kind](4, UNITS, layers, batch_first=True, bidirectional=bidirectional)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(UNITS * (1 + bidirectional), 3)

    def forward(self, x):
        return self.head(self.drop(self.memory(x)[0][:, -1]))


X = torch.randn(48, 7, 4, generator=torch.Generator().manual_seed(1)) * 2
Y = torch.arange(48) % 3
BATCHES = list(zip(X.split(20), Y.split(20), strict=True))
READ = Units("memory", "head")


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("criterion", [L1Norm(), Random(3), Entropy(), TransferEntropy(), Reconstruction()])
def test_units_of_a_plain_module_go_exactly(kind, criterion):
    net = Reader(kind)
    net.train().head.eval()
    pruned = prune(net, READ, criterion, 0.3, BATCHES)
    assert [part.training for part in (net, net.memory, net.head)] == [True, True, False]  # as they were
    assert int(pruned.goes.sum()) == exact_count(0.3, UNITS)
    assert torch.equal((net.memory(X)[0] == 0).all(0).all(0), pruned.goes)
    assert pruned.scores.values[pruned.goes].max() <= pruned.scores.values[~pruned.goes].min()
    for name, kept in pruned.mask.items():
        assert torch.equal(net.get_parameter(name) != 0, kept)
    assert not any(part._forward_hooks for part in net.modules())


def test_weights_alone_want_no_batches():
    one, other = Reader(), Reader()
    assert prune(one, READ, L1Norm(), 0.5).mask == prune(other, READ, L1Norm(), 0.5, iter([])).mask
    layer = nn.Linear(6, 5)
    pruned = prune(layer, Weights(["weight"]), Magnitude(), 0.4)
    assert (layer.weight == 0).sum() == 12
    assert pruned.mask["weight"].sum() == 18


@pytest.mark.parametrize("name", ["first", "last"])
@pytest.mark.parametrize("criterion", [Magnitude(), Magnitude("sum"), L1Norm(), Random(0)])
def test_outputs_of_a_linear_layer_go(name, criterion):
    torch.manual_seed(0)
    net = nn.ModuleDict({"first": nn.Linear(4, 10), "last": nn.Linear(10, 10)})
    pruned = prune(net, Units(name), criterion, 0.5, order="descending")
    x = torch.randn(8, net[name].in_features)
    assert torch.equal((net[name](x) == 0).all(0), pruned.goes)
    assert int(pruned.goes.sum()) == 5
    assert pruned.scores.values[pruned.goes].min() >= pruned.scores.values[~pruned.goes].max()


def test_a_layer_that_is_the_whole_module_has_no_name():
    for grouping, layer, repair in ((Units(""), nn.GRU(4, 6), None), (Gates(""), nn.LSTM(4, 6), Mean())):
        pruned = prune(layer, grouping, Entropy(), 0.5, [X], repair=repair)
        assert list(pruned.mask) == [name for name, _ in layer.named_parameters()]
        assert list(pruned.mask.held) == (["bias_ih_l0"] if repair else [])
        assert grouping.label() == f"{grouping.word}s"
        assert int((layer.weight_hh_l0 == 0).all(1).sum()) == (9 if repair is None else 12)
    linear = nn.Linear(4, 6)
    assert list(prune(linear, Units(""), L1Norm(), 0.5).mask) == ["weight", "bias"]


def test_batches_are_tensors_or_tuples_or_what_predict_takes():
    forms = {
        "tensors": list(X.split(20)),
        "tuples": BATCHES,
        "alone": [(x,) for x in X.split(20)],
        "iterator": iter(BATCHES),
        "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), 13),
    }
    found = [prune(Reader(), READ, Entropy(), 0.5, batches) for batches in forms.values()]
    dicts = [{"clip": x, "class": y} for x, y in BATCHES]
    found.append(prune(Reader(), READ, Entropy(), 0.5, dicts, predict=lambda net, b: (net(b["clip"]), b["class"])))
    for pruned in found[1:]:
        assert torch.equal(pruned.scores.values, found[0].scores.values)
        assert pruned.mask == found[0].mask


@pytest.mark.parametrize(
    ("criterion", "repair", "what"),
    [
        (Entropy(), None, "outputs"), (TransferEntropy(), None, "outputs, success"),
        (Reconstruction(), None, "moments, readers"), (L1Norm(), Linear(), "calibration, moments, readers"),
    ],
)  # fmt: skip
def test_what_has_to_be_seen_wants_batches(criterion, repair, what):
    net = Reader()
    with pytest.raises(ArgumentError, match=rf"^batches: got None; accepted: batches of training data: {what} have"):
        prune(net, READ, criterion, 0.5, repair=repair)
    with pytest.raises(ValueError, match="no training clip"):
        prune(net, READ, criterion, 0.5, [], repair=repair)


def test_classes_are_wanted_where_success_is():
    with pytest.raises(ValueError, match="one class for each sequence"):
        prune(Reader(), READ, TransferEntropy(), 0.5, [X])


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_linear_repair_makes_up_for_units_that_go(kind, rate):
    dense, errors = Reader(kind).eval(), {}
    for repair in (None, Linear()):
        net = copy.deepcopy(dense)
        pruned = prune(net, READ, Reconstruction(), rate, BATCHES, repair=repair)
        assert int(pruned.goes.sum()) == rate * UNITS
        with torch.no_grad():
            errors[repair] = (net(X) - dense(X)).square().mean().item()
        assert torch.equal((net.memory(X)[0] == 0).all(0).all(0), pruned.goes)
    unrepaired, repaired = errors.values()
    assert 0 < repaired < 0.5 * unrepaired


def test_a_repair_says_what_it_may_change():
    net = Reader()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    prune(net, READ, Reconstruction(), 0.5, BATCHES, repair=Linear())
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= set(Linear().changes(net, READ)) == {*READ.parameters(net), "head.weight", "head.bias"}
    assert "head.bias" in changed
    assert Mean().changes(net, READ) == []


def test_gates_go_and_are_their_means():
    net = Reader("lstm")
    pruned = prune(net, Gates("memory", "head"), Entropy(), 0.25, BATCHES, repair=Mean())
    held = pruned.mask.held["memory.bias_ih_l0"]
    assert int(pruned.goes.sum()) == UNITS
    assert torch.equal(held != 0, pruned.goes)
    assert torch.equal(net.memory.bias_ih_l0[pruned.goes], held[pruned.goes].float())
    again = prune(net, Gates("memory", "head"), Entropy(), 0.5, BATCHES, repair=Mean(), mask=pruned.mask)
    assert again.goes[pruned.goes].all()
    now = again.mask.held["memory.bias_ih_l0"]
    assert torch.equal(now[pruned.goes], held[pruned.goes])  # what is gone keeps its constant
    assert torch.equal(now != 0, again.goes)
    units = prune(net, READ, Random(0), 0.5, mask=again.mask)
    gone = units.goes.repeat(4)
    assert torch.equal(units.mask.held["memory.bias_ih_l0"], now.masked_fill(gone, 0.0))
    assert (net.memory.bias_ih_l0[gone] == 0).all()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", list(KINDS))
def test_all_layers_of_a_stack_are_ranked_together_or_each_by_itself(kind, bidirectional):
    places = 3 * (1 + bidirectional)
    for scope in ("all", "within"):
        net = Reader(kind, 3, bidirectional)
        with torch.no_grad():
            for name, parameter in net.memory.named_parameters():
                parameter.mul_(1 + int(name.split("_l")[1][0]))  # so that the first layer's go first
        pruned = prune(net, Units("memory", every=True), L1Norm(), 1 / 3, scope=scope)
        gone = pruned.goes.view(places, UNITS).sum(1).tolist()
        if scope == "within":
            assert gone == [4] * places
        else:
            assert sum(gone) == 4 * places
            assert gone[0] > gone[-1]
        hidden = net.memory(X)[1]
        hidden = hidden[0] if kind == "lstm" else hidden
        assert torch.equal((hidden == 0).all(1).flatten(), pruned.goes)


def test_what_earlier_pruning_removed_stays_removed_and_counts():
    net = Reader()
    first = prune(net, READ, Random(0), 0.5)
    second = prune(net, READ, Random(1), 0.75, mask=first.mask)
    assert second.goes[first.goes].all()
    assert int(second.goes.sum()) == 9
    assert prune(net, READ, Random(2), 0.25, mask=second.mask).mask == second.mask
    other = Mask({"head.weight": torch.zeros(3, UNITS, dtype=torch.bool)})
    assert list(prune(net, READ, Random(1), 0.75, mask=second.mask & other).mask) == READ.parameters(net)


def test_the_mask_holds_through_training():
    net = Reader("lstm")
    pruned = prune(net, Gates("memory", "head"), L1Norm(), 0.5, BATCHES, repair=Mean())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    HeldMask(pruned.mask, net, [optimizer])
    at_first = net.memory.bias_ih_l0.detach().clone()
    for x, y in BATCHES:
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert torch.equal(net.memory.bias_ih_l0[pruned.goes], at_first[pruned.goes])
    assert (net.memory.bias_ih_l0 != at_first)[~pruned.goes].all()


class LastFirst(Criterion):
    """A user's own: a group's number."""

    name = "last_first"

    def scores(self, module, groups, seen):
        """The higher the sooner."""
        return Scores(-torch.arange(len(groups), dtype=torch.float64))


def test_a_users_own_criterion_is_all_that_pruning_wants():
    for grouping, count in ((Weights(["weight"]), 12), (Units(""), 4)):
        layer = nn.Linear(3, 4)
        assert prune(layer, grouping, LastFirst(), 0.25).goes.nonzero().flatten().tolist() == list(
            range(count - count // 4, count)
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    net = Reader()
    with torch.no_grad():
        net.memory.weight_hh_l0[3, 2] = value
    for criterion in (L1Norm(), Random(0), Entropy()):
        with pytest.raises(ArgumentError, match=r"^module: got 'memory\.weight_hh_l0, which is not finite'"):
            prune(net, READ, criterion, 0.5, BATCHES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.5}, "^rate: got 1.5"), ({"order": "up"}, "^order: got 'up'"), ({"of": "units"}, "^of: got 'units'"),
        ({"scope": "layer"}, "^scope: got 'layer'"),
        ({"repair": Mean()}, "^repair: got 'mean'; accepted: one for each unit, not for each gate"),
        ({"grouping": Units("lstm")}, "^layer: got 'lstm'"),
        ({"criterion": Reconstruction(), "order": "descending"}, "^order: got 'descending'; accepted: ascending"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_changes(arguments, message):
    net = Reader()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    given = {"grouping": READ, "criterion": L1Norm(), "rate": 0.5, **arguments}
    with pytest.raises(ArgumentError, match=message):
        prune(net, given.pop("grouping"), given.pop("criterion"), given.pop("rate"), BATCHES, **given)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_no_trace_is_left_where_looking_fails():
    net = Reader().train()
    net.memory.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prune(net, READ, Entropy(), 0.5, BATCHES)
    assert net.training
    assert not net.memory._forward_hooks


class Rectified(nn.Module):
    """Reads what went through a function that no module tells."""

    def __init__(self, read):
        super().__init__()
        self.memory, self.say, self.read = nn.GRU(3, 32, batch_first=True), nn.Linear(32, 2), read

    def forward(self, x):
        return self.say(self.read(self.memory(x)[0]))


READS = {
    "last": lambda h: h[:, -1],
    "mean": lambda h: h.mean(1),
    "each": lambda h: h,
    "flat": lambda h: h.flatten(0, 1),
    "turned": lambda h: h.transpose(0, 1),
    "of its length": lambda h: h[torch.arange(len(h)), torch.arange(len(h)) % h.shape[1]],
    "attended": lambda h: (h * h.sum(2, keepdim=True).softmax(1)).sum(1),
}


@pytest.mark.parametrize("name", READS)
def test_readers_of_outputs_or_of_sums_over_steps_are_repaired(name):
    torch.manual_seed(0)
    net, batches = Rectified(READS[name]), [torch.randn(9, 6, 3)]
    before = net.say.weight.detach().clone()
    gone = prune(net, Units("memory", "say"), Reconstruction(), 0.5, batches, repair=Linear()).goes
    assert int(gone.sum()) == 16
    assert (net.say.weight != before)[:, ~gone].all()  # what stays says what the others said


@pytest.mark.parametrize("read", [lambda h: h[:, -1].relu(), lambda h: h.square().mean(1), lambda h: h.amax(1)])
def test_a_reader_of_something_else_is_refused_rather_than_repaired_wrongly(read):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="does not read its outputs or sums of them"):
        prune(Rectified(read), Units("memory", "say"), Reconstruction(), 0.5, [torch.randn(9, 6, 3)], repair=Linear())


def test_parameters_may_have_rates_of_their_own():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    pruned = prune(net, Weights(), Magnitude(), {"0.weight": 0.5})
    assert int((net[0].weight == 0).sum()) == 10
    assert not (net[2].weight == 0).any()
    assert int(pruned.goes.sum()) == 10
    with pytest.raises(ArgumentError, match="rate: got 'one for each of several'; accepted: a number: channels"):
        prune(nn.Sequential(nn.Conv2d(1, 2, 3)), Channels("0"), Magnitude(), {"0.weight": 0.5})
