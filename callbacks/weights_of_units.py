"""Single weights in place of units: what is lost where as many go, but no tensor becomes smaller."""

import copy
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.criterion import Criterion
from prunekit.criteria.magnitude import Magnitude
from prunekit.errors import ArgumentError, check_choice, check_rate, owned_by
from prunekit.groups import Grouping, Weights
from prunekit.masks import Mask
from prunekit.selection import exact_count
from prunekit.units.compaction import compact
from prunekit.units.grouping import Units
from prunekit.units.links import recurrent_link
from prunekit.units.network_units import NetworkUnits
from prunekit.units.unit_grouping import UnitGrouping


class InPlaceOfUnits(Pruning):
    """What is told of units, and takes something else of the weights that would go with them.

    Args:
        grouping: as of :class:`~prunekit.callbacks.pruning.Pruning`, as the next is.
        criterion: likewise.
        rate: likewise, of its own groups.
        units: of the units: the share of them, in [0, 1), names of the recurrent layer and of the head, and which of
            its ``layers`` count, ``last`` or ``every``.
        given: what else the base takes.
    """

    def __init__(
        self,
        grouping: Grouping,
        criterion: Criterion,
        rate: float,
        units: tuple[float, str, str | None, str],
        **given: Any,
    ) -> None:
        share, self.lstm, self.head, self.layers = units
        check_choice("layers", self.layers, ("last", "every"))
        self.units_rate = check_rate("rate", share)
        super().__init__(grouping, criterion, rate, **given)

    def counts(self, module: pl.LightningModule) -> dict[str, tuple[int, int]]:
        """What would go with the units, and what there is: see :func:`weights_of_units`."""
        with owned_by(self, {"layer": "lstm", "layers": "lstm"}):
            return weights_of_units(module, self.lstm, self.head, self.units_rate, self.layers)


class WeightsOfUnits(InPlaceOfUnits):
    """Removes single weights of smallest magnitude, as many as would go with the share ``rate`` of a layer's units.

    Cutting units out makes the weights of their layer and of its readers fewer. As many go here, of the same
    parameters, ranked together, each for itself: the reference for what units cost because they go whole. Zeros make
    no tensor smaller, so the network stays as large and as slow as it was.

    Args:
        rate: share of the units whose weights are counted, in [0, 1); at least one unit stays in each layer.
        lstm: name of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` in the model.
        head: name of the part that makes logits of its outputs.
        layers: whose units are counted: those of the ``last`` layer or of ``every`` layer and direction.
        rounds: number of events.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.
        name: in events, results and logs.

    Raises:
        ArgumentError: if a value is not accepted; at the start of ``fit`` if a name is not the module's, or the rate
            leaves no unit.

    Source: the reference of Han and others, Learning both weights and connections, 2015.

    Example:
        >>> WeightsOfUnits(0.5, "memory", "say", start_epoch=3).schedule.end
        3
    """

    default_name = "weights_of_units"

    def __init__(
        self,
        rate: float,
        lstm: str = "lstm",
        head: str | None = "head",
        layers: Literal["last", "every"] = "last",
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
        name: str | None = None,
    ) -> None:
        schedule = {"rounds": rounds, "retrain_epochs": retrain_epochs, "start_epoch": start_epoch}
        super().__init__(Weights(), Magnitude(), rate, (rate, lstm, head, layers), **schedule, name=name)

    def check(self, module: pl.LightningModule) -> None:
        """Count what would go with the units, and refuse a module that does not fit."""
        counts = self.counts(module)
        self.grouping = Weights(list(counts))
        self.rate = sum(gone for gone, _ in counts.values()) / sum(whole for _, whole in counts.values())
        super().check(module)

    def report(self) -> dict[str, Any]:
        """Nothing: the achieved sparsities say it all."""
        return {}


@torch.no_grad()
def weights_of_units(
    module: nn.Module, lstm: str, head: str | None, rate: float, layers: str = "last"
) -> dict[str, tuple[int, int]]:
    """How many weights go where the share ``rate`` of units is cut out, and how many there are, by parameter.

    Args:
        module: holds both parts; it stays as it is.
        lstm: name of a recurrent layer.
        head: name of what reads it.
        rate: share of the units of each layer and direction, in [0, 1).
        layers: ``last`` or ``every``.

    Returns:
        name of each weight that becomes smaller -> entries that go, entries.

    Raises:
        ArgumentError: if a name is not the module's, the head is none, or the rate leaves no unit.

    Example:
        >>> net = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "head": nn.Linear(4, 2)})
        >>> weights_of_units(net, "lstm", "head", 0.5)
        {'lstm.weight_ih_l0': (24, 48), 'lstm.weight_hh_l0': (48, 64), 'head.weight': (4, 8)}
    """
    _units(lstm, head, layers).check(module, frozenset())
    # Of these two alone: what else a module holds, a trainer among it, needs no copy.
    whole = nn.ModuleDict(
        {"layer": copy.deepcopy(module.get_submodule(lstm)), "head": copy.deepcopy(_part(module, head))}
    )
    for parameter in whole.parameters():
        parameter.fill_(1.0)  # a unit that happens to be 0 already is one of those that stay
    units = _units("layer", "head", layers)
    groups = units(whole, Mask.full(whole, units.parameters(whole)))
    goes = torch.zeros(len(groups), dtype=torch.bool)
    for place in set(groups.within.tolist()):
        own = (groups.within == place).nonzero().flatten()
        if (gone := exact_count(rate, len(own))) == len(own):
            raise ArgumentError("rate", rate, f"one that leaves some of {len(own)} units")
        goes[own[:gone]] = True
    units.mask(whole, goes).apply(whole)
    try:
        cut = compact(whole, [recurrent_link(whole, "layer", "head")], tell=False)
    except ValueError as error:
        raise ArgumentError("head", f"{head}: {error}", "a head that begins with an nn.Linear") from None
    left = {cut.origin[name][0]: parameter.numel() for name, parameter in cut.module.named_parameters()}
    names = {"layer": lstm, "head": head}
    counts = {name: (p.numel() - left[name], p.numel()) for name, p in whole.named_parameters() if p.dim() > 1}
    return {
        f"{names[name.partition('.')[0]]}.{name.partition('.')[2]}": count for name, count in counts.items() if count[0]
    }


def _units(lstm: str, head: str | None, layers: str) -> UnitGrouping:
    return NetworkUnits([lstm]) if layers == "every" else Units(lstm, head)


def _part(module: nn.Module, head: str | None) -> nn.Module:
    parts = {name: part for name, part in module.named_modules() if name}
    if head is None or head not in parts:
        accepted = f"the part of the model that makes logits of the layer's outputs; {', '.join(parts)}"
        raise ArgumentError("head", head, accepted)
    found: nn.Module = parts[head]
    return found
