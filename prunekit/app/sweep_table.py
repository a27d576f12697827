"""What a sweep's jobs have reached, as the table at its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from prunekit.app.control import OF_DENSE
from prunekit.app.jobs import Job
from prunekit.app.naming import short_keys
from prunekit.app.results import RESULTS, metric_in, tested
from prunekit.errors import ArgumentError
from prunekit.files import read_record

MOST = 40  # rows; of more jobs the report tells


def finished(jobs: Sequence[Job]) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """What was set for each finished job, and its results; those that cannot be read are passed over."""
    found = []
    for job in jobs:
        try:
            results = read_record(Path(job["run"]) / RESULTS) if job["run"] else None
        except (ArgumentError, OSError):
            continue
        if results is not None:
            words = dict(word.partition("=")[::2] for word in job["overrides"])
            # "null" would not tell that it is the run which is pruned.
            found.append(({**words, "control": "pruned"} if words.get("control") == "null" else words, results))
    return found


def results_table(found: Sequence[tuple[dict[str, str], dict[str, Any]]]) -> Table | None:
    """A row for each finished job: what was set otherwise than in others, and the metric on test data.

    Args:
        found: a sweep's jobs as :func:`finished` reads them.

    Returns:
        None where no more than one has finished, or more than a screen holds.
    """
    if not 1 < len(found) <= MOST:
        return None
    keys = dict.fromkeys(key for words, _ in found for key in words)
    varying = short_keys({key: key for key in keys if len({words.get(key) for words, _ in found}) > 1})
    metric = metric_in(found[0][1])
    table = Table(title=f"test {metric.name}", title_justify="left")
    for name in varying:
        table.add_column(name)
    whens = ("dense", "final")
    for when in whens:
        table.add_column("in the end" if when == "final" else when, justify="right")
    for words, results in found:
        values = [tested(results, when) for when in whens]
        if results.get("control") and results["control"]["name"] not in OF_DENSE:
            values[0] = None  # nothing was pruned: its only network is the last one
        cells = ["" if value is None else metric_in(results).show(value) for value in values]
        table.add_row(*(words.get(key, "") for key in varying.values()), *cells)
    return table
