"""Masked and compact networks give the same, whatever was masked."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.prune import identity
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prunekit.held_mask import HeldMask
from prunekit.masks import Mask
from prunekit.models.mlp import Mlp
from prunekit.models.recognizer import Recognizer
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.units.compaction import compact, difference
from prunekit.units.grouping import Units
from prunekit.units.links import Link, default_links, recurrent_link, sequential_links

KINDS = {
    "lstm": (nn.LSTM, 4, {}),
    "gru": (nn.GRU, 3, {}),
    "tanh": (nn.RNN, 1, {}),
    "relu": (nn.RNN, 1, {"nonlinearity": "relu"}),
}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


class Reader(nn.Module):
    """A classifier of sequences that reads what the readout says."""

    def __init__(self, kind, readout, units, **arguments):
        super().__init__()
        layer, _, own = KINDS[kind]
        self.memory = layer(3, units, **own, **arguments)
        self.say = nn.Linear(units * (2 if self.memory.bidirectional else 1), 4)
        self.readout = readout

    def forward(self, x):
        out, final = self.memory(x if self.memory.batch_first else x.transpose(0, 1))
        out = out if self.memory.batch_first else out.transpose(0, 1)
        h = final[0] if isinstance(self.memory, nn.LSTM) or isinstance(final[0], tuple) else final
        if self.readout == "final":
            return self.say(torch.cat([h[-2], h[-1]], 1) if self.say.in_features != h[-1].shape[1] else h[-1])
        return self.say(out[:, -1] if self.readout == "last" else out.mean(1))


def remove(net, kind, kept):
    """Zero all rows of units of every layer and direction; ``kept`` says which stay, (layers, directions, units)."""
    gates = KINDS[kind][1]
    with torch.no_grad():
        for name, parameter in net.memory.named_parameters():
            layer, reverse = int(name.split("_l")[1][0]), name.endswith("_reverse")
            parameter[~kept[layer, int(reverse)].repeat(gates)] = 0.0


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(list(KINDS)),
    readout=st.sampled_from(["final", "last", "mean"]),
    units=st.integers(1, 7),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    bias=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
    rate=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_a_compact_recurrent_network_gives_the_same(
    kind, readout, units, layers, bidirectional, batch_first, bias, dtype, rate, seed
):
    torch.manual_seed(seed)
    net = Reader(
        kind, readout, units, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias
    )
    net = net.to(dtype).eval()
    kept = torch.rand(layers, 2 if bidirectional else 1, units) >= rate
    remove(net, kind, kept)
    made = compact(net, [recurrent_link(net, "memory", "say")])
    x = torch.randn(5, 6, 3, dtype=dtype)
    with torch.no_grad():
        assert difference(net(x), made.module(x)) <= TOLERANCE[dtype]
    widths = kept.sum(2).amax(1).clamp(min=1).tolist()
    memory = made.module.memory
    if len(set(widths)) == 1:
        assert type(memory) is KINDS[kind][0]
        assert (memory.hidden_size, memory.num_layers) == (widths[0], layers)
    else:
        assert [layer.hidden_size for layer in memory.layers] == widths
    for name, parameter in made.module.named_parameters():
        old, indices = made.origin[name]
        whole = net.get_parameter(old)
        assert parameter.shape == tuple(map(len, indices))
        assert torch.equal(parameter, whole[torch.meshgrid(*indices, indexing="ij")])
        assert parameter.data_ptr() != whole.data_ptr()


def recognizer(units=8, layers=1, **arguments):
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=0.01)
    return Recognizer(3, 4, optimizer, units=units, layers=layers, hidden=6, **arguments)


LINKS = [Link("lstm", "head.hidden"), Link("head.hidden", "head.output", ("head.activation",))]


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("layers", [1, 2])
def test_our_recognizer_states_its_links_itself(layers, readout):
    net = recognizer(layers=layers, readout=readout).eval()
    kept = torch.arange(8) % 2 == 0
    Units("lstm").mask(net, ~kept).apply(net)
    assert default_links(net) == LINKS
    made = compact(net).module
    x = torch.randn(5, 7, 3)
    assert difference(net(x), made(x)) <= 1e-6
    assert made.head.hidden.in_features == 4
    assert isinstance(made.lstm, nn.LSTM if layers == 1 else RecurrentStack)
    assert not made.training
    assert type(made) is Recognizer


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    activation=st.sampled_from(["sigmoid", "relu", "tanh"]),
    density=st.sampled_from([0.05, 0.3, 0.6, 1.0]),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=st.integers(0, 10**6),
)
def test_a_compact_mlp_gives_the_same_and_has_the_neurons_that_are_on_a_path(sizes, activation, density, dtype, seed):
    torch.manual_seed(seed)
    net = Mlp(sizes, partial(torch.optim.SGD, lr=0.1), activation, "torch").to(dtype).eval()
    weights = [layer.weight for layer in net.layers if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for weight in weights:
            weight[torch.rand(weight.shape) >= density] = 0.0
    made = compact(net, sequential_links(net)).module
    x = torch.rand(9, sizes[0], dtype=dtype)
    with torch.no_grad():
        assert difference(net(x), made(x)) <= TOLERANCE[dtype]
    fed = [torch.ones(sizes[0], dtype=torch.bool)]
    for weight in weights:
        fed.append(((weight != 0) & fed[-1]).any(1))
    read = [torch.ones(sizes[-1], dtype=torch.bool)]
    for weight in reversed(weights):
        read.insert(0, ((weight != 0) & read[0][:, None]).any(0))
    widths = [max(1, int((f & r).sum())) for f, r in zip(fed[1:-1], read[1:-1], strict=True)]
    shapes = [tuple(layer.weight.shape) for layer in made.layers if isinstance(layer, nn.Linear)]
    assert shapes == [(b, a) for a, b in pairwise([sizes[0], *widths, sizes[-1]])]


def test_a_constant_stays_where_no_bias_can_take_it_up():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        net[0].weight[1] = 0.0
    made = compact(net, sequential_links(net)).module
    assert made[0].out_features == 3
    with torch.no_grad():
        net[0].weight[1] = net[0].bias[1] = 0.0
        net[2].weight[0, 2] = 0.0
    made = compact(net, sequential_links(net)).module  # sigmoid(0) is not 0 either; the unread one goes
    assert made[0].out_features == 2
    net[1] = nn.Tanh()
    assert compact(net, sequential_links(net)).module[0].out_features == 1
    x = torch.rand(4, 2)
    assert difference(net(x), compact(net, sequential_links(net)).module(x)) <= 1e-6


def test_what_a_linear_layer_says_to_a_recurrent_one_is_folded_too():
    torch.manual_seed(0)
    net = nn.ModuleDict({"embed": nn.Linear(3, 5), "act": nn.Sigmoid(), "memory": nn.GRU(5, 4, bidirectional=True)})
    with torch.no_grad():
        net["embed"].weight[[0, 3]] = 0.0
    made = compact(net, [Link("embed", "memory", ("act",))]).module
    x = torch.randn(6, 2, 3)
    outputs = [each["memory"](each["act"](each["embed"](x)))[0] for each in (net, made)]
    assert difference(*outputs) <= 1e-6
    assert (made["memory"].input_size, made["memory"].hidden_size) == (3, 4)


def test_packed_sequences_pass_through_a_stack():
    torch.manual_seed(0)
    net = Reader("lstm", "last", 6, num_layers=2, batch_first=True, bidirectional=True, dropout=0.5).eval()
    remove(net, "lstm", torch.rand(2, 2, 6) < torch.tensor([0.9, 0.3])[:, None, None])
    memory = compact(net, [recurrent_link(net, "memory", "say")]).module.memory
    assert isinstance(memory, RecurrentStack)
    packed = pack_padded_sequence(torch.randn(3, 5, 3), [5, 3, 2], batch_first=True)
    one, (h, _) = net.memory(packed)
    other, (g, c) = memory(packed)
    kept = compact(net, [recurrent_link(net, "memory", "say")]).origin["say.weight"][1][1]
    assert torch.allclose(pad_packed_sequence(one)[0][..., kept], pad_packed_sequence(other)[0], atol=1e-6)
    assert [len(state) for state in g] == [len(state) for state in h] == [3] * 4
    assert g[-1].shape == c[-1].shape
    assert torch.allclose(h[-1][:, kept[kept >= 6] - 6], g[-1], atol=1e-6)
    assert not torch.equal(memory.train()(packed)[0].data, other.data)  # dropout is between the layers, as before
    zeros = torch.zeros(4, 3, 6)  # as code makes them that knows of one width
    assert torch.equal(memory.eval()(packed, (zeros, zeros))[0].data, other.data)
    for start in ((h, h), (zeros, h), (zeros[:2], zeros[:2])):
        with pytest.raises(ValueError, match="begin with states of 0"):
            memory(packed, start)


@pytest.mark.parametrize("optimizer", [
    partial(torch.optim.SGD, lr=0.1, momentum=0.9), partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    partial(torch.optim.Adam, lr=0.01, amsgrad=True), partial(torch.optim.RMSprop, lr=0.01, centered=True),
])  # fmt: skip
@pytest.mark.parametrize("layers", [1, 2])
def test_training_goes_on_in_the_compact_network_as_in_the_masked_one(layers, optimizer):
    net = recognizer(layers=layers).double()
    own = optimizer(net.parameters())
    mask = Units("lstm").mask(net, ~(torch.arange(8) < 3))
    held = HeldMask(mask, net, [own])
    x, y = torch.randn(12, 5, 3, dtype=torch.float64), torch.arange(12) % 4

    def train(net, optimizer):
        for _ in range(4):
            optimizer.zero_grad()
            net.training_step((x, y)).backward()
            optimizer.step()

    train(net, own)
    made = compact(net, [LINKS[0]])
    theirs = optimizer(made.module.parameters())
    fresh = copy.deepcopy(made.module)
    made.carry_state(net, own, theirs)
    train(net, own)
    train(made.module, theirs)
    assert difference(net(x), made.module(x)) <= 1e-9
    train(fresh, optimizer(fresh.parameters()))
    assert difference(net(x), fresh(x)) > 1e-4  # without its state the optimizer goes elsewhere
    held.release()


def test_an_optimizers_other_order_or_other_states_are_refused():
    net = recognizer()
    made = compact(net, [LINKS[0]])
    own = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    turned = torch.optim.SGD(reversed([*made.module.parameters()]), lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="same parameters in the same order"):
        made.carry_state(net, own, turned)
    factored = torch.optim.Adafactor(net.parameters())
    net(torch.randn(2, 3, 3)).sum().backward()
    factored.step()
    with pytest.raises(ValueError, match=r"row_var has shape .*, its parameter"):
        made.carry_state(net, factored, torch.optim.Adafactor(made.module.parameters()))


class Tuned(nn.LSTM):
    """A subclass, which may do anything."""


@pytest.mark.parametrize(
    ("change", "links", "message"),
    [
        (lambda net: setattr(net, "lstm", nn.LSTM(3, 8, proj_size=4)), LINKS[:1], "lstm has a projection"),
        (lambda net: setattr(net, "lstm", Tuned(3, 8)), LINKS[:1], "lstm is a Tuned; accepted: nn.Linear, nn.LSTM"),
        (lambda net: identity(net.head.hidden, "weight"), LINKS[:1], "head.hidden has reparametrised weights"),
        (lambda net: None, [Link("lstm", "head.output")], "head.output reads 6 numbers, lstm gives 8"),
        (lambda net: None, [Link("lstm", "head.activation")], "head.activation is a ReLU"),
        (lambda net: None, [Link("memory", "head.hidden")], "memory"),
    ],
)
def test_what_cannot_be_cut_is_refused(change, links, message):
    net = recognizer()
    change(net)
    with pytest.raises((ValueError, AttributeError), match=message):
        compact(net, links)


def test_a_head_that_begins_otherwise_is_refused():
    net = nn.ModuleDict({"memory": nn.LSTM(2, 3), "say": nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1))})
    with pytest.raises(ValueError, match=r"say does not begin with an nn\.Linear"):
        recurrent_link(net, "memory", "say")


def test_sequences_state_links_through_what_is_elementwise_only():
    inner = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    net = nn.Sequential(inner, nn.ReLU(), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5), nn.Linear(5, 6))
    assert sequential_links(net) == [Link("0.0", "2", ("0.1", "1")), Link("4", "5")]
    assert [(link.source, link.reader) for link in sequential_links(nn.ModuleDict({"a": net}))] == [
        ("a.0.0", "a.2"), ("a.4", "a.5"),
    ]  # fmt: skip


def test_a_reader_that_was_not_named_shows_in_the_outputs():
    class Two(Reader):
        def forward(self, x):
            out, _ = self.memory(x)
            return self.say(out[:, -1]) + out[:, -1].amax(1, keepdim=True)

    torch.manual_seed(0)
    net = Two("lstm", "last", 6, batch_first=True)
    remove(net, "lstm", torch.arange(6)[None, None] > 3)
    with torch.no_grad():
        net.memory.bias_hh_l0.sub_(0.1 * (net.memory.bias_hh_l0 != 0))
        net.memory.weight_ih_l0.mul_(0.0)
        net.memory.bias_ih_l0[12:18] = torch.tensor([0.0, 0.0, 0.0, 0.0, -3.0, -3.0])  # living outputs are negative
    made = compact(net, [recurrent_link(net, "memory", "say")]).module
    x = torch.randn(4, 5, 3)
    assert difference(net(x), made(x)) > 1e-3


def test_the_random_state_is_left_alone():
    net = recognizer()
    Units("lstm").mask(net, ~(torch.arange(8) < 3)).apply(net)
    before = torch.get_rng_state()
    compact(net, LINKS)
    assert torch.equal(torch.get_rng_state(), before)
    assert Mask.full(net, ["lstm.weight_hh_l0"]).removed() == 0


class Picture(nn.Module):
    """Convolutions, batch normalisation and a plain classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.see = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.say = nn.Sequential(nn.Linear(16, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU())
        self.end = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        return self.end(self.say(self.see(x)))


def test_what_is_emptied_and_not_cut_is_said(caplog):
    net = Picture().eval()
    with torch.no_grad():
        net.see[0].weight[1] = 0.0
        net.say[0].weight[:2] = 0.0
    made = compact(net)
    assert made.cut == {}
    assert made.left.keys() == {"see.0", "say.0"}
    assert "an nn.Conv2d is not cut" in made.left["see.0"]
    assert made.left["say.0"].startswith("2 of 5 rows are 0, but no link says which layer reads it")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("compact cut nothing: no tensor is smaller where zeros")
    assert "; it left see.0 (1 of 4 rows are 0, " in record.getMessage()
    caplog.clear()
    with torch.no_grad():
        net.end[0].weight[0] = 0.0
    made = compact(net)
    assert made.cut == {"end.0": (4, 3)}
    assert caplog.messages[0].startswith("compact cut end.0 from 4 to 3; it left see.0 (")


def test_where_nothing_was_to_be_cut_one_line_says_so(caplog):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Embedding(3, 2, padding_idx=0))
    caplog.set_level("INFO")
    assert compact(net).left == {}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("INFO", "compact cut nothing")]
    with torch.no_grad():
        net[0].weight[0, 0] = 0.0
    compact(net)
    said = "compact cut nothing: no tensor is smaller where zeros lie between weights that stay"
    assert (caplog.records[-1].levelname, caplog.messages[-1]) == ("WARNING", said)


def test_why_a_dead_unit_or_neuron_stays():
    torch.manual_seed(0)
    net = nn.ModuleDict({
        "memory": nn.LSTM(3, 4, 2), "say": nn.Linear(4, 3),
        "more": nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1, bias=False)),
    })  # fmt: skip
    with torch.no_grad():
        for name in ("weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"):
            net["memory"].get_parameter(name).zero_()
        net["more"][0].weight[1] = 0.0
    made = compact(net, [recurrent_link(net, "memory", "say"), *sequential_links(net)])
    assert made.cut == {"memory": (8, 5)}
    assert made.left.keys() == {"memory.layers.1", "more.0"}
    assert "torch has no layer without units" in made.left["memory.layers.1"]
    assert "has no bias to take it up" in made.left["more.0"]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("linked", [True, False])
def test_frozen_recurrent_layers_of_any_module_are_cut_or_named(kind, linked):
    torch.manual_seed(0)
    net = Reader(kind, "last", 6, num_layers=2).eval()
    net.memory.weight_ih_l0.requires_grad_(False)
    net.say.requires_grad_(False)
    remove(net, kind, torch.arange(6).expand(2, 1, 6) < 4)
    made = compact(net, [recurrent_link(net, "memory", "say")] if linked else None)
    if not linked:
        assert made.left == {"memory": "4 of 12 rows are 0, but no link says which layer reads it; only what is "
                             "elementwise may lie between, not a normalisation"}  # fmt: skip
        return
    assert made.cut == {"memory": (12, 8)}
    frozen = {name for name, parameter in made.module.named_parameters() if not parameter.requires_grad}
    assert frozen == {"memory.weight_ih_l0", "say.weight", "say.bias"}
    x = torch.randn(3, 5, 3)
    assert difference(net(x), made.module(x)) <= 1e-6
