"""Which of two ways is better, from few runs on several tasks: paired differences and probabilities of improvement."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from prunekit.app.reports.summary import t_interval

RESAMPLES = 5_000
BETTER, WORSE, ALIKE, ALONE = "better", "worse", "not told apart", "one network does not tell"
Pairs = tuple[Sequence[float], Sequence[float]]  # of one task's networks what ours reached, and what theirs did


class Interval(NamedTuple):
    """A mean with the bounds of its 95 % interval, NaN where so few values do not tell."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where all of the interval is on one side of 0."""
        if math.isnan(self.low):
            return ALONE
        return BETTER if self.low > 0 else WORSE if self.high < 0 else ALIKE


def improvement(ours: Sequence[float], theirs: Sequence[float], sign: int = 1, most: float = math.inf) -> Interval:
    """The mean of paired differences with its Student t-interval, no wider than differences can be.

    Args:
        ours: one value a network.
        theirs: of the same networks.
        sign: 1 where higher is better, -1 where lower is: an improvement is positive.
        most: how large a difference can be, such as 1 between two shares. What lies beyond cannot be, so an interval
            that is cut there covers as often as before.

    Example:
        >>> [round(value, 3) for value in improvement([0.9, 0.8, 0.85], [0.8, 0.75, 0.8])]
        [0.067, -0.005, 0.138]
        >>> improvement([0.9, 0.8, 0.85], [0.8, 0.75, 0.8]).verdict
        'not told apart'
    """
    mean, half = t_interval([sign * (a - b) for a, b in zip(ours, theirs, strict=True)])
    if math.isnan(half):
        return Interval(mean, math.nan, math.nan)
    return Interval(mean, max(mean - half, -most), min(mean + half, most))


def probability_of_improvement(tasks: Sequence[Pairs], sign: Sequence[int], seed: int = 0) -> Interval:
    """How likely a run of ours is better than one of theirs, in the mean over tasks, with a bootstrap interval.

    ``mean over tasks of mean over i, j of [ours_i better than theirs_j] + [equal] / 2``; the 95 % percentile interval
    is over networks drawn anew within each task, ours and theirs of a network together. Since it only asks which is
    better, tasks of several metrics have one scale, and one task of large differences does not outweigh the others.

    Args:
        tasks: of each, what ours and theirs reached, one value a network.
        sign: of each task 1 where higher is better, -1 where lower is.
        seed: of the drawing.

    Returns:
        In [0, 1], 0.5 where there is no difference. NaN bounds where each task has one network.

    Source: Agarwal and others, Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021;
    there both ways are drawn independently.

    Example:
        >>> better, alike = ([0.9, 0.91, 0.92], [0.8, 0.81, 0.82]), ([0.5, 0.5], [0.5, 0.5])
        >>> probability_of_improvement([better, alike], [1, 1])
        Interval(mean=0.75, low=0.75, high=0.75)
    """
    wins = [_wins(np.asarray(ours, float) * way, np.asarray(theirs, float) * way)
            for (ours, theirs), way in zip(tasks, sign, strict=True)]  # fmt: skip
    numbers = [np.arange(len(won)) for won in wins]

    def mean(*drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        del axis  # of the numbers of networks, always the last
        each = [won[rows[..., :, None], rows[..., None, :]].mean((-2, -1))
                for won, rows in zip(wins, drawn, strict=True)]  # fmt: skip
        return np.asarray(np.mean(each, 0))

    found = float(mean(*numbers))
    # scipy draws from two or more; the only network of a task is itself each time.
    several = [at for at, rows in enumerate(numbers) if len(rows) > 1]
    if not several:
        return Interval(found, math.nan, math.nan)

    def of_several(*drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        rows: list[NDArray[np.int64]] = [np.zeros((*drawn[0].shape[:-1], 1), np.int64) for _ in wins]
        for at, own in zip(several, drawn, strict=True):
            rows[at] = own
        return mean(*rows, axis=axis)

    how = {"n_resamples": RESAMPLES, "method": "percentile", "vectorized": True}
    chances = np.random.default_rng(seed)
    low, high = bootstrap([numbers[at] for at in several], of_several, rng=chances, **how).confidence_interval
    return Interval(found, float(low), float(high))


def _wins(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, n)``: 1 where the row's of ours is above the column's of theirs, 0.5 where they are equal."""
    return np.asarray((ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs))
