"""A folder of runs as one table: what each was, what came out, and which are missing."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.progress import track

from prunekit.app.control import CONTROLS
from prunekit.app.jobs import JOBS, Job, read_jobs
from prunekit.app.reports.labels import CRITERION, name_criteria, name_segmentations, tell_nodes, varies
from prunekit.app.reports.run import (
    CONFIG,
    CURVE,
    NEURONS,
    ORDER,
    RATE,
    SEED,
    Columns,
    Run,
    frame_columns,
    points,
    run_or_why,
)
from prunekit.app.results import metric_in
from prunekit.errors import ArgumentError
from prunekit.metrics import ACCURACY, Metric

COUNTS = ("alive", "regions", "median_region")  # no shares
MEASURES = ("sparsity", *NEURONS)  # beside the metric
PLACE = "place"  # of a run, among its results
MOST_COMBINATIONS = 100_000  # beyond these no grid is filled in to see what is missing


class Runs(NamedTuple):
    """The runs of one experiment.

    Attributes:
        experiment: its name.
        table: a row a run, or a row a point of its curves: ``config_hash``, ``seed``, the axes, for units
            ``criterion``, ``order`` and ``rate``, then what was measured; sorted.
        times: a row a run, its seconds: of its parts, and of a batch in the dense and in the compact network.
        axes: config keys that differ between runs, the seed and what follows from it apart.
        constant: config keys that do not, with their values.
        problems: runs that have not finished or cannot be read, a line each.
        metric: what the networks are judged by.
        swept: ``config_hash`` of the runs that the last sweep made; all count where that is not known.
    """

    experiment: str
    table: pd.DataFrame
    times: pd.DataFrame
    axes: list[str]
    constant: dict[str, Any]
    problems: list[str]
    metric: Metric = ACCURACY
    swept: frozenset[str] = frozenset()

    @property
    def names(self) -> Columns:
        """The table's columns that have the metric."""
        return Columns.of(self.metric)

    @property
    def keys(self) -> list[str]:
        """The columns that tell rows apart."""
        return [SEED, *self.axes, *(name for name in (CRITERION, ORDER, RATE) if name in self.table)]


def collect(folder: Path) -> Runs:
    """Read all runs in ``folder``, however deep; if it is a sweep's, those of its jobs and no others.

    Raises:
        ArgumentError: if there is no finished run, or there are runs of several experiments or metrics.
    """
    if not folder.is_dir():
        raise ArgumentError("folder", str(folder), "a folder of runs, such as runs/<experiment>")
    found: dict[str, Run] = {}
    problems = []
    jobs = last_sweep(folder)
    own = {Path(job["run"]) for job in jobs if job["run"]}
    places = {place / CONFIG for place in own} if (folder / JOBS).exists() else folder.rglob(CONFIG)
    for path in track(sorted(places), description="runs", transient=True):
        run = run_or_why(path.parent)
        if isinstance(run, str):
            problems.append(run)
            continue
        run.results[PLACE] = path.parent.absolute()
        if found.setdefault(run.results["config_hash"], run) is not run:
            problems.append(f"left out: {path.parent}, a copy of a run that is there")
    problems += unfinished(jobs)
    if not found:
        accepted = (
            "a folder with finished runs; the same command, or train resume=FOLDER, goes on with what was stopped"
        )
        raise ArgumentError(
            "folder", f"{folder}, with no finished run (not finished or damaged: {len(problems)})", accepted
        )
    names = sorted({run.results["experiment"] for run in found.values()})
    if len(names) > 1:
        got = f"{folder}, with runs of several experiments: {', '.join(names)}"
        raise ArgumentError("folder", got, f"the folder of one experiment, such as {folder / names[0]}")
    metrics = {metric_in(run.results) for run in found.values()}
    if len(metrics) > 1:
        got = f"{folder}, with runs judged by {' and by '.join(sorted(metric.name for metric in metrics))}"
        raise ArgumentError("folder", got, "runs that are judged by one metric, in a folder of their own")
    swept = frozenset(key for key, run in found.items() if run.results[PLACE] in own)
    return _tabulate(names[0], list(found.values()), problems)._replace(metric=metrics.pop(), swept=swept)


def _tabulate(experiment: str, found: list[Run], problems: list[str]) -> Runs:
    name_segmentations(found)
    name_criteria(found)
    made = [points(run) for run in found]
    tell_nodes([config for config, _ in found])
    keys = sorted({key for config, _ in found for key in config})
    values = {key: [config.get(key) for config, _ in found] for key in keys}
    axes = [key for key, column in values.items() if varies(column) and key != SEED]
    leaders = [values[SEED], values["dense_epochs"]]  # data.seed and the like follow these
    if all(len(rows) == 1 for rows in made):  # as settings of another callback may follow those of the last
        leaders += [[rows[0].get(name) for rows in made] for name in (CRITERION, ORDER, RATE)]
    for leader in leaders:
        axes = [key for key in axes if values[key] is leader or values[key] != leader]
    rows = [
        {"run": results[PLACE].name, "config_hash": results["config_hash"], SEED: results["seed"]}
        | {key: config.get(key) for key in axes}
        | row
        for (config, results), own in zip(found, made, strict=True)
        for row in own
    ]
    _hold_against_dense(rows, axes, Columns.of(metric_in(found[0][1])).dense)
    others = [str(row["config_hash"]) for row in rows if CRITERION not in row]
    if 0 < len(others) < len(rows):
        problems = [*problems, f"left out, as no units are pruned in them: {', '.join(others)}"]
        rows = [row for row in rows if CRITERION in row]
    axes += [CURVE] if any(CURVE in row for row in rows) else []
    times = [
        {"config_hash": r["config_hash"], "device": r["device"], **r["seconds"], **_latencies(r.get("latency", {}))}
        | frame_columns(r)
        for _, r in found
    ]
    constant = {key: column[0] for key, column in values.items() if not varies(column)}
    table, seconds = pd.DataFrame(rows), pd.DataFrame(times).sort_values("config_hash")
    runs = Runs(experiment, table, seconds, axes, constant, problems)
    table = table.sort_values(runs.keys, key=lambda column: column.map(sort_key), kind="stable", ignore_index=True)
    if CRITERION in table:  # controls of several criteria are one and the same
        again = table[CRITERION].isin(CONTROLS.values()) & table.duplicated(runs.keys)
        table = table[~again].reset_index(drop=True)
    for key in axes:  # None stays None, where pandas would have made a number of it
        table[key] = pd.Series([plain(value) for value in table[key]], dtype=object)
    twice = table[table.duplicated(runs.keys, keep=False)]["config_hash"].unique()
    if len(twice):
        problems = [*problems, f"of equal settings, averaged within their seed: {', '.join(twice)}"]
    return runs._replace(table=table, problems=problems)


def _hold_against_dense(rows: Sequence[dict[str, Any]], axes: Sequence[str], dense: str) -> None:
    """Have controls, which have no dense network of their own, be held against that of the runs beside them."""

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row[SEED], *(row[key] for key in axes if key != "control" and not key.startswith("callbacks."))

    known = {place(row): row[dense] for row in rows if row.get(dense) is not None}
    for row in rows:
        if dense in row and row[dense] is None:
            row[dense] = known.get(place(row), math.nan)


def _latencies(latency: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Seconds by network and batch size, as columns."""
    return {f"batch_{size}_{name}": seconds for name, own in latency.items() for size, seconds in own.items()}


def missing(runs: Runs) -> list[dict[str, Any]] | None:
    """Combinations of the values seen, seeds included, that have no row; None if there are too many to go through.

    Where a sweep is known its values count: a run that somebody made beside it is no part of its grid. Criteria
    combine with the orders and granularities that they are seen in.
    """
    table = runs.table[runs.table["config_hash"].isin(runs.swept)] if runs.swept else runs.table
    columns = {name: list(map(plain, table[name])) for name in runs.keys}
    if math.prod(len(set(column)) for column in columns.values()) > MOST_COMBINATIONS:
        return None
    there = set(zip(*columns.values(), strict=True))
    wanted = product(*map(dict.fromkeys, columns.values()))
    absent = [dict(zip(columns, values, strict=True)) for values in wanted if values not in there]
    # A criterion need not make sense in every order, nor for gates.
    together = [CRITERION, ORDER, *(key for key in runs.axes if key.endswith(".granularity"))]
    if CRITERION not in runs.table:
        return absent
    seen = set(zip(*(columns[key] for key in together), strict=True))
    return [row for row in absent if tuple(row[key] for key in together) in seen]


def pooled(runs: Runs, keys: Sequence[str]) -> Runs:
    """The runs with some axes' values taken for repetitions, as seeds are.

    Raises:
        ArgumentError: if a key is no axis.
    """
    table = runs.table.copy()
    for key in dict.fromkeys(keys):
        if key not in runs.axes:
            accepted = f"a key that differs between runs: {', '.join(runs.axes) or 'none does'}"
            raise ArgumentError("--pool", key, accepted)
        table[SEED] = [f"{seed}, {value}" for seed, value in zip(table[SEED], table.pop(key), strict=True)]
    return runs._replace(table=table, axes=[key for key in runs.axes if key not in keys])


def last_sweep(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, or of the last sweep that made runs in ``folder``; none if there is none."""
    if (folder / JOBS).exists():
        return read_jobs(folder)
    for sweep in sorted(folder.absolute().parent.glob("sweeps/*"), reverse=True):
        jobs = read_jobs(sweep)
        if any(job["run"] and Path(job["run"]).is_relative_to(folder.absolute()) for job in jobs):
            return jobs
    return []


def unfinished(jobs: Sequence[Job]) -> list[str]:
    """Jobs of the last sweep that did not finish, a line each."""
    lines = []
    for job in jobs:
        if job["state"] != "finished":
            why = f": {job['error']}" if job["error"] else ""
            lines.append(f"{job['state']} in the last sweep: {' '.join(job['overrides'])}{why}")
    return lines


def plain(value: Any) -> Any:
    """The value, None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def sort_key(value: Any) -> tuple[int, float, str]:
    """What is absent before all, then ``none``, then numbers, then other words."""
    value = plain(value)
    if value is None or value == "none":
        return 0, 0.0, str(value or "")
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))
