"""Layers' sizes that a network has in its own attributes: they follow what is cut, in memory and in files."""

import json

import pytest
import torch
from torch import nn

from prunekit.errors import ArgumentError
from prunekit.exports import load_compact
from prunekit.files import write_record
from prunekit.shrinking import shrink
from tests.strangers.recurrent import sequences


class Halves(nn.Module):
    """Takes the directions apart by a size of its own."""

    def __init__(self):
        super().__init__()
        self.size = 8
        self.lstm, self.say = nn.LSTM(4, 8, batch_first=True, bidirectional=True), nn.Linear(16, 2)

    def forward(self, x):
        h = self.lstm(x)[0]
        return self.say(torch.cat([h[:, -1, : self.size], h[:, 0, self.size :]], 1))


class Fixed(Halves):
    """The same, with the size as a number in its code."""

    def forward(self, x):
        h = self.lstm(x)[0]
        return self.say(torch.cat([h[:, -1, :8], h[:, 0, 8:]], 1))


def test_code_that_has_a_layers_size_as_a_number_is_told_where_to_ask_for_it():
    batches = [torch.randn(16, 6, 4) for _ in range(8)]
    with pytest.raises(
        ArgumentError,
        match=r"code that has 8 as a number.* has to ask the layer: self\.lstm\.hidden_size, or have it in",
    ):
        shrink(Fixed(), batches, rate=0.5)


class Nested(nn.Module):
    """Layers of two sizes in parts, whose code has both in attributes, beside numbers that happen to be the same."""

    def __init__(self):
        super().__init__()
        self.tall, self.width = Stated(4, 8), 16
        self.wide, self.classes = Stated(8, 16), 8
        self.say = nn.Linear(16, self.classes)

    def forward(self, x):
        h = self.wide(self.tall(x))
        return self.say(h.reshape(-1, self.width)).reshape(*h.shape[:2], self.classes)


class Starting(nn.Module):
    """Two layers that begin with zeros of its own making, and a norm behind the upper one, which so keeps its units."""

    def __init__(self):
        super().__init__()
        self.hidden = 8
        self.gru, self.norm, self.say = nn.GRU(4, 8, 2, batch_first=True), nn.LayerNorm(8), nn.Linear(8, 3)

    def start(self, x):
        return torch.zeros(2, len(x), self.hidden)

    def forward(self, x):
        return self.say(self.norm(self.gru(x, self.start(x))[0])[:, -1])


class Learned(Starting):
    """The same with states that are learned; linear layers beside them can go."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(2, 1, 8))
        self.say = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))

    def start(self, x):
        return self.first.expand(2, len(x), 8).contiguous()


class Stated(nn.Module):
    """Makes its states by a size of its own."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.hidden, self.steps = hidden, 6
        self.gru = nn.GRU(inputs, hidden, batch_first=True)

    def forward(self, x):
        return self.gru(x, torch.zeros(1, len(x), self.hidden))[0]


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (Halves, ["size from 8 to 4"]),
        (Nested, ["width from 16 to 8", "tall.hidden from 8 to 4", "wide.hidden from 16 to 8"]),
    ],
)
def test_sizes_in_attributes_follow_and_are_said_saved_and_loaded(make, sizes, tmp_path):
    torch.manual_seed(0)
    net, batches = make(), sequences()
    small = shrink(net, batches, rate=0.5, show=False)
    assert [str(size) for size in small.sizes] == sizes
    assert all(f"attribute     {size}" in str(small) for size in sizes)
    head = "keeps its outputs: no linear layer follows in an nn.Sequential"
    assert all(row.why == (head if row.kind == "Linear" else "") for row in small.rows)
    assert all(getattr(net, name, 8) in (8, 16) for name in ("size", "width", "classes"))
    small.save(tmp_path)
    made = load_compact(tmp_path, into=make())
    with torch.no_grad():
        assert all(torch.equal(made(batch), small(batch)) for batch in batches)
    assert all(torch.equal(load_compact(tmp_path, into=made)(batch), small(batch)) for batch in batches)
    again = shrink(small.module, batches, rate=0.5, show=False)
    assert [size.before for size in again.sizes] == [size.after for size in small.sizes]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"": 1}, "its sizes are no list"),
        ([["", "size", 8]], "a size is"),
        ([["", "size", 8, True]], "a size is"),
        ([["", "size", 8, 0]], "a size goes from 8 to 0"),
        ([["", "size", 4, 8]], "a size goes from 4 to 8"),
        ([["", "size", 16, 4]], "size is 8 and not 16"),
        ([["", "training", 1, 1]], "training is None and not 1"),
        ([["lstm", "hidden_size", 4, 2]], "lstm.hidden_size is None and not 4"),
        ([["nothing", "size", 8, 4]], "nothing.size is None and not 8"),
        ([["", "__class__", 8, 4]], "__class__ is None and not 8"),
    ],
)
def test_sizes_of_a_hostile_file_are_refused(said, why, tmp_path):
    shrink(Halves(), sequences(), rate=0.5, show=False).save(tmp_path)
    content = {
        key: value for key, value in json.loads((tmp_path / "network.json").read_text()).items() if key != "digest"
    }
    write_record(tmp_path / "network.json", content | {"sizes": said})
    with pytest.raises(ArgumentError, match=f"into: got .*{why}"):
        load_compact(tmp_path, into=Halves())


def test_layers_that_come_to_differ_in_width_begin_with_zeros_of_the_networks_own():
    torch.manual_seed(0)
    small = shrink(Starting(), sequences(), rate=0.5, show=False)
    assert [layer.hidden_size for layer in small.module.gru.layers] == [4, 8]
    assert small.module.hidden == 8


@pytest.mark.parametrize("rate", [0.5, {"say.0": 0.5, "gru.0": 0.25}])
def test_a_layer_that_cannot_be_cut_has_lost_nothing_though_part_of_it_was_left_anyway(rate, capsys):
    torch.manual_seed(0)
    net, batches = Learned(), sequences()
    if isinstance(rate, dict):
        with pytest.raises(ArgumentError, match=r"rate: got 'gru\.0'; .*say\.0"):
            shrink(net, batches, rate=rate)
        return
    small = shrink(net, batches, rate=rate, show=False)
    (why,) = [row.why for row in small.rows if row.layer == "gru"]
    assert "norm, an nn.LayerNorm, reads them; could not be cut (layers that differ in width begin with" in why
    for name, weight in net.gru.named_parameters():
        assert torch.equal(small.module.gru.get_parameter(name), weight)
    assert small.module.say[0].out_features == 3
    assert "compact cut" not in capsys.readouterr().err
