"""How large a group's weights are."""

from typing import Literal

from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.errors import check_choice
from prunekit.groups import Groups
from prunekit.masks import find_parameter

REDUCTIONS = ("mean", "sum", "max")


class Magnitude(Criterion):
    """The ``mean``, ``sum`` or ``max`` of magnitudes ``abs(w)`` over a group's entries; ``mean`` is the region paper's.

    Args:
        reduction: one of the three.

    Raises:
        ArgumentError: if it is none of these.

    Example:
        >>> import torch
        >>> from prunekit.groups import Weights
        >>> from prunekit.masks import Mask
        >>> layer = nn.Linear(2, 1)
        >>> with torch.no_grad(): _ = layer.weight.copy_(torch.tensor([[2.0, -3.0]]))
        >>> Magnitude().scores(layer, Weights()(layer, Mask.full(layer, ["weight"])), Seen()).values.tolist()
        [2.0, 3.0]
    """

    name = "magnitude"

    def __init__(self, reduction: Literal["mean", "sum", "max"] = "mean") -> None:
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction = reduction

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """From the weights alone."""
        sizes = {name: find_parameter(module, name).detach().abs() for name in groups.numbers}
        return Scores(groups.reduce(sizes, self.reduction))
