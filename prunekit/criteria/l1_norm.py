"""How large the weights are that come into a unit."""

import torch
from torch import Tensor, nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.groups import Groups
from prunekit.masks import find_parameter


class L1Norm(Criterion):
    """The sum of magnitudes of a unit's or gate's incoming weights: its rows of W_ih and W_hh, without biases.

    Example:
        >>> from prunekit.masks import Mask
        >>> from prunekit.units.grouping import Units
        >>> net = nn.ModuleDict({"lstm": nn.LSTM(2, 3)})
        >>> for weight in (net["lstm"].weight_ih_l0, net["lstm"].weight_hh_l0): _ = nn.init.ones_(weight)
        >>> units = Units("lstm")
        >>> L1Norm().scores(net, units(net, Mask.full(net, units.parameters(net))), Seen()).values.tolist()
        [20.0, 20.0, 20.0]
    """

    name = "l1_norm"
    words = ("unit", "gate")

    @torch.no_grad()
    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """Row by row, then over the rows of a unit's gates."""
        rows: dict[int, Tensor] = {}  # by the first unit of a layer and direction
        units: dict[int, int] = {}
        for name, number in groups.numbers.items():
            if number.dim() > 1:
                first, last = int(number.min()), int(number.max())
                norms = find_parameter(module, name).detach().cpu().double().abs().sum(1)
                rows[first], units[first] = rows.get(first, 0.0) + norms, last - first + 1
        return Scores(torch.cat([rows[first].view(-1, units[first]).sum(0) for first in sorted(rows)]))
