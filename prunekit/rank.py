"""Which of a run's processes writes."""

from contextlib import AbstractContextManager, nullcontext

from lightning_utilities.core.rank_zero import rank_zero_only


def is_rank_zero() -> bool:
    """Whether this is the process that writes; DDP's others are started by it with the same command."""
    return getattr(rank_zero_only, "rank", 0) == 0


def on_rank_zero(guard: AbstractContextManager[object]) -> AbstractContextManager[object]:
    """``guard`` in the process that writes, nothing to enter in the others."""
    return guard if is_rank_zero() else nullcontext()
