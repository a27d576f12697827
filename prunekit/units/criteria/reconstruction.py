"""Which units to keep so that a linear map of them says best what all of them said."""

import torch
from torch import nn

from prunekit.units.compensation import RIDGE, check_ridge
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.selection import forward_selection
from prunekit.units.series import UnitSeries


class Reconstruction(Criterion):
    """The place of a unit in a greedy choice of units to keep, made for linear compensation.

    Units are taken one by one; the next is the one that most lowers the error of what the units feed, the rows of
    W_hh and of the next layer, after compensation. Each of the two errors counts relative to what it is with no unit
    kept. The unit taken first has the highest score, the number of units, and the one taken last has 1: so units go in
    ``ascending`` order; ``descending`` removes first what should be kept.

    Args:
        ridge: relative to the outputs' mean variance, above 0.

    Raises:
        ConfigError: if it is not.
    """

    name = "reconstruction"
    needs_moments = True
    orders = ("ascending",)

    def __init__(self, ridge: float = RIDGE) -> None:
        self.ridge = check_ridge("criterion.ridge", ridge)

    def scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Places, counted from the end.

        Raises:
            ValueError: if the series have no moments.
        """
        if series is None or series.moments is None or series.read_by is None:
            raise ValueError("reconstruction needs moments of the units, and the weights that read them")
        covariance = series.moments.fed_back.covariance().cpu()
        wanted = torch.zeros_like(covariance)
        for weight in (lstm.get_parameter(f"weight_hh_l{lstm.num_layers - 1}"), series.read_by):
            reads = weight.detach().double().cpu()
            reads = reads.T @ reads
            wanted += reads / (reads * covariance).sum().clamp(min=torch.finfo(torch.float64).tiny)
        order = forward_selection(covariance, wanted, self.ridge)
        values = torch.empty(len(order), dtype=torch.float64)
        values[order] = torch.arange(len(order), 0, -1, dtype=torch.float64)
        return Scores(values)
