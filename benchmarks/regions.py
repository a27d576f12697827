"""Finding the regions of a layer: one call for all neurons against one call a neuron, for each way of cutting."""

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.tables import show
from prunekit.latency import medians
from prunekit.regions.removal import remove_regions
from prunekit.regions.segmentation import Connected, Segmentation, Signed, Watershed

KINDS: dict[str, Segmentation] = {"connected": Connected(), "signed": Signed(), "watershed": Watershed()}


def main(repeats: int = 3) -> None:
    """Print the table for 100 and for 10,000 neurons of 28x28 weights, half of them kept."""
    rows = []
    for neurons in (100, 10_000):
        rng = np.random.default_rng(0)
        # Smooth, as trained weights are: white noise would fall apart into specks.
        weights = gaussian_filter(rng.normal(size=(neurons, 28, 28)), 1.5, axes=(1, 2)).astype(np.float32)
        kept = np.abs(weights) > np.median(np.abs(weights))
        for name, cut in KINDS.items():
            rivals = {
                "all neurons in one call": lambda c=cut, w=weights, k=kept: c(w, k),
                "one call a neuron": lambda c=cut, w=weights, k=kept: [
                    c(w[n : n + 1], k[n : n + 1]) for n in range(len(w))
                ],
                "a whole round: cut, rank by neuron, remove": lambda c=cut, w=weights, k=kept: remove_regions(
                    w, k, 0.4, segmentation=c, scope="neuron", floor=True
                ),
            }
            found = medians(rivals, repeats)
            base, regions = found["all neurons in one call"], f"{cut(weights, kept).max():,}"
            rows += [
                [f"{neurons:,}", name, regions, rival, f"{1000 * seconds:,.0f} ms", f"{seconds / base:.1f}"]
                for rival, seconds in found.items()
            ]
    columns = ["neurons", "segmentation", "regions", "", "median", "against one call"]
    show("Regions of a layer, 28x28 weights a neuron", columns, rows)
