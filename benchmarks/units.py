"""Transfer entropy against PyInform; what scoring adds to its forward pass, and a curve to its test passes."""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks.tables import show
from prunekit.calibration import Calibration
from prunekit.callbacks.measure import TEST, accuracy
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.latency import medians
from prunekit.masks import Mask
from prunekit.models.recognizer import Recognizer
from prunekit.units.codes import encode_outputs, encode_target, equal_width
from prunekit.units.grouping import Units
from prunekit.units.transfer_entropy import count_transitions, transfer_entropy

UNITS, CLIPS, STEPS = 1024, 1000, 25


def by_prunekit(h: Tensor, y: Tensor, bins: int) -> Tensor:
    codes, target = equal_width(encode_outputs(h), bins), encode_target(y, bins)
    return transfer_entropy(count_transitions(codes, target, bins, bins))


def by_pyinform(h: Tensor, y: Tensor, bins: int) -> Tensor:
    """One call a unit, all clips as its initial conditions; bins by comparison with edges, as ours."""
    from pyinform.transferentropy import transfer_entropy as pyinform

    edges = np.arange(1, bins) / bins
    target = np.digitize(y.numpy(), edges.astype(np.float32)).astype(np.int32)
    codes = np.digitize(h.numpy(), (2 * edges - 1).astype(np.float32)).astype(np.int32)
    return torch.tensor([pyinform(target, np.ascontiguousarray(codes[:, :, u]), k=1) for u in range(h.shape[2])])


def against_pyinform(repeats: int) -> None:
    """From float outputs to bits, one thread."""
    if importlib.util.find_spec("pyinform") is None:
        print("PyInform is left out: pip install pyinform")
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    h = torch.rand(CLIPS, STEPS, UNITS, generator=random) * 2 - 1
    y = torch.rand(CLIPS, STEPS, generator=random)
    rows = []
    for bins in (2, 4, 8):
        assert torch.allclose(by_prunekit(h, y, bins), by_pyinform(h, y, bins).double(), atol=1e-10)
        rivals: dict[str, Callable[[], object]] = {
            "ours": partial(by_prunekit, h, y, bins),
            "theirs": partial(by_pyinform, h, y, bins),
        }
        found = medians(rivals, repeats)
        rows.append([f"{bins}x{bins}", *(f"{s:.2f}" for s in found.values()), f"{found['theirs'] / found['ours']:.1f}"])
    torch.set_num_threads(threads)
    title = f"Transfer entropy of {UNITS} units over {CLIPS} clips of {STEPS} steps, one thread"
    show(title, ["bins", "prunekit (s)", "PyInform (s)", "times faster"], rows)


def scoring(repeats: int) -> None:
    """What recording and counting add to the forward pass they ride on."""
    net = Recognizer(512, 6, partial(torch.optim.Adam, lr=0.001)).eval()
    x, y = torch.rand(216, 25, 512), torch.arange(216) % 6

    @torch.no_grad()
    def forward() -> None:
        for part in x.split(256):
            net(part)

    @torch.no_grad()
    def forward_steps() -> None:
        for part in x.split(256):
            net.steps(part)

    units, criterion = Units("lstm", "head"), TransferEntropy()
    groups = units(net, Mask.full(net, units.parameters(net)))

    def score() -> None:
        batches = zip(x.split(256), y.split(256), strict=True)
        criterion.scores(net, groups, units.observe(net, criterion.needs, Calibration(batches)))

    rivals = {"the forward pass": forward, "the head at every step": forward_steps, "scoring": score}
    found = medians(rivals, repeats)
    columns = ["", "seconds", *(f"against {name}" for name in list(rivals)[:2])]
    bases = [found[name] for name in list(rivals)[:2]]
    rows = [[n, f"{seconds:.2f}", *(f"{seconds / base:.2f}" for base in bases)] for n, seconds in found.items()]
    show("Scoring by transfer entropy, 216 clips, 1,024 units", columns, rows)


class Noise(InMemoryDataModule):
    """Clips of six classes, of the real ones' size."""

    def load(self) -> Arrays:
        """Random features."""
        random = torch.Generator().manual_seed(0)
        x = torch.rand(116, 25, 512, generator=random)
        y = torch.arange(116) % 6
        return Arrays(x[:32], y[:32], x[32:], y[32:])


class Passes(pl.Callback):
    """Takes the time of plain test passes, in the same process as the curve."""

    def __init__(self, number: int) -> None:
        self.number, self.seconds = number, 0.0

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time."""
        accuracy(trainer, pl_module, TEST)
        started = time.perf_counter()
        for _ in range(self.number):
            accuracy(trainer, pl_module, TEST)
        self.seconds = time.perf_counter() - started


def curve() -> None:
    """72 points against 72 test passes."""
    criteria = {"transfer_entropy": TransferEntropy(), "entropy": Entropy(), "l1_norm": L1Norm(), "random": Random(0)}
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    points, before, after = UnitCurve(criteria, rates), Passes(36), Passes(36)
    settings: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_checkpointing": False, "limit_val_batches": 0,
        "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(**settings, default_root_dir=folder, callbacks=[before, points, after])
        net = Recognizer(512, 6, partial(torch.optim.Adam, lr=0.001))
        trainer.fit(net, Noise(batch_size=32, validation=0.0, seed=0, eval_batch_size=256))
    plain = before.seconds + after.seconds
    rows = [
        ["72 test passes", f"{plain:.1f}", "1.00"],
        ["a curve of 72 points", f"{points.seconds['curve']:.1f}", f"{points.seconds['curve'] / plain:.2f}"],
    ]
    show("84 test clips, 1,024 units", ["", "seconds", "ratio"], rows)


def main(repeats: int = 3) -> None:
    """Print all tables."""
    against_pyinform(repeats)
    scoring(repeats * 3)
    curve()


if __name__ == "__main__":
    main()
