"""The one cache: what is found is what was made, found only where all is the same, never half-written, made once."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import nn

from prunekit.cache import Cache
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.random import Random
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.digests import digest, tensor_digest

CONTENT = {
    "values": torch.tensor([0.1, -0.0, float("inf")], dtype=torch.float64),
    "kept": torch.tensor([[True], [False]]),
    "none": torch.zeros(0, 3),
    "turned": torch.arange(6).view(2, 3).T,
    "one": torch.tensor(3),
}


class Maker:
    """Counts how often it is asked."""

    def __init__(self, content=CONTENT):
        self.content, self.times = content, 0

    def __call__(self):
        self.times += 1
        return self.content


def never():
    raise AssertionError("it was there")


def files(folder):
    return sorted(path for path in Path(folder).iterdir() if not path.name.startswith("."))


def test_what_is_kept_is_found_to_the_bit(tmp_path):
    make = Maker()
    assert Cache(tmp_path / "new").get({"what": "one"}, make) is CONTENT
    found = Cache(tmp_path / "new").get({"what": "one"}, never)
    assert found.keys() == CONTENT.keys()
    for name, tensor in CONTENT.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert tensor_digest(found) == tensor_digest(CONTENT)
    assert make.times == 1


def test_a_file_is_of_one_context_and_all_inputs(tmp_path):
    contexts = [None, {"data": "a"}, {"data": "b"}, {"data": "a", "seed": 0}]
    inputs = [
        {"network": "n", "layer": "lstm", "criterion": type(criterion).__name__, "arguments": vars(criterion)}
        for criterion in (Entropy(), Entropy(4), Random(0), Random(1), TransferEntropy(), TransferEntropy(seed=1))
    ]
    inputs += [
        {**inputs[0], "network": "m"},
        {**inputs[0], "layer": "l"},
        {**inputs[0], "head": "h"},
        {**inputs[0], "code": "c"},
    ]
    made = {}
    for context in contexts:
        for number, each in enumerate(inputs):
            value = {"x": torch.tensor([len(made)])}
            assert Cache(tmp_path, context).get(each, Maker(value)) is value
            made[str(context), number] = value
    assert len(files(tmp_path)) == len(contexts) * len(inputs)
    for context in contexts:
        for number, each in enumerate(inputs):
            again = dict(reversed(each.items()))
            assert torch.equal(Cache(tmp_path, context).get(again, never)["x"], made[str(context), number]["x"])


def test_where_inputs_are_not_plain_or_there_is_no_folder_it_is_made_each_time(tmp_path):
    for cache, inputs in (
        (Cache(tmp_path), {"memory": torch.zeros(2)}),
        (Cache(tmp_path, {"what": object()}), {"a": 1}),
        (Cache(), {"a": 1}),
    ):
        make = Maker()
        assert [cache.get(inputs, make) for _ in range(3)] == [CONTENT] * 3
        assert make.times == 3
    assert files(tmp_path) == []


def damages(content):
    middle = len(content) - 5
    yield b""
    yield content[:-3]
    yield b"x" * 100
    yield content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]  # a float for a float
    yield content.replace(b'"digest"', b'"digset"')


@pytest.mark.parametrize("number", range(5))
def test_what_is_damaged_is_named_and_made_again(number, tmp_path, caplog):
    cache, make = Cache(tmp_path), Maker({"x": torch.rand(50)})
    cache.get({}, make)
    (path,) = files(tmp_path)
    path.write_bytes(list(damages(path.read_bytes()))[number])
    assert torch.equal(cache.get({}, make)["x"], make.content["x"])
    assert make.times == 2
    assert f"{path} is damaged" in caplog.text
    caplog.clear()
    assert torch.equal(cache.get({}, never)["x"], make.content["x"])
    assert f"{path} is damaged" not in caplog.text


def test_what_could_not_be_made_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Cache(tmp_path).get({}, lambda: {"x": torch.tensor(1 / 0)})
    assert files(tmp_path) == []
    assert Cache(tmp_path).get({}, Maker()) is CONTENT  # and nobody holds the lock


def test_of_several_that_ask_at_once_one_makes_it(tmp_path):
    entered, go_on, make = threading.Event(), threading.Event(), Maker()

    def slowly():
        entered.set()
        assert go_on.wait(30)
        return make()

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(Cache(tmp_path).get, {"a": 1}, slowly)
        assert entered.wait(30)
        others = [pool.submit(Cache(tmp_path).get, {"a": 1}, make) for _ in range(3)]
        assert Cache(tmp_path).get({"a": 2}, Maker()) is CONTENT  # another thing does not wait
        go_on.set()
        assert tensor_digest(first.result(30)) == tensor_digest(CONTENT)
        assert all(tensor_digest(other.result(30)) == tensor_digest(CONTENT) for other in others)
    assert make.times == 1


def ask(folder, barrier):
    def make():
        (Path(folder) / f"made-{os.getpid()}").touch()
        return {"x": torch.ones(1000)}

    barrier.wait(120)
    assert Cache(Path(folder) / "cache").get({}, make)["x"].sum() == 1000


@pytest.mark.slow
def test_of_several_processes_one_makes_it(tmp_path):
    context = get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=ask, args=(str(tmp_path), barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("made-*"))) == 1


@pytest.mark.parametrize("there", [True, False])
def test_all_ranks_have_what_rank_zero_finds_or_make_it_together(there, tmp_path, monkeypatch):
    """Two ranks, as two threads that meet wherever ranks would."""
    if there:
        Cache(tmp_path).get({"a": 1}, lambda: CONTENT)
    rank, meet, sent, made = threading.local(), threading.Barrier(2, timeout=30), {}, []
    for module in ("cache", "rank"):
        monkeypatch.setattr(f"prunekit.{module}.is_rank_zero", lambda: rank.number == 0)

    def run(number):
        rank.number = number

        def share(found):
            if number == 0:
                sent["found"] = found
            meet.wait()
            shared = sent["found"]
            meet.wait()  # before anything else is sent
            return shared

        def make():
            meet.wait()  # as sums over ranks do
            made.append(number)
            return CONTENT

        return Cache(tmp_path).get({"a": 1}, make, share)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, range(2)))
    assert sorted(made) == ([] if there else [0, 1])
    assert [tensor_digest(each) for each in found] == [tensor_digest(CONTENT)] * 2
    assert len(files(tmp_path)) == 1


def test_a_network_is_told_by_all_its_values():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    digests = {tensor_digest(net.state_dict())}
    for tensor in net.state_dict().values():
        tensor.flatten()[-1:].add_(1)
        digests.add(tensor_digest(net.state_dict()))
    assert len(digests) == 1 + len(net.state_dict())
    same = torch.zeros(2, 3)
    others = [{"a": same}, {"b": same}, {"a": same.T}, {"a": same.double()}, {"a": same.int()}, {"a": same, "b": same}]
    assert len({tensor_digest(other) for other in others}) == len(others)


def test_a_digest_is_of_the_content_and_not_of_its_order():
    assert digest({"a": 1, "b": [1.5, None, "x"]}) == digest({"b": (1.5, None, "x"), "a": 1})
    assert len({digest(each) for each in ({}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"})}) == 5
    with pytest.raises(TypeError):
        digest({"a": object()})
