import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from prunekit.regions.labels import in_raster_order, region_neurons, region_sizes
from prunekit.regions.segmentation import Connected

KEPT = arrays(bool, array_shapes(min_dims=3, max_dims=4, max_side=5))


@given(KEPT)
def test_sizes_add_up(kept):
    sizes = region_sizes(Connected()(kept.astype(float), kept))
    assert sizes.sum() == kept.sum()
    assert (sizes > 0).all()


@given(KEPT)
def test_every_region_is_of_the_neuron_it_lies_in(kept):
    labels = Connected()(kept.astype(float), kept)
    neurons = region_neurons(labels)
    assert len(neurons) == labels.max(initial=0)
    for region, neuron in enumerate(neurons, start=1):
        assert (labels[neuron] == region).sum() == (labels == region).sum() > 0


@given(KEPT, st.randoms(use_true_random=False))
def test_the_order_of_the_numbers_given_does_not_matter(kept, random):
    labels = Connected()(kept.astype(float), kept)
    numbers = list(range(1, labels.max(initial=0) + 1))
    random.shuffle(numbers)
    assert (in_raster_order(np.array([0, *numbers])[labels]) == labels).all()


def test_no_regions_at_all():
    nothing = np.zeros((2, 3, 3), dtype=np.int64)
    assert in_raster_order(nothing).max() == 0
    assert region_sizes(nothing).shape == region_neurons(nothing).shape == (0,)
