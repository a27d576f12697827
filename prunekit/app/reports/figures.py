"""Many runs in one picture: accuracy or another metric against pruning rates, with intervals over seeds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray

from prunekit.app.reports.labels import CRITERION, short
from prunekit.app.reports.run import ACCURACIES, ORDER, RATE, SAVED, TRAINING, Columns
from prunekit.app.reports.summary import combinations, groups, only
from prunekit.metrics import ACCURACY, Metric

STYLES = {"descending": "-", "ascending": "--", "unit": "-", "gate": ":"}
WORDS = {"descending": "highest scores first", "ascending": "lowest scores first", "unit": "units", "gate": "gates"}
SHAPES = "osD^v<>PX*"
COSTS = {
    "size": "bytes on disk, of the dense network's",
    "faster_1": "times faster, batch of 1",
    "faster_64": "times faster, batch of 64",
}
MEASURES = {
    "sparsity": "sparsity of all weights",
    "at_least_90": "share of neurons\nwith >= 90 % removed",
    "at_most_40": "share of neurons\nwith <= 40 % removed",
}
GREY: dict[str, Any] = {"color": "0.4", "linewidth": 1}
Looks = Sequence[tuple[str, Mapping[str, Any]]]  # labels of a legend, and how what they name is drawn


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
    figure, grid = _grid(len(down), len(across), 4.3, 3.6, sharex=True, sharey=True)
    figure.supylabel(label, fontsize=10)
    lines = 2 * len(criteria)
    # Beside each other, and still nearer to their own rate than to the next.
    step = min([0.04, *(0.4 * (b - a) for a, b in pairwise(sorted(set(summary[RATE]))))]) / lines
    for (below, beside), axes in zip(product(down, across), grid.flat, strict=True):
        where = {**beside, **below}
        here = only(summary, where)
        axes.set_visible(not here.empty)
        for number, ((name, order), line) in enumerate(groups(here, [CRITERION, ORDER])):
            _line(axes, line, RATE, shift=step * (number - lines / 2), **_look(criteria, name, order))
        if dense is None:
            axes.axhline(0, **GREY)
            if share:
                axes.set_ylim(summary["mean"].min() - 0.1, summary["mean"].max() + 0.1)  # wider intervals are cut
        elif not here.empty:
            if share:
                axes.set_ylim(0, 1.02)
            level = only(dense, where)["mean"].iloc[0]
            axes.axhline(level, **GREY)
            said = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "0.3"}
            axes.annotate("dense", (1, level), xycoords=("axes fraction", "data"), **said)
        axes.set_title(_words(where), fontsize=10)
        axes.set_xlabel("rate of removed units")
    _legend(figure, _looks(criteria, summary, ORDER))
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
    figure, grid = _grid(len(measures), len(wheres), 3.5, 2.1, sharex=True, sharey="row")
    for (measure, where), axes in zip(product(measures, wheres), grid.flat, strict=True):
        here = only(summary, where)
        for number, line in enumerate(lines):
            _line(axes, only(here, line), x, f"{measure}.", color=f"C{number}")
        if measure in MEASURES or metric.share:
            axes.set_ylim(*_limits(summary, measure, names))
        if measure == names.final:
            _dense_line(axes, here, names)
            axes.set_title(_words(where), fontsize=10)
        axes.set(xlabel=short(x), ylabel=labels[measure])
        axes.label_outer()
    colours = [(_words(line), {"color": f"C{number}"}) for number, line in enumerate(lines) if line]
    _legend(figure, [("dense network", GREY), *colours])
    return figure


def draw_areas(summary: pd.DataFrame, colour: str, shape: str | None) -> Figure:
    """Draw accuracy against how much of the image a neuron keeps, a point for each setting, hollow where neurons died.

    Args:
        summary: rows with the columns below, and ``.mean`` and ``.half`` of ``final_test_acc``, ``median_area``,
            ``alive``, ``neurons`` and ``dense_test_acc``.
        colour: the column that colours points.
        shape: the column that shapes them, if any; what else tells settings apart is not shown.
    """
    figure, grid = _grid(1, 1, 8.3, 4.5)
    axes: Axes = grid[0, 0]
    colours, shapes = (combinations(summary, [name] if name else []) for name in (colour, shape))
    for (i, one), (j, two) in product(enumerate(colours), enumerate(shapes)):
        for row in only(summary, one | two).to_dict("records"):
            look: dict[str, Any] = {"color": f"C{i % 10}", "marker": SHAPES[j % 10], "markersize": 6, "linestyle": ""}
            look |= {} if row["alive.mean"] == row["neurons.mean"] else {"markerfacecolor": "none"}
            _line(axes, pd.DataFrame([row]), "median_area.mean", f"{ACCURACIES.final}.", **look)
    dense = _dense_line(axes, summary, ACCURACIES)
    _logarithmic(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    best = max(dense, summary[f"{ACCURACIES.final}.mean"].max())
    axes.set_ylim(max(0.0, dense - 0.06), min(1.0, best + 0.025))  # what falls far below is in the table
    axes.set(xlabel="median share of the image that a living neuron keeps", ylabel="test accuracy after retraining")
    looks: list[tuple[str, dict[str, Any]]] = [
        (str(one[colour]), {"color": f"C{i % 10}", "marker": "o"}) for i, one in enumerate(colours)
    ]
    for j, (key, value) in enumerate(pair for two in shapes for pair in two.items()):
        looks.append((f"{key.rpartition('.')[2]} {value}", {**GREY, "marker": SHAPES[j % 10]}))
    looks.append(("hollow: not all neurons live", {**GREY, "marker": "o", "markerfacecolor": "none"}))
    points = [(label, {**look, "linestyle": ""}) for label, look in looks]
    _legend(figure, [*points, ("dense network", GREY)], beside=True)
    return figure


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
    figure, grid = _grid(len(wheres), len(COSTS), 3.1, 2.9, sharex="col", sharey=True)
    for (where, (cost, label)), axes in zip(product(wheres, COSTS.items()), grid.flat, strict=True):
        here = only(summary, where)
        _logarithmic(axes)
        for key, line in groups(here, lines):
            look = _look(criteria, *key) if key else {"color": "C0"}
            _line(axes, line.dropna(subset=[f"{cost}.mean"]), f"{cost}.mean", f"{names.final}.", **look)
        _dense_line(axes, here, names)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0) if cost == "size" else "{x:g}")
        axes.set(xlabel=label, ylabel="\n".join([f"test {metric.name}", *_words(where).split(", ")]))
        if metric.share:
            axes.set_ylim(*_limits(summary, names.final, names))
        axes.label_outer()
    _legend(figure, [("dense network", GREY), *(_looks(criteria, summary, ORDER) if lines else [])])
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
    figure, grid = _grid(len(wheres), len(rates), 3.3, 3.0, sharex=True, sharey=True)
    for (where, rate), axes in zip(product(wheres, rates), grid.flat, strict=True):
        here = only(summary, {**where, RATE: rate})
        for (name, order), line in groups(here, [CRITERION, ORDER]):
            _line(axes, line, f"{TRAINING}.mean", f"{names.final}.", **_look(criteria, name, order))
        if not here.empty:
            _dense_line(axes, here, names)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(title=f"rate {rate:g}", xlabel="multiply-adds of training")
        axes.set_ylabel("\n".join([f"test {metric.name}", *_words(where).split(", ")]))
        if metric.share:
            axes.set_ylim(*_limits(summary, names.final, names))
        axes.label_outer()
    _legend(figure, [("dense network", GREY), *_looks(criteria, summary, ORDER)])
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
    figure, grid = _grid(1, len(orders), 4.6, 3.6, sharey=True)
    for axes, order in zip(grid.flat, orders, strict=True):
        here = only(summary, {ORDER: order})
        for (name, size, *_), line in groups(here, [CRITERION, grain, *others]):
            _line(axes, line, f"{SAVED}.mean", f"{names.final}.", **_look(criteria, name, size))
        _dense_line(axes, here, names)
        axes.set_title(WORDS[order], fontsize=10)
        axes.set(xlabel="share of the LSTM's multiply-adds saved", ylabel=f"test {metric.name}")
        if metric.share:
            axes.set_ylim(0, 1.02)
        axes.label_outer()
    _legend(figure, _looks(criteria, summary, grain))
    return figure


def _grid(rows: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure of panels of a width and height in inches, and room for words around them."""
    figure = Figure(figsize=(1.2 + width * columns, 1.0 + height * rows), dpi=100, layout="constrained")
    grid = np.asarray(figure.subplots(rows, columns, squeeze=False, **shared))
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    return figure, grid


def _line(axes: Axes, line: pd.DataFrame, x: str, y: str = "", shift: float = 0.0, **look: Any) -> None:
    """A line of means with bars for their intervals, ``shift`` to the right so that bars do not hide each other."""
    line = line.sort_values(x)
    at, mean, half = (line[name].to_numpy(float) for name in (x, f"{y}mean", f"{y}half"))
    look = {"linewidth": 1.5, "elinewidth": 0.6, "marker": "o", "markersize": 3, **look}
    for bar in axes.errorbar(at + shift, mean, np.nan_to_num(half), **look)[2]:
        bar.set_alpha(0.45)


def _dense_line(axes: Axes, here: pd.DataFrame, names: Columns) -> float:
    level = float(here[f"{names.dense}.mean"].mean())
    axes.axhline(level, **GREY)
    return level


def _logarithmic(axes: Axes) -> None:
    """A horizontal axis with its ticks at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())


def _limits(summary: pd.DataFrame, measure: str, columns: Columns) -> tuple[float, float]:
    """Around the means of a share; wider intervals are cut."""
    names = [f"{measure}.mean", *([f"{columns.dense}.mean"] if measure == columns.final else [])]
    return max(-0.02, summary[names].min().min() - 0.05), min(1.02, summary[names].max().max() + 0.05)


def _look(criteria: Sequence[str], name: str, kind: str) -> dict[str, Any]:
    return {"color": f"C{criteria.index(name)}", "linestyle": STYLES[kind]}


def _looks(criteria: Sequence[str], summary: pd.DataFrame, column: str) -> Looks:
    """A colour for each criterion that there is, a style for each of the column's values that there is."""
    names, kinds = set(summary[CRITERION]), set(summary[column])
    colours = [(name.replace("_", " "), {"color": f"C{i}"}) for i, name in enumerate(criteria) if name in names]
    styles = [(WORDS[kind], {"color": "0.3", "linestyle": style}) for kind, style in STYLES.items() if kind in kinds]
    return [*colours, *styles]


def _legend(figure: Figure, looks: Looks, beside: bool = False) -> None:
    """Below the panels, or beside them."""
    handles = [Line2D([], [], label=label, **look) for label, look in looks]
    columns = 1 if beside else max(2, int(figure.get_figwidth() / 2.4))
    loc: Any = "outside right upper" if beside else "outside lower center"
    figure.legend(handles=handles, loc=loc, ncols=columns, fontsize=9, frameon=False)


def _words(where: Mapping[str, Any]) -> str:
    return ", ".join(f"{short(key)} {value}" for key, value in where.items())
