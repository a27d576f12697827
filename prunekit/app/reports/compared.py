"""Runs of several experiments as rows, of which two ways are chosen and held against each other by network."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track

from prunekit.app.control import ALONE, AS_MANY_EPOCHS, MASK, TAUGHT
from prunekit.app.reports.labels import CRITERION, name_criteria, varies
from prunekit.app.reports.run import CONFIG, ORDER, RATE, SEED, Columns, Run, points, run_or_why
from prunekit.app.results import metric_in
from prunekit.errors import ArgumentError
from prunekit.metrics import Metric

COMPENSATION, EPOCHS, TEACHER, CONTROL = "compensation", "retrain_epochs", "retrain", "control"
PENALTY = "penalty"
TIMES = "times_dense"  # all epochs, of a control's too, as a multiple of the dense ones
SHORT = (CRITERION, ORDER, COMPENSATION, EPOCHS, TEACHER, CONTROL, PENALTY)
LABELS, OF_TEACHER, LASSO, NONE = "labels", "teacher", "group_lasso", "none"
# What a network is, before anything is pruned; the rest of a config is what was done to it.
OF_NETWORK = ("model.", "data.", "dense_epochs", "trainer.")


class Row(NamedTuple):
    """One network of one rate: what it is, what was done to it, and what came out.

    Attributes:
        said: ``criterion``, ``order``, ``compensation``, ``retrain_epochs`` over all rounds, ``retrain`` (``labels``,
            ``teacher``), ``control`` and ``penalty`` while training (``group_lasso``) as words, ``none`` where there is
            none; beside them ``times_dense``, all epochs as a multiple of the dense ones, and the flat config.
        rate: of removed units.
        value: the metric on test data in the end.
        dense: that of the dense network; None for a control.
        work: multiply-adds of all of its training; None where they were not counted.
        run: the hash of its config.
    """

    said: dict[str, str]
    rate: float
    value: float
    dense: float | None
    work: float | None
    run: str


class Task(NamedTuple):
    """The runs of one experiment.

    Attributes:
        name: the experiment's.
        metric: what its networks are judged by.
        rows: of its runs.
        networks: config keys that tell its networks apart: the seed, and such as a fold of the data.
        problems: runs that have not finished or cannot be read, a line each.
    """

    name: str
    metric: Metric
    rows: list[Row]
    networks: list[str]
    problems: list[str]


class Paired(NamedTuple):
    """What two ways reached at one rate on the same networks of a task, and what training took them in the mean."""

    task: Task
    rate: float
    ours: list[float]
    theirs: list[float]
    work: tuple[float | None, float | None]


def read_tasks(folders: Sequence[Path]) -> list[Task]:
    """The runs that lie in folders, however deep, by their experiment.

    Raises:
        ArgumentError: if a folder holds no finished run, or an experiment's runs are judged by several metrics.
    """
    found: dict[str, dict[str, Run]] = defaultdict(dict)
    problems: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        any_there = False
        for path in track(sorted(folder.rglob(CONFIG)), description=folder.name, transient=True):
            run = run_or_why(path.parent)
            if isinstance(run, str):
                problems[str(folder)].append(run)
                continue
            found[run.results["experiment"]][run.results["config_hash"]] = run
            any_there = True
        if not any_there:
            raise ArgumentError(
                "folder", f"{folder}, with no finished run", "folders of runs, such as runs/<experiment>"
            )
    lines = [line for each in problems.values() for line in each]
    return [_task(name, list(runs.values()), lines) for name, runs in sorted(found.items())]


def _task(name: str, runs: list[Run], problems: list[str]) -> Task:
    metrics = {metric_in(run.results) for run in runs}
    if len(metrics) > 1:
        raise several_metrics(name, metrics)
    metric = metrics.pop()
    name_criteria(runs)
    rows = [row for run in runs for row in _rows(run, metric)]
    return of_rows(name, metric, rows, [line for line in problems if f"/{name}/" in line])


def several_metrics(name: str, metrics: Iterable[Metric]) -> ArgumentError:
    """What is raised where runs of one experiment cannot be held against each other."""
    got = f"{name}, with runs judged by {' and by '.join(sorted(metric.name for metric in metrics))}"
    return ArgumentError("folder", got, "runs of an experiment that are judged by one metric")


def of_rows(name: str, metric: Metric, rows: Sequence[Row], problems: Sequence[str] = ()) -> Task:
    """A task: what tells its networks apart is seen in its rows, and what was not pruned counts at every rate."""
    keys = sorted({key for row in rows for key in row.said if key.startswith(OF_NETWORK)})
    seeds = [row.said[SEED] for row in rows]
    columns = {key: [row.said.get(key) for row in rows] for key in keys}
    own = [key for key, column in columns.items() if varies(column) and column != seeds]
    there, rates = {(row.run, row.rate) for row in rows}, sorted({row.rate for row in rows if row.rate > 0})
    whole = {row.run: row for row in rows if row.said[CONTROL] == AS_MANY_EPOCHS}
    more = [row._replace(rate=rate) for row in whole.values() for rate in rates if (row.run, rate) not in there]
    return Task(name, metric, [*rows, *more], [SEED, *own], list(problems))


def _rows(run: Run, metric: Metric) -> Iterable[Row]:
    """A row for each of the run's points; none where it removes no units."""
    config, results = dict(run.config), run.results
    flat = {key: _word(value) for key, value in config.items()} | {SEED: str(results[SEED])}
    control = results.get("control", {}).get("name", NONE)
    compensation = {value for key, value in config.items() if key.endswith(f".{COMPENSATION}")}
    epochs = (config.get(f"{MASK}.{EPOCHS}") or 0) * (config.get(f"{MASK}.rounds") or 1)
    teacher = any(key.startswith("callbacks.teacher.") for key in config)
    names = Columns.of(metric)
    for point in points(run):
        if CRITERION not in point or point[RATE] is None:
            continue
        of_control = control != NONE
        taught = control in TAUGHT or (teacher and epochs and not of_control)
        said = {
            CRITERION: NONE if of_control else str(point[CRITERION]),
            ORDER: NONE if of_control else str(point[ORDER]),
            COMPENSATION: _word(compensation.pop()) if len(compensation) == 1 and not of_control else NONE,
            EPOCHS: str(epochs),
            TEACHER: OF_TEACHER if taught else LABELS if epochs else NONE,
            CONTROL: control,
            TIMES: f"{(control not in ALONE) + epochs / config['dense_epochs']:g}",
            PENALTY: LASSO if any(key.startswith(f"callbacks.{LASSO}.") for key in config) else NONE,
        }
        compensation = {said[COMPENSATION]}
        work = results.get("training", {}).get("macs")
        values = float(point[RATE]), float(point[names.final]), point[names.dense], work
        yield Row(flat | said, *values, results["config_hash"])


def _word(value: Any) -> str:
    return NONE if value is None else value if isinstance(value, str) else json.dumps(value)


def choose(task: Task, way: Mapping[str, str], free: Iterable[str]) -> dict[tuple[Any, ...], Row]:
    """The rows that a way's words are true of, by network and rate.

    Args:
        task: whose.
        way: key -> value as a word: one of :data:`SHORT`, or any config key.
        free: keys that either way names, which do not tell networks apart.

    Raises:
        ArgumentError: if several rows of one network and rate answer to these words.
    """
    networks = [key for key in task.networks if key not in free]
    found: dict[tuple[Any, ...], Row] = {}
    for row in task.rows:
        if any(row.said.get(key, NONE) != value for key, value in way.items()):
            continue
        place = (*(row.said.get(key, NONE) for key in networks), row.rate)
        other = found.setdefault(place, row)
        if other is not row and (differ := _differ(row, other)):
            key = differ[0]
            values = f"{key}={row.said.get(key, NONE)} and {key}={other.said.get(key, NONE)}"
            said = " ".join(f"{name}={value}" for name, value in way.items())
            raise ArgumentError("way", f"{said}, which runs of {values} answer to ({task.name})", f"one with {key} too")
    return found


def _differ(row: Row, other: Row) -> list[str]:
    """What two rows of one network and rate differ in; of controls nothing but their own words counts."""
    keys: Iterable[str] = dict.fromkeys([*SHORT, *row.said, *other.said])
    if row.said[CONTROL] != NONE:
        keys = [key for key in keys if not key.startswith(("callbacks.", "criterion"))]
    return [key for key in keys if row.said.get(key, NONE) != other.said.get(key, NONE)]


def pair(task: Task, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[Paired]:
    """What two ways reached on the same networks, rate by rate; empty without networks that both were tried on."""
    free = {*ours, *theirs}
    left, right = choose(task, ours, free), choose(task, theirs, free)
    by_rate: dict[float, list[tuple[Row, Row]]] = defaultdict(list)
    for place in sorted(left.keys() & right.keys()):
        if place[-1] > 0:  # at 0 both are the dense network
            by_rate[place[-1]].append((left[place], right[place]))
    made = []
    for rate, both in sorted(by_rate.items()):
        work = tuple(_mean([rows[side].work for rows in both]) for side in (0, 1))
        values = [[rows[side].value for rows in both] for side in (0, 1)]
        made.append(Paired(task, rate, values[0], values[1], (work[0], work[1])))
    return made


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
