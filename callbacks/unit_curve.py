"""Accuracy against the rate of removed units: criteria x orders x rates on one trained network."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from prunekit.callbacks.images import log_png
from prunekit.callbacks.measure import TEST, accuracy
from prunekit.callbacks.pruning import PruningObserver, pruning_callbacks
from prunekit.callbacks.scoring import check_grain, check_module, find_lstm, find_reader, leave_scores, score
from prunekit.errors import ConfigError, check_choice, check_rate
from prunekit.figures.units import draw_scatter, draw_scores, draw_states, draw_unit_curves
from prunekit.files import write_json
from prunekit.folders import read_json
from prunekit.masks import exact_count, find_parameter
from prunekit.reuse import SharedScores
from prunekit.units.compensation import COMPENSATIONS, RIDGE, check_ridge, compensate
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.gates import gate_constants
from prunekit.units.moments import OutputMoments
from prunekit.units.removal import ORDERS, gate_mask, kept_units, saved_share, unit_mask, unit_parameters
from prunekit.units.series import UnitSeries

ROWS = "unit_curve.json"


class Row(TypedDict):
    """One point: the network with so many units or gates removed, without retraining.

    ``saved`` is the share of the LSTM's multiply-adds that need no longer be done.
    """

    criterion: str
    order: str
    rate: float
    removed: int
    saved: float
    test_acc: float


class UnitCurve(PruningObserver):
    """Removes units of the dense network by every criterion, order and rate, measures each and puts them back.

    Each row is on disk (``unit_curve.json``) as soon as it is measured; a run that was cut off measures the rest.
    Leaves ``scores.safetensors`` as well, curves and the scores' pictures in ``figures/``, and one TensorBoard run for
    each criterion and order in ``units/``, whose step is the rate in percent.

    Args:
        criteria: by name.
        rates: shares of the units to remove, in [0, 1].
        orders: ``ascending``, ``descending`` or both; a criterion that makes sense in one only is measured in that one.
        lstm: name of an ``nn.LSTM`` in the model, whose last layer's units these are.
        head: name of the part that makes logits of its outputs, at any step.
        compensation: ``none``, or ``linear``: at each point what removed units said is said by a
            linear map of the rest.
        ridge: of that map's least squares, relative to the outputs' mean variance, above 0.
        granularity: what is removed, each ``unit`` or each ``gate``, which then becomes its mean.

    Attributes:
        shared_scores: where runs keep scores for each other; None for nowhere.

    Raises:
        ConfigError: if a value is not accepted; at the start of ``fit`` if a name is not the module's.
    """

    def __init__(
        self,
        criteria: Mapping[str, Criterion],
        rates: Sequence[float],
        orders: Sequence[Literal["ascending", "descending"]] = ("descending", "ascending"),
        lstm: str = "lstm",
        head: str = "head",
        compensation: Literal["none", "linear"] = "none",
        ridge: float = RIDGE,
        granularity: Literal["unit", "gate"] = "unit",
    ) -> None:
        if not criteria or not rates or not orders:
            raise ConfigError("callbacks.unit_curve", "no criteria, rates or orders", "at least one of each")
        self.criteria = {name: one for name, one in criteria.items() if granularity in one.grains}
        self.granularity = check_grain("callbacks.unit_curve", granularity, self.criteria.values(), compensation)
        if not self.criteria:
            raise ConfigError("callbacks.unit_curve.granularity", granularity, "what one of the criteria scores")
        self.rates = [check_rate("callbacks.unit_curve.rates", rate) for rate in rates]
        for order in orders:
            check_choice("callbacks.unit_curve.orders", order, ORDERS)
        self.orders, self.lstm, self.head = list(orders), lstm, head
        if not self._lines():
            accepted = f"an order that {', '.join(self.criteria)} makes sense in"
            raise ConfigError("callbacks.unit_curve.orders", self.orders, accepted)
        check_choice("callbacks.unit_curve.compensation", compensation, COMPENSATIONS)
        self.compensation, self.ridge = compensation, check_ridge("callbacks.unit_curve.ridge", ridge)
        self.shared_scores: SharedScores | None = None
        self.rows: list[Row] = []
        self.seconds = {"score": 0.0, "curve": 0.0}

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module without the LSTM or the head."""
        criteria, asked = self.criteria.values(), (self.granularity, self.compensation)
        check_module(module, self.lstm, self.head, criteria, *asked, "callbacks.unit_curve")

    def report(self) -> dict[str, Any]:
        """All rows."""
        return {"unit_curve": self.rows}

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Measure the dense network, before anything is removed for good."""
        if not any(callback.rounds_done for callback in pruning_callbacks(trainer)):
            self._measure_and_show(trainer, module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the dense network, if nothing prunes it; and make sure that rows are there after a resume."""
        if not pruning_callbacks(trainer):
            self._measure_and_show(trainer, pl_module)
        elif not self.rows:
            self.rows = read_json(Path(trainer.default_root_dir) / ROWS, "paths.runs_dir") or []

    def _measure_and_show(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        started = time.perf_counter()
        linear = self.compensation != "none"
        scores, series, moments, means = score(
            module,
            self.lstm,
            self.head,
            self.criteria,
            "callbacks.unit_curve",
            self.shared_scores,
            watch=True,
            moments=linear,
            grain=self.granularity,
        )
        self.seconds["score"] = time.perf_counter() - started
        compensated = Compensated(self.head, moments, self.ridge) if linear and moments is not None else None
        self._measure(trainer, module, scores, Removal(module, self.lstm, compensated, means))
        self.seconds["curve"] = time.perf_counter() - started - self.seconds["score"]
        leave_scores(trainer, "unit_scores.safetensors", scores)
        if trainer.is_global_zero:
            self._show(trainer, scores, series)

    def _measure(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        scores: Mapping[str, Scores],
        removal: "Removal",
    ) -> None:
        """Measure the rows that are not on disk yet."""
        path = Path(trainer.default_root_dir) / ROWS
        done = {(row["criterion"], row["order"], row["rate"]): row for row in read_json(path, "paths.runs_dir") or []}
        measured: dict[bytes, float] = {}  # by what is kept: rate 0 is the same network for all
        self.rows = []
        with removal:
            for name, order, rate in ((n, o, r) for n, o in self._lines() for r in self.rates):
                row = done.get((name, order, rate))
                if row is None:
                    values = scores[name].values
                    removed = exact_count(rate, len(values))
                    kept = kept_units(values, removed, order)
                    key = kept.numpy().tobytes()
                    if key not in measured:
                        removal.keep(kept)
                        measured[key] = accuracy(trainer, module, TEST)
                    row = Row(
                        criterion=name,
                        order=order,
                        rate=rate,
                        removed=removed,
                        saved=removal.saved(removed),
                        test_acc=measured[key],
                    )
                    done[name, order, rate] = row
                    if trainer.is_global_zero:
                        write_json(path, [*self.rows, row])
                self.rows.append(row)

    def _show(self, trainer: pl.Trainer, scores: Mapping[str, Scores], series: UnitSeries | None) -> None:
        folder = Path(trainer.default_root_dir)
        values = {name: found.values.numpy() for name, found in scores.items()}
        log_png(trainer, draw_unit_curves(self.rows), folder / "figures" / "unit_curve.png", "unit_curve", 0)
        log_png(trainer, draw_scores(values), folder / "figures" / "scores.png", "scores", 0)
        first = next(iter(values))
        if series is not None:
            states = draw_states(series.magnitude.numpy(), values[first], first)
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
                        writer.add_scalar("accuracy/units_removed", row["test_acc"], round(100 * row["rate"]))


class Compensated(NamedTuple):
    """That removals are compensated, and what that takes."""

    head: str
    moments: OutputMoments
    ridge: float


class Removal:
    """Removes units of a module's LSTM for a while; on leaving every weight is as it was, to the bit.

    Args:
        module: whose units.
        lstm: name of the LSTM.
        compensated: how the rest makes up for them; None for not at all.
        means: of the gates, if gates are removed instead of units.
    """

    def __init__(
        self,
        module: pl.LightningModule,
        lstm: str,
        compensated: Compensated | None = None,
        means: Tensor | None = None,
    ) -> None:
        self._module, self._name, self._compensated, self._means = module, lstm, compensated, means
        self._lstm = find_lstm(module, lstm, "lstm")
        self._names = unit_parameters(self._lstm, lstm)
        if compensated is not None:
            name, self._reader = find_reader(module, lstm, compensated.head, "unit_curve")
            self._names += [f"{name}.{own}" for own, _ in self._reader.named_parameters()]
        self._saved: dict[str, Tensor] = {}

    def __enter__(self) -> "Removal":
        self._saved = {name: find_parameter(self._module, name).detach().clone() for name in self._names}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def keep(self, kept: Tensor) -> None:
        """Have these units, ``(units,)`` bool, and no others; or these gates, ``(4 * units,)``."""
        self._restore()
        if self._compensated is not None:
            compensate(self._lstm, [self._reader], self._compensated.moments, kept, ridge=self._compensated.ridge)
        if self._means is None:
            unit_mask(self._lstm, self._name, kept).apply(self._module)
        else:
            constants = gate_constants(self._name, ~kept, self._means)
            gate_mask(self._lstm, self._name, kept).apply(self._module, constants)

    def saved(self, removed: int) -> float:
        """The share of the last layer's multiply-adds that so many removed units or gates save."""
        lstm = self._lstm
        inputs = lstm.get_parameter(self._names[0].rpartition(".")[2]).shape[1]
        return saved_share(inputs, lstm.hidden_size, removed, "unit" if self._means is None else "gate")

    @torch.no_grad()
    def _restore(self) -> None:
        for name, saved in self._saved.items():
            find_parameter(self._module, name).copy_(saved)
