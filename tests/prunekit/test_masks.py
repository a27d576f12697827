import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit.held_mask import HeldMask
from prunekit.masks import Mask, all_weights, find_parameter, overall_sparsity


def test_mask_refuses_what_is_no_mask():
    with pytest.raises(TypeError, match=r"bool tensor, got torch\.float32"):
        Mask({"weight": torch.ones(2)})
    with pytest.raises(TypeError, match="non-empty string"):
        Mask({"": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(KeyError, match="nearest: weight"):
        Mask.full(nn.Linear(2, 1), ["weights"])
    with pytest.raises(ValueError, match=r"weight has shape \(1, 2\), its mask \(2,\)"):
        Mask({"weight": torch.ones(2, dtype=torch.bool)}).apply(nn.Linear(2, 1))
    kept = {"weight": torch.zeros(2, dtype=torch.bool)}
    for held in ({"weight": torch.ones(3)}, {"bias": torch.ones(2)}):
        with pytest.raises(ValueError, match="and no mask of that shape"):
            Mask(kept, held)


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


def test_what_is_held_is_of_removed_entries_alone_and_owned():
    value = torch.tensor([1.0, 2.0, 0.0])
    mask = Mask({"w": torch.tensor([True, False, False]), "v": torch.tensor([True])}, {"w": value, "v": torch.ones(1)})
    value[1] = 7.0
    assert {name: held.tolist() for name, held in mask.held.items()} == {"w": [0.0, 2.0, 0.0]}
    assert Mask(dict(mask), mask.held) == mask


def test_equality_and_digest_see_what_is_held():
    kept = {"w": torch.tensor([True, False, False]), "v": torch.tensor([False])}
    masks = [
        Mask(kept, held)
        for held in (
            {},
            {"w": torch.tensor([9.0, 1.0, 0.0])},
            {"w": torch.tensor([9.0, 0.0, 1.0])},
            {"v": torch.ones(1)},
        )
    ]
    assert len({mask.digest() for mask in masks}) == 4
    assert all((one == other) == (one is other) for one in masks for other in masks)
    same = Mask(kept, {"w": torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)})
    assert same == masks[1]
    assert same.digest() == masks[1].digest()


def test_only_takes_what_is_held_along():
    mask = Mask({name: torch.tensor([True, False]) for name in "abc"}, {name: torch.ones(2) for name in "ab"})
    part = mask.only(["c", "b", "d"])
    assert part == Mask({name: mask[name] for name in "bc"}, {"b": torch.tensor([0.0, 1.0])})
    assert list(part) == ["c", "b"]
    assert mask.only([]) == Mask({})


ENTRIES = st.lists(st.tuples(*[st.sampled_from([None, 0.0, 1.5, -2.0])] * 2), min_size=1, max_size=12)


def of_entries(values, dtype=torch.float32):
    """None is kept, a number is what a removed entry is held at."""
    return Mask(
        {"w": torch.tensor([value is None for value in values])},
        {"w": torch.tensor([value or 0.0 for value in values], dtype=dtype)},
    )


@given(ENTRIES, st.sampled_from([torch.float32, torch.float64]))
def test_of_two_holds_zero_wins_and_then_the_second(entries, dtype):
    expected = []
    for one, two in entries:
        if one is None or two is None:
            expected.append(one if two is None else two)
        else:
            expected.append(0.0 if 0.0 in (one, two) else two)
    both = of_entries([one for one, _ in entries]) & of_entries([two for _, two in entries], dtype)
    assert both == of_entries(expected, dtype)


def test_what_one_mask_alone_names_is_held_as_that_one_has_it():
    one, other = Mask({"a": torch.tensor([False])}, {"a": torch.ones(1)}), Mask({"b": torch.tensor([False])})
    for both in (one & other, other & one):
        assert both.held == {"a": torch.ones(1)}
        assert both.removed() == 2


def test_apply_sets_removed_entries_to_what_they_are_held_at():
    layer = nn.Linear(3, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[float("nan"), float("inf"), 3.0]]))
    Mask({"weight": torch.tensor([[False, False, True]])}, {"weight": torch.tensor([[0.5, 0.0, 9.0]])}).apply(layer)
    assert layer.weight.tolist() == [[0.5, 0.0, 3.0]]


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


@pytest.mark.parametrize("make", [
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.5),
])  # fmt: skip
def test_a_held_mask_gives_constants_to_the_bit(make):
    torch.manual_seed(0)
    layer = nn.Linear(30, 10)
    optimizer = make(layer.parameters())
    train(layer, optimizer)
    mask = Mask({"weight": torch.rand(10, 30) > 0.5}, {"weight": torch.randn(10, 30, dtype=torch.float64)})
    HeldMask(mask, layer, [optimizer])
    for _ in range(5):
        before = layer.weight.detach().clone()
        train(layer, optimizer, steps=1)
        assert torch.equal(layer.weight[~mask["weight"]], mask.held["weight"].float()[~mask["weight"]])
        assert (layer.weight != before)[mask["weight"]].all()


def test_a_mask_is_held_through_the_steps_of_every_optimizer():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 3))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9) for part in net]
    mask = Mask({name: torch.rand(net.get_parameter(name).shape) > 0.5 for name in ("0.weight", "1.weight")})

    def steps():
        for optimizer in optimizers:
            net(torch.randn(8, 5)).square().sum().backward()
            optimizer.step()
            yield [bool((net.get_parameter(name)[~mask[name]] == 0).all()) for name in mask]

    assert [*steps(), *steps()] == [[False, False]] * 4
    HeldMask(mask, net, optimizers)
    assert [*steps(), *steps()] == [[True, True]] * 4


def test_a_parameter_that_takes_no_gradient_is_held_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 3))
    net[0].requires_grad_(False)
    mask = Mask({name: torch.rand(net.get_parameter(name).shape) > 0.5 for name in ("0.weight", "1.weight")})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    HeldMask(mask, net, [optimizer])
    for frozen in (True, False):
        net[0].requires_grad_(not frozen)
        before = net[0].weight.detach().clone()
        net(torch.randn(8, 5)).square().sum().backward()
        optimizer.step()
        assert torch.equal(net[0].weight, before) == frozen
        assert all((net.get_parameter(name)[~mask[name]] == 0).all() for name in mask)


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


def test_the_overall_sparsity_counts_all_weights_and_no_biases():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    mask = Mask({"0.weight": torch.arange(12).view(3, 4) > 2, "0.bias": torch.zeros(3, dtype=torch.bool)})
    assert overall_sparsity(net, mask) == 3 / 18
