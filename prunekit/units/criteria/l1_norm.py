"""How large a unit's weights are."""

import torch
from torch import nn

from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.series import UnitSeries


class L1Norm(Criterion):
    """The sum of magnitudes of a unit's incoming weights: its four gates' rows of W_ih and W_hh, without biases.

    Example:
        >>> from torch import nn
        >>> lstm = nn.LSTM(2, 3)
        >>> for weight in (lstm.weight_ih_l0, lstm.weight_hh_l0): _ = nn.init.ones_(weight)
        >>> L1Norm().scores(lstm, None).values.tolist()
        [20.0, 20.0, 20.0]
    """

    name = "l1_norm"
    grains = ("unit", "gate")
    needs_series = False

    @torch.no_grad()
    def scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Norms; ``series`` is not looked at."""
        return Scores(self.gate_scores(lstm, None).values.view(4, lstm.hidden_size).sum(0))

    def gate_scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """The norms of the single gates' rows."""
        layer = lstm.num_layers - 1
        weights = [lstm.get_parameter(f"weight_{kind}_l{layer}").detach().double().cpu() for kind in ("ih", "hh")]
        return Scores(weights[0].abs().sum(1) + weights[1].abs().sum(1))
