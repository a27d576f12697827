"""What each gate does on average: what a removed one becomes."""

from torch import nn

from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.series import UnitSeries


class GateMeans(Criterion):
    """No rule to prune by: the mean activation of each gate, found and shared as scores are."""

    name = "gate_means"
    grains = ("gate",)

    def scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Units have none.

        Raises:
            ValueError: always.
        """
        raise ValueError("means are of gates")

    def gate_scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """The means."""
        assert series is not None
        return Scores(series.mean)
