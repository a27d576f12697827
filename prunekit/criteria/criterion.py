"""What every criterion is."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from prunekit.calibration import Seen
from prunekit.errors import ArgumentError
from prunekit.groups import Groups
from prunekit.selection import ORDERS


class Scores(NamedTuple):
    """A criterion's scores, ``(G,)`` float64, and p-values of the same shape if it has them."""

    values: Tensor
    p_values: Tensor | None = None


class Criterion(ABC):
    """A rule that gives each group a score; the order says which end goes first.

    Attributes:
        name: in results, curves and figures.
        needs: what has to be seen over calibration batches: some of ``outputs``, ``success``, ``moments``,
            ``saliency``; nothing if weights alone say it. ``success`` wants labels.
        orders: those in which removing by it makes sense.
        words: the kinds of groups that it scores, by their words; None for any.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    orders: ClassVar[tuple[str, ...]] = ORDERS
    words: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """Score all groups.

        Args:
            module: whose parameters they are of.
            groups: of the module as it is.
            seen: what it declares to need.
        """

    def checked(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """The scores, if they are a number for each group.

        Raises:
            ArgumentError: of ``criterion``, if they are not.
        """
        found = self.scores(module, groups, seen)
        values = found.values if isinstance(found, Scores) else found
        if isinstance(found, Scores) and isinstance(values, Tensor) and values.shape == (len(groups),):
            return found
        got = f"{self.name}, whose scores are a {type(values).__name__}"
        got += f" of shape {tuple(values.shape)}" if isinstance(values, Tensor) else ""
        raise ArgumentError(
            "criterion", got, f"one that gives Scores(values), values a tensor of shape ({len(groups)},)"
        )
