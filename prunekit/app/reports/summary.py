"""From a table of runs to means with intervals, and to differences from the control."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import sem, t

from prunekit.app.control import CONTROLS
from prunekit.app.reports.collect import Runs, plain, sort_key
from prunekit.app.reports.labels import CRITERION
from prunekit.app.reports.run import ACCURACIES, ORDER, RATE, SEED, Columns

CONTROL = "random"
COSTS = ("size", "macs_fewer", "faster_1", "faster_64")


def groups(table: pd.DataFrame, by: Sequence[str]) -> Iterable[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The rows of each combination of the columns' values, in the order that they come in; without columns all rows."""
    found: Iterable[tuple[tuple[Any, ...], pd.DataFrame]] = (
        table.groupby(list(by), sort=False, dropna=False) if by else [((), table)]
    )
    return found


def only(table: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that have these values; None and NaN are one value."""
    for key, value in where.items():
        table = table[table[key].isna()] if pd.isna(value) else table[table[key] == value]
    return table


def combinations(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The combinations of the columns' values, sorted by the last columns first; an empty one without columns."""
    if not columns:
        return [{}]
    ordered = [*columns[1:], columns[0]]
    rows = table[ordered].drop_duplicates().sort_values(ordered, key=lambda column: column.map(sort_key))
    return [{key: plain(row[key]) for key in columns} for row in rows.to_dict("records")]


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The mean and half the width of its two-sided Student t-interval, ``t(level, n - 1) * s / sqrt(n)``.

    Args:
        values: independent measurements, one a seed.
        level: of confidence, in (0, 1).

    Returns:
        NaN for what so few values do not tell: of one the spread, of none the mean.

    Source: Student, The probable error of a mean, Biometrika 1908.

    Example:
        >>> mean, half = t_interval([0.9, 0.92, 0.94])
        >>> round(mean, 4), round(half, 4)
        (0.92, 0.0497)
        >>> t_interval([0.9])
        (0.9, nan)
    """
    n = len(values)
    if n < 2:
        return float(values[0]) if n else math.nan, math.nan
    return float(np.mean(values)), float(t.interval(level, n - 1)[1] * sem(values))


def summarize(table: pd.DataFrame, by: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Means over seeds, with the half widths of their 95 % intervals; rows of one seed are averaged before.

    Args:
        table: rows of runs.
        by: columns whose combinations become rows.
        measures: columns to average.

    Returns:
        ``by``, then ``<measure>.mean``, ``<measure>.half`` and ``n``, the number of seeds.

    Example:
        >>> runs = pd.DataFrame({"rate": [0.5, 0.5], "seed": [0, 1], "acc": [0.9, 0.8]})
        >>> summarize(runs, ["rate"], ["acc"]).round(3).to_dict("records")
        [{'rate': 0.5, 'acc.mean': 0.85, 'acc.half': 0.635, 'n': 2}]
    """
    rows = []
    for key, group in groups(table, by):
        row = dict(zip(by, key, strict=True))
        seeds = group.groupby(SEED)[list(measures)].mean()
        for measure in measures:  # what was not measured takes no part
            row[f"{measure}.mean"], row[f"{measure}.half"] = t_interval(seeds[measure].dropna().to_numpy(float))
        rows.append({**row, "n": len(seeds)})
    return pd.DataFrame(rows)


def differences(
    table: pd.DataFrame, axes: Sequence[str], names: Columns = ACCURACIES, control: str = CONTROL
) -> pd.DataFrame:
    """The metric of each criterion and order, less that of a control at the same rate, paired by network.

    A pair is one seed and one setting of the axes; a control such as random order is the mean of its orders.

    Args:
        table: rows with the axes, ``seed``, ``criterion``, ``order``, ``rate`` and the metric.
        axes: columns that, with the seed, say which network was pruned.
        names: of the columns with the metric.
        control: the criterion that others are held against.

    Returns:
        The axes, criterion, order and rate, then ``mean``, ``half`` and ``n`` of the differences; empty without
        pairs.
    """
    network = [*axes, SEED, RATE]
    of_it = table[table[CRITERION] == control].groupby(network, dropna=False)[names.final].mean().rename("control")
    # An axis that is None in all runs of the control has become one of numbers there.
    beside = of_it.reset_index().astype(dict.fromkeys(axes, object))
    paired = table[table[CRITERION] != control].astype(dict.fromkeys(axes, object)).merge(beside, on=network)
    if paired.empty:
        return pd.DataFrame()
    paired["difference"] = paired[names.final] - paired["control"]
    return unnamed(summarize(paired, [*axes, CRITERION, ORDER, RATE], ["difference"]), "difference")


def losses(table: pd.DataFrame, axes: Sequence[str], names: Columns = ACCURACIES) -> pd.DataFrame:
    """The metric of each pruned network, less that of its dense one, as :func:`differences` gives it."""
    table = table.assign(difference=table[names.final] - table[names.dense])
    return unnamed(summarize(table, [*axes, CRITERION, ORDER, RATE], ["difference"]), "difference")


def costs(runs: Runs) -> pd.DataFrame:
    """The table with what each compact network costs against its dense one, where runs have made one.

    Args:
        runs: of one experiment.

    Returns:
        The table with a column for each of :data:`COSTS`: ``size``, the share of bytes of a file; ``macs_fewer``, how
        many times fewer multiply-adds; ``faster_1`` and ``faster_64``, how many times faster a batch of so many is,
        NaN where that was not measured. Networks that are as large as before, as all of a curve's points are, have no
        row.
    """
    if "file_bytes_compact" not in runs.table:
        return pd.DataFrame()
    batches = [name for name in runs.times if name.startswith("batch_")]
    # A control has no dense network of its own to be held against.
    pruned = runs.table[~runs.table[CRITERION].isin(CONTROLS.values())] if CRITERION in runs.table else runs.table
    table = pruned.merge(runs.times[["config_hash", *batches]], on="config_hash")
    table["size"] = table["file_bytes_compact"] / table["file_bytes_dense"]
    table["macs_fewer"] = table["macs_dense"] / table["macs_compact"]
    for size in ("1", "64"):
        dense, compact = (table[f"batch_{size}_{network}"].astype(float) for network in ("dense", "compact"))
        table[f"faster_{size}"] = dense / compact
    return table[table["size"] < 1]


def unnamed(summary: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A summary of one measure, with columns ``mean`` and ``half`` instead of the measure's name and these."""
    return summary.rename(columns={f"{measure}.mean": "mean", f"{measure}.half": "half"})
