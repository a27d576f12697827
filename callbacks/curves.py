"""Accuracy or another metric, loss and sparsity over the epochs of a run, with its pruning events."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pytorch_lightning as pl
from torch import Tensor

from prunekit.callbacks import measure
from prunekit.callbacks.events import PruningEvent, PruningObserver
from prunekit.callbacks.images import folder_of, log_png
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.measure import TEST
from prunekit.errors import owned_by
from prunekit.figures.curves import draw_curves
from prunekit.masks import overall_sparsity
from prunekit.measuring import Outcome, Predict
from prunekit.metrics import ACCURACY, metric_of

T = TypeVar("T")
Row = dict[str, Any]


class Known(NamedTuple):
    """What is known of a network before it is measured.

    Attributes:
        own_rows: whether rows that a checkpoint brought were measured on this run's data, so that what its last one
            says of the network need not be measured again.
        dense: epochs done and test metric of a shared dense network, likewise.
    """

    own_rows: bool = False
    dense: tuple[int, float | None] | None = None


class Curves(PruningObserver):
    """Measures every epoch and every event, shows them in TensorBoard and as ``figures/curves.png``.

    TensorBoard's step is the number of epochs done. At an event two points share a step: before and after. All
    rows are the callback's state, so a resumed run shows its whole history, the dense epochs included.

    What is measured is accuracy, or the module's ``metric`` (:mod:`prunekit.metrics`): on validation data, and on test
    data where nothing is held out; the tags say which. A network that has not changed is not measured twice.

    Args:
        predict: ``predict(module, batch)`` gives logits and classes of a batch; None for batches of
            ``(inputs, classes, ...)``. ``prunekit.measuring.each_sample`` says which forms they may have.
        data: ``data(trainer, part)`` gives the batches of ``train``, ``validation`` or ``test``; None for those of the
            data module, or else of the loaders that ``fit`` was given or that the module has.
        known: what need not be measured.

    Attributes:
        rows: one an epoch, when ``epoch`` epochs are done: ``loss``, ``sparsity``, and the metric by its name, such as
            ``accuracy``.
        events: one a pruning, as ``results.json`` has it: ``name``, ``round``, ``epoch``, ``sparsity``; ``data``, what
            was measured on; by the metric's key ``acc_before``, ``acc_after`` and ``test_acc``, which is None where
            there is no test data.
        metric: what the module is judged by.
        dense_test: its value on test data before the first pruning; None without test data.
        final_test: likewise at the end.
        chance: the accuracy on test data of always saying their most common class, and how many samples they are; None
            for other metrics and without test data.
        seconds: taken by measuring.

    Raises:
        ArgumentError: at the start of ``fit``, if there is neither validation nor test data, or if the first batch
            cannot be measured.
    """

    def __init__(self, predict: Predict = None, data: measure.Data = None, known: Known | None = None) -> None:
        self.predict, self.data, self.known = predict, data, known or Known()
        self.rows: list[Row] = []
        self.events: list[Row] = []
        self.metric = ACCURACY
        self.dense_test: float | None = None
        self.final_test: float | None = None
        self.chance: tuple[float, int] | None = None
        self.seconds = 0.0
        self._measured: dict[str, Outcome] = {}
        self._values: dict[str, float] = {}
        self._before = 0.0
        self._loss: Tensor | float = 0.0
        self._batches = 0
        self._part = TEST
        self._has_test = True

    def state_dict(self) -> dict[str, Any]:
        """Rows, events and the running loss of the epoch."""
        return {
            "rows": self.rows,
            "events": self.events,
            f"dense_test_{self.metric.key}": self.dense_test,
            "loss": float(self._loss),
            "batches": self._batches,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's rows."""
        self.rows, self.events = state_dict["rows"], state_dict["events"]
        (self.dense_test,) = (value for name, value in state_dict.items() if name.startswith("dense_test_"))
        self._loss, self._batches = state_dict["loss"], state_dict["batches"]
        self.seconds = state_dict.get("seconds", 0.0)  # which early checkpoints lack

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See what the module is judged by."""
        self.metric = metric_of(pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what cannot be measured; show the history that a checkpoint brought along."""
        with owned_by(self):
            self._part = measure.watched_part(trainer, self.data)
            self._has_test = self._part == TEST or measure.has_part(trainer, TEST, self.data)
            if not self.rows:
                measure.check_first_batch(trainer, pl_module, self._part, self.predict, self.data)
        for row in self.rows:
            self._log_row(trainer, row)
            for event in self.events:
                if event["epoch"] == row["epoch"]:
                    self._log_event(trainer, event)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the loss as a tensor: reading it every step would stall a GPU.

        A step that gives none, as of manual optimization, makes the epoch's mean unknown.
        """
        loss = (outputs or {}).get("loss")
        self._loss = self._loss + (math.nan if loss is None else loss.detach())
        self._batches += 1
        self._forget()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what was measured: averaging callbacks may put other weights in place now."""
        self._forget()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the epoch's row."""
        row: Row = {
            "epoch": trainer.current_epoch + 1,
            "loss": float(self._loss) / max(self._batches, 1),
            self.metric.name: self._value(trainer, pl_module, self._part),
            "sparsity": overall_sparsity(pl_module, current_mask(trainer)),
        }
        self._loss, self._batches = 0.0, 0
        self.rows.append(row)
        # For callbacks that monitor it.
        pl_module.log(f"{self.metric.name}/{self._part}", row[self.metric.name], logger=False)
        self._log_row(trainer, row)

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Measure what the event will be compared with."""
        epoch, dense = trainer.current_epoch, self.known.dense
        resumed = self.known.own_rows and not self.events and not self._batches  # from an epoch's end
        if resumed and self.rows and self.rows[-1]["epoch"] == epoch:
            self._before = self.rows[-1][self.metric.name]
        else:
            self._before = self._value(trainer, module, self._part)
        if self.events:
            return
        if self._part == TEST:
            self.dense_test = self._before
        elif resumed and dense is not None and dense[0] == epoch:
            self.dense_test = dense[1]
        else:
            self.dense_test = self._test_value(trainer, module)

    def after_pruning(self, trainer: pl.Trainer, module: pl.LightningModule, event: PruningEvent) -> None:
        """Measure what the event has cost."""
        self._forget()
        key = self.metric.key
        record: Row = {
            "name": event.name,
            "round": event.round,
            "epoch": event.epoch,
            "sparsity": overall_sparsity(module, event.after),
            f"{key}_before": self._before,
            f"{key}_after": self._value(trainer, module, self._part),
            f"test_{key}": self._test_value(trainer, module),
            "data": self._part,
        }
        self.events.append(record)
        self._log_event(trainer, record)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the final network; draw the curves, unless all they show is the dense network's, drawn with it."""
        self.final_test = self._test_value(trainer, pl_module)
        if self._has_test and self.metric.make is None:
            self.chance = measure.chance_of(trainer, self.outcome(trainer, pl_module, TEST))
        if not trainer.is_global_zero or not self.rows:
            return
        if not self.events or self.rows[-1]["epoch"] > self.events[0]["epoch"]:
            path = folder_of(trainer) / "figures" / "curves.png"
            log_png(trainer, draw_curves(self.rows, self.events, self._part, self.metric), path, "curves", 0)

    def outcome(self, trainer: pl.Trainer, module: pl.LightningModule, part: str) -> Outcome:
        """What the network as it is takes the samples of a part for."""
        return self._once(self._measured, measure.outcome, trainer, module, part)

    def _value(self, trainer: pl.Trainer, module: pl.LightningModule, part: str) -> float:
        if self.metric.make is not None:
            return self._once(self._values, measure.value_of, trainer, module, part)
        taken = self.outcome(trainer, module, part)
        with owned_by(self):
            return measure.accuracy_of(trainer, taken)

    def _once(
        self, known: dict[str, T], take: Callable[..., T], trainer: pl.Trainer, module: pl.LightningModule, part: str
    ) -> T:
        """What is measured of a part, if it is not known of the network as it is."""
        if part not in known:
            started = time.perf_counter()
            with owned_by(self):
                known[part] = take(trainer, module, part, self.predict, self.data)
            self.seconds += time.perf_counter() - started
        return known[part]

    def _test_value(self, trainer: pl.Trainer, module: pl.LightningModule) -> float | None:
        return self._value(trainer, module, TEST) if self._has_test else None

    def _forget(self) -> None:
        self._measured.clear()
        self._values.clear()

    def _log_row(self, trainer: pl.Trainer, row: Row) -> None:
        name = self.metric.name
        metrics = {"loss/train": row["loss"], f"{name}/{self._part}": row[name], "sparsity": row["sparsity"]}
        _log(trainer, metrics, row["epoch"])

    def _log_event(self, trainer: pl.Trainer, event: Row) -> None:
        after = {f"{self.metric.name}/{event['data']}": event[f"{self.metric.key}_after"]}
        _log(trainer, {**after, "sparsity": event["sparsity"]}, event["epoch"])


def _log(trainer: pl.Trainer, metrics: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)
