"""Units as groups, whatever layers they are of."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from prunekit.groups import Grouping, Groups
from prunekit.masks import Mask
from prunekit.units.parts import Part


class UnitGrouping(Grouping):
    """Units of some parts of a network, part after part; those of one part are within one another's."""

    word = "unit"
    constants_live: ClassVar[bool] = True

    @abstractmethod
    def parts(self, module: nn.Module) -> list[Part]:
        """What has the units.

        Raises:
            ArgumentError: if the module lacks it.
        """

    def places(self, module: nn.Module) -> list[list[str]]:
        """The layers: such as ``lstm``, of it ``lstm.1``, of that ``lstm.1 (reverse)``."""
        return [
            list(dict.fromkeys([part.layer, part._replace(direction=0).label(), part.label()]))
            for part in self.parts(module)
        ]

    def parameters(self, module: nn.Module) -> list[str]:
        """The names of those with a row for each gate of each unit."""
        return [name for part in self.parts(module) for name in part.names]

    def __call__(self, module: nn.Module, mask: Mask) -> Groups:
        """A unit is gone if nothing of it is kept and none of its gates is held at a constant."""
        numbers: dict[str, Tensor] = {}
        sizes: list[Tensor] = []
        there: list[Tensor] = []
        for part in self.parts(module):
            number = self._number(part)
            first, count = sum(map(len, sizes)), int(number.max()) + 1
            size, alive = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
            for name in part.names:
                kept = mask[name].reshape(len(number), -1)
                size.index_add_(0, number, torch.full_like(number, kept.shape[1]))
                alive[number[kept.any(1)]] = True
                if self.constants_live and name in mask.held:
                    alive[number[mask.held[name].reshape(len(number), -1).any(1)]] = True
                numbers[name] = (number + first).view(-1, *[1] * (mask[name].dim() - 1))
            sizes.append(size)
            there.append(alive)
        within = torch.arange(len(sizes)).repeat_interleave(torch.tensor([len(size) for size in sizes]))
        return Groups(numbers, torch.cat(sizes), within, ~torch.cat(there))

    def _number(self, part: Part) -> Tensor:
        """The group of each row, ``(gates * units,)`` int64, from 0."""
        return torch.arange(part.units).repeat(part.gates)
