"""How far the output of a unit goes from its mean."""

import torch
from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.groups import Groups


class StandardDeviation(Criterion):
    """The standard deviation of a unit's outputs over all steps of all training sequences.

    Example:
        >>> from prunekit.units.moments import OutputMoments
        >>> seen = Seen(moments=[OutputMoments.of(torch.tensor([[[1.0, 5.0], [3.0, 5.0]]]))])
        >>> groups = Groups({}, *torch.zeros(3, 2, dtype=torch.int64))
        >>> StandardDeviation().scores(nn.Identity(), groups, seen).values.tolist()
        [1.0, 0.0]
    """

    name = "standard_deviation"
    needs = frozenset({"moments"})
    words = ("unit",)

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """From the covariances seen."""
        assert seen.moments is not None
        variances = [part.read.covariance().diagonal() for part in seen.moments]
        return Scores(torch.cat(variances).clamp(min=0.0).sqrt().cpu())
