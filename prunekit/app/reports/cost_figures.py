"""What networks cost in one picture with how good they are: files, speed, and the training that they took."""

from collections.abc import Sequence
from itertools import product

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from prunekit.app.reports.labels import CRITERION
from prunekit.app.reports.panels import (
    GREY,
    draw_dense,
    draw_legend,
    draw_line,
    in_words,
    limits_of,
    look_of,
    looks_of,
    make_logarithmic,
    new_grid,
)
from prunekit.app.reports.run import ORDER, RATE, TRAINING, Columns
from prunekit.app.reports.summary import combinations, groups, only
from prunekit.metrics import ACCURACY, Metric

WIDE = 3  # times as large as the least: from there on an axis is logarithmic
MANY = 30  # likewise: from there on powers of ten are ticks enough
COSTS = {
    "size": "bytes on disk, of the dense network's",
    "faster_1": "times faster, batch of 1",
    "faster_64": "times faster, batch of 64",
}


def draw_costs(
    summary: pd.DataFrame,
    facets: Sequence[str],
    lines: Sequence[str],
    criteria: Sequence[str],
    metric: Metric = ACCURACY,
) -> Figure:
    """Draw the metric against size and speed of the compact networks, a row of panels for each combination of facets.

    Args:
        summary: rows with the facets, ``final_test_acc.mean`` and ``.half``, ``dense_test_acc.mean``, and ``.mean`` of
            each of the costs; another metric has other names.
        facets: columns whose combinations lie one below the other.
        lines: columns ``criterion`` and ``order``, whose combinations are lines; none for one line.
        criteria: all that there are, so that each has one colour in all figures.
        metric: what the networks are judged by.
    """
    names = Columns.of(metric)
    wheres = combinations(summary, facets)
    figure, grid = new_grid(len(wheres), len(COSTS), 3.1, 2.9, sharex="col", sharey=True)
    for (where, (cost, label)), axes in zip(product(wheres, COSTS.items()), grid.flat, strict=True):
        here, prices = only(summary, where), summary[f"{cost}.mean"]
        if prices.max() > WIDE * prices.min():
            make_logarithmic(axes)
        elif prices.notna().any():  # a logarithmic axis would have no ticks between
            axes.set_xlim(0.8 * prices.min(), 1.2 * prices.max())
        for key, line in groups(here, lines):
            look = look_of(criteria, *key) if key else {"color": "C0"}
            draw_line(axes, line.dropna(subset=[f"{cost}.mean"]), f"{cost}.mean", f"{names.final}.", **look)
        draw_dense(axes, here, names)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0) if cost == "size" else "{x:g}")
        axes.set(xlabel=label, ylabel="\n".join([f"test {metric.name}", *in_words(where).split(", ")]))
        if metric.share:
            axes.set_ylim(*limits_of(summary, names.final, names))
        axes.label_outer()
    draw_legend(figure, [("dense network", GREY), *(looks_of(criteria, summary, ORDER) if lines else [])])
    return figure


def draw_training(
    summary: pd.DataFrame, facets: Sequence[str], criteria: Sequence[str], metric: Metric = ACCURACY
) -> Figure:
    """Draw the metric against what training has taken, a panel for each rate, a row for each combination of facets.

    Args:
        summary: rows with the facets, ``criterion``, ``order``, ``rate``, ``training_macs.mean``, and the metric's
            ``.mean`` and ``.half``, final and dense.
        facets: columns that lie one below the other.
        criteria: all that there are, controls among them, so that each has one colour in all figures.
        metric: what the networks are judged by.
    """
    names = Columns.of(metric)
    rates, wheres = sorted(set(summary[RATE])), combinations(summary, facets)
    figure, grid = new_grid(len(wheres), len(rates), 3.3, 3.0, sharex=True, sharey=True)
    for (where, rate), axes in zip(product(wheres, rates), grid.flat, strict=True):
        here = only(summary, {**where, RATE: rate})
        for (name, order), line in groups(here, [CRITERION, ORDER]):
            draw_line(axes, line, f"{TRAINING}.mean", f"{names.final}.", **look_of(criteria, name, order))
        if not here.empty:
            draw_dense(axes, here, names)
        if summary[f"{TRAINING}.mean"].max() > MANY * summary[f"{TRAINING}.mean"].min():
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            make_logarithmic(axes)
            axes.xaxis.set_major_formatter("{x:.0e}")
        axes.set(title=f"rate {rate:g}", xlabel="multiply-adds of training")
        axes.set_ylabel("\n".join([f"test {metric.name}", *in_words(where).split(", ")]))
        if metric.share:
            axes.set_ylim(*limits_of(summary, names.final, names))
        axes.label_outer()
    draw_legend(figure, [("dense network", GREY), *looks_of(criteria, summary, ORDER)])
    return figure
