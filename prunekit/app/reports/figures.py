"""Many runs in one picture: accuracy against pruning rates, with intervals over seeds."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from prunekit.app.reports.collect import SAVED, plain, sort_key

STYLES: dict[str, Literal["-", "--"]] = {"descending": "-", "ascending": "--"}
GRAINS: dict[str, Literal["-", ":"]] = {"unit": "-", "gate": ":"}
COSTS = {
    "size": "bytes on disk, of the dense network's",
    "faster_1": "times faster, batch of 1",
    "faster_64": "times faster, batch of 64",
}
MEASURES = {
    "final_test_acc": "test accuracy",
    "sparsity": "sparsity of all weights",
    "at_least_90": "share of neurons\nwith >= 90 % removed",
    "at_most_40": "share of neurons\nwith <= 40 % removed",
}


def draw_units(
    summary: pd.DataFrame, facets: Sequence[str], dense: pd.DataFrame | None, label: str, criteria: Sequence[str]
) -> Figure:
    """Draw a value against the rate of removed units, a panel for each combination of the facets' values.

    Args:
        summary: rows with the facets, ``criterion``, ``order``, ``rate``, ``mean``, ``half`` and ``n``.
        facets: columns; the values of the first lie side by side.
        dense: rows with the facets, ``mean`` and ``half`` of the network before pruning; None for a line at 0.
        label: of the value.
        criteria: all that there are, so that each has one colour in all figures.
    """
    figure, panels = _panels(summary, facets)
    colours = {name: f"C{number}" for number, name in enumerate(criteria)}
    lines = 2 * len(criteria)
    rates = sorted(set(summary["rate"]))
    # Beside each other, and still nearer to their own rate than to the next.
    step = min([0.04, *(0.4 * (b - a) for a, b in pairwise(rates))]) / lines
    for where, axes in panels:
        here = _only(summary, where)
        for number, ((name, order), line) in enumerate(here.groupby(["criterion", "order"], sort=False)):
            line = line.sort_values("rate")  # noqa: PLW2901
            _line(axes, line, "rate", "mean", "half", colours[name], STYLES[order], shift=step * (number - lines / 2))
        if dense is None:
            axes.axhline(0, color="0.4", linewidth=1)
            axes.set_ylim(summary["mean"].min() - 0.1, summary["mean"].max() + 0.1)  # wider intervals are cut
        else:
            axes.set_ylim(0, 1.02)
            before = _only(dense, where).iloc[0]
            axes.axhline(before["mean"], color="0.4", linewidth=1)
            axes.annotate("dense", (1, before["mean"]), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                          fontsize=8, color="0.3")  # fmt: skip
        axes.set_title(", ".join(f"{short(key)} {value}" for key, value in where.items()), fontsize=10)
        axes.set_xlabel("rate of removed units")
    panels[0][1].set_ylabel(label)
    handles = _legend(summary, colours)
    columns = max(2, int(figure.get_figwidth() / 2.4))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    return figure


def _legend(summary: pd.DataFrame, colours: dict[str, str]) -> list[Line2D]:
    """A colour for each criterion that there is, a style for each order."""
    present, orders = set(summary["criterion"]), set(summary["order"])
    handles = [Line2D([], [], color=c, label=name.replace("_", " ")) for name, c in colours.items() if name in present]
    words = {"descending": "highest scores first", "ascending": "lowest scores first"}
    styles = [(words[order], style) for order, style in STYLES.items() if order in orders]
    return [*handles, *(Line2D([], [], color="0.3", linestyle=style, label=label) for label, style in styles)]


def draw_settings(summary: pd.DataFrame, facets: Sequence[str], x: str, colour: str | None) -> Figure:
    """Draw accuracy, sparsity and groups of neurons against a rate, a row for each.

    Args:
        summary: rows with the facets, ``x``, ``colour``, and for each measure ``<measure>.mean`` and ``.half``, and
            ``dense_test_acc.mean``.
        facets: columns whose combinations lie side by side.
        x: the column on the horizontal axis.
        colour: the column that colours lines; None for one line.
    """
    measures = [name for name in MEASURES if f"{name}.mean" in summary]
    wheres = _combinations(summary, facets)
    figure = Figure(figsize=(1.6 + 3.4 * len(wheres), 0.9 + 2.1 * len(measures)), dpi=100, layout="constrained")
    grid = figure.subplots(len(measures), len(wheres), sharex=True, sharey="row", squeeze=False)
    values = sorted(map(plain, summary[colour].unique()), key=sort_key) if colour else [None]
    for column, where in enumerate(wheres):
        here = _only(summary, where)
        for row, measure in enumerate(measures):
            axes = grid[row][column]
            for number, value in enumerate(values):
                line = (here if colour is None else _only(here, {colour: value})).sort_values(x)
                _line(axes, line, x, f"{measure}.mean", f"{measure}.half", f"C{number}", "-")
            axes.grid(alpha=0.3)
            axes.set_ylim(*_limits(summary, measure))
            if measure == "final_test_acc":
                axes.axhline(here["dense_test_acc.mean"].mean(), color="0.4", linewidth=1)
            if column == 0:
                axes.set_ylabel(MEASURES[measure], fontsize=9)
        grid[0][column].set_title(", ".join(f"{short(key)} {value}" for key, value in where.items()), fontsize=10)
        grid[-1][column].set_xlabel(short(x))
    handles = [Line2D([], [], color="0.4", label="dense network")]
    if colour:
        handles += [Line2D([], [], color=f"C{i}", label=f"{short(colour)} {value}") for i, value in enumerate(values)]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(2, len(wheres) + 1), fontsize=9, frameon=False)
    return figure


def draw_areas(summary: pd.DataFrame, colour: str, shape: str | None) -> Figure:
    """Draw accuracy against how much of the image a neuron keeps, a point for each setting, hollow where neurons died.

    Args:
        summary: rows with the columns below, and ``.mean`` and ``.half`` of ``final_test_acc``, ``median_area``,
            ``alive``, ``neurons`` and ``dense_test_acc``.
        colour: the column that colours points.
        shape: the column that shapes them, if any; what else tells settings apart is not shown.
    """
    figure = Figure(figsize=(9.5, 5.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    values = [sorted(map(plain, summary[name].unique()), key=sort_key) if name else [] for name in (colour, shape)]
    colours = {value: f"C{number % 10}" for number, value in enumerate(values[0])}
    shapes = {value: "osD^v<>PX*"[number % 10] for number, value in enumerate(values[1])}
    for row in summary.to_dict("records"):
        own = colours[plain(row[colour])]
        axes.errorbar(
            row["median_area.mean"],
            row["final_test_acc.mean"],
            yerr=0.0 if pd.isna(row["final_test_acc.half"]) else row["final_test_acc.half"],
            fmt=shapes[plain(row[shape])] if shape else "o",
            color=own,
            markerfacecolor=own if row["alive.mean"] == row["neurons.mean"] else "none",
            elinewidth=0.6,
            markersize=6,
        )
    dense = summary["dense_test_acc.mean"].mean()
    axes.axhline(dense, color="0.4", linewidth=1)
    _logarithmic(axes)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.set_ylim(max(0.0, dense - 0.06), min(1.0, dense + 0.025))  # what falls far below is in the table
    axes.grid(alpha=0.3)
    axes.set_xlabel("median share of the image that a living neuron keeps")
    axes.set_ylabel("test accuracy after retraining")
    marks: list[tuple[str, dict[str, Any]]] = [
        (str(value), {"color": own, "marker": "o"}) for value, own in colours.items()
    ]
    for value, mark in shapes.items():
        marks.append((f"{str(shape).rpartition('.')[2]} {value}", {"color": "0.4", "marker": mark}))
    marks.append(("hollow: not all neurons live", {"color": "0.4", "marker": "o", "markerfacecolor": "none"}))
    handles = [Line2D([], [], linestyle="", label=label, **look) for label, look in marks]
    handles.append(Line2D([], [], color="0.4", label="dense network"))
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)
    return figure


def draw_costs(summary: pd.DataFrame, facets: Sequence[str], lines: Sequence[str], criteria: Sequence[str]) -> Figure:
    """Draw accuracy against size and speed of the compact networks, a row of panels for each combination of facets.

    Args:
        summary: rows with the facets, ``final_test_acc.mean`` and ``.half``, ``dense_test_acc.mean``, and ``.mean`` of
            each of the costs.
        facets: columns whose combinations lie one below the other.
        lines: columns ``criterion`` and ``order``, whose combinations are lines; none for one line.
        criteria: all that there are, so that each has one colour in all figures.
    """
    wheres = _combinations(summary, facets)
    figure = Figure(figsize=(10.5, 1.0 + 2.9 * len(wheres)), dpi=100, layout="constrained")
    grid = figure.subplots(len(wheres), len(COSTS), sharex="col", sharey=True, squeeze=False)
    colours = {name: f"C{number}" for number, name in enumerate(criteria)}
    for panels, where in zip(grid, wheres, strict=True):
        here = _only(summary, where)
        for axes, (cost, label) in zip(panels, COSTS.items(), strict=True):
            axes.grid(alpha=0.3)
            _logarithmic(axes)
            for (name, order), line in here.groupby(list(lines), sort=False) if lines else [(("", "descending"), here)]:
                line = line.dropna(subset=[f"{cost}.mean"]).sort_values(f"{cost}.mean")  # noqa: PLW2901
                colour = colours.get(name, "C0")
                _line(axes, line, f"{cost}.mean", "final_test_acc.mean", "final_test_acc.half", colour, STYLES[order])
            axes.axhline(here["dense_test_acc.mean"].mean(), color="0.4", linewidth=1)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0) if cost == "size" else "{x:g}")
            if where == wheres[-1]:
                axes.set_xlabel(label)
        panels[0].set_ylabel(
            "\n".join(["test accuracy", *(f"{short(key)} {value}" for key, value in where.items())]), fontsize=9
        )
        panels[0].set_ylim(*_limits(summary, "final_test_acc"))
    handles = [Line2D([], [], color="0.4", label="dense network"), *(_legend(summary, colours) if lines else [])]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def draw_grains(summary: pd.DataFrame, grain: str, others: Sequence[str], criteria: Sequence[str]) -> Figure:
    """Draw accuracy against the share of the LSTM's multiply-adds saved, removed units and removed gates in one panel.

    A panel for each order; units are drawn solid, gates dotted. Each combination of others has its line.

    Args:
        summary: rows with ``grain``, ``criterion``, ``order``, ``saved.mean``, ``final_test_acc.mean`` and ``.half``,
            and ``dense_test_acc.mean``.
        grain: the column that says ``unit`` or ``gate``.
        others: further columns that tell runs apart.
        criteria: all that there are, so that each has one colour in all figures.
    """
    orders = [order for order in STYLES if order in set(summary["order"])]
    figure = Figure(figsize=(1.2 + 4.6 * len(orders), 4.6), dpi=100, layout="constrained")
    colours = {name: f"C{number}" for number, name in enumerate(criteria)}
    for axes, order in zip(figure.subplots(1, len(orders), sharey=True, squeeze=False)[0], orders, strict=True):
        here = summary[summary["order"] == order]
        for (name, size, *_), line in here.groupby(["criterion", grain, *others], sort=False, dropna=False):
            values = "final_test_acc.mean", "final_test_acc.half", colours[name], GRAINS[size]
            _line(axes, line.sort_values(f"{SAVED}.mean"), f"{SAVED}.mean", *values)
        axes.axhline(here["dense_test_acc.mean"].mean(), color="0.4", linewidth=1)
        axes.grid(alpha=0.3)
        axes.set_ylim(0, 1.02)
        axes.set_title({"descending": "highest scores first", "ascending": "lowest scores first"}[order], fontsize=10)
        axes.set_xlabel("share of the LSTM's multiply-adds saved")
    figure.axes[0].set_ylabel("test accuracy")
    present = set(summary["criterion"])
    handles = [Line2D([], [], color=c, label=name.replace("_", " ")) for name, c in colours.items() if name in present]
    handles += [
        Line2D([], [], color="0.3", linestyle="-", label="units"),
        Line2D([], [], color="0.3", linestyle=":", label="gates"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _logarithmic(axes: Axes) -> None:
    """A horizontal axis with its ticks at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())


def _limits(summary: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Around the means of a share; wider intervals are cut."""
    names = [f"{measure}.mean", *(["dense_test_acc.mean"] if "dense_test_acc.mean" in summary else [])]
    names = names if measure == "final_test_acc" else names[:1]
    return max(-0.02, summary[names].min().min() - 0.05), min(1.02, summary[names].max().max() + 0.05)


def short(key: str) -> str:
    """A config key's last words, for labels.

    Example:
        >>> short("callbacks.l2_mask.rate"), short("model.regularization"), short("seed")
        ('l2_mask rate', 'regularization', 'seed')
    """
    parts = key.split(".")
    return " ".join(parts[-2:]) if len(parts) > 2 else parts[-1]


def _panels(summary: pd.DataFrame, facets: Sequence[str]) -> tuple[Figure, list[tuple[dict[str, Any], Axes]]]:
    """A figure with a panel for each combination; those of the first facet lie side by side."""
    wheres = _combinations(summary, facets)
    across, down = _combinations(summary, facets[:1]), _combinations(summary, facets[1:])
    figure = Figure(figsize=(1.2 + 4.3 * len(across), 1.0 + 3.6 * len(down)), dpi=100, layout="constrained")
    grid = figure.subplots(len(down), len(across), sharex=True, sharey=True, squeeze=False)
    panels = []
    for row, below in zip(grid, down, strict=True):
        for axes, beside in zip(row, across, strict=True):
            where = {**beside, **below}
            axes.grid(alpha=0.3)
            axes.set_visible(where in wheres)
            if where in wheres:
                panels.append((where, axes))
    return figure, panels


def _combinations(summary: pd.DataFrame, facets: Sequence[str]) -> list[dict[str, Any]]:
    if not facets:
        return [{}]
    ordered = [*facets[1:], facets[0]]
    # "none" before any other word, numbers as such.
    rows = summary[ordered].drop_duplicates().sort_values(ordered, key=lambda column: column.map(sort_key))
    return [{key: plain(row[key]) for key in facets} for row in rows.to_dict("records")]


def _only(table: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    for key, value in where.items():
        table = table[table[key].isna()] if pd.isna(value) else table[table[key] == value]
    return table


def _line(
    axes: Axes,
    line: pd.DataFrame,
    x: str,
    mean: str,
    half: str,
    colour: str,
    style: Literal["-", "--", ":"],
    shift: float = 0.0,
) -> None:
    """A line with bars for its intervals, ``shift`` to the right so that lines do not hide each other's bars."""
    spread = line[half].fillna(0.0).to_numpy(float)
    drawn = axes.errorbar(
        line[x].to_numpy(float) + shift,
        line[mean].to_numpy(float),
        spread,
        color=colour,
        linestyle=style,
        linewidth=1.5,
        elinewidth=0.6,
        marker="o",
        markersize=3,
    )
    for bar in drawn[2]:
        bar.set_alpha(0.45)
