"""A smaller network and what it costs, as a table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from prunekit.accounting import macs
from prunekit.calibration import Calibration, Predict
from prunekit.exports import save_compact
from prunekit.latency import Timing, timings
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.step_files import save_step
from prunekit.step_trials import step_network
from prunekit.units.before_and_now import floats
from prunekit.units.closed_loop import REFITTED
from prunekit.units.layers import count_outputs
from prunekit.units.network_units import hidden_linear
from prunekit.units.size_attributes import Size, changed

M = TypeVar("M", bound=nn.Module)
TURNS = 5


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
        rate: the share of units that is gone of each layer, or of those named.
        difference: of its outputs on held-out batches: root of the mean square, relative to the outputs' own.
        rows: layer by layer.
        parameter_counts: before and after, as the next two are.
        macs: multiply-adds of the first batch.
        seconds: of the first batch, medians and quartiles of a few turns, one network after the other in each.
        threads: of the processor, as these were taken.
        judged_by: what the difference is of, in words: held-out batches where there are any.
        sizes: attributes of the network's own that had a layer's size as a number, and follow it.
    """

    module: M
    rate: float | Mapping[str, float]
    difference: float
    rows: list[Row]
    parameter_counts: tuple[int, int]
    macs: tuple[int, int]
    seconds: tuple[Timing, Timing]
    threads: int
    judged_by: str = "held-out batches"
    sizes: list[Size] = field(default_factory=list)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What the network makes of inputs."""
        return self.module(*inputs, **named)

    def save(self, folder: str | Path, streaming: bool = False, example: Tensor | None = None) -> None:
        """Write it as safetensors and JSON; :func:`~prunekit.exports.load_compact` reads it ``into`` a dense module.

        Args:
            folder: made if it is missing.
            streaming: whether to write step files too, for :func:`~prunekit.streams.load_stream`.
            example: for these, sequences of seven steps or more that the module takes; None where its first recurrent
                layer reads them.

        Raises:
            ArgumentError: if it cannot be run step by step, with the reason.
        """
        if streaming:
            step_network(self.module, example)  # refused before anything is written
        save_compact(Path(folder), self.module, {"sizes": [list(size) for size in self.sizes]} if self.sizes else None)
        if streaming:
            save_step(Path(folder), self.module, example)

    def __str__(self) -> str:
        """A table."""
        head = [("layer", "kind", "outputs", "parameters", "")]
        body = [(r.layer, r.kind, "{} -> {}".format(*r.outputs), "{:,} -> {:,}".format(*r.parameters), r.why)
                for r in self.rows]  # fmt: skip
        widths = [max(len(line[column]) for line in head + body) for column in range(4)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[4]]).rstrip()
                 for line in head + body]  # fmt: skip
        totals = [
            "parameters    {:,} -> {:,}".format(*self.parameter_counts),
            "multiply-adds {:,} -> {:,} of the first batch".format(*self.macs),
            "milliseconds  {} -> {} of it, medians and quartiles (threads: {})".format(*self.seconds, self.threads),
            f"outputs differ by {self.difference:.2%} on {self.judged_by}; what that means for your metric, measure",
        ]
        follow = [f"attribute     {size}" for size in self.sizes]
        return "\n".join([*lines, *follow, *totals])


@torch.no_grad()
def relative_difference(one: nn.Module, other: nn.Module, predict: Predict, batches: Iterable[Any]) -> float:
    """How far two networks' outputs are apart on some batches: ``sqrt(sum (a - b)^2 / sum a^2)``."""
    apart = size = 0.0
    for batch in batches:
        pairs = zip(*(floats(predict(each, batch)[0]) for each in (one, other)), strict=True)
        for a, b in pairs:
            apart, size = apart + float((a - b).square().sum()), size + float(a.square().sum())
    return (apart / size) ** 0.5 if size else 0.0


def measure(
    model: M,
    small: M,
    rate: float | Mapping[str, float],
    difference: float,
    left: Mapping[str, str],
    given: Calibration,
) -> Shrunk[M]:
    """What a smaller network costs, beside the one that it was made of.

    Args:
        model: in evaluation mode.
        small: made of it.
        rate: as of :class:`Shrunk`, as the next is.
        difference: likewise.
        left: layers that were left as they are, and why.
        given: batches, of which the first is timed, and how a network takes one.
    """
    predict, first = given.predict, next(iter(given.batches))
    after, hidden = dict(small.named_modules()), hidden_linear(model)
    rows = []
    for name, layer in model.named_modules():
        own = sum(p.numel() for p in layer.parameters(recurse=False))
        if own:
            there = after[name]
            outputs = (_outputs(layer), _outputs(there))
            count = sum(p.numel() for p in there.parameters())
            why = left.get(name, "" if name in hidden else _why(layer))
            rows.append(Row(name or "(model)", type(layer).__name__, outputs, (own, count), why))
    pair = (model, small)
    timed = timings({str(n): partial(predict, each, first) for n, each in enumerate(pair)}, TURNS)

    def call(module: nn.Module, batch: Any) -> Any:
        return predict(module, batch)[0]

    return Shrunk(
        small,
        rate,
        difference,
        rows,
        (_count(model), _count(small)),
        (macs(model, first, call), macs(small, first, call)),
        (timed["0"], timed["1"]),
        torch.get_num_threads(),
        "held-out batches" if given.holds_out() else "batches that it was fitted to",
        changed(model, small),
    )


def _why(layer: nn.Module) -> str:
    """Why a layer of this kind loses no outputs, unless a linear one is hidden; nothing of recurrent ones."""
    if type(layer) not in REFITTED:
        return f"nn.{type(layer).__name__} is left as it is"
    return "keeps its outputs: no linear layer follows in an nn.Sequential" if isinstance(layer, nn.Linear) else ""


def _outputs(layer: nn.Module) -> str:
    """How many outputs a layer has, of each of its layers where these differ; nothing where that is not a number."""
    if isinstance(layer, RecurrentStack):
        return "+".join(str(count_outputs(each)) for each in layer.layers)
    return str(count_outputs(layer)) if type(layer) in REFITTED else "-"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
