import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.masks import exact_count
from prunekit.regions.index import mean_magnitude
from prunekit.regions.labels import label_regions, region_sizes
from prunekit.regions.removal import lowest_regions, remove_regions

REGIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=25)


def test_the_index_is_the_mean_magnitude_of_each_region():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 6, 7)).astype(np.float32)
    labels = label_regions(rng.random((5, 6, 7)) > 0.5)
    expected = [np.abs(weights[labels == region].astype(float)).mean() for region in range(1, labels.max() + 1)]
    np.testing.assert_allclose(mean_magnitude(weights, labels), expected, rtol=1e-12)


def test_the_index_refuses_what_it_cannot_rank():
    labels = np.ones((1, 2, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="differ in shape"):
        mean_magnitude(np.ones((1, 2, 3)), labels)
    with pytest.raises(ValueError, match="not finite"):
        mean_magnitude(np.full((1, 2, 2), np.nan), labels)
    outside = np.array([[[np.nan, 1.0]]])
    assert mean_magnitude(outside, np.array([[[0, 1]]])).tolist() == [1.0]


@given(REGIONS, st.integers(0, 100))
def test_whole_regions_go_in_order_until_the_weights_first_reach_the_rate(regions, percent):
    index, sizes = (np.array(column) for column in zip(*regions, strict=True))
    gone = lowest_regions(index.astype(float), sizes, percent / 100)
    order = sorted(range(len(index)), key=lambda region: (index[region], region))
    expected, removed = set(), 0
    for region in order:
        if removed * 100 >= percent * sizes.sum():
            break
        expected.add(region)
        removed += sizes[region]
    assert set(np.flatnonzero(gone)) == expected
    assert gone.sum() == 0 or sizes[gone].sum() - sizes[max(expected, key=order.index)] < percent / 100 * sizes.sum()


@given(REGIONS, st.floats(0, 1))
def test_counting_regions_removes_exactly_that_many(regions, rate):
    index, sizes = (np.array(column) for column in zip(*regions, strict=True))
    gone = lowest_regions(index.astype(float), sizes, rate, of="regions")
    assert gone.sum() == exact_count(rate, len(index))
    assert gone.all() or not gone.any() or index[gone].max() <= index[~gone].min()


def test_a_rate_that_is_no_binary_fraction_is_met_exactly():
    index, sizes = np.arange(20.0), np.full(20, 5)
    assert 0.55 * 100 > 55  # the float product overshoots and would take a region too many
    assert sizes[lowest_regions(index, sizes, 0.55)].sum() == 55


def test_wrong_input_is_refused():
    one = np.array([1.0]), np.array([1])
    with pytest.raises(ValueError, match="rate is a share"):
        lowest_regions(*one, rate=1.1)
    with pytest.raises(ValueError, match="of is one of"):
        lowest_regions(*one, rate=0.5, of="neurons")
    with pytest.raises(ValueError, match=r"are not \(R,\) and \(R,\)"):
        lowest_regions(np.ones(2), np.ones(3, dtype=int), rate=0.5)


def test_a_round_keeps_a_subset_made_of_whole_regions():
    rng = np.random.default_rng(1)
    weights, kept = rng.normal(size=(8, 9, 9)), rng.random((8, 9, 9)) > 0.5
    removal = remove_regions(weights, kept, rate=0.4, connectivity=2)
    assert not (removal.kept & ~kept).any()
    for region, gone in enumerate(removal.gone, start=1):
        left = removal.kept[removal.labels == region]
        assert not left.any() if gone else left.all()
    assert removal.index[removal.gone].max() <= removal.index[~removal.gone].min()
    assert removal.kept.sum() <= 0.6 * kept.sum() < removal.kept.sum() + region_sizes(removal.labels).max()


def test_the_ends_of_the_rate_and_an_empty_mask():
    weights = np.ones((2, 3, 3))
    kept = np.ones((2, 3, 3), dtype=bool)
    assert remove_regions(weights, kept, rate=0).kept.all()
    assert not remove_regions(weights, kept, rate=1).kept.any()
    assert not remove_regions(weights, ~kept, rate=0.4).kept.any()


def test_a_kept_weight_of_zero_is_part_of_its_region():
    weights = np.array([[[1.0, 0.0, 1.0]]])
    assert label_regions(np.ones((1, 1, 3), dtype=bool)).max() == 1
    assert len(remove_regions(weights, np.ones((1, 1, 3), dtype=bool), rate=0.1).index) == 1
