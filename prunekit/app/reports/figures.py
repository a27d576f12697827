"""Many runs in one picture: accuracy or another metric against pruning rates, with intervals over seeds."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunekit.app.reports.labels import CRITERION, short
from prunekit.app.reports.panels import (
    GREY,
    STYLES,
    WORDS,
    draw_dense,
    draw_legend,
    draw_line,
    in_words,
    limits_of,
    look_of,
    looks_of,
    make_logarithmic,
    new_grid,
    reach,
)
from prunekit.app.reports.run import ACCURACIES, ORDER, RATE, SAVED, Columns
from prunekit.app.reports.summary import combinations, groups, only
from prunekit.metrics import ACCURACY, Metric

SHAPES = "osD^v<>PX*"
MEASURES = {
    "sparsity": "sparsity of all weights",
    "at_least_90": "share of neurons\nwith >= 90 % removed",
    "at_most_40": "share of neurons\nwith <= 40 % removed",
}


def draw_units(
    summary: pd.DataFrame,
    facets: Sequence[str],
    dense: pd.DataFrame | None,
    label: str,
    criteria: Sequence[str],
    share: bool = True,
) -> Figure:
    """Draw a value against the rate of removed units, a panel for each combination of the facets' values.

    Args:
        summary: rows with the facets, ``criterion``, ``order``, ``rate``, ``mean``, ``half`` and ``n``.
        facets: columns; the values of the first lie side by side.
        dense: rows with the facets, ``mean`` and ``half`` of the network before pruning; None for a line at 0.
        label: of the value.
        criteria: all that there are, so that each has one colour in all figures.
        share: whether the value is a share in [0, 1], or a difference of such.
    """
    across, down = combinations(summary, facets[:1]), combinations(summary, facets[1:])
    figure, grid = new_grid(len(down), len(across), 4.3, 3.6, sharex=True, sharey=True)
    figure.supylabel(label, fontsize=10)
    lines = 2 * len(criteria)
    # Beside each other, and still nearer to their own rate than to the next.
    step = min([0.04, *(0.4 * (b - a) for a, b in pairwise(sorted(set(summary[RATE]))))]) / lines
    for (below, across_it), axes in zip(product(down, across), grid.flat, strict=True):
        where = {**across_it, **below}
        here = only(summary, where)
        axes.set_visible(not here.empty)
        drawn = list(groups(here, [CRITERION, ORDER]))
        for number, ((name, order), line) in enumerate(drawn):
            shift = step * (number - (len(drawn) - 1) / 2)
            draw_line(axes, line, RATE, shift=shift, **look_of(criteria, name, order))
        if dense is None:
            axes.axhline(0, **GREY)
            if share:
                least, most = reach(summary)
                axes.set_ylim(max(-1.0, least), min(1.0, most))
        elif not here.empty:
            if share:
                axes.set_ylim(0, 1.02)
            level = only(dense, where)["mean"].iloc[0]
            axes.axhline(level, **GREY)
            said = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "0.3"}
            axes.annotate("dense", (0.99, level), xycoords=("axes fraction", "data"), **said)
        axes.set_title(in_words(where), fontsize=10)
        beside = ", drawn beside each other" if len(drawn) > 1 and summary[RATE].nunique() == 1 else ""
        axes.set_xlabel(f"rate of removed units{beside}")
        axes.set_xlim(summary[RATE].min() - 0.05, summary[RATE].max() + 0.05)  # one rate alone has room as well
    draw_legend(figure, looks_of(criteria, summary, ORDER))
    return figure


def draw_settings(
    summary: pd.DataFrame, facets: Sequence[str], x: str, colour: str | None, metric: Metric = ACCURACY
) -> Figure:
    """Draw the metric, sparsity and groups of neurons against a rate, a row for each.

    Args:
        summary: rows with the facets, ``x``, ``colour``, and for each measure ``<measure>.mean`` and ``.half``, and
            ``dense_test_acc.mean``, or so for another metric.
        facets: columns whose combinations lie side by side.
        x: the column on the horizontal axis.
        colour: the column that colours lines; None for one line.
        metric: what the networks are judged by.
    """
    names = Columns.of(metric)
    labels = {names.final: f"test {metric.name}", **MEASURES}
    measures = [name for name in labels if f"{name}.mean" in summary]
    wheres, lines = combinations(summary, facets), combinations(summary, [colour] if colour else [])
    figure, grid = new_grid(len(measures), len(wheres), 3.5, 2.1, sharex=True, sharey="row")
    for (measure, where), axes in zip(product(measures, wheres), grid.flat, strict=True):
        here = only(summary, where)
        for number, line in enumerate(lines):
            draw_line(axes, only(here, line), x, f"{measure}.", color=f"C{number}")
        if measure in MEASURES or metric.share:
            axes.set_ylim(*limits_of(summary, measure, names))
        if measure == names.final:
            draw_dense(axes, here, names)
            axes.set_title(in_words(where), fontsize=10)
        axes.set(xlabel=short(x), ylabel=labels[measure])
        axes.label_outer()
    colours = [(in_words(line), {"color": f"C{number}"}) for number, line in enumerate(lines) if line]
    draw_legend(figure, [("dense network", GREY), *colours])
    return figure


def draw_areas(summary: pd.DataFrame, colour: str, shape: str | None) -> Figure:
    """Draw accuracy against how much of the image a neuron keeps, a point for each setting, hollow where neurons died.

    Args:
        summary: rows with the columns below, and ``.mean`` and ``.half`` of ``final_test_acc``, ``median_area``,
            ``alive``, ``neurons`` and ``dense_test_acc``.
        colour: the column that colours points.
        shape: the column that shapes them, if any; what else tells settings apart is not shown.
    """
    figure, grid = new_grid(1, 1, 8.3, 4.5)
    axes: Axes = grid[0, 0]
    colours, shapes = (combinations(summary, [name] if name else []) for name in (colour, shape))
    for (i, one), (j, two) in product(enumerate(colours), enumerate(shapes)):
        for row in only(summary, one | two).to_dict("records"):
            look: dict[str, Any] = {"color": f"C{i % 10}", "marker": SHAPES[j % 10], "markersize": 6, "linestyle": ""}
            look |= {} if row["alive.mean"] == row["neurons.mean"] else {"markerfacecolor": "none"}
            draw_line(axes, pd.DataFrame([row]), "median_area.mean", f"{ACCURACIES.final}.", **look)
    dense = draw_dense(axes, summary, ACCURACIES)
    make_logarithmic(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    best = max(dense, summary[f"{ACCURACIES.final}.mean"].max())
    axes.set_ylim(max(0.0, dense - 0.06), min(1.0, best + 0.025))  # what falls far below is in the table
    axes.set(
        xlabel="median share of the image that a living neuron keeps (logarithmic)",
        ylabel="test accuracy after retraining",
    )
    looks: list[tuple[str, dict[str, Any]]] = [
        (in_words(one), {"color": f"C{i % 10}", "marker": "o"}) for i, one in enumerate(colours)
    ]
    for j, (key, value) in enumerate(pair for two in shapes for pair in two.items()):
        looks.append((f"{key.rpartition('.')[2]} {value}", {**GREY, "marker": SHAPES[j % 10]}))
    if (summary["alive.mean"] != summary["neurons.mean"]).any():
        looks.append(("hollow: not all neurons live", {**GREY, "marker": "o", "markerfacecolor": "none"}))
    points = [(label, {**look, "linestyle": ""}) for label, look in looks]
    draw_legend(figure, [*points, ("dense network", GREY)], beside=True)
    return figure


def draw_grains(
    summary: pd.DataFrame, grain: str, others: Sequence[str], criteria: Sequence[str], metric: Metric = ACCURACY
) -> Figure:
    """Draw the metric against the share of the LSTM's multiply-adds saved, for removed units and for removed gates.

    A panel for each order; units are drawn solid, gates dotted. Each combination of others has its line.

    Args:
        summary: rows with ``grain``, ``criterion``, ``order``, ``saved.mean``, ``final_test_acc.mean`` and ``.half``,
            and ``dense_test_acc.mean``; another metric has other names.
        grain: the column that says ``unit`` or ``gate``.
        others: further columns that tell runs apart.
        criteria: all that there are, so that each has one colour in all figures.
        metric: what the networks are judged by.
    """
    names = Columns.of(metric)
    orders = [order for order in STYLES if order in set(summary[ORDER])]
    figure, grid = new_grid(1, len(orders), 4.6, 3.6, sharey=True)
    for axes, order in zip(grid.flat, orders, strict=True):
        here = only(summary, {ORDER: order})
        for (name, size, *_), line in groups(here, [CRITERION, grain, *others]):
            draw_line(axes, line, f"{SAVED}.mean", f"{names.final}.", **look_of(criteria, name, size))
        draw_dense(axes, here, names)
        axes.set_title(WORDS[order], fontsize=10)
        axes.set(xlabel="share of the LSTM's multiply-adds saved", ylabel=f"test {metric.name}")
        if metric.share:
            axes.set_ylim(0, 1.02)
        axes.label_outer()
    draw_legend(figure, looks_of(criteria, summary, grain))
    return figure
