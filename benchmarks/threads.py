"""From which size on a network gains by more CPU threads: ``python -m benchmarks.threads [--threads N]``.

A training step of LSTMs and of perceptrons of growing size with one thread and with several, in turn; where the ratio
falls below 1 the network is worth more than one. ``prunekit.threads.SMALL`` is held against it.
"""

import argparse
import os
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.tables import show
from prunekit.latency import medians
from prunekit.threads import is_small, size_of

WIDTHS = {"LSTM, 30 steps, batch 32": (32, 64, 128, 256, 512, 1024), "perceptron, batch 100": (32, 128, 256, 512, 2048)}
REPEATS = 15


def network(kind: str, width: int) -> tuple[nn.Module, torch.Tensor]:
    """A network of a width, and a batch for it."""
    if kind.startswith("LSTM"):
        return nn.LSTM(64, width, batch_first=True), torch.randn(32, 30, 64)
    return nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()), torch.randn(100, 784)


def step(net: nn.Module, x: torch.Tensor, threads: int) -> Callable[[], None]:
    """Forwards and backwards with so many threads."""

    def run() -> None:
        torch.set_num_threads(threads)
        out = net(x)
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()

    return run


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    several = parser.parse_args().threads
    rows = []
    for kind, widths in WIDTHS.items():
        for width in widths:
            net, x = network(kind, width)
            found = medians({str(n): step(net, x, n) for n in (1, several)}, REPEATS, warm=True)
            one, more = found["1"], found[str(several)]
            chosen = "1" if is_small(net) else str(several)
            rows.append([kind, str(width), f"{size_of(net):,}", f"{1000 * one:.2f}", f"{more / one:.2f}", chosen])
    columns = ["", "width", "parameters", "ms a step, 1 thread", f"{several} threads against 1", "prunekit takes"]
    show("A training step by threads", columns, rows)


if __name__ == "__main__":
    main()
