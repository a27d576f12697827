"""Finding the regions of a layer: one call for all neurons against one call a neuron, for each way of cutting."""

from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from benchmarks.tables import show
from prunekit.criteria.magnitude import Magnitude
from prunekit.latency import medians
from prunekit.masks import Mask
from prunekit.pruning import prune
from prunekit.regions.grouping import Regions
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
        layer = nn.Linear(28 * 28, neurons)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights).flatten(1))
        mask = Mask({"weight": torch.from_numpy(kept).flatten(1)})
        state = {name: value.clone() for name, value in layer.state_dict().items()}

        def a_round(cut: Segmentation, layer: nn.Linear = layer, mask: Mask = mask, state: dict = state) -> None:
            layer.load_state_dict(state)
            grouping = Regions("weight", [28, 28], cut)
            prune(layer, grouping, Magnitude(), 0.4, of="weights", scope="within", floor=True, mask=mask)

        for name, cut in KINDS.items():
            rivals = {
                "all neurons in one call": lambda c=cut, w=weights, k=kept: c(w, k),
                "one call a neuron": lambda c=cut, w=weights, k=kept: [
                    c(w[n : n + 1], k[n : n + 1]) for n in range(len(w))
                ],
                "a whole round: cut, rank by neuron, remove": partial(a_round, cut),
            }
            found = medians(rivals, repeats)
            base, regions = found["all neurons in one call"], f"{cut(weights, kept).max():,}"
            rows += [
                [f"{neurons:,}", name, regions, rival, f"{1000 * seconds:,.0f} ms", f"{seconds / base:.1f}"]
                for rival, seconds in found.items()
            ]
    columns = ["neurons", "segmentation", "regions", "", "median", "against one call"]
    show("Regions of a layer, 28x28 weights a neuron", columns, rows)
