"""Weight averaging and pruning: which of the two comes first."""

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging

from prunekit.errors import ArgumentError


def check_averaging(callbacks: Sequence[pl.Callback], last: int, epochs: int, batches: int = 1) -> None:
    """Refuse weight averaging that begins before the last pruning event: it would bring removed weights back.

    Args:
        callbacks: all of a trainer's.
        last: epochs done when the last pruning event happens; -1 for none.
        epochs: of the whole fit.
        batches: an epoch's at least, for averaging that counts steps.

    Raises:
        ArgumentError: if a callback averages weights of an epoch that starts before the last event is over.
    """
    if last < 0:
        return
    for callback in callbacks:
        early = False
        if isinstance(callback, StochasticWeightAveraging):
            start = callback._swa_epoch_start
            early = (int(start * epochs) if isinstance(start, float) else start) - 1 <= last
        elif isinstance(callback, WeightAveraging):
            early = any(callback.should_update(epoch_idx=epoch) for epoch in range(last + 1))
            early |= any(callback.should_update(step_idx=step) for step in range(last * batches + 1))
        if early:
            got = f"{type(callback).__name__}, which averages weights from before the last pruning event"
            raise ArgumentError("callbacks", got, f"averaging that starts after epoch {last}, given as a whole epoch")
