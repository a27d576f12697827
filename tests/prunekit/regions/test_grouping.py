"""Rounds of region pruning: what goes is whole regions, the lowest first."""

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.magnitude import Magnitude
from prunekit.criteria.saliency import Saliency
from prunekit.errors import ArgumentError
from prunekit.masks import Mask
from prunekit.pruning import prune
from prunekit.regions.grouping import Regions
from prunekit.regions.labels import region_sizes
from prunekit.regions.segmentation import Connected, Signed, Watershed
from prunekit.selection import select


def layer_of(weights):
    rows = torch.from_numpy(weights).flatten(1)
    layer = nn.Linear(rows.shape[1], len(rows))
    with torch.no_grad():
        layer.weight.copy_(rows)
    return layer


def one_round(weights, kept, rate, segmentation=None, reduction="mean", of="weights", **arguments):
    mask = Mask({"weight": torch.from_numpy(kept).flatten(1)})
    regions = Regions("weight", weights.shape[1:], segmentation)
    return prune(layer_of(weights), regions, Magnitude(reduction), rate, of=of, mask=mask, **arguments)


@pytest.mark.parametrize("kind", [Connected(2), Signed(), Watershed()])
@pytest.mark.parametrize("shape", [(8, 9, 9), (8, 3, 5, 7)])
def test_a_round_keeps_a_subset_made_of_whole_regions(kind, shape):
    rng = np.random.default_rng(1)
    weights, kept = rng.normal(size=shape).astype(np.float32), rng.random(shape) > 0.5
    pruned = one_round(weights, kept, 0.4, kind)
    left, labels = pruned.mask["weight"].view(shape).numpy(), pruned.groups.numbers["weight"].view(shape).numpy() + 1
    assert not (left & ~kept).any()
    assert (labels == kind(weights, kept)).all()
    for region, gone in enumerate(pruned.goes, start=1):
        assert not left[labels == region].any() if gone else left[labels == region].all()
    index = pruned.scores.values
    assert index[pruned.goes].max() <= index[~pruned.goes].min()
    assert left.sum() <= 0.6 * kept.sum() < left.sum() + region_sizes(labels).max()
    neurons = [n for n, rows in enumerate(labels) for _ in range(len(np.unique(rows[rows > 0])))]
    assert pruned.groups.within.tolist() == neurons


# Two neurons: the strong one has a small weak region and a large strong one, the weak one two weak ones.
WEIGHTS = np.array([[[2.0, 0.0, 5.0, 5.0]], [[1.0, 0.0, 0.5, 0.6]]])


def test_the_arguments_reach_what_they_are_for():
    def left(rate, reduction="mean", **arguments):
        pruned = one_round(WEIGHTS, WEIGHTS != 0, rate, reduction=reduction, **arguments)
        return pruned.mask["weight"].int().tolist()

    assert left(0.5) == [[1, 0, 1, 1], [0, 0, 0, 0]]
    assert left(0.3, "sum") == [[1, 0, 1, 1], [0, 0, 0, 0]]
    assert left(0.1) == [[1, 0, 1, 1], [1, 0, 0, 0]]
    assert left(0.1, "sum") == [[1, 0, 1, 1], [0, 0, 1, 1]]
    assert left(0.5, scope="within") == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert left(0.5, floor=True) == [[0, 0, 1, 1], [1, 0, 0, 0]]
    assert left(0.2, of="groups") == [[1, 0, 1, 1], [1, 0, 0, 0]]


def test_a_saliency_reaches_what_it_is_for():
    layer, mask = layer_of(WEIGHTS), Mask({"weight": torch.from_numpy(WEIGHTS != 0).flatten(1)})
    groups = Regions("weight", [1, 4])(layer, mask)
    seen = Seen(saliency={"weight": 1 / (1 + torch.from_numpy(WEIGHTS).flatten(1))})
    scores = Saliency().scores(layer, groups, seen).values
    kept = groups.remove(select(scores, groups.sizes, 0.1, within=groups.within, of="weights"), mask)
    assert kept["weight"].int().tolist() == [[1, 0, 0, 0], [1, 0, 1, 1]]


def test_the_ends_of_the_rate_and_an_empty_mask():
    weights, kept = np.ones((2, 3, 3), dtype=np.float32), np.ones((2, 3, 3), dtype=bool)
    for scope in ("all", "within"):
        assert one_round(weights, kept, 0, scope=scope).mask["weight"].all()
        assert not one_round(weights, kept, 1, scope=scope).mask["weight"].any()
        for floor in (False, True):
            assert not one_round(weights, ~kept, 0.4, scope=scope, floor=floor).mask["weight"].any()


def test_saliency_is_seen_over_all_batches():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3))
    x, y = torch.randn(11, 6), torch.arange(11) % 3
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for sample, target in zip(x, y, strict=True):
        loss = nn.functional.cross_entropy(net(sample[None]), target[None])
        expected += (net[0].weight * torch.autograd.grad(loss, net[0].weight)[0]).abs().detach() / 11
    batches = list(zip(x.split(4), y.split(4), strict=True))
    pruned = prune(net, Regions("0.weight", [2, 3]), Saliency(), 0.3, batches, of="weights")
    numbers = pruned.groups.numbers["0.weight"]
    means = torch.stack([expected[numbers == region].mean() for region in range(len(pruned.goes))])
    assert torch.allclose(pruned.scores.values, means, rtol=1e-5)


@pytest.mark.parametrize("shape", [[2], [1, 2, 3, 4], [2, -3], [2.0, 3], [True, 6], []])
def test_what_is_no_shape_of_images_is_refused(shape):
    with pytest.raises(ArgumentError, match=r"^image_shape: got .*; accepted: \[height, width\]"):
        Regions("weight", shape)


@pytest.mark.parametrize(
    ("regions", "criterion", "message"),
    [
        (Regions("0.wieght", [2, 3]), Magnitude(), r"^parameter: got '0\.wieght'; accepted: .*nearest: 0\.weight"),
        (Regions("0.weight", [2, 2]), Magnitude(), r"^image_shape: got .*; accepted: height \* width = 6"),
        (Regions("0.weight", [1, 2, 2]), Magnitude(), r"^image_shape: .*; accepted: channels \* height \* width = 6"),
        (Regions("0.bias", [2, 2]), Magnitude(), r"^image_shape: got .*; accepted: a matrix, a row a neuron"),
        (Regions("0.weight", [2, 3]), Entropy(), r"^criterion: got 'outputs with 0\.weight'; accepted: one of weights"),
        (Regions("1.weight", [2, 2]), Saliency(), r"^criterion: .*or saliency of the weight of an nn\.Linear"),
    ],
)
def test_what_does_not_fit_is_refused(regions, criterion, message):
    net = nn.Sequential(nn.Linear(6, 4), nn.Conv2d(1, 2, 2))
    with pytest.raises(ArgumentError, match=message):
        prune(net, regions, criterion, 0.5, [])
