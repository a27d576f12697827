"""What networks cost, counted by hand."""

import re
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from prunekit import accounting
from prunekit.accounting import account
from prunekit.app.results import summary_table
from prunekit.masks import Mask
from prunekit.models.mlp import Mlp
from prunekit.models.recognizer import Recognizer
from prunekit.units.gates import gate_constants
from prunekit.units.grouping import Gates, Units

IN, UNITS, HIDDEN, CLASSES, STEPS = 3, 8, 6, 4, 5


def recognizer(**arguments):
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=0.01)
    return Recognizer(IN, CLASSES, optimizer, units=UNITS, hidden=HIDDEN, **arguments).eval()


def parameters(units):
    return 4 * units * (IN + units + 2) + HIDDEN * (units + 1) + CLASSES * (HIDDEN + 1)


def macs(units):
    return STEPS * 4 * units * (IN + units) + HIDDEN * units + CLASSES * HIDDEN


def test_a_recognizer_without_half_of_its_units(tmp_path):
    net = recognizer()
    mask = Units("lstm").mask(net, ~(torch.arange(UNITS) % 2 == 0))
    mask.apply(net)
    found = account(net, mask.removed(), [("lstm", "head")], torch.randn(1, STEPS, IN))
    removed = 4 * 4 * (IN + UNITS + 2)
    assert found["parameters"] == {
        "dense": parameters(8), "compact": parameters(4), "nonzero": parameters(8) - removed,
    }  # fmt: skip
    assert found["macs"] == {"dense": macs(8), "compact": macs(4), "without_empty_rows": macs(4)}
    assert found["compaction"]["difference"] <= 1e-6
    file = tmp_path / "x.safetensors"
    save_file(net.state_dict(), file)
    assert found["file_bytes"]["dense"] == file.stat().st_size > found["file_bytes"]["compact"] > 4 * parameters(4)
    for name, quartiles in found["latency_quartiles"].items():
        assert all(low <= found["latency"][name][size] <= high for size, (low, high) in quartiles.items())
    for latency in found["latency"].values():
        assert set(latency) == {"1", "64"}
        assert all(0 < seconds < 1 for seconds in latency.values())


def test_a_constant_gate_leaves_an_empty_row_that_torch_computes():
    net = recognizer()
    kept = torch.arange(4 * UNITS) % 4 != 1
    mask = Gates("lstm").mask(net, ~kept)
    mask = Mask(dict(mask), gate_constants("lstm", ~kept, torch.full((4 * UNITS,), 0.3)))
    mask.apply(net)
    found = account(net, mask.removed(), [("lstm", "head")], torch.randn(1, STEPS, IN))
    assert found["macs"]["compact"] == found["macs"]["dense"] == macs(8)
    assert found["macs"]["without_empty_rows"] == macs(8) - STEPS * UNITS * (IN + UNITS)


def test_larger_networks_take_longer():
    torch.manual_seed(0)
    net = Recognizer(64, 6, partial(torch.optim.Adam), units=512, hidden=32).eval()
    Units("lstm").mask(net, ~(torch.arange(512) < 8)).apply(net)
    latency = account(net, 0, [("lstm", "head")], torch.randn(1, 20, 64))["latency"]
    for size in ("1", "64"):
        assert latency["dense"][size] > 2 * latency["compact"][size]
    assert latency["dense"]["64"] > latency["dense"]["1"]


def test_networks_of_equal_shapes_are_timed_once_where_it_is_said_what_is_known(monkeypatch):
    calls, known = [], {}
    monkeypatch.setattr(accounting, "_costs", lambda *a, own=accounting._costs: calls.append(1) or own(*a))
    net, x = recognizer(), torch.randn(1, STEPS, IN)
    Units("lstm").mask(net, ~(torch.arange(UNITS) < 4)).apply(net)
    one = account(net, 10, [("lstm", "head")], x, known=known)
    other = recognizer()
    Units("lstm").mask(other, ~(torch.arange(UNITS) >= 4)).apply(other)
    assert account(other, 20, [("lstm", "head")], x, known=known) | {"compaction": 0} == {
        **one, "parameters": {**one["parameters"], "nonzero": parameters(8) - 20}, "compaction": 0,
    }  # fmt: skip
    assert len(calls) == 1
    account(recognizer(), 0, [("lstm", "head")], x, known=known)
    account(net, 10, [("lstm", "head")], torch.randn(1, 2 * STEPS, IN), known=known)
    assert len(calls) == 3
    account(net, 10, [("lstm", "head")], x)
    assert len(calls) == 4
    strided = [nn.Sequential(nn.Conv2d(1, 2, 3, stride=stride)).eval() for stride in (1, 2)]
    assert len({account(each, 0, [], torch.randn(1, 1, 9, 9), known=known)["macs"]["dense"] for each in strided}) == 2


def test_neurons_without_inputs_or_readers_count_as_gone():
    torch.manual_seed(0)
    net = Mlp([6, 5, 4, 3], partial(torch.optim.SGD, lr=0.1)).eval()
    with torch.no_grad():
        net.layers.hidden1.weight[:2] = 0.0
        net.layers.output.weight[:, 1] = 0.0
    found = account(net, 15, [], torch.rand(1, 6))
    assert found["macs"]["compact"] == 6 * 3 + 3 * 3 + 3 * 3
    assert found["parameters"]["compact"] == 18 + 3 + 9 + 3 + 9 + 3


class Other(nn.Module):
    """Its sequence's first layer has a second reader."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))

    def forward(self, x):
        return self.layers(x) + self.layers[0](x).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("net", "recurrent", "message"),
    [
        (Other(), [], "outputs differ by .*connected otherwise"),
        (nn.ModuleDict({"a": nn.LSTM(4, 3), "b": nn.LayerNorm(3)}), [("a", "b")], "does not begin with an nn.Linear"),
    ],
)
def test_what_cannot_be_compacted_is_said_and_counts_as_it_is(net, recurrent, message, caplog):
    if isinstance(net, nn.ModuleDict):
        net.forward = lambda x: net["b"](net["a"](x)[0])
    else:
        with torch.no_grad():
            net.layers[2].weight[:, 1:] = 0.0  # by the sequence five neurons are read by nobody
    found = account(net, 0, recurrent, torch.rand(1, 4))
    assert found["parameters"]["compact"] == found["parameters"]["dense"]
    assert re.search(message, found["compaction"]["refused"])
    assert "no compact network" in caplog.text


def test_slow_networks_are_not_timed(monkeypatch):
    monkeypatch.setattr(accounting, "LONGEST", 1e-9)
    found = account(recognizer(), 0, [("lstm", "head")], torch.randn(1, STEPS, IN))
    assert found["latency"]["dense"] == found["latency"]["compact"] == {"1": None, "64": None}


class Packing(nn.Module):
    """Packs its sequences around the LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(IN, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        packed = pack_padded_sequence(x, [x.shape[1]] * len(x), batch_first=True)
        return self.head(self.lstm(packed)[1][0][-1])


class Batch(nn.Module):
    """Takes a whole batch, and says more than logits."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(IN, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, batch):
        x, weight = (batch["x"], batch["weight"]) if isinstance(batch, dict) else batch
        out, _ = self.lstm(x)
        return {"logits": self.head(out[:, -1]) * weight, "out": out}


X = torch.randn(1, STEPS, IN)


@pytest.mark.parametrize(
    ("net", "example", "predict"),
    [
        (Packing(), X, nn.Module.__call__),
        (Batch(), {"x": X, "weight": torch.ones(1, 1)}, lambda net, batch: net(batch)["logits"]),
        (Batch(), (X, torch.ones(1, 1)), lambda net, batch: net(batch)["logits"]),
        (Packing(), [X, torch.zeros(1).long()], lambda net, batch: net(batch[0])),
    ],
)
def test_any_model_on_any_batch_is_measured(net, example, predict):
    Units("lstm").mask(net, ~(torch.arange(4) < 2)).apply(net)
    found = account(net.eval(), 0, [("lstm", "head")], example, predict)
    for kind, units in (("dense", 4), ("compact", 2)):
        assert found["macs"][kind] == STEPS * 4 * units * (IN + units) + 2 * units
        assert 0 < found["latency"][kind]["64"] < 1
    assert found["compaction"]["difference"] <= 1e-6


def test_what_was_emptied_and_not_cut_is_in_the_results():
    net = nn.Sequential(nn.Linear(IN, 4), nn.LayerNorm(4), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[0].weight[1] = 0.0
    left = account(net, IN, [], torch.randn(1, IN))["compaction"]["left"]
    assert list(left) == ["0"]


def test_tied_weights_can_be_measured():
    net = nn.Sequential(nn.Linear(IN, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)).eval()
    net[4].weight = net[2].weight
    found = account(net, 0, [], torch.randn(1, IN))
    assert found["compaction"] == {"difference": 0.0}
    assert found["macs"]["dense"] == 4 * IN + 4 * 4 + 4 * 4


class TwoNames(nn.Module):
    """Its layers are there under two names."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(IN, 4), nn.Linear(4, 2)
        self.net = nn.Sequential(self.one, nn.ReLU(), self.two)

    def forward(self, x):
        return self.net(x)


class Numpy(nn.Module):
    """Leaves torch."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(IN, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1]).numpy()


@pytest.mark.parametrize(("net", "recurrent"), [(Numpy(), [("lstm", "head")]), (TwoNames(), [])])
def test_a_network_that_cannot_be_measured_costs_no_results(net, recurrent, caplog):
    found = account(net.eval(), 3, recurrent, torch.randn(1, STEPS, IN))
    count = sum(parameter.numel() for parameter in net.parameters())
    assert found["parameters"] == {"dense": count, "nonzero": count - 3, "compact": count}
    assert found["compaction"]["refused"]
    assert "is not known" in caplog.text or "no compact network" in caplog.text


def test_results_without_costs_are_shown_as_well():
    results = {
        "experiment": "x", "seed": 0, "metrics": {f"{k}/test_acc": 0.5 for k in ("dense", "pruned", "final")},
        "events": [{}], "callbacks": {"own": {"neurons": {"count": 3, "removed": 1}}},
        "sparsity": {"achieved": {}, "overall": 0.5}, "parameters": {"dense": 6, "nonzero": 3},
    }  # fmt: skip
    assert "network" not in list(summary_table(results).columns[0].cells)


def test_a_result_at_chance_is_called_that():
    metrics = {"dense/test_acc": 0.9, "pruned/test_acc": 0.17, "final/test_acc": 0.22}
    results = {
        "experiment": "x", "seed": 0, "metrics": metrics, "events": [{}], "callbacks": {},
        "sparsity": {"achieved": {}, "overall": 0.5}, "chance": {"acc": 1 / 6, "samples": 300},
    }  # fmt: skip
    rows = dict(zip(*(list(column.cells) for column in summary_table(results).columns), strict=True))
    # Of 300 samples 16.7 % + 1.645 * 2.2 % = 20.2 % can be chance.
    assert [rows[name] for name in ("dense", "pruned", "retrained")] == [
        "90.00%", "17.00%, no better than chance", "22.00%",
    ]  # fmt: skip


def test_the_table_tells_dense_from_compact():
    results = {
        "experiment": "x", "seed": 0, "metrics": {f"{k}/test_acc": 0.5 for k in ("dense", "pruned", "final")},
        "events": [{}], "callbacks": {}, "sparsity": {"achieved": {}, "overall": 0.5},
        "parameters": {"dense": 6000, "compact": 1000},
        "macs": {"dense": 30, "compact": 10}, "file_bytes": {"dense": 8, "compact": 4},
        "latency": {"dense": {"1": 0.004, "64": None}, "compact": {"1": 0.001, "64": None}},
    }  # fmt: skip
    columns = [list(column.cells) for column in summary_table(results).columns]
    rows = dict(zip(*columns, strict=True))
    assert rows["parameters"] == "6,000 -> 1,000, 6.0x"
    assert rows["multiply-adds a sample"] == "30 -> 10, 3.0x"
    assert rows["milliseconds a batch of 1"] == "4.00 -> 1.00, 4.0x"
    timed = {"dense": {"1": [0.0039, 0.0041], "64": None}, "compact": {"1": [0.0009, 0.0012], "64": None}}
    columns = [
        list(column.cells) for column in summary_table({**results, "threads": 2, "latency_quartiles": timed}).columns
    ]
    rows = dict(zip(*columns, strict=True))
    assert rows["milliseconds a batch of 1 (threads: 2)"] == "4.00 (3.90 to 4.10) -> 1.00 (0.900 to 1.20), 4.0x"
    alike = {key: {"dense": 6000, "compact": 6000} for key in ("parameters", "macs", "file_bytes")}
    cells = list(summary_table({**results, **alike}).columns[1].cells)
    assert cells[-1] == "as large as before: zeros make no tensor smaller, only what goes whole does"
    assert "milliseconds a batch of 64" not in rows
