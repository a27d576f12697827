"""One call from a network and unlabelled batches to a smaller network of the same class that does the same."""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from prunekit.calibration import Calibration, Predict, Valid, evaluating, predict_batch
from prunekit.criteria.criterion import Criterion
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.errors import ArgumentError, check_rate
from prunekit.precision import ieee
from prunekit.pruning import prune
from prunekit.repair import Repair
from prunekit.shrunk import Shrunk, measure, relative_difference
from prunekit.units.before_and_now import floats
from prunekit.units.compaction import compact, difference
from prunekit.units.links import Link
from prunekit.units.network_units import NetworkUnits, hidden_linear
from prunekit.units.parts import Key, Part, parts_of, recurrent_layers
from prunekit.units.repair import ClosedLoop

M = TypeVar("M", bound=nn.Module)
SAME = {torch.float64: 1e-10, torch.float32: 1e-5}  # beyond that a cut network is not the masked one
SAME_HALF = 2e-2
HALVINGS = 6
TURNS = 5
log = logging.getLogger("prunekit")


def shrink(
    model: M,
    batches: Iterable[Any],
    rate: float | None = None,
    *,
    tolerance: float | None = None,
    layers: Sequence[str] | None = None,
    criterion: Criterion | None = None,
    repair: Repair | None = None,
    predict: Predict = predict_batch,
    valid: Valid | None = None,
    scope: str = "within",
    show: bool = True,
) -> Shrunk[M]:
    """Make a network smaller: units go, what stays is refitted without labels, and what is gone is cut out.

    Units of all recurrent layers, directions and cells go, and neurons of linear layers in ``nn.Sequential``,
    the same share of each. What reads a layer is found out by running the first batch. A layer is left as it is where
    its units reach something else, and the table says why; other kinds of layers are always left.

    Args:
        model: any; it is not changed.
        batches: what it is called with, labels not needed; on its device, and held in memory. Every fourth is held out
            of the refitting, so sequences of one kind, such as one speaker's, belong into one batch.
        rate: the share of units that goes, in [0, 1).
        tolerance: instead of a rate: as many go as leave ``difference`` at most this.
        layers: names of those whose units go; None for all.
        criterion: which units go; None for :class:`~prunekit.criteria.reconstruction.Reconstruction`.
        repair: None for :class:`~prunekit.units.repair.ClosedLoop`.
        predict: how the model takes a batch, ``(module, batch) -> (outputs, classes or None)``; by default a batch is
            ``x`` or ``(x, ...)`` and the model is called with x.
        valid: of a batch of padded sequences which steps are no padding, ``(N, T)`` bool; packed ones tell it.
        scope: ``within``: each layer and direction loses the share; ``all``: they are ranked together.
        show: whether to print the table.

    Raises:
        ArgumentError: if neither or both of rate and tolerance are given, there is no batch, or no layer can be cut.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> small = shrink(net, [torch.randn(32, 4) for _ in range(8)], rate=0.5, show=False)
        >>> small.module[0].out_features, small.module(torch.randn(3, 4)).shape
        (4, torch.Size([3, 2]))
    """
    if (rate is None) == (tolerance is None):
        raise ArgumentError("rate", rate, "a share in [0, 1), or else a tolerance")
    if rate is not None:
        check_rate("rate", rate)
    if tolerance is not None and not 0 < tolerance < float("inf"):
        raise ArgumentError("tolerance", tolerance, "a number above 0, such as 0.05")
    given = Calibration(list(batches), predict, valid=valid)  # a loader may shuffle, an iterator be gone through once
    first = next(iter(given.batches), None)
    if first is None:
        raise ArgumentError("batches", "none", "batches that the model is called with")
    with ieee(), evaluating(model), torch.no_grad():
        names = [*recurrent_layers(model), *hidden_linear(model)] if layers is None else list(layers)
        connected = _connections(model, names, given, strict=layers is not None)
        if not connected.parts:
            whys = "; ".join(f"{label(key)}: {why}" for key, why in connected.left.items())
            raise ArgumentError("model", f"one of which no layer can be cut ({whys or 'there is none'})", "another")
        names = list(dict.fromkeys(part.layer for part in connected.parts))
        grouping = NetworkUnits(names, [key for key in connected.left if key[0] in names])

        def attempt(share: float) -> Attempt[M]:
            made = copy.deepcopy(model).eval()
            prune(
                made, grouping, criterion or Reconstruction(), share, given.batches,
                repair=repair or ClosedLoop(), predict=predict, valid=valid, scope=scope, floor=True,
            )  # fmt: skip
            small, left = _cut(made, connected, given, first)
            return Attempt(small, share, relative_difference(model, small, given), left)

        best = attempt(rate) if rate is not None else _largest(attempt, tolerance or 0.0)
        found = measure(model, best.module, best.rate, best.difference, best.left, predict, first)
    if show:
        print(found)
    return found


class Attempt(NamedTuple, Generic[M]):
    """A smaller network; by which rate, how far its outputs are from the given one's, and which layers were left."""

    module: M
    rate: float
    difference: float
    left: dict[str, str]


class Connected(NamedTuple):
    """The parts whose units can go, what reads them, and of the others why not."""

    parts: list[Part]
    links: list[Link]
    left: dict[Key, str]


def label(key: Key) -> str:
    """Such as ``lstm.1 (reverse)``."""
    return Part(key[0], [], 0, 0, *key[1:]).label()


def _connections(model: nn.Module, names: Sequence[str], given: Calibration, strict: bool) -> Connected:
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


def _cut(masked: M, connected: Connected, given: Calibration, first: Any) -> tuple[M, dict[str, str]]:
    """A compact network that says what the masked one says, and what was left of it as it is.

    Where not all layers can be cut at once, those are cut that can be one after the other.
    """
    left: dict[str, str] = {}
    for key, why in connected.left.items():
        left.setdefault(key[0], why)
    names = list(dict.fromkeys(part.layer for part in connected.parts))
    wanted = floats(given.predict(masked, first)[0])

    def of(some: Sequence[str]) -> M:
        links = [link for link in connected.links if link.source in some]
        small = compact(masked, links, [key for key in connected.left if key[0] in some]).module
        for a, b in zip(wanted, floats(given.predict(small, first)[0]), strict=True):
            if a.shape != b.shape or not difference(a, b) <= SAME.get(next(masked.parameters()).dtype, SAME_HALF):
                raise ValueError("the cut network says something else, so more reads it than was found")
        return small

    try:
        return of(names), left
    except (ValueError, RuntimeError, TypeError, IndexError, AttributeError):
        pass
    some: list[str] = []
    small = masked
    for name in names:
        try:
            small = of([*some, name])
            some.append(name)
        except (ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
            left[name] = f"its removed units are 0 but could not be cut out ({error})"
    return small, left


def _largest(attempt: Callable[[float], Attempt[M]], tolerance: float) -> Attempt[M]:
    """The attempt of the largest rate whose difference is accepted, by halving; a rate of 0 if none is."""
    low, high, best = 0.0, 1.0, attempt(0.0)
    for _ in range(HALVINGS):
        tried = attempt((low + high) / 2)
        if tried.difference <= tolerance:
            low, best = tried.rate, tried
        else:
            high = tried.rate
    return best
