"""What region pruning leaves of each neuron, and the two groups the method's authors count."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from prunekit.regions.labels import region_sizes

MOSTLY_REMOVED = 0.9
MOSTLY_KEPT = 0.4
UPPER = 0.9  # quantile


def neuron_rates(kept: NDArray[np.bool_], base: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """The removed share of each neuron's weights.

    Args:
        kept: ``(N, ...)`` bool, the mask.
        base: ``(N, ...)`` bool, the weights to count over; all of them by default. With the mask that an L2
            mask left, the rates are those of region pruning alone.

    Returns:
        ``(N,)`` float64 in [0, 1]; NaN for a neuron with nothing to count.

    Example:
        >>> neuron_rates(np.array([[True, False, False, False]]))
        array([0.75])
        >>> neuron_rates(np.array([[True, False, False, False]]), np.array([[True, True, False, False]]))
        array([0.5])
    """
    axes = tuple(range(1, kept.ndim))
    base = np.ones_like(kept) if base is None else base
    total = base.sum(axis=axes)
    with np.errstate(invalid="ignore"):
        return np.asarray((base & ~kept).sum(axis=axes) / total, dtype=np.float64)


class Groups(TypedDict):
    """Shares of neurons, in [0, 1]."""

    at_least_90: float
    at_most_40: float


def neuron_groups(rates: NDArray[np.float64]) -> Groups:
    """The share of neurons with at least 90 % and with at most 40 % of their weights removed.

    Neurons with nothing to count (NaN) are in neither group but count in the total.

    Example:
        >>> neuron_groups(np.array([0.95, 0.9, 0.5, 0.4]))
        {'at_least_90': 0.5, 'at_most_40': 0.25}
    """
    total = max(len(rates), 1)
    removed, kept = (int(group.sum()) / total for group in (rates >= MOSTLY_REMOVED, rates <= MOSTLY_KEPT))
    return {"at_least_90": removed, "at_most_40": kept}


class NeuronSummary(Groups):
    """What ``results.json`` says of the neurons of a layer."""

    count: int
    alive: int
    median_area: float
    upper_area: float
    of_survivors: Groups
    regions: int
    median_region: float


def summarise_neurons(kept: NDArray[np.bool_], base: NDArray[np.bool_], labels: NDArray[np.int64]) -> NeuronSummary:
    """Sum up what a mask leaves of a layer's neurons.

    Args:
        kept: ``(N, ...)`` bool, the mask.
        base: ``(N, ...)`` bool, what was kept before the first region was removed.
        labels: ``(N, ...)`` int64, the regions, as they were when the last were removed.

    Returns:
        The two groups counted over all weights and over ``base``; how many neurons there are and how many keep
        at least one weight; the shares of the image that living neurons keep, their median and their 90th
        percentile (0 if none lives), for a few neurons may keep much while most keep next to nothing; how many regions
        are left, and the median number of weights in one (0 if none is).

    Example:
        >>> kept = np.array([[True, False], [False, False]])
        >>> found = summarise_neurons(kept, np.ones_like(kept), kept.astype(int))
        >>> found["alive"], found["regions"], found["median_region"]
        (1, 1, 1.0)
    """
    sizes = region_sizes(np.where(kept, labels, 0))
    sizes = sizes[sizes > 0]
    rates = neuron_rates(kept)
    areas = 1 - rates[rates < 1]
    return {
        **neuron_groups(rates),
        "count": len(rates),
        "alive": len(areas),
        "median_area": float(np.median(areas)) if len(areas) else 0.0,
        "upper_area": float(np.quantile(areas, UPPER)) if len(areas) else 0.0,
        "of_survivors": neuron_groups(neuron_rates(kept, base)),
        "regions": len(sizes),
        "median_region": float(np.median(sizes)) if len(sizes) else 0.0,
    }
