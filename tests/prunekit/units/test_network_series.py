"""Transfer entropy of any recurrent units: as of one layer where both can be had, else as counted by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prunekit.cache import Cache
from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.pruning import prune
from prunekit.units.codes import encode_outputs, encode_target, equal_width
from prunekit.units.grouping import Units
from prunekit.units.network_units import NetworkUnits
from prunekit.units.transfer_entropy import count_transitions, transfer_entropy
from tests.callbacks.units import Reader, Sequences, fit


class Tagger(nn.Module):
    """A class for each step."""

    def __init__(self, kind=nn.LSTM, layers=1, bidirectional=False):
        super().__init__()
        self.memory = kind(3, 6, layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(12 if bidirectional else 6, 4)
        with torch.no_grad():
            self.head.weight.mul_(20)  # so that classes are told apart at times

    def forward(self, x):
        return self.head(self.memory(x)[0])


class Looped(nn.Module):
    """The same with a cell."""

    def __init__(self, memory, head):
        super().__init__()
        self.cell, self.head = nn.LSTMCell(3, 6), head
        for name, parameter in memory.named_parameters():
            self.cell.get_parameter(name.removesuffix("_l0")).data = parameter.data

    def forward(self, x):
        state, steps = None, []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            steps.append(self.head(state[0]))
        return torch.stack(steps, 1)


def of_class(module, batch):
    """The probability of one class for a whole sequence, as Units has it."""
    x, y = batch
    return module(x).softmax(-1).gather(2, y[:, None, None].expand(-1, x.shape[1], 1))[..., 0]


def batches(count=4, steps=9):
    torch.manual_seed(1)
    return [(torch.randn(10, steps, 3), torch.randint(4, (10,))) for _ in range(count)]


def scores(module, grouping, criterion, given, **more):
    return prune(copy.deepcopy(module), grouping, criterion, 0.5, given, **more).scores.values


@pytest.mark.parametrize("target", ["probability", "hit"])
@pytest.mark.parametrize("edges", ["equal_width", "quantile"])
@pytest.mark.parametrize("correction", ["none", "miller_madow"])
def test_of_one_layer_and_classes_it_is_what_units_say(target, edges, correction):
    torch.manual_seed(0)
    net = Tagger()
    criterion = TransferEntropy(target, bins=4, target_bins=2, edges=edges, correction=correction)

    def success(module, batch):
        share = of_class(module, batch)
        return share if target == "probability" else (module(batch[0]).argmax(2) == batch[1][:, None]).float()

    def last(module, batch):
        return module(batch[0])[:, -1], batch[1]

    one = scores(net, Units("memory", "head"), criterion, batches(), predict=last)
    other = scores(net, NetworkUnits(), criterion, batches(), success=success)
    assert torch.equal(one, other)
    assert one.max() > 1e-3
    looped = scores(Looped(net.memory, net.head), NetworkUnits(), criterion, batches(), success=success)
    assert torch.allclose(looped, other)


def test_of_every_layer_and_direction_steps_are_those_of_the_sequence():
    torch.manual_seed(0)
    net, (x, _) = Tagger(nn.GRU, 2, bidirectional=True), batches(1)[0]
    success = torch.rand(10, 9)
    found = scores(net, NetworkUnits(), TransferEntropy(), [x], success=lambda module, batch: success).view(2, 2, 6)
    with torch.no_grad():
        top = net.memory(x)[0].view(10, 9, 2, 6)
        first = nn.GRU(3, 6, batch_first=True, bidirectional=True)
        first.load_state_dict({name: own for name, own in net.memory.state_dict().items() if "_l0" in name})
        below = first(x)[0].view(10, 9, 2, 6)
    for number, h in enumerate((below, top)):
        for direction in (0, 1):
            codes = equal_width(encode_outputs(h[:, :, direction]), 2)
            wanted = transfer_entropy(count_transitions(codes, encode_target(success, 2), 2, 2))
            assert torch.allclose(found[number, direction], wanted)


class Packed(nn.Module):
    """Of padded sequences and their lengths."""

    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.GRU(3, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, batch):
        x, lengths = batch
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.memory(packed)[0], batch_first=True, total_length=x.shape[1])[0])


def test_packed_sequences_and_padded_ones_whose_valid_steps_are_told_count_the_same():
    torch.manual_seed(0)
    net, padded = Packed(), Tagger(nn.GRU)
    padded.load_state_dict(net.state_dict())
    lengths, success = torch.tensor([3, 9, 1, 5, 7]), torch.rand(5, 9)
    valid = torch.arange(9) < lengths[:, None]
    success[~valid] = float("nan")  # what padding is like is nobody's business
    x = torch.randn(5, 9, 3)

    def told(module, batch):
        return success

    def turned(module, batch):
        return success[[1, 4, 3, 0, 2]].nan_to_num()

    def packed(module, batch):
        return module(batch), None

    criterion = TransferEntropy(bins=4)
    one = scores(net, NetworkUnits(), criterion, [(x, lengths)], success=told, predict=packed)
    other = scores(padded, NetworkUnits(), criterion, [x], success=told, valid=lambda batch: valid)
    unsorted = scores(net, NetworkUnits(), criterion, [(x, lengths)], success=turned, predict=packed)
    assert torch.equal(one, other)
    assert one.max() > 1e-3
    assert not torch.equal(one, unsorted)  # which sequence is which counts


@pytest.mark.parametrize(
    ("success", "criterion", "message"),
    [
        (None, TransferEntropy(), "success: got None; accepted: a function"),
        (lambda module, batch: torch.rand(10), TransferEntropy(), r"success: got 'one .* of shape \(10,\)'"),
        (lambda module, batch: 0.5, TransferEntropy(), "success: got 'one that gives a float'"),
        (lambda module, batch: -torch.rand(10, 9), TransferEntropy(), "success: got 'one that gives numbers from -"),
        (lambda module, batch: torch.full((10, 9), torch.nan), TransferEntropy(), "success: got .* from nan to nan"),
        (of_class, TransferEntropy("accuracy"), "target: got 'accuracy'; accepted: probability or hit"),
        (of_class, TransferEntropy(correction="surrogate"), "correction: got 'surrogate'; accepted: none or"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused(success, criterion, message):
    with pytest.raises(ArgumentError, match=message):
        prune(Tagger(), NetworkUnits(), criterion, 0.5, batches(1), success=success)


def test_linear_layers_and_modules_called_twice_are_refused():
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    with pytest.raises(ArgumentError, match="layers: got '0, a linear layer"):
        prune(net, NetworkUnits(["0"]), TransferEntropy(), 0.5, batches(1), success=of_class)

    def twice(module, batch):
        return module(module(batch[0])[..., :3]), None

    with pytest.raises(ValueError, match="memory is called 2 times a batch"):
        prune(Tagger(), NetworkUnits(), TransferEntropy(), 0.5, batches(1), predict=twice, success=of_class)


class Telling(Reader):
    """Says itself what success is."""

    def success(self, batch):
        x, y = batch
        h, _ = self.net["memory"](x.transpose(0, 1))
        return self.net["say"](h).softmax(-1)[:, torch.arange(len(y)), y].T


def test_a_callback_asks_the_model_what_success_is(tmp_path):
    masked = Pruning(NetworkUnits(), TransferEntropy(), 0.5, start_epoch=1)
    fit(tmp_path, [masked], 1, Telling(lr=0.05))
    dense, _ = fit(tmp_path / "dense", [], 1, Telling(lr=0.05))
    loader = Sequences().train_dataloader()
    alone = prune(dense, NetworkUnits(), TransferEntropy(), 0.5, loader, success=lambda m, batch: m.success(batch))
    assert all(torch.equal(masked.mask[name], alone.mask[name]) for name in alone.mask)
    with pytest.raises(ArgumentError, match=r"success: got None; .* of a LightningModule its method success"):
        fit(tmp_path / "none", [Pruning(NetworkUnits(), TransferEntropy(), 0.5, start_epoch=1)], 1)


def test_a_criterion_written_in_a_notebook_is_scored_and_kept_from_others(tmp_path):
    space = {"__name__": "nowhere"}
    exec("from prunekit.criteria.entropy import Entropy\nclass Mine(Entropy):\n    name = 'mine'", space)
    runs = [Pruning(NetworkUnits(), space["Mine"](), 0.5, start_epoch=1, cache=Cache(tmp_path / "cache")) for _ in "ab"]
    for number, run in enumerate(runs):
        fit(tmp_path / str(number), [run], 1)
    assert runs[0].removed == 12
