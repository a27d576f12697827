"""Closed-loop repair: from the input upwards, each layer learns to say on what it reads now what it said before.

Linear compensation regresses removed units on kept ones along the trajectory of the network before (open loop), and the
pruned network then walks another. Here the pre-activations that a layer had in the network before, of all gates, are
regressed on what the same layer reads in the pruned one: its repaired inputs, a constant, its own previous outputs. The
ridge draws towards the present weights rather than towards 0, and is the one that does best on held-out batches.

A layer's own previous outputs depend on the weights that are fitted. So it is fitted first to those that its kept units
had before, then a few turns to those that it has with the weights of the turn before. The sums of all turns are kept:
fitted to the last trajectory alone, weights swing to and fro (Ross, Gordon and Bagnell, arXiv 1011.0686, whose DAgger
is the same thought). Closed form in float64, without labels.

Linear repair of what stays was published for vision transformers and convolutional networks as CORP (arXiv 2602.05243)
and GRAIL (arXiv 2602.23795); this is that of recurrent layers, where what is read depends on the repair itself.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from prunekit.calibration import Calibration
from prunekit.gpu import float64
from prunekit.units.before_and_now import BeforeAndNow
from prunekit.units.layers import CELLS, GATES
from prunekit.units.parts import Key, Part, parts_of
from prunekit.units.refitting import RIDGES, Fold, Sums, best_refit, folds_of, take_apart, together
from prunekit.units.watching import watching

PASSES, TURNS, GROUPS = 1, 5, 4  # so many groups of batches are left out in turn to choose a ridge by
REFITTED = (*GATES, *CELLS, nn.Linear)
HELD = -1  # the group of what is held out
MOST_KEPT = 2**31  # bytes of what a layer said before, which is computed anew for each turn beyond that


class Stage(NamedTuple):
    """What is fitted at once, since nothing in it reads another's outputs within a step: both directions of a layer."""

    parts: list[Part]
    folds: list[list[Fold]]


@dataclass(frozen=True)
class Closed:
    """How far a repair came.

    Attributes:
        errors: of the outputs on held-out batches, sums of squares relative to the outputs' own: with units gone and
            nothing repaired, then after each pass.
        best: which of them was kept.
        ridges: a part's layer, number and direction -> the last ridge that was chosen for it.
        left: layers that were not repaired, and why.
    """

    errors: list[float]
    best: int
    ridges: dict[Key, float]
    left: dict[str, str]


@torch.no_grad()
def close_loop(
    module: nn.Module,
    gone: Mapping[Key, Tensor],
    calibration: Calibration,
    ridges: Sequence[float] = RIDGES,
    passes: int = PASSES,
    turns: int = TURNS,
) -> Closed:
    """Remove units and repair in place what stays: recurrent and linear layers, in the order in which they are called.

    Args:
        module: in evaluation mode, with the weights before.
        gone: a part's layer, number and direction -> ``(units,)`` bool, which of its units go.
        calibration: batches that can be passed over again and again; what it holds out is never fitted to.
        ridges: those to choose from for each layer, relative to the mean square of what is read.
        passes: over all layers; 0 to remove alone. The best on held-out batches is kept.
        turns: how often a layer is fitted to its own new trajectory within a pass.

    Returns:
        How far it came.

    Raises:
        ValueError: if there is no batch, or layers are called otherwise than before once units are gone.
    """
    stages, left = _stages(module, calibration, gone)
    names = {name for stage in stages for part in stage.parts for name in part.names}
    pair = BeforeAndNow(module, names, calibration)
    for part in (part for stage in stages for part in stage.parts if part.key in gone):
        for name in part.names:
            module.get_parameter(name)[gone[part.key].repeat(part.gates)] = 0.0
    best, errors, kept = pair.weights(), [pair.error()], 0
    fits = [_Fit(pair, stage, gone, ridges) for stage in stages]
    work = [fit for _ in range(passes) for fit in fits]
    bar = track(
        work, "closed loop", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty() or not work
    )
    for number, fit in enumerate(bar, 1):
        fit.run(turns)
        if number % len(fits) == 0:
            errors.append(pair.error())
            if errors[-1] < errors[kept]:
                kept, best = len(errors) - 1, pair.weights()
    pair.load(best)
    return Closed(errors, kept, {key: ridge for fit in fits for key, ridge in fit.chosen.items()}, left)


class Said(NamedTuple):
    """What a part said in a call before: the rows of each of its folds, ``(n, rows)``, and its own earlier outputs."""

    folds: list[Tensor]
    earlier: Tensor


class _Fit:
    """The repair of one stage; its sums outlive the turns and the passes."""

    def __init__(self, pair: BeforeAndNow, stage: Stage, gone: Mapping[Key, Tensor], ridges: Sequence[float]) -> None:
        self._pair, self._stage, self._gone, self._ridges = pair, stage, gone, ridges
        self._layer = stage.parts[0].layer
        self._sums: dict[tuple[int, int, int], Sums] = {}  # of a part's fold, over a group of batches
        self.chosen: dict[Key, float] = {}

    def run(self, turns: int) -> None:
        """Fit a few turns; of a recurrent layer the very first one is to what its kept units gave before."""
        recurrent = not isinstance(self._pair.module.get_submodule(self._layer), nn.Linear)
        begins = recurrent and not self._sums
        said: list[list[list[Said]] | None] = []
        kept = 0
        for turn in range((turns if recurrent else 1) + begins):
            fitted = 0
            for number, (batch, held) in enumerate(self._pair.batches()):
                group = HELD if held else fitted % GROUPS
                fitted += not held
                if number == len(said):
                    said.append(None)
                then = said[number] or self._said(batch)
                if said[number] is None and kept < MOST_KEPT:
                    said[number] = then
                    kept += sum(each.nbytes for part in then for call in part for each in call.folds)
                self._add(batch, group, then, along_before=begins and turn == 0)
            self._solve()

    def _said(self, batch: Any) -> list[list[Said]]:
        """What each part said before, call by call."""
        found = []
        with self._pair.before():
            seen = self._pair.see(batch, self._layer, None)
            for part, folds in zip(self._stage.parts, self._stage.folds, strict=True):
                calls = []
                for call in seen.get(part.key, []):
                    read = _read(part, call.inputs, call.earlier)
                    weights = [together(self._pair.module, fold).to(read) for fold in folds]
                    own = [read[:, f.columns] @ w.T for f, w in zip(folds, weights, strict=True)]
                    calls.append(Said([each.to(call.inputs.dtype) for each in own], call.earlier))
                found.append(calls)
        return found

    def _add(self, batch: Any, group: int, then: list[list[Said]], along_before: bool) -> None:
        """Add to the sums what is read now, and what was said before."""
        now = self._pair.see(batch, self._layer, len(then[0]))
        for number, (part, folds) in enumerate(zip(self._stage.parts, self._stage.folds, strict=True)):
            for before, call in zip(then[number], now.get(part.key, []), strict=True):
                earlier = call.earlier
                if along_before:
                    earlier = before.earlier.clone()
                    earlier[:, self._gone.get(part.key, torch.zeros(part.units, dtype=torch.bool))] = 0.0
                read = _read(part, call.inputs, earlier)
                for place, (fold, wanted) in enumerate(zip(folds, before.folds, strict=True)):
                    sums, key = Sums.of(read[:, fold.columns], wanted.to(read)), (number, place, group)
                    self._sums[key] = self._sums[key] + sums if key in self._sums else sums

    def _solve(self) -> None:
        module = self._pair.module
        for number, (part, folds) in enumerate(zip(self._stage.parts, self._stage.folds, strict=True)):
            for place, fold in enumerate(folds):
                present = together(module, fold)
                totals = {group: self._total(number, place, group, present) for group in (*range(GROUPS), HELD)}
                held = totals.pop(HELD)
                groups = [each for each in totals.values() if each is not None]
                if groups:  # else nothing but zeros is read
                    made, self.chosen[part.key] = best_refit(groups, held, present, self._ridges)
                    take_apart(module, fold, made)

    def _total(self, number: int, place: int, group: int, present: Tensor) -> Sums | None:
        """The sums over all ranks, on the weights' device; None where no batch is in them."""
        nothing = Sums(present.new_zeros(present.shape[1], present.shape[1]), torch.zeros_like(present))
        own = self._sums.get((number, place, group), nothing)
        total = Sums(*(self._pair.add_up(each).to(present) for each in (own.gram, own.cross)))
        return total if bool(total.gram.any()) else None


def _read(part: Part, inputs: Tensor, earlier: Tensor) -> Tensor:
    """What a part reads: inputs, a constant 1 if it has a bias, its own earlier outputs; ``(n, m)`` float64."""
    has_bias = any(name.rpartition(".")[2].startswith("bias") for name in part.names)
    return float64(torch.cat([inputs, *[inputs.new_ones(len(inputs), 1)] * has_bias, earlier], 1))


def _stages(
    module: nn.Module, calibration: Calibration, gone: Mapping[Key, Tensor]
) -> tuple[list[Stage], dict[str, str]]:
    """What is fitted, in the order in which the first batch passes: from the first layer that loses units on."""
    known = {n: layer for n, layer in module.named_modules() if type(layer) in REFITTED}
    known = {n: layer for n, layer in known.items() if not getattr(layer, "proj_size", 0)}
    owners = Counter(id(p) for part in module.modules() for p in part._parameters.values() if p is not None)
    left: dict[str, str] = {}
    with watching(module, list(known)) as seen:
        batch = next(iter(calibration.batches), None)
        if batch is None:
            raise ValueError("no batch to repair on")
        calibration.predict(module, batch)
    stages: dict[tuple[str, int], Stage] = {}
    for name, number, _ in seen:
        layer = known[name]
        parts = [part for part in parts_of(module, name) if part.number == number]
        lost = any(part.key in gone and bool(gone[part.key].any()) for part in parts)
        if not (stages or lost) or (name, number) in stages:
            continue
        if any(owners[id(module.get_parameter(n))] > 1 for part in parts for n in part.names):
            left[name] = "shares weights with another layer"
            continue
        folds = []
        for part in parts:
            kept = torch.ones(part.units, dtype=torch.bool) if part.key not in gone else ~gone[part.key].cpu()
            folds.append(folds_of(part, type(layer), seen[part.key][0].inputs.shape[1], kept))
        stages[name, number] = Stage(parts, folds)
    return list(stages.values()), left
