"""Weights of low rank, as many multiply-adds a step as fewer units take."""

import pytest
import torch

from prunekit.callbacks.low_rank_weights import LowRankWeights
from prunekit.callbacks.weights_of_units import weights_of_units
from prunekit.errors import ArgumentError
from tests.callbacks.units import NAMES, Reader, SaveAfter, Sequences, fit


@pytest.mark.parametrize("layers", ["last", "every"])
def test_a_step_takes_at_most_what_fewer_units_would(layers, tmp_path):
    module, _ = fit(tmp_path, [ours := LowRankWeights(0.5, **NAMES, layers=layers, start_epoch=2)], 2)
    dense, _ = fit(tmp_path / "dense", [], 2)
    counts = weights_of_units(dense, **NAMES, rate=0.5, layers=layers)
    budget = sum(whole - gone for gone, whole in counts.values())
    report = ours.report()
    assert report["budget"] == budget
    assert ours.achieved() == {}
    spent = 0
    changed = {name for name, p in dense.named_parameters() if not torch.equal(p, module.get_parameter(name))}
    numbers = ("0", "1") if layers == "every" else ("1",)
    for number in numbers:
        both = [module.get_parameter(f"net.memory.weight_{kind}_l{number}").detach() for kind in ("ih", "hh")]
        joined = torch.cat(both, 1)
        rank = report["ranks"][f"net.memory.{number}"]
        assert torch.linalg.matrix_rank(joined, rtol=1e-5) == rank
        spent += rank * sum(joined.shape)
        assert {f"net.memory.{kind}_l{number}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")} <= changed
    head = module.get_parameter("net.say.weight")
    rank = report["ranks"]["net.say"]
    assert spent + (head.numel() if rank is None else rank * sum(head.shape)) <= budget
    assert layers == "every" or not any("l0" in name for name in changed)
    x = Sequences().data.tensors[0]
    with torch.no_grad():
        low, whole = module(x), dense(x)
    assert (low.argmax(1) == whole.argmax(1)).float().mean() > 0.8


def test_a_resumed_run_knows_its_ranks(tmp_path):
    def callback():
        return LowRankWeights(0.5, **NAMES, start_epoch=1)

    module, _ = fit(tmp_path / "whole", [ours := callback(), SaveAfter(2)], 3)
    again, _ = fit(tmp_path / "again", [theirs := callback()], 3, ckpt_path=str(tmp_path / "whole" / "a.ckpt"))
    assert theirs.report() == ours.report() != {}
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in module.named_parameters())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": None}, "head: got None"),
        ({"lstm": "net"}, "lstm: got 'net'"),
        ({"rate": 0.99}, "rate: got 0.99; accepted: one that leaves some of 12 units"),
        ({"layers": "first"}, "layers: got 'first'"),
        ({"rate": 1.5}, "rate: got 1.5"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_start(given, said, tmp_path):
    with pytest.raises(ArgumentError, match=said):
        fit(tmp_path, [LowRankWeights(**{"rate": 0.5, **NAMES, **given})], 1, Reader())
