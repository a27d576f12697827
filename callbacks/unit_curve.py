"""Accuracy or another metric against the rate of removed units: criteria x orders x rates on one trained network."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from prunekit import stopping
from prunekit.cache import Cache
from prunekit.calibration import Seen
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.images import folder_of, log_png
from prunekit.callbacks.measure import TEST, Data, evaluating, value_of
from prunekit.callbacks.pruning import pruning_callbacks
from prunekit.callbacks.scoring import Scored, leave_scores, look_at_first, score
from prunekit.callbacks.unit_mask import parts_of
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.digests import tensor_digest
from prunekit.errors import ArgumentError, check_choice, check_rate, owned_by
from prunekit.figures.units import draw_scatter, draw_scores, draw_states, draw_unit_curves
from prunekit.files import read_record, write_record
from prunekit.groups import Groups
from prunekit.masks import Mask, find_parameter
from prunekit.measuring import Predict
from prunekit.metrics import ACCURACY, metric_of
from prunekit.pruning import all_needs, remove
from prunekit.selection import ORDERS, SCOPES, select
from prunekit.units.compensation import RIDGE
from prunekit.units.grouping import Units
from prunekit.units.series import UnitSeries

ROWS = "unit_curve.json"
RENAMED = {"layer": "lstm", "layers": "lstm", "criterion": "criteria"}


# One point: the network with so many units or gates removed, without retraining: ``criterion``, ``order``, ``rate``,
# ``removed``, of the last layer ``saved``, the share of the LSTM's multiply-adds that need no longer be done, and
# ``test_acc``, or so for another metric.
Row = dict[str, Any]


class UnitCurve(PruningObserver):
    """Removes units of the dense network by every criterion, order and rate, measures each and puts them back.

    Each row is on disk (``unit_curve.json``) as soon as it is measured, with what it was measured on; a run that was
    cut off measures the rest. Leaves ``unit_scores.safetensors`` as well, curves and the scores' pictures in
    ``figures/``, and one TensorBoard run for each criterion and order in ``units/``, whose step is the rate in percent.

    Args:
        criteria: by name.
        rates: shares of the units to remove, in [0, 1].
        orders: ``ascending``, ``descending`` or both; a criterion that makes sense in one only is measured in that one.
        lstm: name of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` in the model.
        head: name of the part that makes logits of its outputs, at any step.
        compensation: ``none``; ``linear``: at each point what removed units said is said by a linear map of those that
            stay; or ``closed_loop``, which takes seconds a point: every layer from this one on is refitted.
        ridge: of that map's least squares, relative to the outputs' mean variance, above 0.
        granularity: what is removed, each ``unit`` or each ``gate``, which then becomes its mean.
        layers: whose units go: those of the ``last`` layer or of ``every`` layer and direction, where padding and
            success are told as for :class:`~prunekit.callbacks.unit_mask.UnitMask`.
        scope: among what units are ranked, ``all`` together or those ``within`` one layer and direction.
        predict: how the module takes a batch, and the batch's classes; None for ``module(x)`` of ``(x, classes)``.
        data: gives the batches of a part; None for those that the trainer has.
        cache: where runs keep scores for each other; None for nowhere.

    Raises:
        ArgumentError: if a value is not accepted; at the start of ``fit`` if a name is not the module's.
    """

    def __init__(
        self,
        criteria: Mapping[str, Criterion],
        rates: Sequence[float],
        orders: Sequence[Literal["ascending", "descending"]] = ("descending", "ascending"),
        lstm: str = "lstm",
        head: str | None = "head",
        compensation: Literal["none", "linear", "closed_loop"] = "none",
        ridge: float = RIDGE,
        granularity: Literal["unit", "gate"] = "unit",
        layers: Literal["last", "every"] = "last",
        scope: Literal["all", "within"] = "all",
        predict: Predict | None = None,
        data: Data | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.compensation = compensation
        self.grouping, self.repair = parts_of(lstm, head, granularity, compensation, ridge, layers)
        check_choice("scope", scope, SCOPES)
        self.scope = scope
        for name, each in (("criteria", criteria), ("rates", rates), ("orders", orders)):
            if not each:
                raise ArgumentError(name, each, "at least one")
        word = self.grouping.word
        self.criteria = {name: one for name, one in criteria.items() if one.words is None or word in one.words}
        if not self.criteria:
            raise ArgumentError("granularity", granularity, "what one of the criteria scores")
        self.rates = [check_rate("rates", rate) for rate in rates]
        for order in orders:
            check_choice("orders", order, ORDERS)
        self.orders = list(orders)
        if not self._lines():
            raise ArgumentError("orders", self.orders, f"an order that {', '.join(self.criteria)} makes sense in")
        self._predict, self._data, self._cache = predict, data, cache
        self.rows: list[Row] = []
        self.metric = ACCURACY
        self.seconds = {"score": 0.0, "curve": 0.0}

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module without the layer or the head."""
        with owned_by(self, RENAMED):
            self.grouping.check(module, all_needs(self.criteria.values(), self.repair))

    def rehearse(self, module: pl.LightningModule) -> None:
        """Refuse training data that the criteria cannot look at; the first batch tells."""
        with owned_by(self, RENAMED):
            look_at_first(module, self.grouping, self.criteria, self.repair, self._predict, self._data)

    def report(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Measure the dense network, before anything is removed for good."""
        if not any(callback.rounds_done for callback in pruning_callbacks(trainer)):
            self._measure_and_show(trainer, module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the dense network, if nothing prunes it; and make sure that rows are there after a resume."""
        if not pruning_callbacks(trainer):
            self._measure_and_show(trainer, pl_module)
        elif not self.rows:
            self.rows = (read_record(folder_of(trainer) / ROWS) or {}).get("rows", [])

    def _measure_and_show(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        with stopping.released():
            self._measure_all(trainer, module)

    def _measure_all(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.metric = metric_of(module)
        started = time.perf_counter()
        before = Mask.full(module, self.grouping.parameters(module))
        groups = self.grouping(module, before)
        parts = (self.grouping, groups, self.criteria, self.repair)
        with owned_by(self, RENAMED):
            how = {"predict": self._predict, "data": self._data}
            scored = score(module, *parts, self._cache, watch=True, **how)  # type: ignore[arg-type]
        self.seconds["score"] = time.perf_counter() - started
        self._measure(trainer, module, groups, before, scored)
        self.seconds["curve"] = time.perf_counter() - started - self.seconds["score"]
        leave_scores(trainer, "unit_scores.safetensors", scored.scores)
        if trainer.is_global_zero:
            self._show(trainer, scored.scores, scored.seen)

    def _measure(
        self, trainer: pl.Trainer, module: pl.LightningModule, groups: Groups, before: Mask, scored: Scored
    ) -> None:
        """Measure the rows that are not on disk yet; on leaving every weight is as it was, to the bit."""
        path = folder_of(trainer) / ROWS
        repair = [self.repair.name, vars(self.repair)] if self.repair is not None else None
        of: dict[str, Any] = {
            "network": tensor_digest(module.state_dict()),
            "grouping": [self.grouping.word, vars(self.grouping)],
            "repair": repair,
            **({"scope": self.scope} if self.scope != "all" else {}),  # as curves of one layer have it on disk
            "scores": {name: tensor_digest({name: one.values}) for name, one in scored.scores.items()},
        }
        left = read_record(path) or {}
        done = {_point(row): row for row in left.get("rows", [])} if left.get("of") == of else {}
        measured: dict[bytes, float] = {}  # by what goes: rate 0 is the same network for all
        names = {
            *self.grouping.parameters(module),
            *(self.repair.changes(module, self.grouping) if self.repair else ()),
        }
        self.rows = []
        # After a fit the network is on the CPU: it is moved once, not for each point.
        with evaluating(module, trainer.strategy.root_device), _put_back(module, names) as put_back:
            for name, order, rate in ((n, o, r) for n, o in self._lines() for r in self.rates):
                row = done.get((name, order, rate))
                if row is None:
                    values, within = scored.scores[name].values, groups.within
                    goes = select(values, groups.sizes, rate, within=within, order=order, scope=self.scope)
                    key = goes.numpy().tobytes()
                    if key not in measured:
                        put_back()
                        remove(module, self.grouping, groups, goes, before, self.repair, scored.seen).apply(module)
                        measured[key] = value_of(trainer, module, TEST, self._predict, self._data)
                    removed = int(goes.sum())
                    row = {
                        "criterion": name,
                        "order": order,
                        "rate": rate,
                        "removed": removed,
                        **self._saved(module, removed),
                        f"test_{self.metric.key}": measured[key],
                    }
                    if trainer.is_global_zero:
                        write_record(path, {"of": of, "rows": [*self.rows, row]})
                self.rows.append(row)

    def _saved(self, module: pl.LightningModule, removed: int) -> dict[str, float]:
        """Of one layer; of all together it depends on which units go."""
        return {"saved": self.grouping.saved_share(module, removed)} if isinstance(self.grouping, Units) else {}

    def _show(self, trainer: pl.Trainer, scores: Mapping[str, Scores], seen: Seen) -> None:
        folder = folder_of(trainer)
        values = {name: found.values.numpy() for name, found in scores.items()}
        curves = draw_unit_curves(self.rows, self.metric, self.compensation)
        log_png(trainer, curves, folder / "figures" / "unit_curve.png", "unit_curve", 0)
        log_png(trainer, draw_scores(values), folder / "figures" / "scores.png", "scores", 0)
        first = next(iter(values))
        if isinstance(seen.outputs, UnitSeries):
            states = draw_states(seen.outputs.magnitude.numpy(), values[first], first)
            log_png(trainer, states, folder / "figures" / "states.png", "states", 0)
        if len(values) > 1:
            log_png(trainer, draw_scatter(values, first), folder / "figures" / "scatter.png", "scatter", 0)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                self._overlay(folder / "units")

    def _lines(self) -> list[tuple[str, str]]:
        """Criteria and orders; a criterion that has one order only is measured in that one."""
        return [(name, order) for name, c in self.criteria.items() for order in self.orders if order in c.orders]

    def _overlay(self, folder: Path) -> None:
        for name, order in self._lines():
            run = folder / f"{name}_{order}"
            for old in run.glob("events.out.tfevents.*"):
                old.unlink()
            with SummaryWriter(str(run)) as writer:
                for row in self.rows:
                    if (row["criterion"], row["order"]) == (name, order):
                        value = row[f"test_{self.metric.key}"]
                        writer.add_scalar(f"{self.metric.name}/units_removed", value, round(100 * row["rate"]))


def _point(row: Row) -> tuple[str, str, float]:
    return row["criterion"], row["order"], row["rate"]


@contextmanager
def _put_back(module: pl.LightningModule, names: Iterable[str]) -> Iterator[Callable[[], None]]:
    """Something to call that makes parameters what they are now, to the bit; it is called at the end."""
    saved = {name: find_parameter(module, name).detach().clone() for name in names}

    @torch.no_grad()
    def put_back() -> None:
        for name, value in saved.items():
            find_parameter(module, name).copy_(value)

    try:
        yield put_back
    finally:
        put_back()
