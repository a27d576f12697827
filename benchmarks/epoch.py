"""An epoch of MNIST's MLP under masks: prunekit against a bare PyTorch loop, and against Lightning as usually fed."""

import statistics
import tempfile
import time
from functools import partial
from itertools import pairwise

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from benchmarks.tables import show
from prunekit.callbacks.checkpoints import Checkpoints, WholeCheckpointIO
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.profiling import NoProfiler
from prunekit.callbacks.progress import StageProgress
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.data_modules.batches import epoch_order
from prunekit.data_modules.mnist import Mnist
from prunekit.held_mask import HeldMask
from prunekit.masks import Mask
from prunekit.models.mlp import Mlp

FIRST = "layers.hidden1.weight"
SIZES = [784, 100, 50, 10]
SGD = partial(torch.optim.SGD, lr=0.1)


class EpochTimes(pl.Callback):
    """From the start of one epoch to the start of the next: training, measuring, saving and the bar."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.mask = Mask({})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the mask, for a rival to hold."""
        self.mask = current_mask(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the time."""
        self.starts.append(time.perf_counter())

    def median(self, skip: int) -> float:
        """The median of the epochs behind the first ``skip``."""
        starts = self.starts[skip:]
        return statistics.median(b - a for a, b in pairwise(starts))


def lightning_epoch(
    data: pl.LightningDataModule | DataLoader,
    callbacks: list[pl.Callback],
    epochs: int,
    profiler: PassThroughProfiler | None = None,
) -> tuple[float, Mask]:
    """The median epoch of a Lightning fit, without its first, in which pruning happens, and the mask at its end."""
    times = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=epochs, callbacks=[*callbacks, times], logger=False, default_root_dir=folder,
            enable_checkpointing=any(isinstance(c, Checkpoints) for c in callbacks), plugins=[WholeCheckpointIO()],
            enable_progress_bar=any(isinstance(c, StageProgress) for c in callbacks), enable_model_summary=False,
            limit_val_batches=0, log_every_n_steps=1, use_distributed_sampler=False,
            profiler=profiler,
        )  # fmt: skip
        trainer.fit(Mlp(SIZES, SGD), data)
    return times.median(skip=1), times.mask


def pruned_epoch(data: Mnist, epochs: int) -> tuple[float, Mask]:
    """The median epoch of a run as ``experiment=mnist_region`` has it after pruning, and its mask."""
    pruners = [
        L2Mask([FIRST], 0.5),
        RegionMeanMask(FIRST, [28, 28], 0.4),
    ]
    return lightning_epoch(data, [*pruners, Curves(), Checkpoints(), StageProgress()], epochs, NoProfiler())


def bare_epoch(data: Mnist, mask: Mask, epochs: int, evaluate: bool) -> float:
    """The median epoch of a loop with nothing but the steps and the same mask held."""
    x, y, test_x, test_y = data.arrays
    mlp = Mlp(SIZES, SGD)
    optimizer = mlp.configure_optimizers()
    held = HeldMask(mask, mlp, [optimizer])
    seconds = []
    for epoch in range(epochs):
        started = time.perf_counter()
        for index in epoch_order(len(y), 0, epoch).split(data.batch_size):
            optimizer.zero_grad()
            cross_entropy(mlp.layers(x[index].flatten(1)), y[index]).backward()
            optimizer.step()
        if evaluate:
            with torch.no_grad():
                (mlp(test_x).argmax(1) == test_y).float().mean().item()
        seconds.append(time.perf_counter() - started)
    held.release()
    return statistics.median(seconds[1:])


def main(data_dir: str, cache_dir: str, epochs: int = 8) -> None:
    """Print the table: three rounds in alternation, the median of each rival's epochs in its middle round."""
    data = Mnist(data_dir, cache_dir, batch_size=100, validation=0.0, seed=0)
    data.setup()
    root = next(
        root for root in (data.data_dir, data.cache_dir) if (root / "MNIST/raw/train-labels-idx1-ubyte").exists()
    )
    usual = DataLoader(MNIST(root, transform=ToTensor()), batch_size=100, shuffle=True)
    rounds: dict[str, list[float]] = {}
    for _ in range(3):
        ours, mask = pruned_epoch(data, epochs)
        measured = {
            "prunekit: masks held, measured and saved each epoch": ours,
            "bare PyTorch loop, masks held, measured each epoch": bare_epoch(data, mask, epochs, evaluate=True),
            "bare PyTorch loop, masks held": bare_epoch(data, mask, epochs, evaluate=False),
            "Lightning, prunekit's batches, no callbacks": lightning_epoch(data, [], epochs)[0],
            "Lightning, DataLoader(torchvision MNIST), no callbacks": lightning_epoch(usual, [], 3)[0],
        }
        for name, seconds in measured.items():
            rounds.setdefault(name, []).append(seconds)
    middle = {name: statistics.median(values) for name, values in rounds.items()}
    base = middle["bare PyTorch loop, masks held"]
    rows = [[name, f"{1000 * value:.0f} ms", f"{value / base:.2f}"] for name, value in middle.items()]
    show(f"An epoch of MNIST (600 steps), {torch.get_num_threads()} threads", ["", "median", "against bare"], rows)
