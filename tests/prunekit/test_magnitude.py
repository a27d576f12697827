import numpy as np
import pytest
from prunekit.regions.index import INDICES, region_index

from prunekit.regions.segmentation import Connected

MEASURES = {"mean": np.mean, "sum": np.sum, "max": np.max}


@pytest.mark.parametrize("shape", [(5, 6, 7), (4, 2, 6, 7)])
@pytest.mark.parametrize("name", INDICES)
def test_the_index_is_that_measure_of_each_regions_weights(name, shape):
    rng = np.random.default_rng(0)
    weights, saliency = rng.normal(size=shape).astype(np.float32), rng.random(shape)
    labels = Connected()(weights, rng.random(shape) > 0.5)
    values, measure = (saliency, np.mean) if name == "saliency" else (abs(weights.astype(float)), MEASURES[name])
    expected = [measure(values[labels == region]) for region in range(1, labels.max() + 1)]
    np.testing.assert_allclose(region_index(name, labels, weights, saliency), expected, rtol=1e-12)


def test_what_cannot_be_ranked_is_refused():
    labels = np.ones((1, 2, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="index is one of"):
        region_index("median", labels, np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="differ in shape"):
        region_index("mean", labels, np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="values None differ in shape"):
        region_index("saliency", labels, np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="not finite"):
        region_index("max", labels, np.full((1, 2, 2), np.nan))
    outside = np.array([[[np.nan, 1.0]]])
    assert region_index("mean", np.array([[[0, 1]]]), outside).tolist() == [1.0]


def test_no_regions_have_no_index():
    for name in INDICES:
        assert region_index(name, np.zeros((1, 2, 2), dtype=int), *np.ones((2, 1, 2, 2))).shape == (0,)
