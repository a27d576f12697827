import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.units.codes import (
    BLOCK,
    LEVELS,
    count_levels,
    encode_outputs,
    encode_target,
    entropy,
    equal_width,
    quantile,
)
from prunekit.units.transfer_entropy import count_transitions, miller_madow, surrogates, transfer_entropy


@pytest.fixture(scope="module")
def reference():
    folder = os.environ.get("PRUNEKIT_REFERENCE")
    if folder is None:
        if os.environ.get("PRUNEKIT_REQUIRE_DATA"):
            pytest.fail("PRUNEKIT_REQUIRE_DATA is set but PRUNEKIT_REFERENCE names no folder")
        pytest.skip("set PRUNEKIT_REFERENCE to a folder with transfer_entropy.json")
    return json.loads((Path(folder) / "transfer_entropy.json").read_text())["cases"]


def test_all_reference_cases_are_met(reference):
    assert len(reference) == 23
    for case in reference:
        x, y = (torch.tensor(case[name], dtype=torch.uint8) for name in "xy")
        counts = count_transitions(x[..., None], y, case["bins_x"], case["bins_y"])
        assert counts[0].tolist() == case["counts_xnext_x_y"], case["name"]
        assert int(counts.sum()) == case["n"]
        found = transfer_entropy(counts)
        assert abs(found.item() - case["te_bits"]) < 1e-12, case["name"]
        assert abs((found + miller_madow(counts)).item() - case["miller_madow_bits"]) < 1e-12, case["name"]


def draw(clips=20, steps=7, units=5, bins_x=4, bins_y=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(0, bins_x, (clips, steps, units), generator=random, dtype=torch.uint8)
    return x, torch.randint(0, bins_y, (clips, steps), generator=random, dtype=torch.uint8)


def counted_one_by_one(x, y, unit):
    return Counter(
        (int(x[n, t + 1, unit]), int(x[n, t, unit]), int(y[n, t]))
        for n in range(x.shape[0])
        for t in range(x.shape[1] - 1)
    )


@pytest.mark.parametrize(("bins_x", "bins_y"), [(2, 2), (4, 3), (8, 8), (16, 16)])
def test_counts_and_bits_follow_the_definition(bins_x, bins_y):
    x, y = draw(bins_x=bins_x, bins_y=bins_y)
    counts = count_transitions(x, y, bins_x, bins_y)
    bits = transfer_entropy(counts)
    for unit in range(5):
        seen = counted_one_by_one(x, y, unit)
        assert counts[unit].sum() == sum(seen.values()) == 20 * 6
        total = 0.0
        for (after, before, cause), number in seen.items():
            assert counts[unit, after, before, cause] == number
            given_both = number / sum(v for (_, b, c), v in seen.items() if (b, c) == (before, cause))
            given_x = sum(v for (a, b, _), v in seen.items() if (a, b) == (after, before)) / sum(
                v for (_, b, _), v in seen.items() if b == before
            )
            total += number / 120 * math.log2(given_both / given_x)
        assert bits[unit].item() == pytest.approx(total, abs=1e-12)


@given(st.integers(1, 30), st.integers(2, 9), st.integers(1, 6), st.integers(0, 10**6))
def test_transfer_entropy_is_between_zero_and_the_entropy_of_x(clips, steps, units, seed):
    x, y = draw(clips, steps, units, seed=seed)
    bits = transfer_entropy(count_transitions(x, y, 4, 3))
    assert (bits > -1e-12).all()
    assert (bits <= entropy(count_levels(x[:, 1:], 4)) + 1e-9).all()


def test_counts_are_additive_and_know_no_order():
    x, y = draw(clips=50, units=9)
    whole = count_transitions(x, y, 4, 3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    assert torch.equal(count_transitions(x[order], y[order], 4, 3), whole)
    for size in (1, 7, 49):
        parts = [count_transitions(a, b, 4, 3) for a, b in zip(x.split(size), y.split(size), strict=True)]
        assert torch.equal(sum(parts), whole)
    assert torch.equal(torch.cat([count_transitions(part, y, 4, 3) for part in x.split(2, dim=2)]), whole)


@pytest.mark.parametrize("block", [1, 50, 10**4, 10**7])
def test_counts_do_not_depend_on_the_blocks_they_are_made_in(block, monkeypatch):
    x, y = draw(clips=30, units=40, bins_x=16, bins_y=16)
    whole, levels = count_transitions(x, y, 16, 16), count_levels(x, 16)
    monkeypatch.setattr("prunekit.units.codes.BLOCK", block)
    assert torch.equal(count_transitions(x, y, 16, 16), whole)
    assert torch.equal(count_levels(x, 16), levels)
    h = torch.rand(1000) * 2 - 1
    assert torch.equal(encode_outputs(h), encode_outputs(h.clone()))


def test_a_unit_that_does_not_change_has_exactly_zero():
    _, y = draw(steps=9)
    for value in (0, 3):
        constant = torch.full((20, 9, 2), value, dtype=torch.uint8)
        assert transfer_entropy(count_transitions(constant, y, 4, 3)).tolist() == [0.0, 0.0]
        assert entropy(count_levels(constant, 4)).tolist() == [0.0, 0.0]
    x, _ = draw(steps=9)
    constant_y = torch.ones(20, 9, dtype=torch.uint8)
    assert transfer_entropy(count_transitions(x, constant_y, 4, 3)).tolist() == [0.0] * 5


def test_borders_of_clips_are_not_crossed():
    x = torch.tensor([[[0], [0]], [[1], [1]]], dtype=torch.uint8)
    counts = count_transitions(x, torch.zeros(2, 2, dtype=torch.uint8), 2, 2)
    assert counts[0, :, :, 0].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x[:, :1], y[:, :1], 4, 3), ValueError, "a transition takes two steps, got T=1"),
        (lambda x, y: (x, y[:-1], 4, 3), ValueError, r"got \(20, 7, 5\) and \(19, 7\)"),
        (lambda x, y: (x, y[:, :-1], 4, 3), ValueError, r"got \(20, 7, 5\) and \(20, 6\)"),
        (lambda x, y: (x[0], y, 4, 3), ValueError, "clips, T, units"),
        (lambda x, y: (x, y, 1, 3), ValueError, "1 bins; 2 to 16"),
        (lambda x, y: (x, y, 4, 17), ValueError, "17 bins"),
        (lambda x, y: (x, y, 3, 3), ValueError, "x holds the code 3, and 3 bins"),
        (lambda x, y: (x, y, 4, 2), ValueError, "y holds the code 2"),
        (lambda x, y: (x.long(), y, 4, 3), TypeError, "x holds uint8 codes, got torch.int64"),
    ],
)
def test_wrong_codes_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        count_transitions(*change(*draw()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_decided_by_comparison_with_their_edges(dtype):
    edges = torch.arange(-128, 129, dtype=torch.float64) / 128
    below, above = (np.nextafter(edges.to(dtype).numpy(), side) for side in (-2, 2))
    values = torch.cat([edges.to(dtype), torch.from_numpy(below), torch.from_numpy(above)]).to(dtype)
    values = torch.cat([values, torch.rand(10**5, dtype=dtype) * 2 - 1])
    expected = (torch.searchsorted(edges, values.double(), right=True) - 1).clamp(0, 255)
    assert torch.equal(encode_outputs(values).long(), expected)
    naive = ((values + 1) * 128).floor().clamp(0, 255).long()
    assert not torch.equal(naive, expected)  # so the comparison is needed


@pytest.mark.parametrize("place", [0, 1234, -1])
def test_nan_is_refused(place):
    h = torch.zeros(10**6)
    h[place] = math.nan
    with pytest.raises(ValueError, match="1 of 1000000 outputs are NaN"):
        encode_outputs(h)
    with pytest.raises(ValueError, match="1 of 3 targets are NaN"):
        encode_target(torch.tensor([0.0, math.nan, 1.0]), 2)


def test_equal_width_and_target_bins():
    h = torch.rand(10**4) * 2 - 1
    for bins in (2, 4, 8, 16):
        edges = torch.arange(1, bins) * 2 / bins - 1
        assert torch.equal(equal_width(encode_outputs(h), bins).long(), torch.bucketize(h, edges, right=True))
    for bins in (2, 3, 8):
        y = torch.cat([torch.rand(1000), torch.arange(bins + 1) / bins])
        assert torch.equal(encode_target(y, bins).long(), (y[:, None] >= torch.arange(1, bins) / bins).sum(1))
    for bins in (1, 3, 32):
        with pytest.raises(ValueError, match=f"{bins} bins"):
            equal_width(encode_outputs(h), bins)


def test_quantile_bins_hold_equally_many_of_each_units_outputs():
    levels = torch.stack([torch.arange(256), torch.arange(256) // 2 + 40, torch.full((256,), 9)], dim=1)
    levels = levels[torch.randperm(256)].to(torch.uint8)[:, None]
    for bins in (2, 4, 16):
        codes = quantile(levels, bins)
        counts = count_levels(codes, bins)
        assert counts[:2].tolist() == [[256 // bins] * bins] * 2
        assert counts[2].tolist() == [256] + [0] * (bins - 1)
        order = levels[:, 0, 0].argsort()
        assert (codes[order, 0, 0].diff() >= 0).all()
    assert codes.shape == levels.shape
    assert count_levels(levels).shape == (3, LEVELS)


def test_a_trend_that_all_clips_share_does_not_fool_the_surrogate():
    """x and y rise together over time and are otherwise independent: plug-in TE takes that for information."""
    random = torch.Generator().manual_seed(0)
    steps, clips = 25, 400
    trend = torch.linspace(0.2, 0.8, steps)
    x = (torch.rand(clips, steps, 20, generator=random) < trend[:, None]).to(torch.uint8)
    y = (torch.rand(clips, steps, generator=random) < trend).to(torch.uint8)
    found = transfer_entropy(count_transitions(x, y, 2, 2))
    assert 0.008 < found.mean() < 0.02
    rows = surrogates(x, y, 2, 2, number=40, seed=1)
    assert abs(found.mean() - rows.mean.mean()) < 0.001
    assert 0.2 < rows.p_value.mean() < 0.8
    shuffled = y.flatten()[torch.randperm(clips * steps, generator=random)].view(clips, steps)
    globally = transfer_entropy(count_transitions(x, shuffled, 2, 2))
    assert (found - globally).mean() > 0.008  # a shuffle of single steps would call it all information


def test_the_surrogate_keeps_what_y_does_tell():
    random = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (200, 25), generator=random, dtype=torch.uint8)
    x = torch.cat([torch.zeros(200, 1, dtype=torch.uint8), y[:, :-1]], dim=1)[..., None]
    found = transfer_entropy(count_transitions(x, y, 2, 2))
    rows = surrogates(x, y, 2, 2, number=19, seed=0)
    assert found.item() > 0.9
    assert rows.mean.item() < 0.01
    assert rows.p_value.item() == 1 / 20
    constant = surrogates(torch.zeros_like(x), y, 2, 2, number=19, seed=0)
    assert (constant.mean.item(), constant.p_value.item()) == (0.0, 1.0)  # every surrogate reaches the 0
    again = surrogates(x, y, 2, 2, number=19, seed=0)
    assert torch.equal(again.mean, rows.mean)


def test_outputs_in_half_precision_are_no_nan_however_many_they_are():
    one = torch.full((BLOCK,), 0.9, dtype=torch.float16)
    assert encode_outputs(torch.cat([one, -one])).unique().tolist() == [12, 243]
