from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit.masks import HeldMask, Mask, all_weights, exact_count, find_parameter, gradual_rate, lowest


@pytest.mark.parametrize(
    ("rate", "n", "count"),
    [(0.4, 39200, 15680), (0.1, 30, 3), (0.7, 10, 7), (0.29, 100, 29), (0, 7, 0), (1, 7, 7), (1e-5, 10**6, 10)],
)
def test_exact_count_takes_the_rate_as_written(rate, n, count):
    assert exact_count(rate, n) == count


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_lowest_removes_exactly_k_with_ties_by_index(values, data):
    k = data.draw(st.integers(0, len(values)))
    expected = sorted(range(len(values)), key=lambda i: (values[i], i))[:k]
    chosen = lowest(torch.tensor(values, dtype=torch.float32), k)
    assert chosen.nonzero().flatten().tolist() == sorted(expected)


def test_lowest_keeps_the_shape_and_refuses_what_it_cannot_rank():
    assert lowest(torch.zeros(2, 3), 4).tolist() == [[True, True, True], [True, False, False]]
    with pytest.raises(ValueError, match="k=5 of 4"):
        lowest(torch.zeros(4), 5)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        lowest(torch.tensor([0.0, float("nan")]), 1)


def test_mask_refuses_what_is_no_mask():
    with pytest.raises(TypeError, match=r"bool tensor, got torch\.float32"):
        Mask({"weight": torch.ones(2)})
    with pytest.raises(TypeError, match="non-empty string"):
        Mask({"": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(KeyError, match="nearest: weight"):
        Mask.full(nn.Linear(2, 1), ["weights"])
    with pytest.raises(ValueError, match=r"weight has shape \(1, 2\), its mask \(2,\)"):
        Mask({"weight": torch.ones(2, dtype=torch.bool)}).apply(nn.Linear(2, 1))


def test_mask_is_immutable_and_owns_its_tensors():
    kept = torch.tensor([True, False])
    mask = Mask({"w": kept})
    kept[0] = False
    assert mask["w"].tolist() == [True, False]
    with pytest.raises(TypeError, match="does not support item assignment"):
        mask["w"] = kept


def test_intersection_counts_and_digest():
    a = Mask({"w": torch.tensor([True, False, True, True]), "v": torch.tensor([True])})
    b = Mask({"w": torch.tensor([True, True, False, True]), "u": torch.tensor([False])})
    both = a & b
    assert both == b & a
    assert {name: both[name].tolist() for name in sorted(both)} == {
        "u": [False],
        "v": [True],
        "w": [True, False, False, True],
    }
    assert (both.removed(), both.removed("w"), both.sparsity("w"), both.sparsity()) == (3, 2, 0.5, 0.5)
    assert a.digest() == Mask({"v": a["v"], "w": a["w"]}).digest()
    assert len({a.digest(), b.digest(), both.digest(), Mask({}).digest()}) == 4
    assert Mask({}).sparsity() == 0
    with pytest.raises(ValueError, match="against"):
        a & Mask({"w": torch.tensor([True])})


def test_apply_gives_positive_zero_whatever_was_there():
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[float("nan"), float("-inf"), -1.0, 2.0]]))
    Mask({"weight": torch.tensor([[False, False, False, True]])}).apply(layer)
    assert layer.weight.tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert not layer.weight.signbit().any()


def train(layer, optimizer, steps=20):
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        layer(torch.randn(8, layer.in_features)).square().mean().backward()
        optimizer.step()


def test_a_held_mask_gives_positive_zeros_and_releases():
    torch.manual_seed(0)
    layer = nn.Linear(30, 10)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    train(layer, optimizer)  # gives every weight a momentum that would move it
    mask = Mask({"weight": torch.rand(10, 30) > 0.5})
    held = HeldMask(mask, layer, [optimizer])
    for _ in range(5):
        train(layer, optimizer, steps=1)
        assert (layer.weight[~mask["weight"]] == 0).all()
        assert not layer.weight[~mask["weight"]].signbit().any()
        assert (layer.weight[mask["weight"]] != 0).all()
    held.release()
    train(layer, optimizer, steps=1)
    assert (layer.weight[~mask["weight"]] != 0).any()


def test_gradients_of_removed_weights_do_not_count_in_the_clip_norm():
    torch.manual_seed(0)
    layer = nn.Linear(30, 10, bias=False)
    mask = Mask({"weight": torch.rand(10, 30) > 0.5})
    held = HeldMask(mask, layer, [])
    x = torch.randn(8, 30)
    for _ in range(2):  # accumulated
        layer(x).square().sum().backward()
    norm = nn.utils.clip_grad_norm_(layer.parameters(), 1e9)
    held.release()
    layer.zero_grad()
    layer(x).square().sum().backward()
    torch.testing.assert_close(norm, 2 * layer.weight.grad[mask["weight"]].norm())


def test_find_parameter_names_the_nearest():
    net = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4))
    assert find_parameter(net, "1.weight_hh_l0") is net[1].weight_hh_l0
    for wrong in ("1.weight_hh", "2.weight", "0", "", "0.in_features"):
        with pytest.raises(KeyError, match="nearest: "):
            find_parameter(net, wrong)
    assert all_weights(net) == ["0.weight", "1.weight_ih_l0", "1.weight_hh_l0"]


@given(st.floats(0, 0.999), st.integers(1, 9))
def test_gradual_rate_removes_the_same_share_of_what_is_left(rate, rounds):
    left = [1 - gradual_rate(rate, done, rounds) for done in range(rounds + 1)]
    assert left[0] == 1
    assert gradual_rate(rate, rounds, rounds) == rate
    shares = [b / a for a, b in pairwise(left)]
    assert shares == pytest.approx([shares[0]] * rounds, rel=1e-6)
