"""From a table of runs to means with intervals, and to differences from the control."""

import math
from collections.abc import Sequence

import pandas as pd

from prunekit.app.reports.collect import ACCURACY, ORDER, RATE, SEED, Runs
from prunekit.app.reports.labels import CRITERION
from prunekit.app.reports.statistics import t_interval

CONTROL = "random"
COSTS = ("size", "macs_fewer", "faster_1", "faster_64")


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
    for key, group in table.groupby(list(by), sort=False, dropna=False) if by else [((), table)]:
        row = dict(zip(by, key, strict=True))
        seeds = group.groupby(SEED)[list(measures)].mean()
        for measure in measures:
            values = seeds[measure].dropna().to_numpy(float)  # what was not measured takes no part
            found = t_interval(values) if len(values) else (math.nan, math.nan)
            row[f"{measure}.mean"], row[f"{measure}.half"] = found[:2]
        rows.append({**row, "n": len(seeds)})
    return pd.DataFrame(rows)


def differences(table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """How much better each criterion and order is than random order at the same rate, paired by network.

    A pair is one seed and one setting of the axes; random order is the mean of the orders that there are of it.

    Args:
        table: rows with the axes, ``seed``, ``criterion``, ``order``, ``rate`` and the accuracy.
        axes: columns that, with the seed, say which network was pruned.

    Returns:
        The axes, criterion, order and rate, then ``mean``, ``half`` and ``n`` of the differences; empty without
        pairs.
    """
    network = [*axes, SEED, RATE]
    control = table[table[CRITERION] == CONTROL].groupby(network, dropna=False)[ACCURACY].mean().rename("control")
    paired = table[table[CRITERION] != CONTROL].merge(control, left_on=network, right_index=True)
    if paired.empty:
        return pd.DataFrame()
    paired["difference"] = paired[ACCURACY] - paired["control"]
    return plain_names(summarize(paired, [*axes, CRITERION, ORDER, RATE], ["difference"]), "difference")


def losses(table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """How much better than its dense network each pruned one is, as :func:`differences` gives it."""
    table = table.assign(difference=table[ACCURACY] - table["dense_test_acc"])
    return plain_names(summarize(table, [*axes, CRITERION, ORDER, RATE], ["difference"]), "difference")


def costs(runs: Runs) -> pd.DataFrame:
    """The table with what each compact network costs against its dense one, where runs have made one.

    Args:
        runs: of one experiment.

    Returns:
        The table with a column for each of :data:`COSTS`: ``size``, the share of bytes of a file; ``macs_fewer``, how
        many times fewer multiply-adds; ``faster_1`` and ``faster_64``, how many times faster a batch of so many is,
        NaN where that was not measured. Empty if no run has made a compact network.
    """
    if "file_bytes_compact" not in runs.table:
        return pd.DataFrame()
    batches = [name for name in runs.times if name.startswith("batch_")]
    table = runs.table.merge(runs.times[["config_hash", *batches]], on="config_hash")
    table["size"] = table["file_bytes_compact"] / table["file_bytes_dense"]
    table["macs_fewer"] = table["macs_dense"] / table["macs_compact"]
    for size in ("1", "64"):
        table[f"faster_{size}"] = table[f"batch_{size}_dense"].astype(float) / table[f"batch_{size}_compact"].astype(
            float
        )
    return table


def plain_names(summary: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A summary of one measure, with columns ``mean`` and ``half`` instead of the measure's name and these."""
    return summary.rename(columns={f"{measure}.mean": "mean", f"{measure}.half": "half"})
