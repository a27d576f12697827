"""Panels of a report's figures: lines with intervals, legends, axes; each criterion in one colour everywhere."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from prunekit.app.control import CONTROLS
from prunekit.app.reports.labels import CRITERION, short
from prunekit.app.reports.run import Columns

FEW = 10  # as many as matplotlib has colours
MOST_LEVELS = 4  # dense networks that have a line each
OF_CONTROLS = "-."  # which have no scores, so no order of them
MARKER_OF_CONTROLS = "D"
MARKERS = {"descending": "o", "ascending": "s", "unit": "o", "gate": "s"}
STYLES = {"descending": "-", "ascending": "--", "unit": "-", "gate": ":"}
WORDS = {"descending": "highest scores first", "ascending": "lowest scores first", "unit": "units", "gate": "gates"}
GREY: dict[str, Any] = {"color": "0.4", "linewidth": 1}
Looks = Sequence[tuple[str, Mapping[str, Any]]]  # labels of a legend, and how what they name is drawn


def new_grid(rows: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure of panels of a width and height in inches, and room for words around them."""
    figure = Figure(figsize=(1.2 + width * columns, 1.0 + height * rows), dpi=100, layout="constrained")
    grid = np.asarray(figure.subplots(rows, columns, squeeze=False, **shared))
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    return figure, grid


def draw_line(axes: Axes, line: pd.DataFrame, x: str, y: str = "", shift: float = 0.0, **look: Any) -> None:
    """A line of means with bars for their intervals, ``shift`` to the right so that bars do not hide each other."""
    line = line.sort_values(x)
    at, mean, half = (line[name].to_numpy(float) for name in (x, f"{y}mean", f"{y}half"))
    look = {"linewidth": 1.5, "elinewidth": 1.0, "capsize": 2, "marker": "o", "markersize": 4, **look}
    _, caps, bars = axes.errorbar(at + shift, mean, np.nan_to_num(half), **look)
    for bar in (*caps, *bars):
        bar.set_alpha(0.7)


def draw_dense(axes: Axes, here: pd.DataFrame, names: Columns) -> float:
    """A line at the dense networks' mean, or one each where they are different ones; their mean is returned.

    Rows of fewer networks than others have are of some of the same, whose mean would be another line.
    """
    most = here[here["n"] == here["n"].max()] if "n" in here else here
    levels = most[f"{names.dense}.mean"].dropna().round(6).unique()
    for level in levels if len(levels) <= MOST_LEVELS else [levels.mean()]:
        axes.axhline(level, **GREY)
    return float(levels.mean()) if len(levels) else math.nan


def make_logarithmic(axes: Axes) -> None:
    """A horizontal axis with its ticks at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())


def limits_of(summary: pd.DataFrame, measure: str, columns: Columns) -> tuple[float, float]:
    """Around a share's means and intervals."""
    names = [f"{name}." for name in (measure, *([columns.dense] if measure == columns.final else []))]
    least, most = reach(summary, names)
    return max(-0.02, least), min(1.02, most)


def reach(summary: pd.DataFrame, names: Sequence[str] = ("",)) -> tuple[float, float]:
    """From below the lowest to above the highest end of the intervals ``<name>mean`` and ``<name>half``."""
    halves = {name: summary[f"{name}half"].fillna(0) for name in names}
    least = min((summary[f"{name}mean"] - half).min() for name, half in halves.items())
    most = max((summary[f"{name}mean"] + half).max() for name, half in halves.items())
    return least - 0.05, most + 0.05


def look_of(criteria: Sequence[str], name: str, kind: str) -> dict[str, Any]:
    """A criterion's or control's colour, and the line and marker of what kind it is."""
    of_control = name in CONTROLS.values()
    line, marker = (OF_CONTROLS, MARKER_OF_CONTROLS) if of_control else (STYLES[kind], MARKERS[kind])
    return {"color": colour_of(criteria, name), "linestyle": line, "marker": marker}


def colour_of(criteria: Sequence[str], name: str) -> str:
    """A criterion's colour: of ten, or of twenty where there are more."""
    number = criteria.index(name)
    return f"C{number}" if len(criteria) <= FEW else str(to_hex(colormaps["tab20"](number % 20)))


def looks_of(criteria: Sequence[str], summary: pd.DataFrame, column: str) -> Looks:
    """A colour for each criterion and control that there is, a style for each of the column's values that there is."""
    control = summary[CRITERION].isin(CONTROLS.values())
    names, kinds = set(summary[CRITERION]), set(summary[~control][column])
    colours = [(name.replace("_", " "), {"color": colour_of(criteria, name)}) for name in criteria if name in names]
    styles = [(WORDS[kind], _grey(line, MARKERS[kind])) for kind, line in STYLES.items() if kind in kinds]
    return [*colours, *styles, *([("controls", _grey(OF_CONTROLS, MARKER_OF_CONTROLS))] if control.any() else [])]


def _grey(line: str, marker: str) -> dict[str, Any]:
    return {"color": "0.3", "linestyle": line, "marker": marker, "markersize": 4}


def draw_legend(figure: Figure, looks: Looks, beside: bool = False) -> None:
    """Below the panels, or beside them."""
    handles = [Line2D([], [], label=label, **look) for label, look in looks]
    longest = max(len(label) for label, _ in looks)
    columns = 1 if beside else max(1, int(figure.get_figwidth() / (0.6 + 0.075 * longest)))
    loc: Any = "outside right upper" if beside else "outside lower center"
    figure.legend(handles=handles, loc=loc, ncols=columns, fontsize=9, frameon=False)


def in_words(where: Mapping[str, Any]) -> str:
    """Which values of which keys, for a title."""
    said = {short(key): value for key, value in where.items() if value is not None}
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in said.items()
    )
