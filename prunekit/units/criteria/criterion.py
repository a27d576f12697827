"""What every criterion is."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from prunekit.units.removal import ORDERS
from prunekit.units.series import UnitSeries


class Scores(NamedTuple):
    """A criterion's scores, ``(units,)`` float64, and p-values of the same shape if it has them."""

    values: Tensor
    p_values: Tensor | None = None


class Criterion(ABC):
    """A rule that gives each unit of an LSTM's last layer a score; the order says which end goes first.

    Attributes:
        name: in results, curves and figures.
        needs_series: whether it looks at what the units do; if not, no pass over the clips is made for it.
        needs_moments: whether that includes the moments of their outputs, and the weights that read them.
        orders: those in which removing by it makes sense.
        grains: what it scores: ``unit``, and ``gate`` if it has :meth:`gate_scores`.
    """

    name: ClassVar[str]
    needs_series: ClassVar[bool] = True
    needs_moments: ClassVar[bool] = False
    orders: ClassVar[tuple[str, ...]] = ORDERS
    grains: ClassVar[tuple[str, ...]] = ("unit",)

    @abstractmethod
    def scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Score all units.

        Args:
            lstm: whose last layer's units are scored.
            series: what they did over the training clips; None where ``needs_series`` is False.
        """

    def gate_scores(self, lstm: nn.LSTM, series: UnitSeries | None) -> Scores:
        """Score all gates, ``(4 * units,)`` in the order of the LSTM's rows.

        Args:
            lstm: of one layer.
            series: what the gates did over the training clips, on the scale of outputs; None as for :meth:`scores`.
        """
        raise NotImplementedError(f"{self.name} does not score gates")
