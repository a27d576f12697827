"""Which regions go: whole regions, lowest index first, until the rate is reached."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from prunekit.masks import exact_count
from prunekit.regions.index import mean_magnitude
from prunekit.regions.labels import label_regions, region_sizes

COUNTED = ("weights", "regions")


def lowest_regions(
    index: NDArray[np.float64], sizes: NDArray[np.int64], rate: float, of: str = "weights"
) -> NDArray[np.bool_]:
    """Choose the regions to remove, in (index, label) order.

    ``of="weights"``: regions go until the weights removed first reach ``rate`` times all weights in regions; the
    overshoot is less than the last region. ``of="regions"``: exactly ``round(rate * R)`` regions go.

    Args:
        index: ``(R,)`` float64, the regions' index.
        sizes: ``(R,)`` int64, the regions' number of weights.
        rate: the share to remove, in [0, 1].
        of: what the rate counts, ``weights`` or ``regions``.

    Returns:
        ``(R,)`` bool, True = goes.

    Raises:
        ValueError: if the shapes differ, the rate is outside [0, 1] or ``of`` is unknown.

    Example:
        >>> lowest_regions(np.array([3.0, 1.0, 2.0]), np.array([5, 1, 4]), rate=0.2)
        array([False,  True,  True])
        >>> lowest_regions(np.array([3.0, 1.0, 2.0]), np.array([5, 1, 4]), rate=0.33, of="regions")
        array([False,  True, False])
    """
    if index.shape != sizes.shape or index.ndim != 1:
        raise ValueError(f"index {index.shape} and sizes {sizes.shape} are not (R,) and (R,)")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a share in [0, 1], got {rate}")
    order = np.argsort(index, kind="stable")  # stable: ties go by label
    if of == "weights":
        goal = Fraction(str(rate)) * int(sizes.sum())
        reached = np.cumsum(sizes[order])
        # Regions that leave the goal still unmet, plus the one that meets it.
        count = int(np.searchsorted(reached, math.ceil(goal))) + 1 if goal > 0 else 0
    elif of == "regions":
        count = exact_count(rate, len(index))
    else:
        raise ValueError(f"of is one of {COUNTED}, got {of!r}")
    gone = np.zeros(len(index), dtype=bool)
    gone[order[:count]] = True
    return gone


@dataclass(frozen=True)
class RegionRemoval:
    """The regions of a layer and what becomes of them.

    Attributes:
        labels: ``(N, H, W)`` int64, the regions before the removal; 0 = in none.
        index: ``(R,)`` float64, their index.
        gone: ``(R,)`` bool, True = removed.
        kept: ``(N, H, W)`` bool, the mask after the removal.
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
    connectivity: int = 1,
) -> RegionRemoval:
    """One round of region pruning: label, rank by mean magnitude over all neurons, remove the lowest.

    Args:
        weights: ``(N, H, W)`` real, the neurons' weight images.
        kept: ``(N, H, W)`` bool, the mask so far, which alone says what a region is made of.
        rate: the share to remove of what ``kept`` still keeps, in [0, 1].
        of: what the rate counts, ``weights`` or ``regions``.
        connectivity: 1 (shared edge) or 2 (shared corner too).

    Returns:
        The regions, their index and the new mask, a subset of ``kept``.

    Example:
        >>> weights = np.array([[[4.0, 0.0, 1.0], [4.0, 0.0, 1.0]]])
        >>> remove_regions(weights, weights != 0, rate=0.5).kept.astype(int).tolist()
        [[[1, 0, 0], [1, 0, 0]]]
    """
    labels = label_regions(kept, connectivity)
    index = mean_magnitude(weights, labels)
    gone = lowest_regions(index, region_sizes(labels), rate, of)
    stays = np.concatenate([[False], ~gone])
    return RegionRemoval(labels, index, gone, stays[labels])
