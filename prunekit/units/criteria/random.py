"""The control: any order."""

import torch
from torch import nn

from prunekit.errors import check_count
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.series import UnitSeries


class Random(Criterion):
    """Scores drawn from a seed.

    Args:
        seed: of the drawing; whole, 0 or more.

    Raises:
        ConfigError: if it is not.

    Example:
        >>> one, two = (Random(seed=1).scores(nn.LSTM(2, 3), None).values for _ in range(2))
        >>> torch.equal(one, two)
        True
    """

    name = "random"
    grains = ("unit", "gate")
    needs_series = False

    def __init__(self, seed: int) -> None:
        self.seed = check_count("criterion.seed", seed)

    def scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Numbers in [0, 1); neither argument is looked at but for the number of units."""
        return self._drawn(lstm.hidden_size)

    def gate_scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """As many for gates."""
        return self._drawn(4 * lstm.hidden_size)

    def _drawn(self, count: int) -> Scores:
        generator = torch.Generator().manual_seed(self.seed)
        return Scores(torch.rand(count, dtype=torch.float64, generator=generator))
