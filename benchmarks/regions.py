"""Finding the regions of a layer: one call for all neurons against one call a neuron."""

import numpy as np
from skimage.measure import label

from benchmarks.tables import show
from prunekit.latency import medians
from prunekit.regions.labels import label_regions
from prunekit.regions.removal import remove_regions


def main(repeats: int = 7) -> None:
    """Print the table for 100 and for 10,000 neurons of 28x28 weights, half of them kept."""
    rows = []
    for neurons in (100, 10_000):
        rng = np.random.default_rng(0)
        weights = rng.normal(size=(neurons, 28, 28)).astype(np.float32)
        kept = np.abs(weights) > np.median(np.abs(weights))
        rivals = {
            "all neurons in one call": lambda kept=kept: label_regions(kept),
            "one skimage call a neuron": lambda kept=kept: [label(image, connectivity=1) for image in kept],
            "a whole round: label, rank, remove": lambda w=weights, k=kept: remove_regions(w, k, 0.4),
        }
        found = medians(rivals, repeats)
        base = found["all neurons in one call"]
        rows += [[f"{neurons:,}: {name}", f"{1000 * s:.1f} ms", f"{s / base:.2f}"] for name, s in found.items()]
    show("Regions of a layer, 28x28 weights a neuron", ["neurons", "median", "against one call"], rows)
