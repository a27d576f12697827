"""How long calls take, side by side: what is compared runs in turn in one process, and medians are compared."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prunekit.gpu import wait


class Timing(NamedTuple):
    """Seconds of a call: their median and their quartiles; as text, in milliseconds.

    Example:
        >>> print(Timing(0.004, 0.0039, 0.005))
        4.00 (3.90 to 5.00)
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        median, low, high = (f"{1000 * each:#.3g}" for each in self)
        return f"{median} ({low} to {high})"


def medians(
    rivals: Mapping[str, Callable[[], object]],
    repeats: int,
    warm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """The median seconds of each rival, as :func:`timings` takes them.

    Example:
        >>> list(medians({"nothing": lambda: None, "a sum": lambda: sum(range(9))}, repeats=3))
        ['nothing', 'a sum']
    """
    return {name: found.median for name, found in timings(rivals, repeats, warm, clock).items()}


def timings(
    rivals: Mapping[str, Callable[[], object]],
    repeats: int,
    warm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """The seconds of each rival over ``repeats`` turns; a first turn of each warms up and does not count.

    What a GPU still has to do when a call returns is waited for.

    Args:
        rivals: what to call, by name.
        repeats: turns that count.
        warm: whether each call is made twice in a turn and the second one timed, so that a processor's caches hold what
            they hold when nothing else is called in between.
        clock: seconds; ``time.thread_time`` leaves out what others did meanwhile on a processor that is shared.

    Example:
        >>> found = timings({"a sum": lambda: sum(range(9))}, repeats=5)["a sum"]
        >>> 0 < found.low <= found.median <= found.high
        True
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(repeats + 1):
        for name, rival in rivals.items():
            if warm:
                rival()
            wait()
            started = clock()
            rival()
            wait()
            if turn > 0:
                seconds[name].append(clock() - started)
    return {name: _timing(values) for name, values in seconds.items()}


def _timing(values: Sequence[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    return Timing(median, low, high)
