"""Magnitude and saliency of groups, against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.magnitude import REDUCTIONS, Magnitude
from prunekit.criteria.saliency import Saliency
from prunekit.errors import ArgumentError
from prunekit.groups import Groups
from prunekit.masks import Mask
from prunekit.regions.grouping import Regions
from prunekit.regions.segmentation import Connected

MEASURES = {"mean": np.mean, "sum": np.sum, "max": np.max}


def layer_of(weights):
    """A linear layer whose rows are these images."""
    rows = torch.as_tensor(weights).flatten(1)
    layer = nn.Linear(rows.shape[1], len(rows)).to(rows.dtype)
    with torch.no_grad():
        layer.weight.copy_(rows)
    return layer


@pytest.mark.parametrize("shape", [(5, 6, 7), (4, 2, 6, 7)])
@pytest.mark.parametrize("name", [*REDUCTIONS, "saliency"])
def test_the_score_is_that_measure_of_each_regions_weights(name, shape):
    rng = np.random.default_rng(0)
    weights, saliency = rng.normal(size=shape).astype(np.float32), rng.random(shape)
    kept = rng.random(shape) > 0.5
    labels = Connected()(weights, kept)
    values, measure = (saliency, np.mean) if name == "saliency" else (abs(weights.astype(float)), MEASURES[name])
    expected = [measure(values[labels == region]) for region in range(1, labels.max() + 1)]
    layer, criterion = layer_of(weights), Saliency() if name == "saliency" else Magnitude(name)
    groups = Regions("weight", shape[1:])(layer, Mask({"weight": torch.from_numpy(kept).flatten(1)}))
    seen = Seen(saliency={"weight": torch.from_numpy(saliency).flatten(1)})
    np.testing.assert_allclose(criterion.scores(layer, groups, seen).values, expected, rtol=1e-12)


def groups_of(numbers):
    numbers = torch.tensor(numbers)
    sizes = torch.bincount(numbers[numbers >= 0])
    return Groups({"weight": numbers}, sizes, torch.zeros_like(sizes), torch.zeros(len(sizes), dtype=torch.bool))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ArgumentError, match=r"^reduction: got 'median'; accepted: one of 'mean', 'sum', 'max'"):
        Magnitude("median")
    with pytest.raises(RuntimeError, match="expand"):
        groups_of([[0, 0], [0, 0]]).reduce({"weight": torch.ones(2, 3)})
    outside = layer_of(np.array([[float("nan"), 1.0]]))
    for reduction in REDUCTIONS:
        assert Magnitude(reduction).scores(outside, groups_of([[-1, 0]]), Seen()).values.tolist() == [1.0]


def test_no_groups_have_no_scores():
    layer, none = layer_of(np.ones((1, 4))), groups_of([[-1, -1, -1, -1]])
    for reduction in REDUCTIONS:
        assert Magnitude(reduction).scores(layer, none, Seen()).values.shape == (0,)
    assert Saliency().scores(layer, none, Seen(saliency={"weight": torch.ones(1, 4)})).values.shape == (0,)
