"""What a checkpoint costs, and what a run costs that only reports."""

import io
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from benchmarks.tables import show
from prunekit.callbacks.checkpoints import WholeCheckpointIO
from prunekit.data_modules.digits import Digits
from prunekit.latency import medians
from prunekit.models.mlp import Mlp


def checkpoint_cost(repeats: int) -> None:
    """Writing a checkpoint of the MLP with Adam, whole and brought to disk, against plain ``torch.save``."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, default_root_dir=folder, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(Mlp([784, 100, 50, 10], partial(torch.optim.Adam, lr=0.001)), Digits(10, 0.0, seed=0))
        content = trainer._checkpoint_connector.dump_checkpoint()
        path = Path(folder, "a.ckpt")
        rivals = {
            "torch.save to memory": lambda: torch.save(content, io.BytesIO()),
            "torch.save to a file": lambda: torch.save(content, path),
            "prunekit: beside, to disk, renamed": lambda: WholeCheckpointIO().save_checkpoint(content, path),
        }
        found = medians(rivals, repeats)
        size = path.stat().st_size
    base = found["torch.save to a file"]
    rows = [[name, f"{1000 * seconds:.1f} ms", f"{seconds / base:.2f}"] for name, seconds in found.items()]
    show(f"A checkpoint of the MLP with Adam, {size / 1e6:.1f} MB", ["", "median", "against torch.save"], rows)


def report_cost(repeats: int) -> None:
    """The command of a finished run, against a process that only imports what it is made of."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PRUNEKIT_RUNS_DIR": folder}
        run = [sys.executable, "-m", "prunekit.app.train", "dense_epochs=1", "~callbacks.heatmaps"]
        imports = [sys.executable, "-c", "import torch, pytorch_lightning, hydra, skimage.measure, sklearn.datasets"]

        def call(command: list[str]) -> None:
            subprocess.run(command, env=environment, check=True, capture_output=True)

        call(run)
        rivals = {"importing the libraries": lambda: call(imports), "a run that only reports": lambda: call(run)}
        found = medians(rivals, repeats)
    base = found["importing the libraries"]
    rows = [[name, f"{seconds:.2f} s", f"{seconds / base:.2f}"] for name, seconds in found.items()]
    show("The same command once more", ["", "median", "against importing"], rows)


def main(repeats: int = 5) -> None:
    """Print both tables."""
    checkpoint_cost(repeats * 4)
    report_cost(repeats)
