"""Least squares for the weights of a layer: what is read, what should be said, and a ridge towards what there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunekit.gpu import float64
from prunekit.units.parts import Part

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


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
    lift = (ridge * gram.diagonal().mean()).clamp(min=torch.finfo(torch.float64).tiny)
    read = gram.diagonal().nonzero().flatten()  # the other columns, of units that are gone, would only take time
    gram = gram[read][:, read]
    step = (cross[:, read] - present[:, read] @ gram).T
    gram.diagonal().add_(lift)
    return present.index_add(1, read, torch.linalg.solve(gram, step).T)


@dataclass(frozen=True)
class Sums:
    """Sums over samples, enough for least squares and for its error.

    Attributes:
        gram: ``(m, m)`` float64, of r r^T, where r is what is read.
        cross: ``(rows, m)`` float64, of z r^T, where z is what should be said.
    """

    gram: Tensor
    cross: Tensor

    @classmethod
    def of(cls, read: Tensor, said: Tensor) -> "Sums":
        """Of samples: what is read, ``(n, m)``, and what should be said, ``(n, rows)``, float64.

        Example:
            >>> sums = Sums.of(torch.tensor([[1.0, 0.0], [2.0, 0.0]]).double(), torch.tensor([[3.0], [1.0]]).double())
            >>> sums.gram.tolist(), sums.cross.tolist()
            ([[5.0, 0.0], [0.0, 0.0]], [[5.0, 0.0]])
        """
        some = read.any(0).nonzero().flatten()  # of units that are gone nothing is read
        seen = read[:, some]
        gram, cross = read.new_zeros(read.shape[1], read.shape[1]), read.new_zeros(said.shape[1], read.shape[1])
        gram[some[:, None], some] = seen.T @ seen
        return cls(gram, cross.index_copy(1, some, said.T @ seen))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.gram + other.gram, self.cross + other.cross)

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(self.gram - other.gram, self.cross - other.cross)

    def error(self, weights: Tensor) -> float:
        """The sum of ``|W r - z|^2``, but for that of ``|z|^2``, which is the same for all W."""
        return float((weights @ self.gram * weights).sum() - 2 * (weights * self.cross).sum())


def best_refit(
    groups: Sequence[Sums], held: Sums | None, present: Tensor, ridges: Sequence[float]
) -> tuple[Tensor, float]:
    """The refit to all groups, and its ridge: that of the least error on samples that it was not fitted to.

    These are what is held out; where nothing is, each group is left out in turn, which takes as many times as long.
    With one group and nothing held out the ridge in the middle is taken.

    Args:
        groups: sums over the samples of each, at least one.
        held: over others.
        present: ``(rows, m)`` float64, the weights towards which the ridges draw.
        ridges: some.
    """
    whole = _total(groups)

    def fitted(sums: Sums, ridge: float) -> Tensor:
        return refit(sums.gram, sums.cross, present, ridge)

    def error(ridge: float) -> float:
        if held is not None:
            return held.error(fitted(whole, ridge))
        return sum(each.error(fitted(whole - each, ridge)) for each in groups)

    alone = len(ridges) == 1 or (held is None and len(groups) == 1)
    ridge = ridges[len(ridges) // 2] if alone else min(ridges, key=error)
    return fitted(whole, ridge), ridge


def _total(groups: Sequence[Sums]) -> Sums:
    return Sums(torch.stack([each.gram for each in groups]).sum(0), torch.stack([each.cross for each in groups]).sum(0))


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
        >>> from prunekit.units.parts import parts_of
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


def together(module: nn.Module, fold: Fold) -> Tensor:
    """The rows of a fold's weights, ``(rows, m)`` float64."""
    own = [module.get_parameter(name)[fold.rows] for name in fold.names]
    return float64(torch.cat([each if each.dim() > 1 else each[:, None] for each in own], 1))


def take_apart(module: nn.Module, fold: Fold, weights: Tensor) -> None:
    """Write such rows back."""
    for name in fold.names:
        parameter = module.get_parameter(name)
        width = parameter.shape[1] if parameter.dim() > 1 else 1
        part, weights = weights[:, :width], weights[:, width:]
        parameter[fold.rows] = part.reshape(len(fold.rows), *parameter.shape[1:]).to(parameter)
