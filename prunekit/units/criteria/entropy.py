"""How varied a unit's output is."""

from torch import nn

from prunekit.errors import check_choice
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.series import UnitSeries
from prunekit.units.transfer_entropy import count_levels, entropy, equal_width


class Entropy(Criterion):
    """The entropy of a unit's outputs over all steps of all training clips, in bits.

    Args:
        bins: of equal width over [-1, 1]: 2, 4, 8 or 16.

    Raises:
        ConfigError: if it is none of these.
    """

    name = "entropy"
    grains = ("unit", "gate")

    def __init__(self, bins: int = 16) -> None:
        check_choice("criterion.bins", bins, (2, 4, 8, 16))
        self.bins = bins

    def scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Bits."""
        assert series is not None
        counts = count_levels(equal_width(series.levels, self.bins), self.bins)
        return Scores(entropy(series.sum_over_ranks(counts)))

    def gate_scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """The same of gates' activations."""
        return self.scores(lstm, series)
