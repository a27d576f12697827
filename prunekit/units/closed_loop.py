"""Closed-loop repair: from the input upwards, each layer learns to say on what it reads now what it said before.

Linear compensation regresses removed units on kept ones along the trajectory of the network before (open loop), and the
pruned network then walks another. Here the pre-activations that a layer had in the network before are regressed on
what the same layer reads in the pruned one: its repaired inputs, its own previous outputs, a constant. The ridge draws
towards the present weights rather than towards 0. A new trajectory follows, so a pass over all layers is repeated,
damped where that makes outputs on held-out batches worse, and the best is kept. Closed form in float64, no labels.

Linear repair of what stays was published for vision transformers and convolutional networks as CORP (arXiv 2602.05243)
and GRAIL (arXiv 2602.23795); here it is that of recurrent layers, where what is read depends on the repair itself.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunekit.calibration import Calibration
from prunekit.gpu import float64
from prunekit.units.layers import CELLS, GATES
from prunekit.units.parts import Key, Part, parts_of
from prunekit.units.watching import Steps, watching

RIDGE = 1e-3
PASSES = 3
HOLD_OUT = 4
REFITTED = (*GATES, *CELLS, nn.Linear)
LEAST_STEP = 0.2  # of the way from the present weights to the fitted ones, below which passes end


def refit(gram: Tensor, cross: Tensor, present: Tensor, ridge: float) -> Tensor:
    """Least squares with a ridge towards the present weights: ``W0 + (C - W0 G) (G + ridge m I)^-1``.

    It minimises ``sum |W r - z|^2 + ridge m |W - W0|^2``, where m is the mean of G's diagonal, so that the ridge does
    not depend on the scale of what is read.

    Args:
        gram: G, ``(m, m)`` float64, the sum of r r^T.
        cross: C, ``(rows, m)`` float64, the sum of z r^T.
        present: W0, ``(rows, m)`` float64.
        ridge: above 0.

    Example:
        >>> r = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
        >>> now = torch.tensor([[5.0, 7.0]], dtype=torch.float64)
        >>> found = refit(r.T @ r, (r @ torch.tensor([[3.0], [0.0]]).double()).T @ r, now, 1e-9)
        >>> [round(value, 3) for value in found[0].tolist()]  # what is never read stays as it was
        [3.0, 7.0]
    """
    lifted = gram.clone()
    lifted.diagonal().add_((ridge * gram.diagonal().mean()).clamp(min=torch.finfo(torch.float64).tiny))
    found: Tensor = present + torch.linalg.solve(lifted, (cross - present @ gram).T).T
    return found


class Fold(NamedTuple):
    """Rows of weights that are fitted together.

    Attributes:
        names: of parameters with a row for each gate of each unit; what they read lies one beside the other, a bias
            reads a constant 1.
        rows: ``(rows,)`` int64, of each of these.
        columns: ``(m,)`` int64, of what is read: inputs, 1, the part's own earlier outputs.
    """

    names: list[str]
    rows: Tensor
    columns: Tensor


def folds_of(part: Part, kind: type[nn.Module], inputs: int, kept: Tensor) -> list[Fold]:
    """What of a part is fitted together: all gates, but of a GRU's candidate what reads inputs and units each alone.

    A GRU's candidate is ``tanh(W_in x + b_in + r (W_hn h + b_hn))``, whose two sums meet in a product.

    Args:
        part: recurrent or linear.
        kind: of its layer.
        inputs: how many numbers it reads at a step, its own units apart.
        kept: ``(units,)`` bool.

    Example:
        >>> part = parts_of(nn.GRU(2, 3), "")[0]
        >>> for fold in folds_of(part, nn.GRU, 2, torch.tensor([True, False, True])):
        ...     print(fold.names, fold.rows.tolist(), fold.columns.tolist())
        ['weight_ih_l0', 'bias_ih_l0', 'weight_hh_l0'] [0, 2, 3, 5] [0, 1, 2, 3, 4, 5]
        ['weight_ih_l0', 'bias_ih_l0'] [6, 8] [0, 1, 2]
        ['bias_hh_l0', 'weight_hh_l0'] [6, 8] [2, 3, 4, 5]
    """
    stay = kept.nonzero().flatten()
    rows = torch.cat([stay + gate * part.units for gate in range(part.gates)])
    weights, biases = ([name for name in part.names if name.rpartition(".")[2].startswith(k)] for k in ("w", "b"))
    read = torch.arange(inputs + len(biases[:1]) + (part.units if len(weights) > 1 else 0))
    whole = [weights[0], *biases[:1], *weights[1:]]
    if kind not in (nn.GRU, nn.GRUCell):
        return [Fold(whole, rows, read)]
    gates, candidate = rows[: -len(stay)], rows[len(rows) - len(stay) :]
    return [
        Fold(whole, gates, read),
        Fold(whole[:-1], candidate, read[: inputs + len(biases[:1])]),
        Fold([*biases[1:], weights[1]], candidate, read[inputs:]),
    ]


class Stage(NamedTuple):
    """What is fitted at once, since nothing in it reads another's outputs: both directions of a layer, or one part."""

    parts: list[Part]
    folds: list[list[Fold]]


@dataclass(frozen=True)
class Closed:
    """How far a repair came.

    Attributes:
        errors: of the outputs on held-out batches, sums of squares relative to the outputs' own: with units gone and
            nothing repaired, then after each pass.
        best: which of them was kept.
        left: layers that were not repaired, and why.
    """

    errors: list[float]
    best: int
    left: dict[str, str]


@torch.no_grad()
def close_loop(
    module: nn.Module,
    gone: Mapping[Key, Tensor],
    calibration: Calibration,
    ridge: float = RIDGE,
    passes: int = PASSES,
    hold_out: int = HOLD_OUT,
) -> Closed:
    """Remove units and repair in place what stays: recurrent and linear layers, in the order in which they are called.

    Args:
        module: in evaluation mode, with the weights before.
        gone: a part's layer, number and direction -> ``(units,)`` bool, which of its units go.
        calibration: batches that can be passed over again and again; every ``hold_out``-th is held out.
        ridge: relative to the mean square of what is read, above 0.
        passes: at most so many over all layers; 0 to remove alone.
        hold_out: of so many batches one is never fitted to, and says which pass was best.

    Returns:
        How far it came.

    Raises:
        ValueError: if there is no batch, or layers are called otherwise than before once units are gone.
    """
    stages, left = _stages(module, calibration, gone)
    names = {name for stage in stages for part in stage.parts for name in part.names}
    pair = _Pair(module, names, calibration, hold_out)
    for part in (part for stage in stages for part in stage.parts if part.key in gone):
        for name in part.names:
            module.get_parameter(name)[gone[part.key].repeat(part.gates)] = 0.0
    best, errors, kept, step = pair.weights(), [pair.error()], 0, 1.0
    for _ in range(passes):
        for stage in stages:
            _fit(pair, stage, ridge, step)
        errors.append(pair.error())
        if errors[-1] < errors[kept]:
            kept, best = len(errors) - 1, pair.weights()
        else:  # half as far, from the best so far
            step /= 2
            pair.load(best)
            if step < LEAST_STEP:
                break
    pair.load(best)
    return Closed(errors, kept, left)


class _Pair:
    """A network before and as it is now: one module, whose weights are changed to and fro."""

    def __init__(self, module: nn.Module, names: set[str], calibration: Calibration, hold_out: int) -> None:
        self.module, self._calibration, self._hold_out = module, calibration, hold_out
        self._own = {name: module.get_parameter(name) for name in names}
        self._before = self.weights()
        self._several = any(number > 0 for number, _ in enumerate(calibration.batches))

    def weights(self) -> dict[str, Tensor]:
        """A copy of what may change."""
        return {name: parameter.clone() for name, parameter in self._own.items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up such a copy."""
        for name, parameter in self._own.items():
            parameter.copy_(weights[name])

    def __iter__(self) -> Iterator[Any]:
        """The batches that are fitted to."""
        for number, batch in enumerate(self._calibration.batches):
            if not self._several or number % self._hold_out != self._hold_out - 1:
                yield batch

    def run(self, batch: Any) -> Any:
        """The outputs of a batch."""
        return self._calibration.predict(self.module, batch)[0]

    @contextmanager
    def before(self) -> Iterator[None]:
        """As it was, meanwhile."""
        now = self.weights()
        self.load(self._before)
        try:
            yield
        finally:
            self.load(now)

    def add_up(self, local: Tensor) -> Tensor:
        """The sum over all ranks."""
        return self._calibration.sum_over_ranks(local)

    def error(self) -> float:
        """Of the outputs on held-out batches: sum of squared differences over the sum of squares before."""
        total = torch.zeros(2, dtype=torch.float64)
        for number, batch in enumerate(self._calibration.batches):
            if not self._several or number % self._hold_out == self._hold_out - 1:
                with self.before():
                    wanted = floats(self.run(batch))
                for one, other in zip(wanted, floats(self.run(batch)), strict=True):
                    total += torch.stack([(one - other).square().sum(), one.square().sum()]).cpu()
        apart, size = self.add_up(total)
        return float(apart / size.clamp(min=torch.finfo(torch.float64).tiny))


def floats(outputs: Any) -> list[Tensor]:
    """The floating tensors among a network's outputs, in float64.

    Example:
        >>> [tuple(each.shape) for each in floats((torch.zeros(2), {"loss": torch.ones(()), "class": torch.tensor(1)}))]
        [(2,), ()]
    """
    return [float64(leaf) for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _stages(
    module: nn.Module, calibration: Calibration, gone: Mapping[Key, Tensor]
) -> tuple[list[Stage], dict[str, str]]:
    """What is fitted, in the order in which the first batch passes: from the first layer that loses units on."""
    known = {n: layer for n, layer in module.named_modules() if type(layer) in REFITTED}
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


def _fit(pair: _Pair, stage: Stage, ridge: float, step: float) -> None:
    """Fit a layer to what it said before, on what it reads now, and go ``step`` of the way."""
    layer = stage.parts[0].layer
    grams: list[Tensor | float] = [0.0 for _ in stage.parts]
    crosses: list[list[Tensor | float]] = [[0.0 for _ in folds] for folds in stage.folds]
    for batch in pair:
        with pair.before(), watching(pair.module, [layer]) as then:
            pair.run(batch)
            said = [
                [[_say(pair.module, fold, read) for fold in folds] for read in _reads(part, then)]
                for part, folds in zip(stage.parts, stage.folds, strict=True)
            ]
        with watching(pair.module, [layer]) as now:
            pair.run(batch)
        for number, part in enumerate(stage.parts):
            for wanted, read in zip(said[number], _reads(part, now), strict=True):
                grams[number] = grams[number] + read.T @ read
                crosses[number] = [
                    sums + z.T @ read[:, fold.columns]
                    for sums, z, fold in zip(crosses[number], wanted, stage.folds[number], strict=True)
                ]
    for folds, whole, own in zip(stage.folds, grams, crosses, strict=True):
        gram = pair.add_up(torch.as_tensor(whole))
        for fold, sums in zip(folds, own, strict=True):
            present = _together(pair.module, fold)
            cross = pair.add_up(torch.as_tensor(sums)).to(present)
            made = refit(gram[fold.columns][:, fold.columns].to(present), cross, present, ridge)
            _apart(pair.module, fold, present + step * (made - present))


def _reads(part: Part, seen: Mapping[Key, Sequence[Steps]]) -> list[Tensor]:
    """What a part reads, call by call: inputs, a constant 1 if it has a bias, its own earlier outputs."""
    has_bias = any(name.rpartition(".")[2].startswith("bias") for name in part.names)
    found = []
    for call in seen[part.key]:
        one = [call.inputs.new_ones(len(call.inputs), 1)] * has_bias
        found.append(float64(torch.cat([call.inputs, *one, call.earlier], 1)))
    return found


def _say(module: nn.Module, fold: Fold, read: Tensor) -> Tensor:
    return read[:, fold.columns] @ _together(module, fold).to(read).T


def _together(module: nn.Module, fold: Fold) -> Tensor:
    """The rows of a fold's weights, ``(rows, m)`` float64."""
    own = [module.get_parameter(name)[fold.rows] for name in fold.names]
    return float64(torch.cat([each if each.dim() > 1 else each[:, None] for each in own], 1))


def _apart(module: nn.Module, fold: Fold, weights: Tensor) -> None:
    """Write such rows back."""
    for name in fold.names:
        parameter = module.get_parameter(name)
        width = parameter.shape[1] if parameter.dim() > 1 else 1
        part, weights = weights[:, :width], weights[:, width:]
        parameter[fold.rows] = part.reshape(len(fold.rows), *parameter.shape[1:]).to(parameter)
