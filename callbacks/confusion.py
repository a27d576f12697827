"""The confusion matrix of the test data."""

import logging

import numpy as np
import pytorch_lightning as pl

from prunekit.callbacks.curves import Curves
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.images import folder_of, log_png
from prunekit.callbacks.measure import TEST, Data, confusion_of, has_part, number_of_classes, watched_part
from prunekit.errors import check_count
from prunekit.figures.confusion import draw_confusion
from prunekit.files import write_whole
from prunekit.measuring import Predict

CLASSES_UP_TO = 5000  # a matrix of more takes more than 200 MB, and nobody can look at it
log = logging.getLogger("prunekit")


class Confusion(PruningObserver):
    """Counts at the end of a run which test samples were taken for what; without test data, which validation samples.

    Leaves ``confusion.npy``, ``(classes, classes)`` int64 with a row for each true class, and the same as a picture
    in ``figures/`` and TensorBoard.

    Args:
        names_up_to: classes up to which the picture names them.
        draw: whether to make the picture, which takes as long as to measure some hundred clips.
        predict: as ``Curves`` has it; where both arguments are None, those of the trainer's ``Curves`` hold.
        data: likewise.

    Raises:
        ArgumentError: if a value is not accepted; at the end of ``fit``, if there is nothing to count.
    """

    def __init__(self, names_up_to: int = 40, draw: bool = True, predict: Predict = None, data: Data = None) -> None:
        self.names_up_to = check_count("names_up_to", names_up_to)
        self.draw, self.predict, self.data = draw, predict, data

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count and draw."""
        curves = next((c for c in trainer.callbacks if isinstance(c, Curves)), None)  # type: ignore[attr-defined]
        if curves is None or self.predict is not None or self.data is not None:
            curves = Curves(self.predict, self.data)
        part = TEST if has_part(trainer, TEST, curves.data) else watched_part(trainer, curves.data)
        taken = curves.outcome(trainer, pl_module, part)
        number = number_of_classes(trainer, taken)
        if number > CLASSES_UP_TO:
            log.warning("no confusion matrix of %d classes: it is made of %d or fewer", number, CLASSES_UP_TO)
            return
        matrix = confusion_of(trainer, taken).numpy()
        if not trainer.is_global_zero:
            return
        folder = folder_of(trainer)
        write_whole(folder / "confusion.npy", lambda file: np.save(file, matrix, allow_pickle=False))
        if self.draw:
            names = getattr(getattr(trainer, "datamodule", None), "classes", None)
            if not isinstance(names, list | tuple) or len(names) != len(matrix):
                names = range(len(matrix))
            shown = list(map(str, names)) if len(names) <= self.names_up_to else None
            figure = draw_confusion(matrix, shown, part)
            log_png(trainer, figure, folder / "figures" / "confusion.png", "confusion", trainer.current_epoch)
