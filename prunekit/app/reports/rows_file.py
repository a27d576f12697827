"""Rows of several experiments as one CSV file, which says what their folders would once these are gone."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from prunekit.app.reports.compared import SHORT, TIMES, Row, Task, of_rows, read_tasks, several_metrics
from prunekit.app.reports.labels import varies
from prunekit.app.reports.run import SEED
from prunekit.data_modules.bounded import read_bounded
from prunekit.errors import ArgumentError
from prunekit.files import write_whole
from prunekit.metrics import Metric

MOST_BYTES = 2**28
OF_METRIC = ("metric", "metric_name", "higher_is_better", "share")
OF_ROW = ("task", "run", "removed", "value", "dense", "training_macs")
WANTED = "a file compared.csv, as prunekit compare writes it"


def write_rows(path: Path, tasks: Sequence[Task]) -> Path:
    """Write all rows of tasks, with their words and those config keys that differ within a task; return the path."""
    keys = dict.fromkeys((*SHORT, TIMES, SEED))
    for task in tasks:
        every = dict.fromkeys(key for row in task.rows for key in row.said)
        own = {key: [row.said[key] for row in task.rows if key in row.said] for key in sorted(every)}
        keys |= dict.fromkeys(key for key, values in own.items() if varies(values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*OF_ROW, *OF_METRIC, *keys])
    for task in tasks:
        metric = task.metric
        of_metric = [metric.key, metric.name, int(metric.higher_is_better), int(metric.share)]
        for row in task.rows:
            said = [row.said.get(key, "") for key in keys]
            numbers = [row.rate, row.value, *("" if value is None else float(value) for value in (row.dense, row.work))]
            writer.writerow([task.name, row.run, *numbers, *of_metric, *said])
    write_whole(path, lambda file: file.write(text.getvalue().encode()))
    return path


def read_rows(path: Path) -> list[Task]:
    """The tasks of a file that :func:`write_rows` wrote.

    Raises:
        ArgumentError: if it is damaged, too large or another file.
    """
    content = read_bounded(path, MOST_BYTES, WANTED)
    try:
        text = content.decode()
        lines = csv.DictReader(io.StringIO(text), strict=True)
        missing = [key for key in (*OF_ROW, *OF_METRIC, *SHORT, SEED) if key not in (lines.fieldnames or [])]
        if missing:
            raise ValueError(f"it has no column {missing[0]}")
        found: dict[tuple[str, Metric], list[Row]] = {}
        for cells in lines:
            try:
                name, metric, row = _read(cells)
            except ValueError as error:
                raise ValueError(f"line {lines.line_num}: {error}") from error
            found.setdefault((name, metric), []).append(row)
    except (ValueError, csv.Error) as error:
        raise ArgumentError("folder", f"{path} ({str(error)[:200]})", WANTED) from error
    return [of_rows(name, metric, rows) for (name, metric), rows in found.items()]


def _read(cells: dict[str, str]) -> tuple[str, Metric, Row]:
    """One line."""
    if None in cells or None in cells.values():
        raise ValueError("it has more or fewer cells than the first line")
    for key, value in cells.items():
        if not value.isprintable():  # what a terminal would obey
            raise ValueError(f"{key} is {value[:40]!r}")
    key, metric, *flags = (cells[each] for each in OF_METRIC)
    if not key or not set(flags) <= {"0", "1"}:
        raise ValueError(f"its metric is {[key, metric, *flags]}")
    rate, reached = (_number(each, cells[each]) for each in ("removed", "value"))
    dense, work = (_number(each, cells[each]) if cells[each] else None for each in ("dense", "training_macs"))
    said = {each: cell for each, cell in cells.items() if cell and each not in (*OF_ROW, *OF_METRIC)}
    if any(each not in said for each in (*SHORT, SEED)):
        raise ValueError("it lacks a word")
    row = Row(said, rate, reached, dense, work, cells["run"])
    return cells["task"], Metric(key, metric, higher_is_better=flags[0] == "1", share=flags[1] == "1"), row


def _number(key: str, cell: str) -> float:
    value = float(cell)
    if not abs(value) < float("inf"):
        raise ValueError(f"{key} is {cell[:40]}")
    return value


def read_any(paths: Sequence[Path]) -> list[Task]:
    """The tasks of folders of runs and of files of rows together, in which a run that is given twice counts once.

    Raises:
        ArgumentError: if there is nothing that removes units, or runs of one name are judged by several metrics.
    """
    found: dict[str, list[Task]] = {}
    for task in [*read_tasks([path for path in paths if not path.is_file()]),
                 *(task for path in paths if path.is_file() for task in read_rows(path))]:  # fmt: skip
        found.setdefault(task.name, []).append(task)
    made = [_merged(name, parts) for name, parts in sorted(found.items())]
    if not any(task.rows for task in made):
        got = f"{', '.join(map(str, paths))}, with no runs that remove units"
        raise ArgumentError("folder", got, "runs with callbacks.unit_mask or callbacks.unit_curve")
    return made


def _merged(name: str, parts: Sequence[Task]) -> Task:
    if len(metrics := {task.metric for task in parts}) > 1:
        raise several_metrics(name, metrics)
    rows: list[Row] = []
    seen: set[str] = set()
    for task in parts:
        rows += [row for row in task.rows if row.run not in seen]
        seen |= {row.run for row in task.rows}
    return of_rows(name, metrics.pop(), rows, [line for task in parts for line in task.problems])
