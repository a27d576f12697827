"""Pictures, to a PNG and to TensorBoard."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure
from matplotlib.image import imread
from pytorch_lightning.loggers import TensorBoardLogger

from prunekit.runs.files import write_whole


def log_png(trainer: pl.Trainer, figure: Figure, path: Path, tag: str, step: int) -> None:
    """Save ``figure`` as ``path`` and show the same picture in TensorBoard."""
    write_whole(path, lambda file: figure.savefig(file, format="png"))
    show_png(trainer, path, tag, step)


def show_png(trainer: pl.Trainer, path: Path, tag: str, step: int) -> None:
    """Show a saved picture in TensorBoard, if the trainer has such a logger."""
    pixels = np.asarray(imread(path))[..., :3]
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, pixels, step, dataformats="HWC")
