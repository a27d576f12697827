"""Unit pruning: the units of a recurrent layer, or single gates of units, that a criterion puts first go."""

from typing import Any, Literal

from prunekit.cache import Cache
from prunekit.calibration import Predict
from prunekit.callbacks.measure import Data
from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.criterion import Criterion
from prunekit.errors import ArgumentError, check_choice
from prunekit.repair import Repair
from prunekit.units.compensation import RIDGE, check_ridge
from prunekit.units.grouping import Gates, Units
from prunekit.units.network_units import NetworkUnits
from prunekit.units.repair import ClosedLoop, Linear, Mean
from prunekit.units.unit_grouping import UnitGrouping

GRANULARITIES, LAYERS = ("unit", "gate"), ("last", "every")
COMPENSATIONS = ("none", "linear", "closed_loop")


class UnitMask(Pruning):
    """Removes the share ``rate`` of the units of a recurrent module's last layer, in the order of a criterion's scores.

    Exactly ``round(rate * units)`` are gone after the last round, ties by index; of several rounds each removes the
    same share of what is left. A removed unit's output is exactly 0 at every step. Leaves ``scores.safetensors``, the
    last round's scores by criterion. With linear compensation the layers that read the units change as well, in the
    columns of those that stay and in their biases: see :mod:`prunekit.units.compensation`; in closed loop all weights
    of these layers do: :mod:`prunekit.units.closed_loop`.

    With ``layers=every`` the units of all its layers and directions go; what is looked at are then steps that are no
    padding, as the data module's ``valid(batch)`` tells, and success at each step is what the model calls so
    (``success(batch)``).

    With ``granularity=gate`` it is gates that go, of four times as many: a removed gate is at every step the mean that
    it was over the training clips, and is held there (:mod:`prunekit.units.gates`).

    Args:
        criterion: what scores units or gates, on training data only.
        rate: share of the units or gates removed in the end, in [0, 1].
        order: ``ascending`` removes the lowest scores first, ``descending`` the highest.
        lstm: name of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` in the model.
        head: name of the part that makes logits of its outputs, at any step; None where nobody looks at these.
        compensation: ``none``; ``linear``: what removed units said is said by a linear map of those that stay; or
            ``closed_loop``: every layer from this one on is refitted on what it reads in the pruned network.
        ridge: of the linear map's least squares, relative to the outputs' mean variance, above 0.
        granularity: what goes, each ``unit`` or each ``gate``; gates of an LSTM of one layer, without compensation.
        layers: whose units go: those of the ``last`` layer or of ``every`` layer and direction.
        scope: among what units are ranked, ``all`` together or those ``within`` one layer and direction.
        rounds: number of events.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.
        predict: as of :class:`~prunekit.callbacks.pruning.Pruning`, as the next three are.
        data: likewise.
        cache: likewise.
        name: likewise.

    Raises:
        ArgumentError: if a value is not accepted; at the start of ``fit`` if a name is not the module's.
    """

    default_name = "unit_mask"
    renamed = {"layer": "lstm", "layers": "lstm"}  # noqa: RUF012 - the base class declares it

    def __init__(
        self,
        criterion: Criterion,
        rate: float,
        order: Literal["ascending", "descending"] = "descending",
        lstm: str = "lstm",
        head: str | None = "head",
        compensation: Literal["none", "linear", "closed_loop"] = "none",
        ridge: float = RIDGE,
        granularity: Literal["unit", "gate"] = "unit",
        layers: Literal["last", "every"] = "last",
        scope: Literal["all", "within"] = "all",
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
        predict: Predict | None = None,
        data: Data | None = None,
        cache: Cache | None = None,
        name: str | None = None,
    ) -> None:
        grouping, repair = parts_of(lstm, head, granularity, compensation, ridge, layers)
        self.lstm, self.head = lstm, head
        schedule = {"scope": scope, "rounds": rounds, "retrain_epochs": retrain_epochs, "start_epoch": start_epoch}
        given = {"predict": predict, "data": data, "cache": cache, "name": name}
        super().__init__(grouping, criterion, rate, order, repair=repair, **schedule, **given)  # type: ignore[arg-type]
        self.compensation = compensation

    def report(self) -> dict[str, Any]:
        """Criterion, order and rate, and how many units or gates there were and went."""
        return {**report, "compensation": self.compensation} if (report := super().report()) else {}


def parts_of(
    lstm: str, head: str | None, granularity: str, compensation: str, ridge: float, layers: str = "last"
) -> tuple[UnitGrouping, Repair | None]:
    """The grouping and the repair that these words stand for.

    Raises:
        ArgumentError: if a word is not accepted, or gates are to be compensated, or to go from every layer.
    """
    check_choice("layers", layers, LAYERS)
    check_choice("granularity", granularity, GRANULARITIES)
    check_choice("compensation", compensation, COMPENSATIONS)
    check_ridge(ridge)
    if granularity == "gate" and compensation != "none":
        accepted = "none with granularity=gate: a removed gate is no linear map of others"
        raise ArgumentError("compensation", compensation, accepted)
    if layers == "every" and granularity == "gate":
        raise ArgumentError("granularity", granularity, "unit with layers=every")
    if granularity == "gate":
        return Gates(lstm, head), Mean()
    repairs: dict[str, Repair] = {"linear": Linear(ridge), "closed_loop": ClosedLoop()}
    return NetworkUnits([lstm]) if layers == "every" else Units(lstm, head), repairs.get(compensation)
