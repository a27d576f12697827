"""Which reading of the region-pruning paper comes nearest to its two groups of neurons: a table over a folder of runs.

``python -m benchmarks.region_readings runs/mnist_region``
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from omegaconf import OmegaConf

PAPER = {"at_least_90": 0.54, "at_most_40": 0.46}
KEYS = {
    "initialisation": "model.initialisation",
    "L2 rate": "callbacks.l2_mask.rate",
    "connectivity": "segmentation.connectivity",
    "of": "callbacks.region_mean_mask.of",
    "rounds": "callbacks.region_mean_mask.rounds",
}
NEURONS = ("callbacks", "region_mean_mask", "neurons")


def distance(groups: dict[str, float]) -> float:
    """Points between a run's two groups and the paper's, added up."""
    return sum(abs(groups[name] - share) for name, share in PAPER.items())


def main() -> None:
    """Print one Markdown row a reading, means over its runs, nearest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=1000, help="rows to print")
    arguments = parser.parse_args()
    readings = defaultdict(list)
    for path in sorted(arguments.folder.glob("*/results.json")):
        config = OmegaConf.load(path.with_name("config.yaml"))
        readings[tuple(OmegaConf.select(config, key) for key in KEYS.values())].append(json.loads(path.read_text()))
    rows = []
    for reading, runs in readings.items():

        def mean(*keys: str, runs: list = runs) -> float:
            values = runs
            for key in keys:
                values = [value[key] for value in values]
            return statistics.mean(values)

        groups = {}
        for counted, keys in {"all": NEURONS, "survivors": (*NEURONS, "of_survivors")}.items():
            groups[counted] = {name: mean(*keys, name) for name in PAPER}
        nearest = min(distance(groups["all"]), distance(groups["survivors"]))
        cells = [
            f"{groups[counted]['at_least_90']:.0%} / {groups[counted]['at_most_40']:.0%}"
            for counted in ("all", "survivors")
        ]
        accuracy = [f"{100 * mean('metrics', key):.2f}" for key in ("dense/test_acc", "final/test_acc")]
        sparsity = f"{mean('sparsity', 'achieved', 'layers.hidden1.weight'):.3f}"
        alive = f"{mean(*NEURONS, 'alive'):.0f}"
        row = [*map(str, reading), str(len(runs)), *accuracy, sparsity, *cells, f"{100 * nearest:.0f}", alive]
        rows.append((nearest, row))
    header = [*KEYS, "runs", "dense %", "final %", "sparsity", "of all", "of survivors", "points off", "alive"]
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    for _, row in sorted(rows)[: arguments.most]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
