"""Unit pruning: the units of an LSTM, or single gates of units, that a criterion puts first go."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from prunekit.callbacks.pruning import PruningCallback, current_values, equal_on_ranks
from prunekit.callbacks.scoring import check_grain, check_module, find_lstm, find_reader, leave_scores, score
from prunekit.errors import ConfigError, check_choice
from prunekit.masks import Mask, exact_count, gradual_rate
from prunekit.reuse import SharedScores
from prunekit.units.compensation import COMPENSATIONS, RIDGE, check_ridge, compensate
from prunekit.units.criteria.criterion import Criterion
from prunekit.units.gates import gate_constants
from prunekit.units.moments import OutputMoments
from prunekit.units.removal import ORDERS, gate_mask, gates_kept, kept_units, unit_mask, unit_parameters, units_kept


class UnitMask(PruningCallback):
    """Removes the share ``rate`` of the units of an LSTM's last layer, in the order of a criterion's scores.

    Exactly ``round(rate * units)`` are gone after the last round, ties by index; of several rounds each removes the
    same share of what is left. A removed unit's output is exactly 0 at every step. Leaves ``scores.safetensors``, the
    last round's scores by criterion. With linear compensation the layers that read the units change as well, in the
    columns of those that stay and in their biases: see :mod:`prunekit.units.compensation`.

    With ``granularity=gate`` it is gates that go, of four times as many: a removed gate is at every step the mean that
    it was over the training clips, and is held there (:mod:`prunekit.units.gates`).

    Args:
        criterion: what scores units or gates, on training data only.
        rate: share of the units or gates removed in the end, in [0, 1].
        order: ``ascending`` removes the lowest scores first, ``descending`` the highest.
        lstm: name of an ``nn.LSTM`` in the model.
        head: name of the part that makes logits of its outputs, at any step.
        compensation: ``none``, or ``linear``: what removed units said is said by a linear map of those that stay.
        ridge: of that map's least squares, relative to the outputs' mean variance, above 0.
        granularity: what goes, each ``unit`` or each ``gate``; gates of an LSTM of one layer, without compensation.
        rounds: number of events.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.

    Attributes:
        shared_scores: where runs keep scores for each other; None for nowhere.

    Raises:
        ConfigError: if a value is not accepted; at the start of ``fit`` if a name is not the module's.
    """

    name: ClassVar[str] = "unit_mask"

    def __init__(
        self,
        criterion: Criterion,
        rate: float,
        order: Literal["ascending", "descending"] = "descending",
        lstm: str = "lstm",
        head: str = "head",
        compensation: Literal["none", "linear"] = "none",
        ridge: float = RIDGE,
        granularity: Literal["unit", "gate"] = "unit",
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
    ) -> None:
        super().__init__([], rate, rounds, retrain_epochs, start_epoch)
        check_choice(self.key("order"), order, ORDERS)
        if order not in criterion.orders:
            accepted = f"{' or '.join(criterion.orders)} for {criterion.name}"
            raise ConfigError(self.key("order"), order, accepted)
        check_choice(self.key("compensation"), compensation, COMPENSATIONS)
        self.compensation, self.ridge = compensation, check_ridge(self.key("ridge"), ridge)
        self.granularity = check_grain(f"callbacks.{self.name}", granularity, [criterion], compensation)
        self._moments: OutputMoments | None = None
        self._means: Tensor | None = None
        self._kept = torch.ones(0, dtype=torch.bool)
        if granularity == "gate":  # beside a callback that removes units
            self._state_key = self._generate_state_key(lstm=lstm, granularity=granularity, start_epoch=start_epoch)
        self.criterion, self.order, self.lstm, self.head = criterion, order, lstm, head
        self.shared_scores: SharedScores | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's mask, which with the values says what is kept."""
        super().load_state_dict(state_dict)
        if self.mask:
            self._kept = self._there(self.mask, self.values, list(self.mask))

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module without the LSTM or the head."""
        key, asked = f"callbacks.{self.name}", (self.granularity, self.compensation)
        layer = check_module(module, self.lstm, self.head, [self.criterion], *asked, key)
        self.parameters = unit_parameters(layer, self.lstm)
        super().check(module)

    def select(self, module: pl.LightningModule, mask: Mask) -> Mask:
        """Score the units or gates as they are now and keep all but the first in the order."""
        criteria = {self.criterion.name: self.criterion}
        shared = self.shared_scores if self.rounds_done == 0 else None  # a retrained network is this run's alone
        wanted = self.compensation != "none"
        key = f"callbacks.{self.name}"
        scores, _, self._moments, self._means = score(
            module, self.lstm, self.head, criteria, key, shared, moments=wanted, grain=self.granularity
        )
        found = scores[self.criterion.name]
        before = self._there(mask, current_values(module.trainer), self.parameters)
        k = exact_count(gradual_rate(self.rate, self.rounds_done + 1, self.rounds), len(before))
        kept = kept_units(found.values, k, self.order, before)
        self._kept = kept
        leave_scores(module.trainer, "scores.safetensors", scores)
        layer = find_lstm(module, self.lstm, self.key("lstm"))
        return (gate_mask if self.granularity == "gate" else unit_mask)(layer, self.lstm, kept) & mask

    def hold_at(self, values: dict[str, Tensor], before: Mask, after: Mask) -> dict[str, Tensor]:
        """Gates that go become their means; units that go take any constants of their gates along."""
        if self.granularity == "unit":
            gone = ~self._kept.repeat(4)
            return {
                name: value.masked_fill(gone, 0.0) if name in self.parameters else value
                for name, value in values.items()
            }
        assert self._means is not None
        new = gate_constants(self.lstm, gates_kept(before, self.parameters[0]) & ~self._kept, self._means)
        return {**values, **{name: value + values.get(name, 0.0) for name, value in new.items()}}

    def adjust(self, trainer: pl.Trainer, module: pl.LightningModule, before: Mask, after: Mask) -> None:
        """Compensate what the mask is about to remove."""
        if self.compensation == "none":
            return
        assert self._moments is not None
        layer = find_lstm(module, self.lstm, self.key("lstm"))
        _, reader = find_reader(module, self.lstm, self.head, f"callbacks.{self.name}")
        there = self._there(before, current_values(trainer), self.parameters)
        compensate(layer, [reader], self._moments, self._kept, there, self.ridge)
        self._moments = None
        equal_on_ranks(trainer, [*layer.parameters(), *reader.parameters()])

    def achieved(self) -> dict[str, float]:
        """The share of units or gates removed."""
        return {f"{self.lstm}.{self.granularity}s": 1 - float(self._kept.double().mean())} if self.mask else {}

    def report(self) -> dict[str, Any]:
        """Criterion, order and rate, and how many units there were and went."""
        if not self.mask:
            return {}
        kept = self._kept
        number = {"count": len(kept), "removed": int((~kept).sum())}
        setting = {"criterion": self.criterion.name, "order": self.order, "rate": self.rate}
        return {**setting, "compensation": self.compensation, f"{self.granularity}s": number}

    def _there(self, mask: Mask, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """The units or gates that a mask and values of parameters of these names leave; constant gates make a unit."""
        if self.granularity == "gate":
            return gates_kept(mask, names[0])
        kept = units_kept(mask, names[0])
        for name in names:
            if name in values:
                kept = kept | (values[name] != 0).view(4, len(kept)).any(0)
        return kept
