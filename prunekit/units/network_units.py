"""The units of a whole network: of every layer and direction of every recurrent module, of every recurrent cell."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration, Seen
from prunekit.errors import ArgumentError
from prunekit.units.codes import LEVELS, count_levels, encode_outputs
from prunekit.units.compensation import Reading
from prunekit.units.layers import check_layer, level, reading, suffixes
from prunekit.units.links import Link, sequential_links
from prunekit.units.moments import Moments, OutputMoments
from prunekit.units.network_series import SUCCESS, NetworkSeries, PartSeries, check_success
from prunekit.units.parts import Key, Part, parts_of, recurrent_layers
from prunekit.units.series import Levels
from prunekit.units.tracing import trace
from prunekit.units.unit_grouping import UnitGrouping
from prunekit.units.watching import Steps, watch_batches

OBSERVED = frozenset({"outputs", "success", "moments", "readers", "calibration"})


def hidden_linear(module: nn.Module) -> dict[str, Link]:
    """The linear layers that one other reads as ``nn.Sequential`` tells, with at most elementwise modules between.

    Example:
        >>> list(hidden_linear(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
        ['0']
    """
    links = sequential_links(module)
    return {link.source: link for link in links if type(module.get_submodule(link.source)) is nn.Linear}


class Histograms(Levels):
    """How often the units of several parts were at each level, ``(units, 256)`` int64 each."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._parts = parts

    def counts(self, bins: int) -> Tensor:
        """Levels brought together."""
        return torch.cat([each.view(len(each), bins, LEVELS // bins).sum(2) for each in self._parts])


class NetworkUnits(UnitGrouping):
    """The units of a network: all layers of recurrent modules, both directions, and cells that are looped over.

    Sequences may be padded or packed, a layer may be called several times, and with states that it gave before. What is
    looked at needs no labels, but for criteria that want success at each step, which the calibration tells. Which
    layers read a part's units is found out on the first batch; see :mod:`prunekit.units.tracing`. Neurons of linear
    layers are units as well where ``nn.Sequential`` tells what reads them; of these what is looked at are the outputs
    as they are read, behind the activation.

    Args:
        layers: names of recurrent modules, cells and such linear layers; None for all recurrent ones. The empty name is
            the module itself.
        without: parts that are left as they are: name of the layer, its number in the module, direction.

    Example:
        >>> from prunekit.masks import Mask
        >>> net = nn.ModuleDict({"memory": nn.LSTM(2, 3, num_layers=2, bidirectional=True), "cell": nn.GRUCell(6, 4)})
        >>> units = NetworkUnits()
        >>> groups = units(net, Mask.full(net, units.parameters(net)))
        >>> len(groups), groups.within.tolist()
        (16, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4])
    """

    def __init__(self, layers: Sequence[str] | None = None, without: Sequence[Key] = ()) -> None:
        self.layers = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
        self.without = list(without)

    def parts(self, module: nn.Module) -> list[Part]:
        """Those of the layers, in the order of their names.

        Raises:
            ArgumentError: if there is no such layer, or one has a projection or weights that are no plain parameters.
        """
        recurrent = recurrent_layers(module)
        there = [*recurrent, *hidden_linear(module)]
        names = recurrent if self.layers is None else self.layers
        for name in names:
            if name not in there:
                known = ", ".join(there) or "there are none"
                raise ArgumentError("layers", name, f"recurrent layers, or linear ones in nn.Sequential: {known}")
            try:
                check_layer(name, module.get_submodule(name))
            except ValueError as error:
                raise ArgumentError("layers", str(error), "layers whose outputs are their units'") from None
        if not names:
            raise ArgumentError("layers", self.layers, "a network with an nn.LSTM, nn.GRU, nn.RNN or a cell of these")
        return [part for name in names for part in parts_of(module, name) if part.key not in self.without]

    def check(self, module: nn.Module, needs: frozenset[str]) -> None:
        """Refuse a module without such layers, or what is not looked at in all of a network."""
        self.parts(module)
        if not needs <= OBSERVED:
            got = f"one that looks at {', '.join(sorted(needs - OBSERVED))}"
            accepted = "one that looks at what units do, without labels or with success at each step"
            raise ArgumentError("criterion", got, accepted)

    def label(self) -> str:
        """All of them together."""
        return "units"

    @torch.no_grad()
    def observe(self, module: nn.Module, needs: frozenset[str], calibration: Calibration) -> Seen:
        """One pass over the batches, and three over the first one for each part to see what reads it.

        Raises:
            ValueError: if a part's units are read by what cannot read units, or a layer is not called.
            ArgumentError: if success is wanted and not told, or there are linear layers, whose rows may be no steps.
        """
        parts = self.parts(module)
        readers = [self.readers(module, part, calibration) for part in parts] if "readers" in needs else None
        if not needs & {"outputs", "moments"}:
            return Seen(readers=readers, calibration=calibration)
        counts: dict[Key, Tensor] = {}
        moments: dict[Key, OutputMoments] = {}
        series: dict[Key, PartSeries] = {}
        hidden = hidden_linear(module)
        if "success" in needs:
            if calibration.success is None:
                raise ArgumentError("success", None, SUCCESS)
            if found := [part.layer for part in parts if part.layer in hidden]:
                got = f"{found[0]}, a linear layer, whose rows may be no steps"
                raise ArgumentError("layers", got, "recurrent layers, for a criterion that looks at success")
        watched = {part.layer: hidden[part.layer].reader if part.layer in hidden else part.layer for part in parts}
        for batch, seen in watch_batches(module, [*watched.values()], calibration):
            success = None
            if "success" in needs and calibration.success is not None:
                success = check_success(calibration.success(module, batch))
            for part in parts:
                calls = seen.get((watched[part.layer], part.number, part.direction), [])
                if success is not None and calls:
                    own = self._series(module, part, calls, success)
                    series[part.key] = series[part.key] + own if part.key in series else own
                for call in calls:
                    linear = part.layer in hidden
                    outputs, earlier = (call.inputs, call.inputs) if linear else (call.outputs, call.earlier)
                    count = count_levels(encode_outputs(outputs)).cpu()
                    moment = OutputMoments(Moments.of(outputs), Moments.of(earlier))
                    before = part.key in counts
                    counts[part.key] = counts[part.key] + count if before else count
                    moments[part.key] = moments[part.key] + moment if before else moment
        for part in parts:
            if part.key not in counts:
                raise ValueError(f"{part.layer} is not called, or no batch was given")

        def add_up(local: Tensor) -> Tensor:
            return calibration.sum_over_ranks(local.cpu()).cpu()

        levels: Levels = Histograms([add_up(counts[part.key]) for part in parts])
        if series:
            levels = NetworkSeries([series[part.key] for part in parts], calibration)
        return Seen(levels, [moments[part.key].map(add_up) for part in parts], readers, calibration=calibration)

    def _series(self, module: nn.Module, part: Part, calls: list[Steps], success: Tensor) -> PartSeries:
        """Of one batch; a cell's calls are the steps of one series, of a recurrent module there may be one call."""
        if isinstance(module.get_submodule(part.layer), nn.RNNCellBase):
            calls = [Steps(*map(torch.cat, zip(*calls, strict=True)))]
        if len(calls) > 1:
            raise ValueError(f"{part.layer} is called {len(calls)} times a batch, so its steps are not known")
        return PartSeries.of(calls[0], success)

    def links(self, module: nn.Module, part: Part, calibration: Calibration) -> list[Link]:
        """What reads a part's units from outside of its module, seen on the first batch.

        Raises:
            ValueError: if they are read by what cannot read units.
        """
        hidden = hidden_linear(module)
        if part.layer in hidden:
            return [hidden[part.layer]]
        batches = list(islice(calibration.batches, 1))

        def run() -> Any:
            return [calibration.predict(module, batch)[0] for batch in batches]

        try:
            return trace(module, part, run)
        except ValueError as error:
            raise ValueError(f"what reads the units of {part.label() or 'the network'} is not known: {error}") from None

    def readings(self, module: nn.Module, part: Part, calibration: Calibration) -> list[Reading]:
        """All that reads a part's units: its own weights, those of the next layer, those of others.

        Raises:
            ValueError: if they are read by what cannot read units.
        """
        layer = module.get_submodule(part.layer)
        found: list[Reading] = []
        if not isinstance(layer, nn.Linear):
            own = [module.get_parameter(name) for name in part.names]
            found.append(Reading(own[1], own[3] if len(own) > 2 else None, fed_back=True))
        if isinstance(layer, nn.RNNBase) and part.number + 1 < layer.num_layers:
            first = part.direction * part.units
            for end in (level(layer, part.number + 1, suffix) for suffix in suffixes(layer)):
                weight = layer.get_parameter(f"weight_ih{end}")[:, first : first + part.units]
                found.append(Reading(weight, layer._parameters.get(f"bias_ih{end}")))
        for link in self.links(module, part, calibration):
            columns = slice(link.column, link.column + part.units)
            found += [Reading(weight[:, columns], bias) for weight, bias in reading(module.get_submodule(link.reader))]
        return found

    def readers(self, module: nn.Module, part: Part, calibration: Calibration) -> list[Tensor]:
        """The weights of :meth:`readings`, ``(rows, units)`` each."""
        return [weight.detach() for weight, _, _ in self.readings(module, part, calibration)]
