"""Which regions go: whole regions, lowest index first, until the rate is reached."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from prunekit.masks import exact_count
from prunekit.regions.index import region_index
from prunekit.regions.labels import region_neurons, region_sizes
from prunekit.regions.segmentation import Connected, Segmentation

COUNTED = ("weights", "regions")
SCOPES = ("global", "neuron")


def lowest_regions(
    index: NDArray[np.float64],
    sizes: NDArray[np.int64],
    neurons: NDArray[np.int64],
    rate: float,
    of: str = "weights",
    scope: str = "global",
    floor: bool = False,
) -> NDArray[np.bool_]:
    """Choose the regions to remove, in (index, label) order.

    ``of="weights"``: regions go until the weights removed first reach ``rate`` times all weights in regions; the
    overshoot is less than the last region. ``of="regions"``: exactly ``round(rate * R)`` regions go. By scope
    ``neuron`` this holds for each neuron by itself. With ``floor`` each neuron keeps the last of its regions in that
    order, even where the rate is then not reached.

    Args:
        index: ``(R,)`` float64, the regions' index.
        sizes: ``(R,)`` int64, the regions' number of weights.
        neurons: ``(R,)`` int64, which neuron each is of.
        rate: the share to remove, in [0, 1].
        of: what the rate counts, ``weights`` or ``regions``.
        scope: among what regions are ranked, the ``global`` ones of all neurons together or those of each ``neuron``.
        floor: whether every neuron that has regions keeps one.

    Returns:
        ``(R,)`` bool, True = goes.

    Raises:
        ValueError: if the shapes differ, the rate is outside [0, 1], or ``of`` or ``scope`` is unknown.

    Example:
        >>> index, sizes, neurons = np.array([3.0, 1.0, 2.0]), np.array([5, 1, 4]), np.array([0, 1, 1])
        >>> lowest_regions(index, sizes, neurons, rate=0.2)
        array([False,  True,  True])
        >>> lowest_regions(index, sizes, neurons, rate=0.2, scope="neuron")
        array([ True,  True, False])
        >>> lowest_regions(index, sizes, neurons, rate=0.2, floor=True)
        array([False,  True, False])
    """
    if not index.shape == sizes.shape == neurons.shape or index.ndim != 1:
        raise ValueError(f"index {index.shape}, sizes {sizes.shape}, neurons {neurons.shape} are not (R,) each")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a share in [0, 1], got {rate}")
    for name, value, choices in (("of", of, COUNTED), ("scope", scope, SCOPES)):
        if value not in choices:
            raise ValueError(f"{name} is one of {choices}, got {value!r}")
    stays = _last_of_each(index, neurons) if floor else np.zeros(len(index), dtype=bool)
    groups = neurons if scope == "neuron" else np.zeros_like(neurons)
    counts = sizes if of == "weights" else np.ones_like(sizes)
    # Those that have to stay come last of their group. All is in whole numbers, so that no rate is off by a rounding.
    order = np.lexsort((np.arange(len(index)), index, stays, groups))
    totals = np.bincount(groups, counts).astype(np.int64)
    share = Fraction(str(rate))
    goals = [math.ceil(share * total) if of == "weights" else exact_count(rate, total) for total in totals.tolist()]
    before = np.cumsum(counts[order]) - counts[order] - (np.cumsum(totals) - totals)[groups[order]]
    gone = np.zeros(len(index), dtype=bool)
    gone[order] = before < np.array(goals, dtype=np.int64)[groups[order]]
    return gone & ~stays


def _last_of_each(index: NDArray[np.float64], neurons: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Each neuron's region of the highest index, of equals the one with the highest label."""
    order = np.lexsort((np.arange(len(index)), index, neurons))
    last = np.ones(len(order), dtype=bool)
    last[:-1] = neurons[order][1:] != neurons[order][:-1]
    found = np.zeros(len(index), dtype=bool)
    found[order[last]] = True
    return found


@dataclass(frozen=True)
class RegionRemoval:
    """The regions of a layer and what becomes of them.

    Attributes:
        labels: ``(N, ...)`` int64, the regions before the removal; 0 = in none.
        index: ``(R,)`` float64, their index.
        gone: ``(R,)`` bool, True = removed.
        kept: ``(N, ...)`` bool, the mask after the removal.
    """

    labels: NDArray[np.int64]
    index: NDArray[np.float64]
    gone: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def remove_regions(
    weights: NDArray[np.floating],
    kept: NDArray[np.bool_],
    rate: float,
    of: str = "weights",
    segmentation: Segmentation | None = None,
    index: str = "mean",
    scope: str = "global",
    floor: bool = False,
    saliency: NDArray[np.floating] | None = None,
) -> RegionRemoval:
    """One round of region pruning: cut into regions, rank them, remove the lowest.

    Args:
        weights: ``(N, H, W)`` or ``(N, channels, H, W)`` real, the neurons' weight images.
        kept: bool, of that shape, the mask so far: only what it keeps is in a region.
        rate: the share to remove of what ``kept`` still keeps, in [0, 1].
        of: what the rate counts, ``weights`` or ``regions``.
        segmentation: how regions are made; :class:`~prunekit.regions.segmentation.Connected` by default.
        index: by what they are ranked, as :func:`~prunekit.regions.index.region_index` has it.
        scope: among what they are ranked, ``global`` or ``neuron``.
        floor: whether every neuron that has regions keeps one.
        saliency: of the weights' shape; for ``index="saliency"``.

    Returns:
        The regions, their index and the new mask, a subset of ``kept``.

    Example:
        >>> weights = np.array([[[4.0, 0.0, 1.0], [4.0, 0.0, 1.0]]])
        >>> remove_regions(weights, weights != 0, rate=0.5).kept.astype(int).tolist()
        [[[1, 0, 0], [1, 0, 0]]]
    """
    labels = (segmentation or Connected())(weights, kept)
    values = region_index(index, labels, weights, saliency)
    gone = lowest_regions(values, region_sizes(labels), region_neurons(labels), rate, of, scope, floor)
    stays = np.concatenate([[False], ~gone])
    return RegionRemoval(labels, values, gone, stays[labels])
