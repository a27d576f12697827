"""What makes up for units and gates that go: a linear map of the units that stay, a gate's own mean."""

from collections.abc import Mapping

from torch import Tensor, nn

from prunekit.calibration import Seen
from prunekit.groups import Grouping, Groups
from prunekit.repair import Repair
from prunekit.units.compensation import RIDGE, check_ridge, compensate
from prunekit.units.gates import gate_constants
from prunekit.units.grouping import Units


class Linear(Repair):
    """Linear compensation: what removed units said is said by a linear map of those that stay, fitted open loop.

    See :mod:`prunekit.units.compensation`.

    Args:
        ridge: of the least squares, relative to the outputs' mean variance, above 0.

    Raises:
        ArgumentError: if the ridge is not accepted.
    """

    name = "linear"
    needs = frozenset({"moments"})
    words = ("unit",)

    def __init__(self, ridge: float = RIDGE) -> None:
        self.ridge = check_ridge(ridge)

    def __call__(
        self, module: nn.Module, grouping: Grouping, groups: Groups, goes: Tensor, seen: Seen
    ) -> Mapping[str, Tensor]:
        """Fold the map into the recurrent weights and into the layer that reads the units."""
        assert isinstance(grouping, Units)
        layer = grouping.find(module)
        assert isinstance(layer, nn.RNNBase)
        assert seen.moments is not None
        compensate(layer, [grouping.reader(module)[1]], seen.moments, ~goes, ~groups.gone, self.ridge)
        return {}

    def changes(self, module: nn.Module, grouping: Grouping) -> list[str]:
        """The layer's parameters and the reader's."""
        assert isinstance(grouping, Units)
        name, reader = grouping.reader(module)
        return [*grouping.parameters(module), *(f"{name}.{own}" for own, _ in reader.named_parameters())]


class Mean(Repair):
    """A removed gate is at every step the mean that it was over the calibration batches, and is held there."""

    name = "mean"
    needs = frozenset({"means"})
    words = ("gate",)

    def __call__(
        self, module: nn.Module, grouping: Grouping, groups: Groups, goes: Tensor, seen: Seen
    ) -> Mapping[str, Tensor]:
        """The biases that hold the constants."""
        assert isinstance(grouping, Units)
        assert seen.means is not None
        return gate_constants(grouping.layer, goes & ~groups.gone, seen.means)
