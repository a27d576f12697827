"""Weights of low rank in place of units: as many multiply-adds a step, but no tensor becomes smaller."""

from typing import Any, Literal

import pytorch_lightning as pl

from prunekit.calibration import Predict
from prunekit.callbacks.measure import Data
from prunekit.callbacks.weights_of_units import InPlaceOfUnits
from prunekit.criteria.l1_norm import L1Norm
from prunekit.units.low_rank import LowRank
from prunekit.units.network_units import NetworkUnits


class _NoneGoes(NetworkUnits):
    """Units that are not counted, since none of them goes."""

    def label(self) -> None:  # type: ignore[override]
        """Nothing in results."""


class LowRankWeights(InPlaceOfUnits):
    """Puts a recurrent layer's weights and its readers' at a low rank, as cheap as without the share ``rate`` of units.

    Cutting units out makes a step's multiply-adds fewer. As many stay here, of the same matrices, each as the product
    of two thin ones: see :mod:`prunekit.units.low_rank`. It takes what the repair of units takes, training data without
    labels and seconds, so it is what that has to be held against. No unit goes and no tensor becomes smaller; to run
    the two thin matrices wants a layer of one's own.

    Args:
        rate: share of the units whose multiply-adds are saved, in [0, 1); at least one unit stays in each layer.
        lstm: name of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` in the model.
        head: name of the part that makes logits of its outputs.
        layers: whose units are counted: those of the ``last`` layer or of ``every`` layer and direction.
        start_epoch: epochs trained before the event.
        predict: as of :class:`~prunekit.callbacks.pruning.Pruning`, as the next two are.
        data: likewise.
        name: likewise.

    Raises:
        ArgumentError: if a value is not accepted; at the start of ``fit`` if a name is not the module's, or the rate
            leaves no unit.

    Example:
        >>> LowRankWeights(0.5, "memory", "say", start_epoch=3).schedule.end
        3
    """

    default_name = "low_rank_weights"

    def __init__(
        self,
        rate: float,
        lstm: str = "lstm",
        head: str | None = "head",
        layers: Literal["last", "every"] = "last",
        start_epoch: int = 0,
        predict: Predict | None = None,
        data: Data | None = None,
        name: str | None = None,
    ) -> None:
        self._factored = LowRank([], 0)
        given = {"start_epoch": start_epoch, "predict": predict, "data": data, "name": name}
        units = (rate, lstm, head, layers)
        super().__init__(_NoneGoes([lstm]), L1Norm(), 0.0, units, repair=self._factored, **given)

    def check(self, module: pl.LightningModule) -> None:
        """Count what would go with the units, and refuse a module that does not fit."""
        counts = self.counts(module)
        self._factored.weights = list(counts)
        self._factored.budget = sum(whole - gone for gone, whole in counts.values())
        super().check(module)

    def report(self) -> dict[str, Any]:
        """The ranks by layer, and the multiply-adds of a step within which they were chosen."""
        return {"ranks": self._factored.ranks, "budget": self._factored.budget} if self.mask else {}

    def state_dict(self) -> dict[str, Any]:
        """What the base keeps, and the ranks."""
        return {**super().state_dict(), "ranks": dict(self._factored.ranks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's mask and ranks."""
        super().load_state_dict(state_dict)
        self._factored.ranks = dict(state_dict["ranks"])
