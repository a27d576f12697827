"""Sizes of layers that a network keeps in attributes of its own, which have to follow where a layer becomes smaller."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import nn

OWN = frozenset(vars(nn.Module()))  # what each module has
MOST = 1_000  # attributes that a file may name


class Size(NamedTuple):
    """A whole number in an attribute, before and after; the owner is a part's name, empty for the network itself."""

    owner: str
    attribute: str
    before: int
    after: int

    def __str__(self) -> str:
        """Such as ``encoder.hidden from 64 to 32``."""
        return f"{self.owner}.{self.attribute} from {self.before} to {self.after}".removeprefix(".")


def trials(module: nn.Module, small: nn.Module) -> Iterator[list[Size]]:
    """Which attributes may have to follow: all that are a smaller layer's size, all but one of them, one alone.

    An attribute counts if it is a whole number equal to the outputs of a layer of its own part, or of one inside, of
    one direction or of both, and if those layers that became smaller leave no choice of what it should be. Where
    another layer of that size stayed as it was, the attribute may be of that one: it is first tried without these.

    Args:
        module: before layers became smaller.
        small: after.

    Example:
        >>> def network(size, kept):
        ...     net = nn.ModuleDict({"memory": nn.LSTM(3, size), "say": nn.Linear(size, 2)})
        ...     net.hidden = kept
        ...     return net
        >>> [[str(size) for size in each] for each in trials(network(8, 8), network(4, 8))]
        [['hidden from 8 to 4']]
    """
    after = dict(small.named_modules())
    found: list[Size] = []
    doubtful: list[Size] = []
    for owner, part in module.named_modules():
        becomes: dict[int, set[int]] = defaultdict(set)
        for name, layer in part.named_modules(prefix=owner):
            for attribute in ("hidden_size", "out_features"):
                one, other = (getattr(each, attribute, None) for each in (layer, after.get(name)))
                if type(one) is int and type(other) is int:
                    for directions in (1, 2) if getattr(layer, "bidirectional", False) else (1,):
                        becomes[directions * one].add(directions * other)
        for attribute, value in _numbers(part).items():
            sizes = becomes.get(value, set())
            if len(smaller := sizes - {value}) == 1:
                found.append(Size(owner, attribute, value, *smaller))
                doubtful += found[-1:] if value in sizes else []
    some = [size for size in found if size not in doubtful]
    tried = [some, found, *([other for other in found if other != size] for size in found), *([size] for size in found)]
    yield from (each for number, each in enumerate(tried) if each and each not in tried[:number])


def changed(module: nn.Module, small: nn.Module) -> list[Size]:
    """The attributes in which a smaller network says another size than the one that it was made of."""
    after = dict(small.named_modules())
    return [
        Size(owner, attribute, value, there[attribute])
        for owner, part in module.named_modules()
        if owner in after
        for there in [_numbers(after[owner])]
        for attribute, value in _numbers(part).items()
        if there.get(attribute, value) != value
    ]


def give(module: nn.Module, sizes: Sequence[Size]) -> None:
    """Have attributes say other sizes; one that says so already stays.

    Raises:
        ValueError: if a part has no such attribute, or another number in it.
    """
    parts = dict(module.named_modules())
    for size in sizes:
        numbers = _numbers(parts[size.owner]) if size.owner in parts else {}
        if numbers.get(size.attribute) not in (size.before, size.after):
            place = f"{size.owner}.{size.attribute}".removeprefix(".")
            raise ValueError(f"{place} is {numbers.get(size.attribute)} and not {size.before}")
    for size in sizes:
        setattr(parts[size.owner], size.attribute, size.after)


def read_sizes(said: Any) -> list[Size]:
    """Sizes as a file says them.

    Raises:
        ValueError: if these are no sizes that layers become smaller by.
    """
    if not isinstance(said, list) or len(said) > MOST:
        raise ValueError("its sizes are no list")
    found = []
    for each in said:
        if not isinstance(each, list) or [type(value) for value in each] != [str, str, int, int]:
            raise ValueError(f"a size is {str(each)[:80]}")
        size = Size(*each)
        if not 0 < size.after <= size.before:
            raise ValueError(f"a size goes from {size.before} to {size.after}")
        found.append(size)
    return found


def _numbers(part: nn.Module) -> dict[str, int]:
    """The whole numbers in a part's attributes; of torch's own layers none, which follow by themselves."""
    if type(part).__module__.startswith("torch.nn.") and not type(part).__module__.endswith(".container"):
        return {}
    return {name: value for name, value in vars(part).items() if type(value) is int and name not in OWN}
