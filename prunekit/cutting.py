"""What of a network can be cut out, found out by cutting, and the cutting itself."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from prunekit.calibration import Calibration
from prunekit.criteria.random import Random
from prunekit.errors import ArgumentError
from prunekit.pruning import prune
from prunekit.units.before_and_now import floats
from prunekit.units.compaction import compact, difference
from prunekit.units.layers import copied
from prunekit.units.links import Link
from prunekit.units.network_units import NetworkUnits
from prunekit.units.parts import Key, Part, parts_of
from prunekit.units.size_attributes import give, trials

M = TypeVar("M", bound=nn.Module)
SAME = {torch.float64: 1e-10, torch.float32: 1e-5}  # beyond that a cut network is not the masked one
SAME_HALF = 2e-2
OTHERWISE = "the cut network says something else: more reads the layer than was found, or code reads it by its size"
log = logging.getLogger("prunekit")


class Connected(NamedTuple):
    """The parts whose units can go, what reads them, and of the others why not."""

    parts: list[Part]
    links: list[Link]
    left: dict[Key, str]

    def names(self) -> list[str]:
        """Of the layers that have such parts."""
        return list(dict.fromkeys(part.layer for part in self.parts))

    def whole(self) -> list[Key]:
        """The other parts of these layers."""
        return [key for key in self.left if key[0] in self.names()]

    def without(self, left: Mapping[str, str]) -> "Connected":
        """The same but for the layers of which it is said that they could not be cut."""
        known = _left(self)
        failed = {part.key: left[part.layer] for part in self.parts if left.get(part.layer) != known.get(part.layer)}
        parts = [part for part in self.parts if part.key not in failed]
        links = [link for link in self.links if link.source not in {key[0] for key in failed}]
        return Connected(parts, links, self.left | failed)

    def grouping(self) -> NetworkUnits:
        """The units that can go."""
        return NetworkUnits(self.names(), self.whole())


def label(key: Key) -> str:
    """Such as ``lstm.1 (reverse)``."""
    return Part(key[0], [], 0, 0, *key[1:]).label()


def connections(model: nn.Module, names: Sequence[str], given: Calibration, strict: bool) -> Connected:
    """Find what reads each part of some layers.

    Args:
        model: in evaluation mode.
        names: of the layers.
        given: batches, of which the first is passed, and how the model takes one.
        strict: whether a layer that has no units to go is refused, or told among those that are left.

    Raises:
        ArgumentError: of ``layers``, if one has none.
    """
    found = Connected([], [], {})
    for name in names:
        grouping = NetworkUnits([name])
        try:
            parts = grouping.parts(model)
        except ArgumentError as error:
            if strict:
                raise
            found.left.update(dict.fromkeys((part.key for part in parts_of(model, name)), str(error.got)))
            continue
        for part in parts:
            try:
                found.links.extend(grouping.links(model, part, given))
                found.parts.append(part)
            except (ValueError, RuntimeError) as error:  # whatever a marked batch does to somebody's code
                found.left[part.key] = str(error)
    return found


def cuttable(dense: nn.Module, connected: Connected, given: Calibration) -> Connected:
    """Of the parts those that can be cut, found out on a copy that has lost half of each without a repair."""
    if not connected.parts:
        return connected
    made = copied(dense)
    prune(made, connected.grouping(), Random(0), 0.5, scope="within", floor=True)
    _, left = cut_out(made, connected, given, tell=False)
    return connected.without(left)


def _left(connected: Connected) -> dict[str, str]:
    """By layer why parts of it are left, each reason once."""
    whys: dict[str, list[str]] = defaultdict(list)
    for key, why in connected.left.items():
        if why not in whys[key[0]]:
            whys[key[0]].append(why)
    return {layer: "; ".join(own) for layer, own in whys.items()}


def cut_out(masked: M, connected: Connected, given: Calibration, tell: bool = True) -> tuple[M, dict[str, str]]:
    """A compact network that says what the masked one says, and what was left of it as it is.

    Where code has a layer's size in an attribute, that follows. Where not all layers can be cut at once, those are cut
    that can be one after the other. What was cut is logged if ``tell``, unless something could not be.
    """
    left = _left(connected)
    names, whole = connected.names(), connected.whole()

    def of(some: Sequence[str], tell: bool = False) -> M:
        links = [link for link in connected.links if link.source in some]
        small = compact(masked, links, [key for key in whole if key[0] in some], tell).module
        try:
            _require_same(masked, small, given, whole=False)
            return small
        except Exception as error:  # whatever smaller layers do to somebody's code
            first = error
        for sizes in trials(masked, small):
            made = copied(small)
            try:
                give(made, sizes)
                _require_same(masked, made, given, whole=True)
                return made
            except Exception as error:
                log.debug("not with %s: %s", ", ".join(map(str, sizes)), error)
        raise first

    try:
        return of(names, tell), left
    except Exception as error:  # whatever smaller layers do to somebody's code
        log.debug("not all at once: %s", error)
    some: list[str] = []
    small = masked
    for name in names:
        try:
            small = of([*some, name])
            some.append(name)
        except Exception as error:
            said = str(error).partition("\n")[0]
            known = isinstance(error, ValueError) and said != OTHERWISE  # of compaction itself
            hint = "" if known else f"; {_hint(name, masked.get_submodule(name))}"
            left[name] = f"could not be cut ({said}){hint}"
    return small, left


def _require_same(masked: nn.Module, small: nn.Module, given: Calibration, whole: bool) -> None:
    """Refuse a network that says something else, of the first batch or of all."""
    for batch in given.batches if whole else [next(iter(given.batches))]:
        # A network may keep states between calls: each call is one of a copy.
        pairs = zip(*(floats(given.predict(copied(each), batch)[0]) for each in (masked, small)), strict=True)
        for a, b in pairs:
            if a.shape != b.shape or not difference(a, b) <= SAME.get(next(masked.parameters()).dtype, SAME_HALF):
                raise ValueError(OTHERWISE)


def _hint(name: str, layer: nn.Module) -> str:
    """What most often is in the way: a layer's size as a number in the code around it."""
    size = "out_features" if isinstance(layer, nn.Linear) else "hidden_size"
    return (
        f"code that has {getattr(layer, size)} as a number, to make states, reshape or take a direction's half, has to "
        f"ask the layer: {f'self.{name}.{size}' if name else size}, or have it in an attribute of its own; "
        "a layer that is handed another's states stays as large as that one; a network that keeps states from call to "
        "call is to forget them in predict"
    )
