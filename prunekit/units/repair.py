"""What makes up for units and gates that go: a linear map of the units that stay, a gate's own mean."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunekit.calibration import Seen, evaluating
from prunekit.errors import check_count
from prunekit.groups import Grouping, Groups
from prunekit.repair import Repair
from prunekit.units.closed_loop import PASSES, REFITTED, TURNS, close_loop
from prunekit.units.compensation import RIDGE, check_ridge, compensate, make_up
from prunekit.units.gates import gate_constants
from prunekit.units.grouping import Units
from prunekit.units.network_units import NetworkUnits
from prunekit.units.parts import parts_of
from prunekit.units.refitting import RIDGES
from prunekit.units.unit_grouping import UnitGrouping

log = logging.getLogger("prunekit")


class Linear(Repair):
    """Linear compensation: what removed units said is said by a linear map of those that stay, fitted open loop.

    See :mod:`prunekit.units.compensation`.

    Args:
        ridge: of the least squares, relative to the outputs' mean variance, above 0.

    Raises:
        ArgumentError: if the ridge is not accepted.
    """

    name = "linear"
    needs = frozenset({"moments", "readers", "calibration"})
    words = ("unit",)

    def __init__(self, ridge: float = RIDGE) -> None:
        self.ridge = check_ridge(ridge)

    def __call__(
        self, module: nn.Module, grouping: Grouping, groups: Groups, goes: Tensor, seen: Seen
    ) -> Mapping[str, Tensor]:
        """Fold the map into the recurrent weights and into the layers that read the units."""
        assert seen.moments is not None
        if isinstance(grouping, NetworkUnits):
            assert seen.calibration is not None
            parts = grouping.parts(module)
            sizes = [part.units for part in parts]
            both = zip(torch.split(~goes, sizes), torch.split(goes & ~groups.gone, sizes), strict=True)
            # All found before any of them changes: what reads what is seen by running the network.
            readings = [grouping.readings(module, part, seen.calibration) for part in parts]
            for own, moments, (kept, gone) in zip(readings, seen.moments, both, strict=True):
                make_up(own, moments, kept, gone, self.ridge)
            return {}
        assert isinstance(grouping, Units)
        layer = grouping.find(module)
        assert isinstance(layer, nn.RNNBase)
        compensate(layer, [grouping.reader(module)[1]], seen.moments[0], ~goes, ~groups.gone, self.ridge)
        return {}

    def changes(self, module: nn.Module, grouping: Grouping) -> list[str]:
        """The layer's parameters and the reader's; of a network those of all layers that may read units."""
        if isinstance(grouping, NetworkUnits):
            return _refittable(module)
        assert isinstance(grouping, Units)
        name, reader = grouping.reader(module)
        return [*grouping.parameters(module), *(f"{name}.{own}" for own, _ in reader.named_parameters())]


class ClosedLoop(Repair):
    """What stays learns to say, on what it reads in the pruned network, what it said before.

    See :mod:`prunekit.units.closed_loop`.

    For units of any recurrent layers. All recurrent and linear layers from the first that loses units on may change.
    Batches are held out whole to say which pass was best: where sequences come in kinds, of speakers say, a batch
    should have those of one.

    Args:
        ridge: towards the present weights, relative to the mean square of what is read, above 0; None for the one that
            does best on held-out batches, for each layer.
        passes: over all layers.
        turns: how often a layer is fitted to its own new trajectory in a pass.

    Raises:
        ArgumentError: if a value is not accepted.
    """

    name = "closed_loop"
    needs = frozenset({"calibration"})
    words = ("unit",)

    def __init__(self, ridge: float | None = None, passes: int = PASSES, turns: int = TURNS) -> None:
        self.ridge = None if ridge is None else check_ridge(ridge)
        self.passes = check_count("passes", passes, least=1)
        self.turns = check_count("turns", turns, least=1)

    def __call__(
        self, module: nn.Module, grouping: Grouping, groups: Groups, goes: Tensor, seen: Seen
    ) -> Mapping[str, Tensor]:
        """Refit layer after layer; what came of it is logged."""
        assert isinstance(grouping, UnitGrouping)
        assert seen.calibration is not None
        parts = grouping.parts(module)
        own = torch.split(goes.cpu(), [part.units for part in parts])
        gone = {part.key: each for part, each in zip(parts, own, strict=True)}
        with evaluating(module):
            ridges = RIDGES if self.ridge is None else (self.ridge,)
            found = close_loop(module, gone, seen.calibration, ridges, self.passes, self.turns)
        log.info(
            "closed loop: on held-out batches outputs differ from before by %s; kept: %s",
            ", ".join(f"{error**0.5:.2%} {_when(turn)}" for turn, error in enumerate(found.errors)),
            _when(found.best),
        )
        for name, why in found.left.items():
            log.warning("closed loop left %s as it is: it %s", name, why)
        return {}

    def changes(self, module: nn.Module, grouping: Grouping) -> list[str]:
        """The parameters of all layers that may be refitted."""
        return _refittable(module)


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


def _when(turn: int) -> str:
    return f"after pass {turn}" if turn else "without repair"


def _refittable(module: nn.Module) -> list[str]:
    """The names of the parameters of all recurrent and linear layers."""
    layers = [name for name, part in module.named_modules() if type(part) in REFITTED]
    return [name for layer in layers for part in parts_of(module, layer) for name in part.names]
