"""The confusion matrix of the test data."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from prunekit.callbacks.curves import Curves
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.images import log_png
from prunekit.callbacks.measure import TEST, confusion
from prunekit.errors import check_count
from prunekit.figures.confusion import draw_confusion
from prunekit.files import write_whole


class Confusion(PruningObserver):
    """Counts at the end of a run which test samples were taken for what.

    Leaves ``confusion.npy``, ``(classes, classes)`` int64 with a row for each true class, and the same as a picture
    in ``figures/`` and TensorBoard.

    Args:
        names_up_to: classes up to which the picture names them.
        draw: whether to make the picture, which takes as long as to measure some hundred clips.
    """

    def __init__(self, names_up_to: int = 40, draw: bool = True) -> None:
        self.draw = draw
        self.names_up_to = check_count("callbacks.confusion.names_up_to", names_up_to)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count and draw."""
        curves = next((c for c in trainer.callbacks if isinstance(c, Curves)), None)  # type: ignore[attr-defined]
        count = confusion if curves is None else curves.matrix
        matrix = count(trainer, pl_module, TEST).numpy()
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            write_whole(folder / "confusion.npy", lambda file: np.save(file, matrix, allow_pickle=False))
            if not self.draw:
                return
            names = getattr(trainer.datamodule, "classes", None) or list(map(str, range(len(matrix))))  # type: ignore[attr-defined]
            figure = draw_confusion(matrix, names if len(names) <= self.names_up_to else None)
            log_png(trainer, figure, folder / "figures" / "confusion.png", "confusion", trainer.current_epoch)
