"""Means with intervals, and paired differences: what a few seeds allow to say."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t


class Interval(NamedTuple):
    """A mean and the half width of its 95 % interval; NaN where one value tells nothing of the spread."""

    mean: float
    half: float
    n: int


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean and its two-sided Student t-interval, ``mean +- t(level, n - 1) * s / sqrt(n)``.

    Args:
        values: independent measurements, one a seed, at least one.
        level: of confidence, in (0, 1).

    Raises:
        ValueError: if there is no value.

    Source: Student, The probable error of a mean, Biometrika 1908.

    Example:
        >>> mean, half, n = t_interval([0.9, 0.92, 0.94])
        >>> round(mean, 4), round(half, 4), n
        (0.92, 0.0497, 3)
        >>> t_interval([0.9]).half
        nan
    """
    n = len(values)
    if n == 0:
        raise ValueError("no value")
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, 1)
    return Interval(mean, float(t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n)), n)
