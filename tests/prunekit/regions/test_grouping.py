import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prunekit.regions.removal import lowest_regions, remove_regions

from prunekit.masks import exact_count
from prunekit.regions.labels import region_sizes
from prunekit.regions.segmentation import Connected, Signed, Watershed

# Index, size and neuron of each region; regions are numbered neuron by neuron.
REGIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=25).map(
    lambda regions: sorted(regions, key=lambda region: region[2])
)


def columns(regions):
    index, sizes, neurons = (np.array(column) for column in zip(*regions, strict=True))
    return index.astype(float), sizes, neurons


def one_by_one(index, sizes, neurons, percent, scope, floor):
    """The rule as a loop: regions go in (index, label) order until the weights removed first reach the rate."""
    gone = set()
    for group in [set(neurons)] if scope == "global" else [{neuron} for neuron in neurons]:
        order = [int(r) for r in sorted(range(len(index)), key=lambda r: (index[r], r)) if neurons[r] in group]
        goal, removed = percent * sum(int(sizes[r]) for r in order), 0
        best = {neurons[r]: r for r in order}  # the last of each neuron
        for region in order:
            if removed * 100 >= goal:
                break
            if not (floor and best[neurons[region]] == region):
                gone.add(region)
                removed += int(sizes[region])
    return gone


@given(REGIONS, st.integers(0, 100), st.sampled_from(["global", "neuron"]), st.booleans())
def test_whole_regions_go_in_order_until_the_weights_first_reach_the_rate(regions, percent, scope, floor):
    index, sizes, neurons = columns(regions)
    gone = lowest_regions(index, sizes, neurons, percent / 100, scope=scope, floor=floor)
    assert set(np.flatnonzero(gone).tolist()) == one_by_one(index, sizes, neurons, percent, scope, floor)
    if not floor:
        for group in [neurons >= 0] if scope == "global" else [neurons == neuron for neuron in set(neurons)]:
            removed, last = sizes[group & gone].sum(), sizes[group].max()
            assert percent / 100 * sizes[group].sum() <= removed + 1e-9
            assert removed < percent / 100 * sizes[group].sum() + last


@given(REGIONS, st.floats(0, 1), st.sampled_from(["weights", "regions"]), st.sampled_from(["global", "neuron"]))
def test_the_floor_leaves_each_neuron_its_best_region(regions, rate, of, scope):
    index, sizes, neurons = columns(regions)
    gone = lowest_regions(index, sizes, neurons, rate, of, scope, floor=True)
    for neuron in set(neurons):
        own = neurons == neuron
        assert index[own & ~gone].max() == index[own].max()
    assert lowest_regions(index, sizes, neurons, 1.0, of, scope, floor=True).sum() == len(index) - len(set(neurons))
    assert lowest_regions(index, sizes, neurons, 1.0, of, scope).all()


@given(REGIONS, st.floats(0, 1))
def test_counting_regions_removes_exactly_that_many(regions, rate):
    index, sizes, neurons = columns(regions)
    gone = lowest_regions(index, sizes, neurons, rate, of="regions")
    assert gone.sum() == exact_count(rate, len(index))
    assert gone.all() or not gone.any() or index[gone].max() <= index[~gone].min()
    by_neuron = lowest_regions(index, sizes, neurons, rate, of="regions", scope="neuron")
    for neuron in set(neurons):
        assert by_neuron[neurons == neuron].sum() == exact_count(rate, int((neurons == neuron).sum()))


def test_a_rate_that_is_no_binary_fraction_is_met_exactly():
    index, sizes, neurons = np.arange(20.0), np.full(20, 5), np.zeros(20, dtype=int)
    assert 0.55 * 100 > 55  # the float product overshoots and would take a region too many
    assert sizes[lowest_regions(index, sizes, neurons, 0.55)].sum() == 55


def test_wrong_input_is_refused():
    one = np.array([1.0]), np.array([1]), np.array([0])
    with pytest.raises(ValueError, match="rate is a share"):
        lowest_regions(*one, rate=1.1)
    with pytest.raises(ValueError, match="of is one of"):
        lowest_regions(*one, rate=0.5, of="neurons")
    with pytest.raises(ValueError, match="scope is one of"):
        lowest_regions(*one, rate=0.5, scope="layer")
    with pytest.raises(ValueError, match=r"are not \(R,\) each"):
        lowest_regions(np.ones(2), np.ones(3, dtype=int), np.ones(2, dtype=int), rate=0.5)


@pytest.mark.parametrize("kind", [Connected(2), Signed(), Watershed()])
@pytest.mark.parametrize("shape", [(8, 9, 9), (8, 3, 5, 7)])
def test_a_round_keeps_a_subset_made_of_whole_regions(kind, shape):
    rng = np.random.default_rng(1)
    weights, kept = rng.normal(size=shape), rng.random(shape) > 0.5
    removal = remove_regions(weights, kept, rate=0.4, segmentation=kind)
    assert not (removal.kept & ~kept).any()
    assert (removal.labels == kind(weights, kept)).all()
    for region, gone in enumerate(removal.gone, start=1):
        left = removal.kept[removal.labels == region]
        assert not left.any() if gone else left.all()
    assert removal.index[removal.gone].max() <= removal.index[~removal.gone].min()
    assert removal.kept.sum() <= 0.6 * kept.sum() < removal.kept.sum() + region_sizes(removal.labels).max()


def test_the_arguments_reach_what_they_are_for():
    # Two neurons: the strong one has a small weak region and a large strong one, the weak one two weak ones.
    weights = np.array([[[2.0, 0.0, 5.0, 5.0]], [[1.0, 0.0, 0.5, 0.6]]])
    kept = weights != 0

    def left(rate, **arguments):
        return remove_regions(weights, kept, rate, **arguments).kept[:, 0].astype(int).tolist()

    assert left(0.5) == [[1, 0, 1, 1], [0, 0, 0, 0]]
    assert left(0.3, index="sum") == [[1, 0, 1, 1], [0, 0, 0, 0]]
    assert left(0.1) == [[1, 0, 1, 1], [1, 0, 0, 0]]
    assert left(0.1, index="sum") == [[1, 0, 1, 1], [0, 0, 1, 1]]
    assert left(0.5, scope="neuron") == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert left(0.5, floor=True) == [[0, 0, 1, 1], [1, 0, 0, 0]]
    assert left(0.1, index="saliency", saliency=1 / (1 + weights)) == [[1, 0, 0, 0], [1, 0, 1, 1]]
    assert left(0.2, of="regions") == [[1, 0, 1, 1], [1, 0, 0, 0]]


def test_the_ends_of_the_rate_and_an_empty_mask():
    weights = np.ones((2, 3, 3))
    kept = np.ones((2, 3, 3), dtype=bool)
    for scope in ("global", "neuron"):
        assert remove_regions(weights, kept, rate=0, scope=scope).kept.all()
        assert not remove_regions(weights, kept, rate=1, scope=scope).kept.any()
        for floor in (False, True):
            assert not remove_regions(weights, ~kept, rate=0.4, scope=scope, floor=floor).kept.any()
