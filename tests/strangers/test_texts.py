"""The code of README, pages and CONTRIBUTING runs as it stands there, and does what the sentences around it say."""

import re
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from torch import nn

import prunekit
from benchmarks import recurrent_peers as peers
from prunekit import Pruning, prune
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.magnitude import Magnitude
from prunekit.criteria.saliency import Saliency
from prunekit.errors import ArgumentError
from prunekit.groups import Groups
from tests.prunekit.test_shrinking import Tagger

ROOT = Path(__file__).parents[2]


def block(file, words):
    """The one block of Python that has these words."""
    found = [text for text in re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL) if words in text]
    assert len(found) == 1
    return found[0]


def test_the_gru_without_lightning_is_pruned_and_repaired():
    torch.manual_seed(0)
    names = {}
    exec(block("docs/own_parts.md", "class Reader"), names)
    assert int(names["pruned"].goes.sum()) == 32
    outputs = names["model"].memory(torch.rand(2, 28, 28))[0]
    assert (outputs[..., names["pruned"].goes] == 0).all()


def test_the_tagger_of_the_page_is_shrunk_and_its_table_is_what_is_printed(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    batches = [{"tokens": torch.randint(0, 30, (8, 7)), "lengths": torch.arange(8) % 7 + 1} for _ in range(8)]
    page = (ROOT / "docs" / "recurrent.md").read_text()
    text = block("docs/recurrent.md", "prunekit.shrink(model, batches")
    predict = re.findall(r"`(predict=lambda .*?None\))`", page)[0]
    names = {"prunekit": prunekit, "Tagger": Tagger, "model": Tagger(), "batches": batches}
    exec(text.replace("rate=0.5", f"rate=0.5, {predict}"), names)
    assert names["model"].memory.hidden_size == 6
    told = capsys.readouterr().out.splitlines()
    (table,) = re.findall(r"```\n(layer .*?)```", page, re.DOTALL)
    assert told[: len(table.splitlines())] == table.splitlines()


def steps():
    return torch.randn(8, 6, 16)


def tokens():
    return torch.randint(1, 50, (8, 6)) * (torch.arange(6) < torch.arange(8)[:, None] % 6 + 1)


def shrunk(words, make):
    """Names after the one block of the README that has these words, which is of five lines at most."""
    torch.manual_seed(0)
    text = block("README.md", words)
    assert len([line for line in text.splitlines() if line]) <= 5
    names = {"prunekit": prunekit, "nn": nn, "TwoWay": peers.Tagger, "Tokens": peers.Tokens, "Looped": peers.Looped}
    names["batches"] = [make() for _ in range(8)]
    exec(text, names)
    before, after = names["small"].parameter_counts
    assert after < before
    assert type(names["small"].module) is type(names["model"])
    return names


@pytest.mark.parametrize(
    ("words", "make", "sizes"),
    [
        ("TwoWay()", steps, {"memory.num_layers": 2, "memory.hidden_size": 32, "say.in_features": 64}),
        ("Looped()", steps, {"cell.hidden_size": 16, "say.in_features": 16}),
        ("nn.Sequential(", lambda: torch.randn(32, 16), {"0.out_features": 32, "2.out_features": 32}),
    ],
)
def test_networks_of_the_readme_are_shrunk_by_a_rate(words, make, sizes):
    module = shrunk(words, make)["small"].module
    assert {name: attrgetter(name)(module) for name in sizes} == sizes


def test_the_network_of_tokens_in_the_readme_is_shrunk_by_a_tolerance_and_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = shrunk("Tokens()", tokens)
    assert names["small"].difference <= 0.3
    assert names["model"].memory.hidden_size == names["small"].module.memory.hidden_size < 64


@pytest.fixture
def channels():
    names = {}
    exec(block("CONTRIBUTING.md", "class Channels(") + block("CONTRIBUTING.md", "class SeenChannels"), names)
    return names["SeenChannels"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.say = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        return self.say(self.stem(x).relu().mean((2, 3)))


@pytest.mark.parametrize("criterion", [Magnitude(), Saliency()])
def test_the_channels_of_contributing_are_pruned_by_weights_and_by_gradients(criterion, channels):
    torch.manual_seed(0)
    net = Net()
    batches = [(torch.randn(6, 3, 7, 7), torch.randint(4, (6,))) for _ in range(2)]
    pruned = prune(net, channels("stem"), criterion, 0.5, batches)
    assert int(pruned.goes.sum()) == 4
    maps = net.stem(batches[0][0])
    assert (maps[:, pruned.goes] == 0).all()
    assert (maps[:, ~pruned.goes] != 0).any()
    Pruning(channels("stem"), criterion, 0.5).check(net)
    with pytest.raises(ArgumentError, match="criterion: got 'one that looks at outputs'"):
        prune(net, channels("stem"), Entropy(), 0.5, batches)


def test_numbers_that_do_not_fit_are_refused_with_the_parameters_name(channels):
    net = nn.ModuleDict({"stem": nn.Conv1d(3, 8, 3)})
    message = r"grouping: got 'one with numbers of shape \(8, 1, 1, 1\) for stem\.weight, which has \(8, 3, 3\)'"
    with pytest.raises(ArgumentError, match=message):
        prune(net, channels("stem"), Magnitude(), 0.5)


def test_of_parameters_that_are_left_out_nothing_counts():
    groups = Groups({"w": torch.tensor([0, 0, 1]), "b": torch.tensor([0, 1])}, *torch.tensor([[3, 2], [0, 0], [0, 0]]))
    weights = {"w": torch.tensor([1.0, 3.0, 5.0])}
    assert groups.reduce(weights).tolist() == [2.0, 5.0]
    assert groups.reduce(weights | {"b": torch.tensor([5.0, 1.0])}).tolist() == [3.0, 3.0]
    with pytest.raises(KeyError, match="no groups of v; there are some of w, b"):
        groups.reduce({"v": torch.zeros(3)})


class Misspelt(Entropy):
    name = "misspelt"
    needs = frozenset({"output"})


def test_a_need_that_there_is_not_is_named(channels):
    with pytest.raises(
        ArgumentError, match=r"criterion: got 'misspelt, which needs output'; accepted: .*means, moments"
    ):
        Pruning(channels("stem"), Misspelt(), 0.5)
