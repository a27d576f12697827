"""Repairs: what stays changes to make up for what goes, and what the gone are held at."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from prunekit.calibration import Seen
from prunekit.groups import Grouping, Groups


class Repair(ABC):
    """What is done to a module when groups go.

    Attributes:
        name: in results.
        needs: what has to be seen, as of a :class:`~prunekit.criteria.criterion.Criterion`.
        words: the kinds of groups that it is for, by their words.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    words: ClassVar[tuple[str, ...]]

    @abstractmethod
    def __call__(
        self, module: nn.Module, grouping: Grouping, groups: Groups, goes: Tensor, seen: Seen
    ) -> Mapping[str, Tensor]:
        """Change what stays, while nothing has gone yet.

        Args:
            module: whose groups they are.
            grouping: what made the groups.
            groups: of the module as it is.
            goes: ``(G,)`` bool, the groups that are gone afterwards, those gone before included.
            seen: what the repair declares to need.

        Returns:
            Parameter name -> tensor of its shape: what entries that go now are held at where that is not 0.
        """

    def changes(self, module: nn.Module, grouping: Grouping) -> list[str]:
        """The names of the parameters that it may change beside the grouping's own entries that go."""
        return []
