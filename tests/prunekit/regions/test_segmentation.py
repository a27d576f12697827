import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.segmentation import watershed

from prunekit.errors import ArgumentError
from prunekit.regions.segmentation import Connected, Segmentation, Signed, Watershed

ALL = [Connected, Signed, Watershed]
WEIGHTS = {".": 0.0, "+": 1.0, "-": -1.0, "#": 3.0, "=": -3.0}


def picture(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    """One neuron's weights, drawn: + and - are weak, # and = strong weights, positive and negative; . is removed."""
    weights = np.array([[[WEIGHTS[pixel] for pixel in row] for row in rows]])
    return weights, np.array([[[pixel != "." for pixel in row] for row in rows]])


@st.composite
def layers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Weights and a mask, with and without channels."""
    shape = draw(array_shapes(min_dims=3, max_dims=4, max_side=6))
    # Few values, so that magnitudes tie.
    return draw(arrays(np.float64, shape, elements=st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]))), draw(
        arrays(bool, shape)
    )


SEGMENTATIONS = st.builds(
    lambda kind, connectivity, sigma: kind(sigma, connectivity) if kind is Watershed else kind(connectivity),
    st.sampled_from(ALL),
    st.sampled_from([1, 2]),
    st.sampled_from([0, 0.7, 2.0]),
)


# How many regions each way of cutting finds, counted by hand: sharing an edge, and sharing a corner too.
@pytest.mark.parametrize(
    ("rows", "connected", "signed", "basins"),
    [
        pytest.param(["....", "....", "...."], (0, 0), (0, 0), (0, 0), id="nothing"),
        pytest.param(["+...", "....", "...."], (1, 1), (1, 1), (1, 1), id="one pixel"),
        pytest.param(["....", ".-..", "...."], (1, 1), (1, 1), (1, 1), id="one negative pixel"),
        pytest.param(["++++", "++++", "++++"], (1, 1), (1, 1), (1, 1), id="everything, to every border"),
        pytest.param(["+..+", "....", "+..+"], (4, 4), (4, 4), (4, 4), id="four corners"),
        pytest.param(["+...", ".+..", "..+."], (3, 1), (3, 1), (3, 1), id="diagonal contact"),
        pytest.param(["+...", ".-..", "..+."], (3, 1), (3, 3), (3, 3), id="diagonal contact of opposite signs"),
        pytest.param(["++--", "++--", "...."], (1, 1), (2, 2), (2, 2), id="opposite signs that touch"),
        pytest.param(["+-+-", "-+-+", "+-+-"], (1, 1), (12, 2), (12, 2), id="a chessboard of signs"),
        pytest.param(["#+++#", "....."], (1, 1), (1, 1), (2, 2), id="two peaks in a row"),
        pytest.param(["#+=-=", "....."], (1, 1), (2, 2), (3, 3), id="two peaks of one sign, one of the other"),
        pytest.param(["#.+++.=", "......."], (3, 3), (3, 3), (3, 3), id="a plateau is one peak"),
        pytest.param(["#+.", "++.", "..#"], (2, 1), (2, 1), (2, 2), id="a second peak at a corner"),
    ],
)
def test_regions_counted_by_hand(rows, connected, signed, basins):
    weights, kept = picture(*rows)
    for connectivity in (1, 2):
        kinds = (Connected(connectivity), Signed(connectivity), Watershed(0, connectivity))
        found = [kind(weights, kept).max() for kind in kinds]
        assert found == [counted[connectivity - 1] for counted in (connected, signed, basins)]


def test_basins_meet_where_the_magnitude_is_least():
    weights = np.array([[[1.0, 4.0, 3.0, 2.0, 3.0, 5.0, 1.0]]])
    labels = Watershed(0)(weights, np.ones_like(weights, dtype=bool))
    assert labels[0, 0, [0, 1, 2]].tolist() == [1, 1, 1]
    assert labels[0, 0, [4, 5, 6]].tolist() == [2, 2, 2]
    assert labels[0, 0, 3] in (1, 2)


def test_smoothing_makes_one_basin_of_peaks_that_are_near():
    weights, kept = picture("#+#+....#")
    assert [Watershed(sigma)(weights, kept).max() for sigma in (0, 1.5)] == [3, 2]


@pytest.mark.parametrize("kind", ALL)
def test_a_weight_of_zero_that_is_kept_is_in_a_region(kind):
    assert kind()(np.zeros((1, 2, 2)), np.ones((1, 2, 2), dtype=bool)).tolist() == [[[1, 1], [1, 1]]]
    # Beside a removed weight that lies beside a strong one: no rise may lead away from it.
    apart = np.array([[[0.0, 0.0, 5.0]]]), np.array([[[True, False, True]]])
    assert (Watershed(0) if kind is Watershed else kind())(*apart).tolist() == [[[1, 0, 2]]]


@given(layers(), SEGMENTATIONS)
def test_exactly_what_is_kept_is_in_regions_and_no_region_in_two_images(layer, segmentation):
    weights, kept = layer
    labels = segmentation(weights, kept)
    assert labels.dtype == np.int64
    assert ((labels > 0) == kept).all()
    images = labels.reshape(-1, *labels.shape[-2:])
    seen: list[int] = []
    for image in images:
        new = list(dict.fromkeys(image[image > 0].tolist()))
        assert new == list(range(len(seen) + 1, len(seen) + 1 + len(new)))  # in raster order, and in one image only
        seen += new
    for region in seen:
        image = next(image for image in images if (image == region).any())
        assert label(image == region, connectivity=segmentation.connectivity).max() == 1
        signs = np.sign(weights[labels == region])
        assert isinstance(segmentation, Connected) or not (1 in signs and -1 in signs)


@given(layers(), SEGMENTATIONS)
def test_one_call_finds_what_a_call_for_each_image_finds(layer, segmentation):
    weights, kept = layer
    if isinstance(segmentation, Watershed):  # which is free to choose between peaks that are exactly equal
        weights = weights * np.linspace(1, 1.5, weights.size).reshape(weights.shape)
    labels, offset = segmentation(weights, kept), 0
    images = (-1, 1, *kept.shape[-2:])
    for weight, own, found in zip(*(array.reshape(images) for array in (weights, kept, labels)), strict=True):
        alone = segmentation(weight, own)
        assert (np.where(alone > 0, alone + offset, 0) == found).all()
        offset += alone.max(initial=0)


@given(layers())
def test_each_way_cuts_finer_than_the_one_before(layer):
    coarse, middle, fine = (kind()(*layer) for kind in ALL)
    for rough, smooth in ((coarse, middle), (middle, fine)):
        pairs = {(int(a), int(b)) for a, b in zip(smooth.ravel(), rough.ravel(), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs})  # a fine region lies in one coarse region


def test_basins_are_those_of_a_plain_reading_of_the_method():
    rng = np.random.default_rng(0)
    weights = gaussian_filter(rng.normal(size=(3, 12, 15)), 1, axes=(1, 2))  # no two magnitudes alike
    kept = rng.random(weights.shape) > 0.3
    for image, own, found in zip(weights, kept, Watershed(sigma=0.8)(weights, kept), strict=True):
        for here in (own & (image >= 0), own & (image < 0)):
            height = gaussian_filter(np.where(here, abs(image), 0), 0.8, mode="constant")
            padded = np.pad(np.where(here, height, -1), 1, constant_values=-1)
            around = [padded[1 + dy : 13 + dy, 1 + dx : 16 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
            peaks = here & np.all([height > neighbour for neighbour in around], axis=0)
            basins = watershed(-height, label(peaks, connectivity=1), mask=here)
            pairs = set(zip(basins[here].tolist(), found[here].tolist(), strict=True))
            assert len(pairs) == peaks.sum() == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_neurons_and_channels_never_join_although_their_borders_touch_in_the_stack():
    ones = np.ones((2, 3, 2, 2))
    for kind in ALL:
        assert kind(connectivity=2)(ones, ones > 0).ravel().tolist() == np.repeat(np.arange(1, 7), 4).tolist()
    assert label(ones[0] > 0).max() == 1  # what a naive call does


def test_wrong_input_is_refused():
    ones = np.ones((1, 2, 2))
    with pytest.raises(ValueError, match=r"got float64 .* and float64"):
        Connected()(ones, ones)
    with pytest.raises(ValueError, match=r"of one shape \(N, \[channels,\] H, W\)"):
        Signed()(np.ones((1, 2, 3)), ones > 0)
    with pytest.raises(ValueError, match="of one shape"):
        Connected()(ones[0], ones[0] > 0)
    with pytest.raises(ValueError, match="a kept weight is not finite"):
        Watershed()(ones * np.nan, ones > 0)
    assert Watershed()(np.array([[[np.nan, 1.0]]]), np.array([[[False, True]]])).tolist() == [[[0, 1]]]
    with pytest.raises(ArgumentError, match=r"^connectivity: got 3; accepted: one of 1, 2"):
        Signed(3)
    for sigma in (-1, True, float("nan"), "1"):
        with pytest.raises(ArgumentError, match=r"^sigma: got"):
            Watershed(sigma)


def test_somebody_elses_way_of_cutting_has_the_same_contract():
    class Rows(Segmentation):
        """Every row is a region."""

        def cut(self, weights, kept):
            rows = np.arange(kept[..., 0].size, 0, -1).reshape(kept.shape[:2])
            return np.where(kept, rows[..., None], 0)

    assert Rows()(np.ones((1, 2, 2)), np.ones((1, 2, 2), dtype=bool)).tolist() == [[[1, 1], [2, 2]]]


@pytest.mark.parametrize("numbers", [[[3, 3]], [[1, 0]], [[2, 2]]])
def test_a_way_of_cutting_that_breaks_the_contract_is_noticed(numbers):
    class Wrong(Segmentation):
        """Leaves out a number or a kept weight."""

        def cut(self, weights, kept):
            return np.array([numbers])

    with pytest.raises(RuntimeError, match=r"Wrong\.cut leaves out"):
        Wrong()(np.ones((1, 1, 2)), np.ones((1, 1, 2), dtype=bool))
