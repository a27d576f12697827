"""One call from a network and unlabelled batches to a smaller network of the same class that does the same."""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from prunekit.accounting import macs
from prunekit.calibration import Calibration, Predict, evaluating, predict_batch
from prunekit.criteria.criterion import Criterion
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.errors import ArgumentError, check_rate
from prunekit.exports import save_compact
from prunekit.latency import medians
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.precision import ieee
from prunekit.pruning import prune
from prunekit.repair import Repair
from prunekit.units.before_and_now import floats
from prunekit.units.closed_loop import HOLD_OUT, REFITTED
from prunekit.units.compaction import compact, difference
from prunekit.units.layers import count_outputs
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


class Row(NamedTuple):
    """What became of a layer: its outputs and parameters before and after, and why it was left if it was."""

    layer: str
    kind: str
    outputs: tuple[str, str]
    parameters: tuple[int, int]
    why: str = ""


@dataclass(frozen=True)
class Shrunk(Generic[M]):
    """A smaller network, and what it costs.

    Attributes:
        module: the network, in evaluation mode; an ordinary module, of the class that was given.
        rate: the share of units that is gone of each layer.
        difference: of its outputs on held-out batches: root of the mean square, relative to the outputs' own.
        rows: layer by layer.
        parameters: before and after, as the next two are.
        macs: multiply-adds of the first batch.
        milliseconds: of the first batch, median of a few turns.
    """

    module: M
    rate: float
    difference: float
    rows: list[Row]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    milliseconds: tuple[float, float]

    def save(self, folder: str | Path) -> None:
        """Write it as safetensors and JSON; :func:`~prunekit.exports.load_compact` reads it ``into`` a dense module."""
        save_compact(Path(folder), self.module)

    def __str__(self) -> str:
        """A table."""
        head = [("layer", "kind", "outputs", "parameters", "")]
        body = [(r.layer, r.kind, "{} -> {}".format(*r.outputs), "{:,} -> {:,}".format(*r.parameters), r.why)
                for r in self.rows]  # fmt: skip
        widths = [max(len(line[column]) for line in head + body) for column in range(4)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[4]]).rstrip()
                 for line in head + body]  # fmt: skip
        totals = [
            "parameters    {:,} -> {:,}".format(*self.parameters),
            "multiply-adds {:,} -> {:,}".format(*self.macs),
            "milliseconds  {:.2f} -> {:.2f}".format(*self.milliseconds),
            f"outputs differ by {self.difference:.2%} on held-out batches",
        ]
        return "\n".join([*lines, *totals])


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
    given = Calibration(list(batches), predict)  # a loader may shuffle, an iterator be gone through once
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
                repair=repair or ClosedLoop(), predict=predict, scope="within", floor=True,
            )  # fmt: skip
            small, left = _cut(made, connected, given, first)
            return Attempt(small, share, relative_difference(model, small, given), left)

        best = attempt(rate) if rate is not None else _largest(attempt, tolerance or 0.0)
        found = _measured(model, best, predict, first)
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


def relative_difference(one: nn.Module, other: nn.Module, calibration: Calibration) -> float:
    """How far two networks' outputs are apart on held-out batches: ``sqrt(sum (a - b)^2 / sum a^2)``."""
    apart = size = 0.0
    batches = list(enumerate(calibration.batches))
    for number, batch in batches:
        if len(batches) == 1 or number % HOLD_OUT == HOLD_OUT - 1 or len(batches) < HOLD_OUT:
            pairs = zip(*(floats(calibration.predict(each, batch)[0]) for each in (one, other)), strict=True)
            for a, b in pairs:
                apart, size = apart + float((a - b).square().sum()), size + float(a.square().sum())
    return (apart / size) ** 0.5 if size else 0.0


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


def _measured(model: M, best: Attempt[M], predict: Predict, first: Any) -> Shrunk[M]:
    after = dict(best.module.named_modules())
    rows = []
    for name, layer in model.named_modules():
        own = sum(p.numel() for p in layer.parameters(recurse=False))
        if own:
            there = after[name]
            outputs = (_outputs(layer), _outputs(there))
            count = sum(p.numel() for p in there.parameters())
            why = best.left.get(name, "" if type(layer) in REFITTED else f"nn.{type(layer).__name__} is left as it is")
            rows.append(Row(name or "(model)", type(layer).__name__, outputs, (own, count), why))
    pair = (model, best.module)
    timed = medians({str(n): partial(predict, each, first) for n, each in enumerate(pair)}, TURNS)

    def call(module: nn.Module, batch: Any) -> Any:
        return predict(module, batch)[0]

    return Shrunk(
        best.module,
        best.rate,
        best.difference,
        rows,
        (_count(model), _count(best.module)),
        (macs(model, first, call), macs(best.module, first, call)),
        (1000 * timed["0"], 1000 * timed["1"]),
    )


def _outputs(layer: nn.Module) -> str:
    """How many outputs a layer has, of each of its layers where these differ; nothing where that is not a number."""
    if isinstance(layer, RecurrentStack):
        return "+".join(str(count_outputs(each)) for each in layer.layers)
    return str(count_outputs(layer)) if type(layer) in REFITTED else "-"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
