"""Physically smaller networks: what a mask has removed is cut out, and the output stays the same.

Only weights are looked at, so it does not matter what set them to 0. A unit of a recurrent layer is dead if the rows
of its candidate are 0: then its state stays at the 0 that it starts with, whatever its gates do. A neuron of a linear
layer is dead if no input reaches it, and then what its readers read is a constant that goes into their biases; or if
nobody reads it.
"""

import copy
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunekit.units.constants import clear_unread, fold_constants, read_outputs
from prunekit.units.layers import (
    Indices,
    Kept,
    check_layer,
    copied,
    count_inputs,
    count_outputs,
    count_units,
    cut,
    everything,
    outputs_kept,
    remade,
)
from prunekit.units.leftovers import alive, leftovers, weights
from prunekit.units.links import Link, default_links
from prunekit.units.parts import Key

M = TypeVar("M", bound=nn.Module)
log = logging.getLogger("prunekit")


@dataclass(frozen=True)
class Compaction(Generic[M]):
    """A compact network, and what its parameters are of the one that it was made from.

    Attributes:
        module: the compact network; it shares no memory with the other.
        origin: parameter name -> the other network's parameter, and for each dimension the indices kept of it.
        cut: layer name -> how many neurons or units it had, of all layers and directions, and has.
        left: layer name -> why it still has neurons, units or channels without weights.
    """

    module: M
    origin: dict[str, tuple[str, Indices]]
    cut: dict[str, tuple[int, int]]
    left: dict[str, str]

    def carry_state(self, before: nn.Module, old: Optimizer, new: Optimizer) -> None:
        """Have an optimizer of the compact network go on where one of the other stopped: its state goes by index.

        Args:
            before: the network that was compacted.
            old: its optimizer.
            new: of the same kind, over the compact network's parameters in the same groups and order.

        Raises:
            ValueError: if the parameters do not correspond, or a state is not one number a weight or one for all.
        """
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        old_names = {id(parameter): name for name, parameter in before.named_parameters()}
        olds, news = ([p for group in each.param_groups for p in group["params"]] for each in (old, new))
        origins = [self.origin[names[id(parameter)]] for parameter in news]
        if [old_names[id(parameter)] for parameter in olds] != [name for name, _ in origins]:
            raise ValueError("the two optimizers do not have the same parameters in the same order")
        content = old.state_dict()
        content["state"] = {
            number: {key: _carried(key, value, olds[number], origins[number][1]) for key, value in own.items()}
            for number, own in content["state"].items()
        }
        new.load_state_dict(content)


def _carried(key: str, value: object, parameter: Tensor, indices: Indices) -> object:
    if not isinstance(value, Tensor) or value.numel() == 1:
        return copy.deepcopy(value)
    if value.shape != parameter.shape:
        raise ValueError(f"{key} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
    return cut(value, indices)


def compact(
    module: M, links: Sequence[Link] | None = None, whole: Collection[Key] = (), tell: bool = True
) -> Compaction[M]:
    """A copy of a network without the units and neurons that a mask has removed.

    A recurrent layer keeps in each layer the units that live there, in two directions as many as the larger of both
    has. Where nothing lives one dead unit or neuron stays, since torch has no recurrent layer of width 0; and a dead
    neuron stays if its constant is not 0 and a reader has no bias to take it up. Where layers come to differ in width
    an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` becomes a :class:`~prunekit.models.recurrent_stack.RecurrentStack`.

    Recurrent layers must be called without states to start with, or with those that they gave before, and a source must
    have no readers but those named. Whether that holds shows when outputs are compared: :func:`difference`.

    Args:
        module: masked.
        links: the layers to make smaller, each with all that read it; None for those of prunekit's own networks,
            :func:`~prunekit.units.links.default_links`.
        whole: layer, number and direction of parts of recurrent layers all of whose units stay, as where something else
            reads them; inner layers of such a module are made smaller all the same.
        tell: whether what was cut and what was left is logged too.

    Returns:
        The compact network; its outputs are equal up to rounding in evaluation mode.

    Raises:
        ValueError: if a named layer is of another kind, has a projection or reparametrised weights, or does not fit
            the layer that it is to read.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = net[0].weight[1].zero_()
        >>> compact(net).module
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): Sigmoid()
          (2): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    readers: dict[str, list[Link]] = defaultdict(list)
    links = default_links(module) if links is None else links
    for link in links:
        _check(module, link)
        readers[link.source].append(link)
    for name, _, _ in whole:
        check_layer(name, module.get_submodule(name))
        readers.setdefault(name, [])
    smaller = copied(module)
    with torch.no_grad():
        clear_unread(smaller, readers)
        fold_constants(smaller, readers)
    kept = {name: _kept(smaller, name, read, whole) for name, read in readers.items()}
    heard = _heard(smaller, links, kept)
    origin = {name: (name, tuple(map(torch.arange, p.shape))) for name, p in smaller.named_parameters()}
    for name in dict.fromkeys([*readers, *heard]):
        layer = smaller.get_submodule(name)
        made, of = remade(layer, heard.get(name), kept.get(name))
        for own, _ in layer.named_parameters():
            if origin.pop(f"{name}.{own}", None) is None:
                raise ValueError(f"{name} shares its {own} with another layer or has a second name")
        origin |= {f"{name}.{own}": (f"{name}.{of[own][0]}", of[own][1]) for own, _ in made.named_parameters()}
        smaller.set_submodule(name, made)
    counts = {name: (_count(everything(module.get_submodule(name))), _count(own)) for name, own in kept.items()}
    changed = {name: count for name, count in counts.items() if count[0] != count[1]}
    made_of = {name: origin[name] for name, _ in smaller.named_parameters()}
    found = Compaction(smaller, made_of, changed, leftovers(smaller, kept))
    if tell:
        _log(found, masked=any(bool((w == 0).any()) for part in module.modules() for w in weights(part)))
    return found


def _heard(module: nn.Module, links: Sequence[Link], kept: Mapping[str, Kept]) -> dict[str, Tensor]:
    """Of each reader the inputs that stay: all but those that are units that go."""
    stays: dict[str, Tensor] = {}
    for link in links:
        source, inputs = module.get_submodule(link.source), count_inputs(module.get_submodule(link.reader))
        if link.part is None:
            count, column, indices = inputs, 0, outputs_kept(source, kept[link.source])
        else:
            number, direction = link.part
            count, column, indices = count_units(source), link.column, kept[link.source][number][direction]
        own = stays.setdefault(link.reader, torch.ones(inputs, dtype=torch.bool))
        own[column : column + count] &= torch.zeros(count, dtype=torch.bool).index_fill_(0, indices, True)
    return {name: own.nonzero().flatten() for name, own in stays.items()}


def _count(kept: Kept) -> int:
    return sum(len(indices) for directions in kept for indices in directions)


def _log(found: Compaction[Any], masked: bool) -> None:
    """Say in one line what was cut and what was not; aloud if somebody could have expected more."""
    told = [f"{name} from {before} to {after}" for name, (before, after) in found.cut.items()] or [
        "nothing: no tensor is smaller where zeros lie between weights that stay" if masked else "nothing"
    ]
    left = [f"{name} ({why})" for name, why in found.left.items()]
    level = logging.WARNING if left or (masked and not found.cut) else logging.INFO
    log.log(level, "compact cut %s%s", ", ".join(told), f"; it left {', '.join(left)}" if left else "")


def difference(one: Tensor, other: Tensor) -> float:
    """How far apart two outputs are, relative to the larger of 1 and the largest magnitude.

    Rounding alone keeps it below 1e-6 in float32, 1e-12 in float64.

    Example:
        >>> difference(torch.tensor([0.0, 4.0]), torch.tensor([0.0, 5.0]))
        0.25
    """
    return float(((one - other).abs().max() / one.abs().max().clamp(min=1)).detach())


def _check(module: nn.Module, link: Link) -> None:
    source, reader = module.get_submodule(link.source), module.get_submodule(link.reader)
    for name, layer in ((link.source, source), (link.reader, reader)):
        check_layer(name, layer)
    if link.part is not None:
        if link.column + count_units(source) > count_inputs(reader):
            raise ValueError(f"{link.reader} has no {count_units(source)} inputs from number {link.column} on")
    elif count_outputs(source) != count_inputs(reader):
        got = f"{link.reader} reads {count_inputs(reader)} numbers, {link.source} gives {count_outputs(source)}"
        raise ValueError(f"{got}: the one does not read the other")


def _kept(module: nn.Module, name: str, links: Sequence[Link], whole: Collection[Key]) -> list[list[Tensor]]:
    """The indices of what stays of a source, for each layer and direction; a linear layer has one of each."""
    layer = module.get_submodule(name)
    if isinstance(layer, nn.Linear):
        return [_first((layer.weight != 0).any(1)[None] | read_outputs(module, links)[None])]
    assert isinstance(layer, nn.RNNBase | nn.RNNCellBase)
    lives = alive(layer)
    for _, number, direction in (key for key in whole if key[0] == name):
        lives[number, direction] = True
    return [_first(directions) for directions in lives]


def _first(alive: Tensor) -> list[Tensor]:
    """For each row the indices that are True, of all rows equally many and at least one; False ones fill up."""
    count = max(1, int(alive.sum(1).max()))
    return [torch.sort(~row, stable=True).indices[:count].sort().values.cpu() for row in alive]
