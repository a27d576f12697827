"""One round of region pruning by plain loops, to compare what the callback does with."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from prunekit.regions.segmentation import Connected


class Removal(NamedTuple):
    """The regions before, numbered from 1, which of them went, and what was kept after."""

    labels: np.ndarray
    gone: np.ndarray
    kept: np.ndarray


def remove_regions(
    weights, kept, rate, of="weights", segmentation=None, index="mean", scope="global", floor=False, saliency=None
):
    """Cut into regions, rank them, remove the lowest until the rate is reached."""
    labels = (segmentation or Connected())(weights, kept)
    values = np.abs((saliency if index == "saliency" else weights).astype(np.float64))
    how = {"sum": sum, "max": max}.get(index, lambda found: sum(found) / len(found))
    regions = range(1, int(labels.max()) + 1)
    ranks = {region: how(values[labels == region].tolist()) for region in regions}
    sizes = {region: int((labels == region).sum()) if of == "weights" else 1 for region in regions}
    neuron = {region: int(np.argwhere(labels == region)[0][0]) for region in regions}
    order = sorted(regions, key=lambda region: (ranks[region], region))
    last = {neuron[region]: region for region in order} if floor else {}
    order.sort(key=lambda region: region in last.values())
    gone = set()
    for part in sorted(set(neuron.values())) if scope == "neuron" else [None]:
        own = [region for region in order if part in (None, neuron[region])]
        total = Fraction(str(rate)) * sum(sizes[region] for region in own)
        goal, done = math.ceil(total) if of == "weights" else round(total), 0
        for region in own:
            if done < goal:
                gone.add(region)
            done += sizes[region]
    gone -= set(last.values())
    after = kept & ~np.isin(labels, list(gone)) & (labels > 0)
    return Removal(labels, np.array([region in gone for region in regions]), after)
