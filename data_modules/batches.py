"""Batches of data that lie in memory: one index per batch, resumable in the middle of an epoch."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@runtime_checkable
class LazySamples(Protocol):
    """Samples that are made when they are indexed; otherwise used as the tensor ``(n, ...)`` that they stand for."""

    @property
    def shape(self) -> torch.Size:
        """That of the tensor."""

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Make the samples of an int64 index ``(k,)`` or a slice."""

    def subset(self, index: Tensor) -> "LazySamples":
        """The samples of an int64 index, not made yet."""

    def to(self, device: torch.device) -> "LazySamples":
        """The same, to be made on ``device``."""

    def fingerprint(self) -> bytes:
        """Equal exactly when the samples are."""


class TensorBatches:
    """An iterable of batches ``(x[i], y[i])``, one index operation each, on the tensors' device.

    Not a ``DataLoader``: there are no workers to feed and no samples to collate, and Lightning leaves a plain
    iterable alone where it would swap a ``DataLoader``'s sampler under DDP.

    The order of an epoch derives from (seed, epoch) alone. ``batch_size`` is the global batch: each of ``world``
    ranks gets every ``world``-th sample of it, so that the steps are those of one process. When training, what
    ``world`` does not divide is left out of the epoch's last batch; when evaluating, nothing is.

    Args:
        x: ``(n, ...)`` inputs, or lazy ones; of these the next batch is made while one is worked on.
        y: ``(n,)`` targets.
        batch_size: samples of a batch over all ranks together.
        seed: of the shuffling; None keeps the order, as for evaluation, or for a text that is read on and on.
        rank: this process's number, from 0.
        world: number of processes.
        made: what a batch is of its samples and targets; None for just these.

    Example:
        >>> batches = TensorBatches(torch.arange(5.0), torch.arange(5), batch_size=2)
        >>> [y.tolist() for _, y in batches]
        [[0, 1], [2, 3], [4]]
    """

    batch_sampler = None  # Lightning reads it of whatever has a ``sampler``

    def __init__(
        self,
        x: Tensor | LazySamples,
        y: Tensor,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        made: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self._x, self._y, self._made = x, y, made
        self._batch_size, self._seed, self._rank, self._world = batch_size, seed, rank, world
        self._samples = len(y) if seed is None else len(y) - (len(y) % batch_size) % world
        self._epoch = 0
        self._given = 0
        self._skip = 0

    @property
    def sampler(self) -> "TensorBatches":
        """Where Lightning looks for :meth:`set_epoch`."""
        return self

    def rows(self) -> Tensor:
        """Which samples an iteration without shuffling gives on this rank, int64, in order."""
        every = torch.arange(self._samples)
        return torch.cat([every[part] for part in self._in_order()]) if self._samples else every

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of ``epoch``."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self._samples / self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator: the epoch is read at the first batch, after Lightning has set it.
        first, self._skip = self._skip, 0
        for number, batch in enumerate(self._take(self._parts(first)), start=first + 1):
            self._given = number
            yield batch if self._made is None else self._made(*batch)

    def _parts(self, first: int) -> Iterator[tuple[Tensor | slice, Tensor | slice]]:
        """Where this rank's samples and targets of each batch are, from batch ``first`` on."""
        if self._seed is None:
            yield from ((part, part) for part in islice(self._in_order(), first, None))
            return
        order = epoch_order(len(self._y), self._seed, self._epoch)[: self._samples]
        there = order.to(self._y.device)
        # Lazy samples are looked up on the host, which would have to wait for numbers that lie on a GPU.
        orders = there if isinstance(self._x, Tensor) else order, there
        for start in range(first * self._batch_size, self._samples, self._batch_size):
            yield self._own_part(orders[0], start), self._own_part(orders[1], start)

    def _own_part(self, order: Tensor, start: int) -> Tensor:
        """This rank's part of the batch that begins at ``start``."""
        return order[start : start + self._batch_size][self._rank :: self._world]

    def _in_order(self) -> Iterator[slice]:
        """This rank's part of each batch, unshuffled."""
        for start in range(0, self._samples, self._batch_size):
            yield slice(start + self._rank, min(start + self._batch_size, self._samples), self._world)

    def _take(self, indices: Iterable[tuple[Tensor | slice, Tensor | slice]]) -> Iterator[tuple[Tensor, Tensor]]:
        if isinstance(self._x, Tensor):
            for of_x, of_y in indices:
                yield self._x[of_x], self._y[of_y]
            return
        with ThreadPoolExecutor(1) as ahead:
            making: deque[tuple[Future[Tensor], Tensor]] = deque()
            for of_x, of_y in indices:
                making.append((ahead.submit(self._x.__getitem__, of_x), self._y[of_y]))
                if len(making) > 1:
                    x, y = making.popleft()
                    yield x.result(), y
            for x, y in making:
                yield x.result(), y

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch were given: a checkpoint in mid-epoch goes on behind them."""
        return {"given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches of ``state``; a finished epoch starts a fresh one."""
        self._skip = state["given"] % len(self)


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A permutation of ``range(n)``, int64, that depends on (seed, epoch) and on nothing else.

    Example:
        >>> torch.equal(epoch_order(9, seed=1, epoch=2), epoch_order(9, seed=1, epoch=2))
        True
        >>> torch.equal(epoch_order(9, seed=1, epoch=2), epoch_order(9, seed=1, epoch=3))
        False
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
    return torch.randperm(n, generator=generator)
