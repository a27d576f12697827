"""Which of a run's processes writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from filelock import BaseFileLock, Timeout
from lightning_utilities.core.rank_zero import rank_zero_only

SECONDS_OF_SILENCE = 5.0  # after which ranks that wait for one hear from it; minutes, and they would give up


def is_rank_zero() -> bool:
    """Whether this is the process that writes; DDP's others are started by it with the same command."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def locked_on_rank_zero(lock: BaseFileLock, share: Callable[[Any], Any]) -> Iterator[None]:
    """Hold a lock in the process that writes, while the others wait for it to have it.

    They wait in a collective, which gives up after some minutes: so they are told now and then that it still waits.

    Args:
        lock: another run's process may hold it for as long as it likes.
        share: gives all ranks what rank 0 hands it.
    """
    while not share(is_rank_zero() and _acquired(lock)):
        pass
    try:
        yield
    finally:
        if is_rank_zero():
            lock.release()


def _acquired(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=SECONDS_OF_SILENCE)
    except Timeout:
        return False
    return True
