import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit.errors import ConfigError
from prunekit.units.removal import kept_units, unit_mask, unit_parameters, units_kept


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    st.floats(0, 1),
    st.sampled_from(["ascending", "descending"]),
)
def test_exactly_k_units_go_in_order_ties_by_index(values, share, order):
    scores, k = torch.tensor(values, dtype=torch.float64), round(share * len(values))
    kept = kept_units(scores, k, order)
    sign = 1 if order == "ascending" else -1
    expected = sorted(range(len(values)), key=lambda i: (sign * values[i], i))[:k]
    assert (~kept).nonzero().flatten().tolist() == sorted(expected)


@given(st.integers(1, 20), st.data())
def test_what_was_removed_stays_removed(n, data):
    before = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    scores = torch.tensor(
        data.draw(st.lists(st.sampled_from([0.0, 1.0, float("inf"), -float("inf")]), min_size=n, max_size=n))
    )
    k = data.draw(st.integers(0, n))
    order = data.draw(st.sampled_from(["ascending", "descending"]))
    kept = kept_units(scores, k, order, before)
    assert not (kept & ~before).any()
    assert int((~kept).sum()) == max(k, int((~before).sum()))


def test_nan_scores_and_unknown_orders_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        kept_units(torch.tensor([1.0, float("nan")]), 1, "ascending")
    with pytest.raises(ConfigError, match="order: got 'up'"):
        kept_units(torch.tensor([1.0]), 1, "up")


@given(
    st.integers(1, 9), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 10**6), st.integers(1, 6)
)  # fmt: skip
def test_a_removed_unit_gives_exactly_zero_at_every_step(units, layers, bias, batch_first, seed, steps):
    torch.manual_seed(seed)
    lstm = nn.LSTM(3, units, layers, bias=bias, batch_first=batch_first)
    kept = torch.rand(units) < 0.5
    whole = {name: parameter.clone() for name, parameter in lstm.named_parameters()}
    model = nn.ModuleDict({"a": lstm})
    mask = unit_mask(lstm, "a", kept)
    mask.apply(model)
    out, (h, c) = lstm(10 * torch.randn(4, steps, 3))
    assert (out[..., ~kept] == 0).all()
    assert (h[-1][:, ~kept] == 0).all()
    assert (c[-1][:, ~kept] == 0).all()
    assert not (out[..., kept] == 0).any()
    assert torch.equal(units_kept(mask, next(iter(mask))), kept)
    for name, parameter in lstm.named_parameters():
        last = name.endswith(f"_l{layers - 1}")
        rows = kept.repeat(4)
        assert torch.equal(parameter[rows] if last else parameter, whole[name][rows] if last else whole[name])


def test_the_parameters_of_a_unit_are_named():
    assert unit_parameters(nn.LSTM(2, 3), "x.lstm") == [
        "x.lstm.weight_ih_l0", "x.lstm.weight_hh_l0", "x.lstm.bias_ih_l0", "x.lstm.bias_hh_l0",
    ]  # fmt: skip
