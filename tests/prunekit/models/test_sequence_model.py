import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.metrics import PADDING
from prunekit.models.sequence_model import SequenceModel
from prunekit.pruning import prune
from prunekit.units.network_units import NetworkUnits

ADAM = partial(torch.optim.Adam, lr=0.01)
WORDS = {"inputs": 9, "outputs": 9, "task": "tokens", "readout": "each", "embedding": 4}


def make(**changes):
    torch.manual_seed(0)
    return SequenceModel(**{"inputs": 5, "outputs": 3, "optimizer": ADAM, "units": 7, **changes}).double()


def sequences(n=4, steps=6):
    return torch.randn(n, steps, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def words(n=4, steps=6):
    return torch.randint(9, (n, steps), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)])
def test_cells_and_readouts(cell, kind):
    x = sequences()
    for readout in ("last", "mean"):
        net = make(cell=cell, readout=readout, layers=2)
        assert type(net.recurrent) is kind
        h = net.recurrent(x)[0]
        read = h[:, -1] if readout == "last" else h.mean(1)
        assert torch.equal(net(x), net.head.output(read))
    net = make(cell=cell, task="vectors", readout="each")
    assert torch.equal(net(x), net.head.output(net.recurrent(x)[0]))


def test_both_directions_are_read_where_they_end():
    net, x = make(directions=2), sequences()
    _, (finals, _) = net.recurrent(x)
    assert torch.allclose(net(x), net.head.output(torch.cat([finals[0], finals[1]], 1)), atol=1e-12)


def test_a_head_of_hidden_layers_an_embedding_and_dropout():
    net = make(**WORDS, hidden=[6, 5], dropout=0.5, layers=2)
    assert list(dict(net.head.named_children())) == [
        "dropout", "hidden1", "activation1", "hidden2", "activation2", "output",
    ]  # fmt: skip
    assert net.head.hidden1.in_features == 7
    assert net.recurrent.input_size == 4
    x = words()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net.head(net.recurrent(net.embedding.table(x))[0]))


def test_losses_are_means_over_the_steps_that_count():
    net, x, y = make(), sequences(), torch.tensor([0, 2, 1, 0])
    assert torch.allclose(net.training_step((x, y), 0), cross_entropy(net(x), y))

    net, x, y = make(**WORDS), words(), words().roll(-1, 1)
    y[1, 2:] = PADDING
    wanted = cross_entropy(net(x).movedim(2, 1), y, ignore_index=PADDING)
    assert torch.allclose(net.training_step((x, y), 0), wanted)

    net, x, y = make(task="vectors", readout="each"), sequences(), (sequences()[..., :3] > 0).double()
    y[2, 3:] = PADDING
    there = torch.ones(4, 6, dtype=torch.bool)
    there[2, 3:] = False
    wanted = binary_cross_entropy_with_logits(net(x)[there], y[there], reduction="sum") / there.sum()
    assert torch.allclose(net.training_step((x, y), 0), wanted)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_carried_states_make_one_text_of_its_batches(cell):
    net, x = make(**WORDS, cell=cell, carried=True), words(3, 12)
    y, whole = x.roll(-1, 1), make(**WORDS, cell=cell)
    parts = [(x[:, at : at + 4], y[:, at : at + 4]) for at in (0, 4, 8)]
    losses = [net.training_step(part, number) for number, part in enumerate(parts)]
    assert torch.allclose(torch.stack(losses).mean(), whole.training_step((x, y), 0))
    predict = net.predictor()
    found = torch.cat([predict(net, part)[0] for part in parts], 1)
    assert torch.allclose(found, net(x), atol=1e-12)
    assert torch.equal(net.predictor()(net, parts[1])[0], net(parts[1][0]))  # another measurement begins anew
    assert torch.equal(net.training_step(parts[0], 0), losses[0])  # and so does an epoch
    losses[2].backward()  # through the states before, a second backward would fail
    losses[1].backward()


def test_without_carrying_each_batch_begins_with_states_of_0():
    net, x = make(**WORDS), words()
    predict = net.predictor()
    assert torch.equal(predict(net, (x, x))[0], predict(net, (x, x))[0])
    assert torch.equal(net.training_step((x, x), 0), net.training_step((x, x), 1))


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"task": "words"}, "task"),
        ({"cell": "LSTM"}, "cell"),
        ({"task": "tokens"}, "readout"),
        ({"readout": "each"}, "readout"),
        ({"directions": 3}, "directions"),
        ({"directions": 2, "carried": True}, "directions"),
        ({**WORDS, "directions": 2}, "directions"),
        ({"units": 0}, "units"),
        ({"hidden": [4, 0]}, "hidden"),
        ({"embedding": 0}, "embedding"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_refusals_name_the_argument(changes, argument):
    with pytest.raises(ArgumentError, match=f"^{argument}: "):
        make(**changes)


def test_success_is_the_probability_of_what_is_true_at_each_step():
    x, y = sequences(), torch.tensor([2, 0, 1, 1])
    net = make(readout="mean").eval()
    h = net.recurrent(x)[0]
    wanted = torch.stack([net.head(h)[n].softmax(-1)[:, y[n]] for n in range(4)])
    assert torch.allclose(net.success((x, y)), wanted)
    tokens, text = make(**WORDS).eval(), words()
    following = text.roll(-1, 1)
    following[0, 2] = PADDING
    found = tokens.success((text, following))
    assert found[0, 2] == 1
    p = tokens(text)[1].softmax(-1).gather(1, following[1][:, None])[:, 0]
    assert torch.allclose(found[1], p ** (1 / math.log(9)))
    rolls, keys = make(task="vectors", readout="each").eval(), (sequences()[..., :3] > 0).double()
    p = rolls(x).sigmoid()
    keys[0, 0] = torch.tensor([1.0, 0.0, 1.0])
    keys[0, 1], keys[1, 0] = 0.0, PADDING
    found = rolls.success((x, keys))
    right = p[0, 0, 0] + p[0, 0, 2]  # of two that are there; the one that is not is said by p[0, 0, 1]
    assert torch.allclose(found[0, 0], right / (2 + p[0, 0, 1]))
    assert torch.allclose(found[0, 1], 1 / (1 + p[0, 1].sum()))
    assert found[1, 0] == 1


def test_units_of_every_layer_are_scored_by_what_the_model_calls_success():
    net, x = make(**WORDS, layers=2).eval(), words(20)
    with torch.no_grad():
        net.head.output.weight.mul_(9)
    given = [(x, x.roll(-1, 1))]
    found = prune(net, NetworkUnits(["recurrent"]), TransferEntropy(bins=4), 0.5, given, success=type(net).success)
    assert found.scores.values.max() > 0
