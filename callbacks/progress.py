"""One progress bar for a whole stage of a run, counted in batches over all its epochs."""

import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from prunekit.callbacks.curves import Curves
from prunekit.callbacks.pruning import pruning_callbacks
from prunekit.errors import check_count

SECONDS_BETWEEN_DRAWINGS = 0.3


class StageProgress(ProgressBar):
    """Shows batches done of all batches of the stage, the time left and the last epoch's accuracy or other metric.

    Lightning's own bars start anew each epoch, which on epochs of a tenth of a second is a flicker. Its tqdm one writes
    each refresh where the output is a file, and its rich one takes twice this one's time of every step.

    Args:
        refresh_every: batches between two updates.
    """

    def __init__(self, refresh_every: int = 50) -> None:
        super().__init__()
        self.refresh_every = check_count("refresh_every", refresh_every, least=1)
        self._silent = False
        self._bar: Progress | None = None
        self._since = 0
        self._drawn = 0.0
        self._task = TaskID(0)

    def disable(self) -> None:
        """Lightning silences every rank but the first."""
        self._silent = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        if self._silent:
            return
        stage = "pruning and retraining" if pruning_callbacks(trainer) else "dense training"
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Drawn from here, not by rich's thread, which would take the interpreter from the steps it reports on.
        self._bar = Progress(*columns, TextColumn("{task.fields[metric]}"), auto_refresh=False)
        done = trainer.global_step * trainer.accumulate_grad_batches
        # Unknown for data without a length, and for a fit that goes on until it is stopped.
        sized = trainer.num_training_batches < math.inf and (trainer.max_epochs or -1) > 0
        total = (trainer.max_epochs or 0) * int(trainer.num_training_batches) if sized else None
        self._task = self._bar.add_task(stage, total=total, completed=done, metric="")
        self._bar.start()
        self._drawn = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Move on, now and then."""
        self._since += 1
        if self._since >= self.refresh_every:
            self._move(trainer)

    def _move(self, trainer: pl.Trainer, **fields: str) -> None:
        self._since = 0
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.fit_loop.total_batch_idx + 1, **fields)  # type: ignore[arg-type]
            if now - self._drawn > SECONDS_BETWEEN_DRAWINGS:
                self._drawn = now
                self._bar.refresh()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's metric."""
        if self._bar is None:
            return
        curves = next((c for c in trainer.callbacks if isinstance(c, Curves) and c.rows), None)  # type: ignore[attr-defined]
        name = curves.metric.name if curves is not None else ""
        self._move(trainer, metric=f"{name} {curves.rows[-1][name]:.3f}" if curves is not None else "")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar, whatever ended the fit."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that a message stands on a line of its own."""
        self.teardown(trainer, pl_module, "fit")
