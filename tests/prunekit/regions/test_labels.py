import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label

from prunekit.regions.labels import label_regions, region_sizes

KEPT = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7))


def picture(*rows: str) -> np.ndarray:
    """One neuron's mask, drawn: # is kept."""
    return np.array([[[pixel == "#" for pixel in row] for row in rows]])


@pytest.mark.parametrize(
    ("rows", "shared_edge", "shared_corner"),
    [
        (["....", "....", "...."], 0, 0),
        (["####", "####", "####"], 1, 1),
        (["#...", "....", "...."], 1, 1),
        (["#...", ".#..", "..#."], 3, 1),
        (["#..#", "....", "#..#"], 4, 4),
        (["##..", "#..#", "..##"], 2, 2),
        (["##.#", "#.#.", ".###"], 3, 1),
    ],
)
def test_regions_counted_by_hand(rows, shared_edge, shared_corner):
    assert label_regions(picture(*rows), 1).max() == shared_edge
    assert label_regions(picture(*rows), 2).max() == shared_corner


def test_neurons_never_join_although_their_borders_touch_in_the_stack():
    assert label_regions(np.ones((3, 2, 2), dtype=bool), 2).tolist() == [[[n, n], [n, n]] for n in (1, 2, 3)]
    assert label(np.ones((3, 2, 2), dtype=bool)).max() == 1  # what a naive call does


@given(KEPT, st.sampled_from([1, 2]))
def test_one_call_finds_what_one_call_a_neuron_finds(kept, connectivity):
    labels = label_regions(kept, connectivity)
    assert labels.shape == kept.shape
    assert ((labels > 0) == kept).all()
    offset = 0
    for neuron, found in zip(kept, labels, strict=True):
        alone = label(neuron, connectivity=connectivity)
        assert (np.where(alone > 0, alone + offset, 0) == found).all()
        offset += alone.max()


@given(KEPT)
def test_sizes_add_up(kept):
    sizes = region_sizes(label_regions(kept))
    assert sizes.sum() == kept.sum()
    assert (sizes > 0).all()


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"\(N, H, W\) bool array, got float64"):
        label_regions(np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="got bool of shape"):
        label_regions(np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="connectivity is 1 or 2, got 3"):
        label_regions(np.ones((1, 2, 2), dtype=bool), 3)
