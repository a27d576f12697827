"""Low rank in place of units: every weight matrix becomes the product of two thin ones, as cheap as fewer units are.

A layer that maps z to W z + b does m x n multiply-adds; as U (V z) + b with r columns in U it does r (m + n). Of all
maps of rank r, the one nearest on data is the projection onto the first r principal directions of W z: with the
covariance C of z, of W C^(1/2) = U S V^T the first r columns of U, W becomes U_r U_r^T W, and the bias takes up the
mean of what is lost. How many directions each matrix keeps is chosen for all of them together: next comes the direction
that holds the largest share of what its own matrix says, for each multiply-add.

A recurrent layer's two matrices are one map of what it reads and what it said, [x, h], and share their directions.

Source: Xue, Li and Gong, Restructuring of deep neural network acoustic models with singular value decomposition, 2013;
on recurrent layers Prabhavalkar and others, On the compression of recurrent neural networks, 2016. These take W alone;
what is read, and so C, is taken here as well, which is the stronger of the two.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration, Seen, evaluating
from prunekit.groups import Grouping, Groups
from prunekit.repair import Repair
from prunekit.units.moments import Moments
from prunekit.units.parts import Key, Part, parts_of, recurrent_layers
from prunekit.units.watching import watch_batches

log = logging.getLogger("prunekit")


class Spectrum(NamedTuple):
    """The principal directions of what a map says.

    Attributes:
        directions: ``(m, k)`` float64, orthonormal, those of most energy first.
        energies: ``(k,)`` float64, the mean square along each.
        columns: n, how many numbers the map reads.
    """

    directions: Tensor
    energies: Tensor
    columns: int

    @classmethod
    def of(cls, weight: Tensor, covariance: Tensor) -> "Spectrum":
        """Of the map ``weight`` ``(m, n)`` of numbers with this covariance ``(n, n)``.

        Example:
            >>> Spectrum.of(torch.eye(2), torch.diag(torch.tensor([1.0, 4.0]))).energies
            tensor([4., 1.], dtype=torch.float64)
        """
        values, vectors = torch.linalg.eigh(covariance.double())
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        directions, singular, _ = torch.linalg.svd(weight.double() @ root, full_matrices=False)
        return cls(directions, singular.square(), weight.shape[1])

    @property
    def whole(self) -> int:
        """Multiply-adds of the map as it is."""
        return len(self.directions) * self.columns

    def cost(self, rank: int) -> int:
        """Multiply-adds with so many directions, or of the map as it is where that is less."""
        return min(rank * (len(self.directions) + self.columns), self.whole)


def ranks_within(spectra: Sequence[Spectrum], budget: int) -> list[int | None]:
    """How many directions each map keeps, for at most so many multiply-adds in all; None for a map that stays whole.

    Example:
        >>> wide = Spectrum.of(torch.eye(8), torch.diag(torch.tensor([9.0, 9.0, *[0.1] * 6])))
        >>> even = Spectrum.of(torch.eye(8), torch.eye(8))
        >>> ranks_within([wide, even], 48), ranks_within([wide, even], 128)
        ([2, 1], [None, None])
    """
    ranks: list[int | None] = [0] * len(spectra)
    left = budget
    while True:
        best, gain, taken = -1, 0.0, 0
        for place, (spectrum, rank) in enumerate(zip(spectra, ranks, strict=True)):
            if rank is None:
                continue
            more = spectrum.cost(rank + 1) - spectrum.cost(rank)
            last = spectrum.cost(rank + 1) == spectrum.whole
            held = spectrum.energies[rank:] if last else spectrum.energies[rank : rank + 1]
            share = float(held.sum() / spectrum.energies.sum().clamp(min=1e-300)) / max(more, 1)
            if more <= left and (best < 0 or share > gain):
                best, gain, taken = place, share, more
        if best < 0:
            return ranks
        rank = ranks[best]
        assert rank is not None
        ranks[best] = None if spectra[best].cost(rank + 1) == spectra[best].whole else rank + 1
        left -= taken


class LowRank(Repair):
    """Puts each matrix of some layers at the rank that it can have within a number of multiply-adds; no unit goes.

    The tensors keep their shapes, so that everything reads them as before: what costs less is the product of the two
    thin matrices, which a layer of one's own has to compute. ``nn.LSTM`` and the like cannot.

    Args:
        weights: names of the weight matrices, in the module; a recurrent layer and direction has both of its own.
        budget: multiply-adds of a step that all of them may take together.

    Attributes:
        ranks: by layer, how many directions each has kept; None for one that stayed whole. Empty before the event.
    """

    name = "low_rank"
    needs = frozenset({"calibration"})
    words = ("unit",)

    def __init__(self, weights: Sequence[str], budget: int) -> None:
        self.weights, self.budget = list(weights), budget
        self.ranks: dict[str, int | None] = {}

    def __call__(
        self, module: nn.Module, grouping: Grouping, groups: Groups, goes: Tensor, seen: Seen
    ) -> Mapping[str, Tensor]:
        """Change the matrices, and the biases by the mean of what is lost."""
        assert seen.calibration is not None
        parts = self._parts(module)
        with evaluating(module):
            read = moments_read(module, parts, seen.calibration)
        maps = [[module.get_parameter(name).detach() for name in part.names] for part in parts]
        # Without biases nothing can take up a mean, which then counts as all else that is said.
        covariances = [
            moments.covariance(about_zero=len(own) == len(_matrices(own)))
            for own, moments in zip(maps, read, strict=True)
        ]
        spectra = [
            Spectrum.of(torch.cat(_matrices(own), 1).cpu(), each) for own, each in zip(maps, covariances, strict=True)
        ]
        ranks = ranks_within(spectra, self.budget)
        for own, moments, spectrum, rank in zip(maps, read, spectra, ranks, strict=True):
            if rank is not None:
                project(own, moments.mean(), spectrum.directions[:, :rank])
        recurrent = recurrent_layers(module)
        names = [part.label() if part.layer in recurrent else part.layer for part in parts]
        self.ranks = dict(zip(names, ranks, strict=True))
        told = (f"{name} {'whole' if rank is None else rank}" for name, rank in self.ranks.items())
        log.info("low rank: %s; at most %s multiply-adds a step", ", ".join(told), f"{self.budget:,}")
        return {}

    def changes(self, module: nn.Module, grouping: Grouping) -> list[str]:
        """The matrices and the biases beside them."""
        return [name for part in self._parts(module) for name in part.names]

    def _parts(self, module: nn.Module) -> list[Part]:
        layers = dict.fromkeys(name.rpartition(".")[0] for name in self.weights)
        return [part for layer in layers for part in parts_of(module, layer) if part.names[0] in self.weights]


@torch.no_grad()
def moments_read(module: nn.Module, parts: Sequence[Part], calibration: Calibration) -> list[Moments]:
    """Moments of what parts read at each step, of a recurrent one ``[x, h]``, over all batches and ranks.

    Raises:
        ValueError: if a part is not called.
    """
    found: dict[Key, Moments] = {}
    for _, seen in watch_batches(module, [part.layer for part in parts], calibration):
        for part in parts:
            for call in seen.get(part.key, []):
                own = Moments.of(torch.cat([call.inputs, call.earlier], 1))
                found[part.key] = found[part.key] + own if part.key in found else own
    for part in parts:
        if part.key not in found:
            raise ValueError(f"{part.layer} is not called, or no batch was given")
    return [found[part.key].map(lambda sums: calibration.sum_over_ranks(sums.cpu()).cpu()) for part in parts]


@torch.no_grad()
def project(parameters: Sequence[Tensor], mean: Tensor, directions: Tensor) -> None:
    """Keep of what matrices say these directions, and of the rest its mean, in the biases.

    Args:
        parameters: the matrices ``(m, n_i)``, then as many biases ``(m,)`` or none; changed in place.
        mean: ``(n,)`` of all that they read, one matrix after the other.
        directions: ``(m, r)`` float64, orthonormal.

    Example:
        >>> weight, bias = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2)
        >>> project([weight, bias], torch.tensor([3.0, 4.0]), torch.tensor([[0.0], [1.0]]).double())
        >>> weight, bias
        (tensor([[0., 0.],
                [0., 2.]]), tensor([3., 0.]))
    """
    matrices = _matrices(parameters)
    means = torch.split(mean.double().cpu(), [each.shape[1] for each in matrices])
    for place, (matrix, read) in enumerate(zip(matrices, means, strict=True)):
        before = matrix.double().cpu()
        after = directions @ (directions.T @ before)
        if len(parameters) > len(matrices):
            parameters[len(matrices) + place].add_(((before - after) @ read).to(matrix))
        matrix.copy_(after)  # last: of float64 on the CPU `before` is the matrix itself


def _matrices(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [each for each in parameters if each.dim() > 1]
