"""Which units to keep so that a linear map of them says best what all of them said."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.groups import Groups
from prunekit.units.compensation import RIDGE, check_ridge
from prunekit.units.forward_selection import forward_selection
from prunekit.units.moments import OutputMoments


class Reconstruction(Criterion):
    """The place of a unit in a greedy choice of units to keep, made for linear compensation.

    Units are taken one by one; the next is the one that most lowers the error of what the units feed, the rows of
    W_hh and of the next layer, after compensation. Each of the two errors counts relative to what it is with no unit
    kept. The unit taken first has the highest score, the number of units, and the one taken last has 1: so units go in
    ``ascending`` order; ``descending`` removes first what should be kept.

    Args:
        ridge: relative to the outputs' mean variance, above 0.

    Raises:
        ArgumentError: if it is not.
    """

    name = "reconstruction"
    needs = frozenset({"moments", "readers"})
    words = ("unit",)
    orders = ("ascending",)

    def __init__(self, ridge: float = RIDGE) -> None:
        self.ridge = check_ridge(ridge)

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """Places, counted from the end; where there are several parts, as shares of how many units a part has."""
        assert seen.moments is not None
        assert seen.readers is not None
        places = [self._places(*part) for part in zip(seen.moments, seen.readers, strict=True)]
        return Scores(places[0] if len(places) == 1 else torch.cat([each / len(each) for each in places]))

    def _places(self, moments: OutputMoments, readers: Sequence[Tensor]) -> Tensor:
        covariance = moments.fed_back.covariance().cpu()
        wanted = torch.zeros_like(covariance)
        for weight in readers:
            reads = weight.detach().cpu().double()
            reads = reads.T @ reads
            wanted += reads / (reads * covariance).sum().clamp(min=torch.finfo(torch.float64).tiny)
        order = forward_selection(covariance, wanted, self.ridge)
        values = torch.empty(len(order), dtype=torch.float64)
        values[order] = torch.arange(len(order), 0, -1, dtype=torch.float64)
        return values
