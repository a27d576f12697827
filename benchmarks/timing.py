"""Side-by-side timing: everything that is compared runs in turn in one process, and medians are compared."""

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table


def medians(rivals: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each rival over ``repeats`` turns; a first turn of each warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(repeats + 1):
        for name, rival in rivals.items():
            started = time.perf_counter()
            rival()
            if turn > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
