"""The one selection, against the rule written as a loop."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import ArgumentError
from prunekit.schedule import gradual_rate
from prunekit.selection import exact_count, select

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("rate", "n", "count"),
    [(0.4, 39200, 15680), (0.1, 30, 3), (0.7, 10, 7), (0.29, 100, 29), (0, 7, 0), (1, 7, 7), (1e-5, 10**6, 10)],
)
def test_exact_count_takes_the_rate_as_written(rate, n, count):
    assert exact_count(rate, n) == count


@given(st.floats(0, 0.999), st.integers(1, 9))
def test_gradual_rate_removes_the_same_share_of_what_is_left(rate, rounds):
    left = [1 - gradual_rate(rate, done, rounds) for done in range(rounds + 1)]
    assert left[0] == 1
    assert gradual_rate(rate, rounds, rounds) == rate
    shares = [b / a for a, b in pairwise(left)]
    assert shares == pytest.approx([shares[0]] * rounds, rel=1e-6)


GROUPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 2.0, 3.0, INFINITE, -INFINITE]), st.integers(1, 9), st.integers(0, 4), st.booleans()
    ),
    min_size=1, max_size=25,
)  # fmt: skip
PERCENT, ORDER, OF = (
    st.integers(0, 100),
    st.sampled_from(["ascending", "descending"]),
    st.sampled_from(["groups", "weights"]),
)
SCOPE = st.sampled_from(["all", "within"])


def columns(groups):
    scores, sizes, within, gone = zip(*groups, strict=True)
    return torch.tensor(scores), torch.tensor(sizes), torch.tensor(within), torch.tensor(gone)


def select_all(groups, rate, **arguments):
    """With nothing gone before unless it is said."""
    scores, sizes, within, _ = columns(groups)
    return select(scores, sizes, rate, within=within, **arguments)


def one_by_one(groups, percent, order, of, scope, floor):
    """First those gone before, then the order's first, ties by number, never what must stay; until enough are gone."""
    scores, sizes, within, gone = zip(*groups, strict=True)
    sign = 1 if order == "ascending" else -1
    ranked = sorted(range(len(groups)), key=lambda group: (sign * scores[group], group))
    last = {within[group]: group for group in ranked if not gone[group]}  # of each layer
    stay = set(last.values()) if floor else set()
    queue = [g for g in ranked if gone[g]] + [g for g in ranked if not gone[g] and g not in stay]
    goes = {group for group in ranked if gone[group]}
    for part in [set(within)] if scope == "all" else [{layer} for layer in within]:
        members = [group for group in range(len(groups)) if within[group] in part]
        count = {group: sizes[group] if of == "weights" else 1 for group in members}
        goal = Fraction(percent, 100) * sum(count.values())
        goal = goal if of == "weights" else round(goal)
        removed = 0
        for group in queue:
            if group in count and removed < goal:
                goes.add(group)
                removed += count[group]
    return sorted(goes)


@given(GROUPS, PERCENT, ORDER, OF, SCOPE, st.booleans())
def test_whole_groups_go_in_order_until_the_rate_is_reached(groups, percent, order, of, scope, floor):
    scores, sizes, within, gone = columns(groups)
    goes = select(
        scores, sizes, percent / 100, within=within, gone=gone, order=order, of=of, scope=scope, floor=floor
    )  # fmt: skip
    assert goes.nonzero().flatten().tolist() == one_by_one(groups, percent, order, of, scope, floor)


@given(GROUPS, PERCENT, ORDER, OF)
def test_where_nothing_is_said_nothing_was_gone_and_all_are_of_one_layer(groups, percent, order, of):
    scores, sizes, *_ = columns(groups)
    alone = [(score, size, 0, False) for score, size, *_ in groups]
    goes = select(scores, sizes, percent / 100, order=order, of=of, scope="within")
    assert goes.nonzero().flatten().tolist() == one_by_one(alone, percent, order, of, "all", False)
    assert torch.equal(
        select(scores, sizes, percent / 100), select(scores, sizes, percent / 100, order="ascending", of="groups")
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), ORDER, st.data())
def test_exactly_k_go_with_ties_by_number(values, order, data):
    k = data.draw(st.integers(0, len(values)))
    sign = 1 if order == "ascending" else -1
    expected = sorted(range(len(values)), key=lambda i: (sign * values[i], i))[:k]
    scores, sizes = torch.tensor(values, dtype=torch.float64), torch.ones(len(values), dtype=torch.int64)
    assert select(scores, sizes, k / len(values), order=order).nonzero().flatten().tolist() == sorted(expected)


@given(GROUPS, st.floats(0, 1), ORDER, SCOPE, st.booleans())
def test_what_was_gone_stays_gone_and_counts_first(groups, rate, order, scope, floor):
    scores, sizes, within, gone = columns(groups)
    goes = select(scores, sizes, rate, within=within, gone=gone, order=order, scope=scope, floor=floor)
    assert goes[gone].all()
    if not floor:
        for part in [within >= 0] if scope == "all" else [within == layer for layer in within.unique()]:
            assert int(goes[part].sum()) == max(exact_count(rate, int(part.sum())), int(gone[part].sum()))


@given(GROUPS, PERCENT, SCOPE)
def test_the_overshoot_is_less_than_a_group(groups, percent, scope):
    gone = select_all(groups, percent / 100, of="weights", scope=scope)
    _, sizes, within, _ = columns(groups)
    for part in [within >= 0] if scope == "all" else [within == layer for layer in within.unique()]:
        removed, total, largest = (
            int(each) for each in (sizes[part & gone].sum(), sizes[part].sum(), sizes[part].max())
        )
        assert percent * total <= 100 * removed < percent * total + 100 * largest or (percent == 0 == removed)


@given(GROUPS, st.floats(0, 1), OF, SCOPE)
def test_the_floor_leaves_each_layer_its_best_group(groups, rate, of, scope):
    scores, _, within, _ = columns(groups)
    gone = select_all(groups, rate, of=of, scope=scope, floor=True)
    for layer in within.unique():
        own = within == layer
        assert scores[own & ~gone].max() == scores[own].max()
    whole = select_all(groups, 1.0, of=of, scope=scope, floor=True)
    assert int(whole.sum()) == len(groups) - len(within.unique())
    assert select_all(groups, 1.0, of=of, scope=scope).all()


@given(GROUPS, st.floats(0, 1))
def test_counting_groups_removes_exactly_that_many(groups, rate):
    scores, _, within, _ = columns(groups)
    gone = select_all(groups, rate, of="groups")
    assert int(gone.sum()) == exact_count(rate, len(groups))
    assert gone.all() or not gone.any() or scores[gone].max() <= scores[~gone].min()
    by_layer = select_all(groups, rate, of="groups", scope="within")
    for layer in within.unique():
        assert int(by_layer[within == layer].sum()) == exact_count(rate, int((within == layer).sum()))


def test_a_rate_that_is_no_binary_fraction_is_met_exactly():
    sizes = torch.full((20,), 5)
    assert 0.55 * 100 > 55  # the float product overshoots and would take a group too many
    assert int(sizes[select(torch.arange(20.0), sizes, 0.55, of="weights")].sum()) == 55


def test_the_floor_counts_only_groups_that_are_there():
    scores, sizes, within = torch.tensor([5.0, 1.0, 2.0]), torch.ones(3, dtype=torch.int64), torch.tensor([0, 0, 1])
    gone = torch.tensor([True, False, True])
    assert select(scores, sizes, 1.0, within=within, gone=gone, floor=True).tolist() == [True, False, True]


def test_no_groups_lose_none():
    none = torch.empty(0, dtype=torch.int64)
    for scope in ("all", "within"):
        for floor in (False, True):
            assert select(none.double(), none, 0.4, within=none, scope=scope, floor=floor).shape == (0,)


def test_wrong_input_is_refused():
    one = torch.tensor([1.0]), torch.tensor([1])
    for rate in (1.1, -0.1, float("nan")):
        with pytest.raises(ArgumentError, match="rate: got"):
            select(*one, rate)
    for name, value in (("of", "neurons"), ("scope", "layer"), ("order", "up")):
        with pytest.raises(ArgumentError, match=f"{name}: got '{value}'"):
            select(*one, 0.5, **{name: value})
    with pytest.raises(ValueError, match=r"are \(G,\) each"):
        select(torch.ones(2), torch.ones(3, dtype=torch.int64), 0.5)
    with pytest.raises(ValueError, match=r"are \(G,\) each"):
        select(torch.ones(2, 1), torch.ones(2, 1, dtype=torch.int64), 0.5)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        select(torch.tensor([0.0, float("nan")]), torch.ones(2, dtype=torch.int64), 0.5)


def test_each_place_may_have_a_rate_of_its_own():
    scores, sizes = torch.tensor([3.0, 1, 2, 9, 8, 7, 6]), torch.tensor([1, 1, 1, 1, 1, 1, 5])
    within = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    goes = select(scores, sizes, [0.34, 0.5], within=within, scope="within")
    assert goes.tolist() == [False, True, False, False, False, True, True]
    weights = select(scores, sizes, [0.0, 0.6], within=within, scope="within", of="weights")
    assert weights.tolist() == [False, False, False, False, False, False, True]
    for rates, scope in (([0.5], "within"), ([0.5, 0.5], "all"), ([], "within")):
        with pytest.raises(ArgumentError, match="rate: got"):
            select(scores, sizes, rates, within=within, scope=scope)
