"""How many CPU threads torch computes with: small networks are slowed down by more than one.

On a machine with many cores, or busy ones, threads of a small network wait for each other most of the time: a digits
run of 20 seconds took 14 minutes. What frozen backbones do is no such work, and has all threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn
from torch.nn.parameter import is_lazy

SMALL = 500_000  # parameters: a layer of 100 neurons on 784 pixels has 78,500, an LSTM of 1,024 units 6 million

_all: int | None = None


@cache
def default_threads() -> int:
    """What torch takes by itself, of which the environment and the machine's cores decide."""
    return torch.get_num_threads()


def is_small(module: nn.Module) -> bool:
    """Whether a network is computed best by one thread: by its size alone, so that it is the same on every machine.

    Sums differ in their last bits with the number of threads: what is measured at the time must not decide.

    Example:
        >>> is_small(nn.Linear(784, 100)), is_small(nn.LSTM(512, 1024))
        (True, False)
    """
    return size_of(module) <= SMALL


def size_of(module: nn.Module) -> int:
    """How many parameters it has, those apart whose size is not known before the first batch."""
    return sum(parameter.numel() for parameter in module.parameters() if not is_lazy(parameter))


def use_threads(number: int, elsewhere: int | None = None) -> None:
    """Have torch take so many threads from now on.

    Args:
        number: of threads.
        elsewhere: within :func:`all_threads`; None for as many.
    """
    global _all  # noqa: PLW0603 - it is torch's number that is the process's
    default_threads()
    _all = number if elsewhere is None else elsewhere
    torch.set_num_threads(number)


@contextmanager
def all_threads() -> Iterator[None]:
    """While something large is computed beside a small network.

    Example:
        >>> before = torch.get_num_threads()
        >>> use_threads(1, elsewhere=2)
        >>> with all_threads():
        ...     torch.get_num_threads()
        2
        >>> torch.get_num_threads()
        1
        >>> use_threads(before)
    """
    before = torch.get_num_threads()
    torch.set_num_threads(_all or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
