"""From a table of runs to means with intervals, and to differences from the control."""

from collections.abc import Sequence

import pandas as pd

from prunekit.runs.collect import ACCURACY, CRITERION, ORDER, RATE, SEED
from prunekit.statistics import t_interval

CONTROL = "random"


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
            row[f"{measure}.mean"], row[f"{measure}.half"], _ = t_interval(seeds[measure].to_numpy(float))
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


def plain_names(summary: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A summary of one measure, with columns ``mean`` and ``half`` instead of the measure's name and these."""
    return summary.rename(columns={f"{measure}.mean": "mean", f"{measure}.half": "half"})
