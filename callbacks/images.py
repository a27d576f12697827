"""Pictures, to a PNG and to TensorBoard, and where a run's files lie."""

from pathlib import Path

import pytorch_lightning as pl
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from prunekit.files import write_whole


def folder_of(trainer: pl.Trainer) -> Path:
    """Where callbacks write what they leave: beside the logger's files, else in ``default_root_dir``.

    Lightning's own loggers number their runs' folders, so that one run does not write over another's files.

    Example:
        >>> folder_of(pl.Trainer(logger=False, default_root_dir="here", accelerator="cpu")).name
        'here'
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger | CSVLogger):
            return Path(logger.log_dir)
    return Path(trainer.default_root_dir)


def log_png(trainer: pl.Trainer, figure: Figure, path: Path, tag: str, step: int) -> None:
    """Save ``figure`` as ``path`` and show the same picture in TensorBoard."""
    write_whole(path, lambda file: figure.savefig(file, format="png"), durable=False)
    show_png(trainer, path, tag, step)


def show_png(trainer: pl.Trainer, path: Path, tag: str, step: int) -> None:
    """Show a saved picture in TensorBoard, if the trainer has such a logger."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            add_png(logger.experiment, path, tag, step)


def add_png(writer: SummaryWriter, path: Path, tag: str, step: int) -> None:
    """Add a saved picture to TensorBoard's events as it is: ``add_image`` would decode and encode it."""
    with Image.open(path) as image:
        width, height = image.size
    picture = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes())
    summary = Summary(value=[Summary.Value(tag=tag, image=picture)])
    writer.file_writer.add_summary(summary, step)  # type: ignore[attr-defined]  # which torch types as None
