"""The control: any order."""

import torch
from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.errors import check_count
from prunekit.groups import Groups


class Random(Criterion):
    """Scores drawn from a seed.

    Args:
        seed: of the drawing; whole, 0 or more.

    Raises:
        ArgumentError: if it is not.

    Example:
        >>> groups = Groups({}, *torch.zeros(3, 4, dtype=torch.int64))
        >>> one, two = (Random(seed=1).scores(nn.Identity(), groups, Seen()).values for _ in range(2))
        >>> len(one), torch.equal(one, two)
        (4, True)
    """

    name = "random"

    def __init__(self, seed: int) -> None:
        self.seed = check_count("seed", seed)

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """Numbers in [0, 1); nothing is looked at but the number of groups."""
        generator = torch.Generator().manual_seed(self.seed)
        return Scores(torch.rand(len(groups), dtype=torch.float64, generator=generator))
