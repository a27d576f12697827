"""One call from a network and batches to a smaller network."""

import copy
import dataclasses
import re

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prunekit.criteria.standard_deviation import StandardDeviation
from prunekit.errors import ArgumentError
from prunekit.exports import load_compact
from prunekit.shrinking import call, shrink
from prunekit.shrunk import relative_difference
from prunekit.units.repair import Mean
from tests.strangers.recurrent import STEPS, Plan, Stranger, sequences


class Tagger(nn.Module):
    """Two-way LSTM over tokens, a class at each step."""

    def __init__(self):
        super().__init__()
        self.embed, self.memory = nn.Embedding(30, 8), nn.LSTM(8, 12, 2, bidirectional=True, batch_first=True)
        self.say = nn.Linear(24, 4)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        return self.say(pad_packed_sequence(self.memory(packed)[0], batch_first=True)[0])


class Looped(nn.Module):
    """An LSTM cell step by step."""

    def __init__(self):
        super().__init__()
        self.cell, self.say = nn.LSTMCell(4, 16), nn.Linear(16, 2)

    def forward(self, x):
        h = c = x.new_zeros(len(x), self.cell.hidden_size)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.say(h)


def test_a_tagger_of_packed_tokens():
    torch.manual_seed(0)
    batches = [(torch.randint(0, 30, (8, 7)), torch.tensor([7, 6, 5, 4, 3, 2, 1, 7])) for _ in range(8)]
    small = shrink(Tagger(), batches, rate=0.5, predict=lambda net, batch: (net(*batch), None))
    assert type(small.module) is Tagger
    assert (small.module.memory.hidden_size, small.module.say.in_features) == (6, 12)
    assert small.difference < 0.3
    assert small.parameter_counts == tuple(sum(p.numel() for p in net.parameters()) for net in (Tagger(), small.module))


def test_a_cell_in_a_loop_and_a_network_of_linear_layers():
    torch.manual_seed(0)
    looped = shrink(Looped(), sequences(), rate=0.5, show=False).module
    assert (looped.cell.hidden_size, looped.say.in_features) == (8, 8)
    plain = nn.Sequential(nn.Linear(4, 20), nn.Sigmoid(), nn.Linear(20, 10), nn.GELU(), nn.Linear(10, 2))
    small = shrink(plain, [torch.randn(64, 4) for _ in range(8)], rate=0.5, show=False)
    assert (small.module[0].out_features, small.module[2].out_features, small.module[4].out_features) == (10, 5, 2)
    assert small.difference < 0.2


def test_the_model_that_was_given_stays_as_it_was_training_mode_and_all():
    torch.manual_seed(0)
    net = Stranger(Plan("gru", 2, looped=True)).train()
    before = copy.deepcopy(net.state_dict())
    small = shrink(net, [torch.randn(16, STEPS, 3) for _ in range(4)], rate=0.5, show=False)
    assert net.training
    assert not small.module.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_table_says_what_was_cut_and_what_was_left_and_why(capsys):
    torch.manual_seed(0)

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.GRU(4, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
            self.norm, self.say = nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x):
            return self.say(self.norm(self.second(self.first(x)[0])[0][:, -1]))

    small = shrink(Normed(), sequences(), rate=0.5)
    told = capsys.readouterr().out
    assert re.search(r"^first +GRU +8 -> 4 ", told, re.M)
    assert re.search(r"^second +GRU +8 -> 8 .*norm, an nn\.LayerNorm, reads them", told, re.M)
    assert re.search(r"^norm +LayerNorm +- -> - .*nn\.LayerNorm is left as it is", told, re.M)
    before, after = small.parameter_counts
    assert f"parameters    {before:,} -> {after:,}" in told
    assert after == sum(p.numel() for p in small.module.parameters()) < before
    assert f"outputs differ by {small.difference:.2%}" in told


class Written(nn.Module):
    """A GRU, and a cell whose first states have a size that is written in the code."""

    def __init__(self):
        super().__init__()
        self.first, self.cell, self.say = nn.GRU(4, 8, batch_first=True), nn.LSTMCell(8, 16), nn.Linear(16, 2)

    def forward(self, x):
        x, h, c = self.first(x)[0], torch.zeros(len(x), 16), torch.zeros(len(x), 16)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.say(h)


class Tied(nn.Module):
    """Tokens to tokens, by one matrix; and a GRU before that can be cut."""

    def __init__(self):
        super().__init__()
        self.embed, self.first, self.second = nn.Embedding(9, 4), nn.GRU(4, 8, batch_first=True), nn.GRU(8, 4)
        self.say = nn.Linear(4, 9, bias=False)
        self.say.weight = self.embed.weight

    def forward(self, x):
        return self.say(self.second(self.first(self.embed(x))[0])[0])


class Carrying(nn.Module):
    """Goes on with the states of the call before."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(4, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
        self.say, self.state = nn.Linear(8, 2), None

    def forward(self, x):
        h, self.state = self.second(self.first(x)[0], self.state)
        return self.say(h)


@pytest.mark.parametrize(
    ("make", "batch", "kept", "why"),
    [
        (Written, (16, 6, 4), "cell", r"could not be cut .*code that has \d+ as a number.*: self\.cell\.hidden_size"),
        (Tied, None, "second", "could not be cut .*shares its weight"),
        (
            Carrying,
            (16, 6, 4),
            "second",
            r"could not be cut .*keeps states from call to call is to forget them in predict",
        ),
    ],
)
def test_a_layer_that_cannot_be_cut_keeps_its_weights_and_is_named(make, batch, kept, why):
    torch.manual_seed(0)
    net = make()
    batches = [torch.randn(batch) if batch else torch.randint(9, (16, 6)) for _ in range(8)]
    small = shrink(net, batches, rate=0.5, show=False)
    layer = small.module.get_submodule(kept)
    assert layer.hidden_size == net.get_submodule(kept).hidden_size
    weights = [parameter for name, parameter in layer.named_parameters() if name.startswith("weight")]
    assert all((weight != 0).any(1).all() for weight in weights)
    assert small.module.first.hidden_size == 4
    (row,) = [row for row in small.rows if row.layer == kept]
    assert re.search(why, row.why)
    assert getattr(net, "state", None) is None  # the model that was given has not been called


def test_states_kept_between_calls_are_cut_where_predict_resets_them():
    torch.manual_seed(0)

    def reset(net, batch):
        net.state = None
        return net(batch), None

    small = shrink(Carrying(), sequences(), rate=0.5, predict=reset, show=False)
    assert (small.module.first.hidden_size, small.module.second.hidden_size) == (4, 4)


def test_outputs_in_an_object_are_outputs():
    @dataclasses.dataclass
    class Said:
        logits: torch.Tensor
        state: torch.Tensor

    class Saying(Looped):
        def forward(self, x):
            logits = super().forward(x)
            return Said(logits, logits.detach() + 1)

    torch.manual_seed(0)
    net = Saying()
    batches = sequences()
    small = shrink(net, batches, rate=0.5, show=False)
    with torch.no_grad():
        one, other = net(batches[3]), small(batches[3])
    assert small.difference > 0
    assert not torch.equal(one.logits, other.logits)

    class Stating(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory, self.say = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            h, state = self.memory(x)
            return Said(self.say(h), state)

    with pytest.raises(ArgumentError, match="they are outputs of the network"):
        shrink(Stating(), batches, rate=0.5)


def test_what_was_cut_is_logged_once_and_not_of_the_trial(caplog):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    with caplog.at_level("INFO", logger="prunekit"):
        shrink(net, [torch.randn(16, 4) for _ in range(8)], rate=0.75, show=False)
    assert [said for said in caplog.messages if said.startswith("compact cut")] == ["compact cut 0 from 8 to 2"]


def test_few_batches_are_told(caplog):
    torch.manual_seed(0)
    shrink(Looped(), sequences(1), rate=0.5, show=False)
    assert "1 batches are few: one of 4 is held out to judge by, none here" in caplog.text


def test_a_tolerance_finds_the_smallest_network_within_it():
    torch.manual_seed(0)
    net = Stranger(Plan("lstm"), units=16)
    batches = [torch.randn(40, STEPS, 3) for _ in range(8)]
    loose, tight = (shrink(net, batches, tolerance=value, show=False) for value in (0.5, 0.05))
    assert loose.difference <= 0.5
    assert tight.difference <= 0.05
    assert loose.rate > tight.rate


def test_it_is_saved_and_loaded_without_pickle(tmp_path):
    torch.manual_seed(0)
    small = shrink(Looped(), sequences(), rate=0.5, show=False)
    small.save(tmp_path)
    loaded = load_compact(tmp_path, into=Looped())
    x = torch.randn(3, 5, 4)
    assert torch.equal(loaded(x), small.module(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compact.safetensors", "network.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "rate: got 'None and a tolerance of None'; accepted: one of the two"),
        ({"rate": 0.5, "tolerance": 0.1}, "rate: got '0.5 and a tolerance of 0.1'; accepted: one of the two"),
        ({"rate": 1.0}, "rate: got 1.0; accepted: a share below 1"),
        ({"rate": 0.5, "layers": "cell"}, "layers: got 'cell'; accepted: a list"),
        ({"rate": 0.5, "batches": None}, "batches: got 'a NoneType'"),
        ({"rate": 0.5, "batches": torch.zeros(3)}, "batches: got 'a Tensor'"),
        ({"rate": 0.5, "batches": [torch.zeros(2, 3, 5)]}, "batches: got 'one with which the model fails"),
        ({"rate": 0.5, "batches": [torch.full((2, 3, 4), float("nan"))]}, "batches: got 'one of which .* makes NaN"),
        ({"rate": 0.5, "predict": lambda net, x: net(x)}, "predict: got 'one that gives a Tensor'"),
        ({"rate": 0.5, "predict": lambda net, x: (net(x).argmax(1), None)}, "predict: got 'one whose outputs hold no"),
        ({"rate": 0.5, "predict": lambda net, x: (net(x), net(x))}, "predict: got 'one that gives a tuple'"),
        ({"rate": 0.5, "model": Looped}, "model: got .*; accepted: an nn.Module"),
        ({"rate": 0.5, "criterion": "l1_norm"}, "criterion: got 'l1_norm'; accepted: an object"),
        ({"rate": 0.5, "repair": Mean}, "repair: got 'Mean'; accepted: an object"),
        ({"rate": 1.5}, "rate: got 1.5"),
        ({"rate": {"cell": 1.5}}, r"rate\[cell\]: got 1.5"),
        ({"rate": {"cells": 0.5}}, "rate: got 'cells'; accepted: rates by names among cell, cell.0"),
        ({"rate": {}}, "rate: got {}; accepted: rates by names among"),
        ({"rate": 0.5, "hold_out": 1}, "hold_out: got 1; accepted: a whole number of 2 or more, or 0"),
        ({"tolerance": -1}, "tolerance: got -1"),
        ({"rate": 0.5, "batches": []}, "batches: got 'none'"),
        ({"rate": 0.5, "layers": ["nothing"]}, "layers: got 'nothing'; accepted: recurrent layers.*: cell"),
        ({"rate": 0.5, "model": nn.Linear(4, 4)}, "model: got 'one of which no layer can be cut"),
        ({"rate": 0.5, "repair": Mean()}, "repair: got 'mean'"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, message):
    given = {"model": Looped(), "batches": sequences(4), "show": False} | arguments
    with pytest.raises(ArgumentError, match=message):
        shrink(**given)


def test_batches_may_be_an_iterator_and_a_criterion_be_given():
    torch.manual_seed(0)
    small = shrink(Looped(), iter(sequences()), rate=0.25, criterion=StandardDeviation(), show=False)
    assert small.module.cell.hidden_size == 12


def test_a_teacher_without_labels_brings_it_nearer():
    torch.manual_seed(0)
    net = Stranger(Plan("lstm", 2), units=16)
    net.memory.dropout = 0.5
    batches = [torch.randn(40, STEPS, 3) for _ in range(8)]
    alone, taught = (shrink(net, batches, rate=0.7, teacher_epochs=epochs, show=False) for epochs in (0, 15))
    assert taught.difference < 0.8 * alone.difference
    assert taught.module.memory.dropout == 0.5
    assert not taught.module.training
    assert all(parameter.grad is None for parameter in taught.module.parameters())
    fresh = torch.randn(200, STEPS, 3)
    with torch.no_grad():
        one, other = (float((each(fresh) - net.eval()(fresh)).norm()) for each in (alone, taught))
    assert other < one


def test_a_rate_may_be_given_to_each_layer(capsys):
    torch.manual_seed(0)
    net = Stranger(Plan("lstm", 3), units=8)
    small = shrink(net, [torch.randn(20, STEPS, 3) for _ in range(8)], {"memory": 0.5, "memory.1": 0.25})
    assert [layer.hidden_size for layer in small.module.memory.layers] == [4, 6, 4]
    assert small.rate == {"memory": 0.5, "memory.1": 0.25}
    assert small.module.say[0].out_features == 4
    only = shrink(net, [torch.randn(20, STEPS, 3) for _ in range(8)], {"memory.2": 0.5}, show=False)
    assert [layer.hidden_size for layer in only.module.memory.layers] == [8, 8, 4]


def test_nothing_held_out_fits_to_all_and_says_so(capsys):
    torch.manual_seed(0)
    batches = [torch.randn(6, STEPS, 3) for _ in range(3)]
    net = Stranger(Plan("lstm"), units=8)
    held, whole = (shrink(net, batches, 0.5, hold_out=hold) for hold in (3, 0))
    told = capsys.readouterr().out
    assert "on held-out batches" in told
    assert f"outputs differ by {whole.difference:.2%} on batches that it was fitted to" in told
    apart = [relative_difference(net.eval(), each.module, call, batches) for each in (whole, held)]
    assert apart[0] == pytest.approx(whole.difference)
    assert apart[0] < apart[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            nn.LSTM(2, 3).state_dict(),
            "an object of class OrderedDict'; accepted: an nn.Module; load these weights",
        ),
        ("model.pt", "an object of class str'; accepted: an nn.Module$"),
    ],
)
def test_what_is_no_module_is_named_by_its_class_alone(given, said):
    with pytest.raises(ArgumentError, match=said):
        shrink(given, [torch.zeros(1)], rate=0.5)


def test_each_layer_that_has_lost_nothing_has_its_reason():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.norm = nn.LSTM(3, 8, batch_first=True), nn.LayerNorm(5)
            self.first, self.last = nn.Linear(8, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.last(self.norm(self.first(self.lstm(x)[0][:, -1])).relu())

    small = shrink(Two(), [torch.randn(8, 4, 3) for _ in range(8)], rate=0.5, show=False)
    whys = {row.layer: row.why for row in small.rows}
    within = "keeps its outputs: no linear layer follows in an nn.Sequential"
    assert whys == {"lstm": "", "norm": "nn.LayerNorm is left as it is", "first": within, "last": within}


def test_a_linear_layer_that_could_have_lost_outputs_is_not_said_to_keep_them_for_its_place():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    small = shrink(net, [torch.randn(8, 4)] * 8, rate={"0": 0.5}, show=False)
    last = "keeps its outputs: no linear layer follows in an nn.Sequential"
    assert {row.layer: row.why for row in small.rows} == {"0": "", "2": "", "4": last}


def test_a_folder_that_had_a_network_is_said_to_be_replaced(tmp_path, caplog):
    small = shrink(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), [torch.randn(8, 4)] * 8, rate=0.5)
    small.save(tmp_path)
    assert "replaced" not in caplog.text
    small.save(tmp_path)
    assert f"the network that was in {tmp_path} is replaced" in caplog.text


@pytest.mark.parametrize("other", [False, True])
def test_where_held_out_batches_fare_worse_it_is_said(other, caplog):
    """Every fourth batch is of another kind than those that are fitted to."""
    torch.manual_seed(0)
    batches = [torch.randn(40, STEPS, 3) * torch.tensor([1.0, 1.0, 0.0]) for _ in range(8)]
    if other:
        batches[3::4] = [torch.randn(40, STEPS, 3) * torch.tensor([0.0, 1.0, 3.0]) for _ in range(2)]
    shrink(Stranger(Plan("lstm"), units=12), batches, rate=0.5, show=False)
    assert ("fits what it was calibrated on" in caplog.text) == other
