"""Groups: entries of named parameters that go together. Whatever is pruned is one of these."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration, Seen
from prunekit.errors import ArgumentError
from prunekit.masks import Mask, all_weights, find_parameter


@dataclass(frozen=True)
class Groups:
    """The groups of a module as it is, numbered from 0.

    Attributes:
        numbers: parameter name -> int64 that broadcasts to its shape: the group that each entry is of; -1 for one that
            never goes.
        sizes: ``(G,)`` int64, the number of entries of each group.
        within: ``(G,)`` int64, which layer or neuron each is of, from 0.
        gone: ``(G,)`` bool, the groups that are gone already.
    """

    numbers: Mapping[str, Tensor]
    sizes: Tensor
    within: Tensor
    gone: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    def reduce(self, values: Mapping[str, Tensor], how: str = "mean") -> Tensor:
        """The ``mean``, ``sum`` or ``max`` over each group's entries, ``(G,)`` float64.

        Args:
            values: parameter name -> real, of the parameter's shape; entries of parameters that it lacks do not count.
            how: one of the three.

        Raises:
            KeyError: if a parameter has no groups.

        Example:
            >>> groups = Groups({"w": torch.tensor([0, 0, -1, 1])}, *torch.tensor([[2, 1], [0, 0], [0, 0]]))
            >>> values = {"w": torch.tensor([1.0, 3.0, 9.0, 5.0])}
            >>> [groups.reduce(values, how).tolist() for how in ("mean", "sum", "max")]
            [[2.0, 5.0], [4.0, 5.0], [3.0, 5.0]]
        """
        if unknown := values.keys() - self.numbers.keys():
            raise KeyError(f"no groups of {', '.join(sorted(unknown))}; there are some of {', '.join(self.numbers)}")
        names = [name for name in self.numbers if name in values]
        numbers = torch.cat([self.numbers[name].expand_as(values[name]).flatten() for name in names])
        flat = torch.cat([values[name].detach().cpu().double().flatten() for name in names])[numbers >= 0]
        numbers = numbers[numbers >= 0]
        if how == "max":
            empty = torch.full((len(self),), -torch.inf, dtype=torch.float64)
            return empty.scatter_reduce(0, numbers, flat, "amax")
        total = torch.bincount(numbers, flat, minlength=len(self))
        return total / torch.bincount(numbers, minlength=len(self)) if how == "mean" else total

    def check(self, before: Mask) -> None:
        """Refuse numbers, sizes and what is gone that do not fit the parameters or each other.

        Raises:
            ArgumentError: of ``grouping``, with what is wrong.
        """
        kinds = {"sizes": torch.int64, "within": torch.int64, "gone": torch.bool}
        for what, dtype in kinds.items():
            value = getattr(self, what)
            if not isinstance(value, Tensor) or value.dtype != dtype or value.shape != (len(self.sizes),):
                got = f"one whose {what} are a {type(value).__name__}"
                got += f" of {value.dtype}, {tuple(value.shape)}" if isinstance(value, Tensor) else ""
                raise ArgumentError("grouping", got, f"{what} as a tensor of {dtype}, one for each group")
        counted, alive = (torch.zeros(len(self) + 1, dtype=torch.int64) for _ in range(2))
        for name, number in self.numbers.items():
            if name not in before:
                raise ArgumentError("grouping", f"one with numbers of {name}", f"those of {', '.join(before)}")
            within = number.numel() and int(number.min()) >= -1 and int(number.max()) < len(self)
            if number.dtype != torch.int64 or not within:
                got = f"one with numbers of {name} of {number.dtype}"
                raise ArgumentError(
                    "grouping", got, f"numbers of int64 from 0 to {len(self) - 1}, and -1 for what never goes"
                )
            shape = before[name].shape
            try:
                each = number.expand(shape)
            except RuntimeError:
                got = f"one with numbers of shape {tuple(number.shape)} for {name}, which has {tuple(shape)}"
                raise ArgumentError(
                    "grouping", got, "numbers that broadcast to the parameter, from the right"
                ) from None
            counted += torch.bincount((each % (len(self) + 1)).flatten(), minlength=len(self) + 1)
            alive += torch.bincount((each % (len(self) + 1))[before[name].cpu()], minlength=len(self) + 1)
        if not torch.equal(counted[:-1], self.sizes):
            which = int((counted[:-1] != self.sizes).nonzero()[0])
            got = f"one whose group {which} has {counted[which]} entries and a size of {self.sizes[which]}"
            raise ArgumentError("grouping", got, "sizes that count each group's entries")
        if bool((alive[:-1] > 0)[self.gone].any()):
            raise ArgumentError("grouping", "one by which groups are gone that are kept", "gone for what is removed")

    def remove(self, goes: Tensor, before: Mask, constants: Mapping[str, Tensor] | None = None) -> Mask:
        """The mask after some groups are gone.

        Args:
            goes: ``(G,)`` bool, the groups gone afterwards.
            before: what was kept of the parameters, and what the rest was held at.
            constants: parameter name -> tensor of its shape: what entries of groups that go now are held at, if not 0.
        """
        never = torch.tensor([False])
        gone, new, constants = torch.cat([goes, never]), torch.cat([goes & ~self.gone, never]), constants or {}
        kept = {name: before[name] & ~gone[number] for name, number in self.numbers.items()}
        held = {}
        for name in kept.keys() & (before.held.keys() | constants.keys()):
            old, value = (values.get(name, torch.zeros(kept[name].shape)) for values in (before.held, constants))
            held[name] = torch.where(
                new[self.numbers[name]], value.to(torch.promote_types(old.dtype, value.dtype)), old
            )
        return Mask(kept, held)


class Grouping(ABC):
    """How the entries of a module go together. A layer of one's own wants a subclass of a few lines.

    Attributes:
        word: what a group is called, such as ``unit``.
    """

    word: ClassVar[str] = "group"

    @abstractmethod
    def parameters(self, module: nn.Module) -> list[str]:
        """The names of the parameters whose entries go.

        Raises:
            ArgumentError: if the module lacks what the grouping names.
        """

    @abstractmethod
    def __call__(self, module: nn.Module, mask: Mask) -> Groups:
        """The groups of a module as it is.

        Args:
            module: any.
            mask: of exactly the grouping's parameters: what is kept so far.
        """

    def check(self, module: nn.Module, needs: frozenset[str]) -> None:
        """Refuse a module that cannot be grouped, or where what is needed cannot be seen.

        Raises:
            ArgumentError: with the reason.
        """
        self.parameters(module)
        if needs:
            got = f"one that looks at {', '.join(sorted(needs))}"
            accepted = f"one of weights alone, for each {self.word}; or a grouping whose check and observe see more"
            raise ArgumentError("criterion", got, accepted)

    def places(self, module: nn.Module) -> list[list[str]]:
        """What a rate of its own may be given to: the names, from general to special, of each number of ``within``.

        Raises:
            ArgumentError: if its groups have no such places.
        """
        raise ArgumentError(
            "rate", "one for each of several", f"a number: {self.word}s have no names for where they are"
        )

    def observe(self, module: nn.Module, needs: frozenset[str], calibration: Calibration) -> Seen:
        """Look at what the groups do over calibration batches.

        Args:
            module: in evaluation mode.
            needs: what has to be seen; names of attributes of :class:`~prunekit.calibration.Seen`.
            calibration: the batches, and how the module takes them.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing to look at")

    def mask(self, module: nn.Module, goes: Tensor) -> Mask:
        """The mask of a module of which these groups, ``(G,)`` bool, are gone and no others."""
        full = Mask.full(module, self.parameters(module))
        return self(module, full).remove(goes, full)

    def label(self) -> str | None:
        """What results call the groups' achieved sparsity; None where parameters' own say it all."""
        return None


class Weights(Grouping):
    """Every entry by itself.

    Args:
        names: of parameters, as in ``module.named_parameters()``; None for all weights of the module.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> Weights()(net, Mask.full(net, ["weight"])).numbers["weight"].tolist()
        [[0, 1], [2, 3]]
    """

    word = "weight"

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = [names] if isinstance(names, str) else list(names or [])

    def parameters(self, module: nn.Module) -> list[str]:
        """Those named, or all weights."""
        for name in self.names:
            require_parameter("parameters", module, name)
        names = self.names or all_weights(module)
        if not names:
            raise ArgumentError("parameters", None, "names of parameters: the module has no weights")
        return names

    def places(self, module: nn.Module) -> list[list[str]]:
        """The parameters."""
        return [[name] for name in self.parameters(module)]

    def __call__(self, module: nn.Module, mask: Mask) -> Groups:
        """As many groups as entries, one parameter after the other."""
        counts = [mask[name].numel() for name in mask]
        parts = torch.split(torch.arange(sum(counts)), counts)
        within = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
        gone = torch.cat([~mask[name].flatten() for name in mask])
        numbers = {name: part.view(mask[name].shape) for name, part in zip(mask, parts, strict=True)}
        return Groups(numbers, torch.ones_like(within), within, gone)


def require_parameter(argument: str, module: nn.Module, name: str) -> nn.Parameter:
    """The parameter of ``module`` called ``name``, which an argument named.

    Raises:
        ArgumentError: if there is none, with the nearest names.
    """
    try:
        return find_parameter(module, name)
    except KeyError as error:
        raise ArgumentError(argument, name, f"a name from module.named_parameters(); {error.args[0]}") from None
