"""Unit pruning in pictures: accuracy or another metric against rate, and what the scores look like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from prunekit.metrics import ACCURACY, Metric

Values = NDArray[np.float64]
UNITS = {"transfer_entropy": "bits", "entropy": "bits", "reconstruction": "place in the order of removal"}


def draw_unit_curves(
    rows: Sequence[Mapping[str, Any]], metric: Metric = ACCURACY, compensation: str = "none"
) -> Figure:
    """Draw a metric against the rate of removed units: a colour a criterion, descending solid, ascending dashed.

    Args:
        rows: with ``criterion``, ``order``, ``rate`` and the metric as ``test_acc``.
        metric: what was measured.
        compensation: of what removed units said, for the title.

    Example:
        >>> row = {"criterion": "random", "order": "ascending", "rate": 0.5, "test_acc": 0.9}
        >>> draw_unit_curves([row]).axes[0].get_lines()[0].get_linestyle()
        '--'
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(row["criterion"] for row in rows)):
        for order, style in (("descending", "-"), ("ascending", "--")):
            said = f"test_{metric.key}"
            points = [(100 * r["rate"], r[said]) for r in rows if (r["criterion"], r["order"]) == (name, order)]
            if points:
                label, colour = f"{name.replace('_', ' ')}, {order}", f"C{number}"
                axes.plot(*zip(*sorted(points), strict=True), style, color=colour, marker="o", ms=3, label=label)
    repaired = "not repaired" if compensation == "none" else f"repaired ({compensation.replace('_', ' ')})"
    axes.set(
        xlabel="units removed (%)",
        ylabel=f"test {metric.name}",
        title=f"each choice of units by itself: {repaired}, not retrained",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def draw_scores(scores: Mapping[str, Values]) -> Figure:
    """Draw a histogram of each criterion's scores.

    Args:
        scores: name -> ``(units,)``.
    """
    figure = Figure(figsize=(3.6 * len(scores), 3), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True):
        axes.hist(values, bins=40)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set(xlabel=f"score ({UNITS[name]})" if name in UNITS else "score", ylabel="units")
    return figure


def draw_states(magnitude: Values, scores: Values, name: str) -> Figure:
    """Draw the mean ``|h|`` of every unit at every step, the units sorted by score, highest on top.

    Args:
        magnitude: ``(T, units)``.
        scores: ``(units,)``.
        name: the criterion's.
    """
    figure = Figure(figsize=(6, 7), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(-scores, kind="stable")
    image = axes.imshow(magnitude.T[order], aspect="auto", cmap="magma", interpolation="nearest", vmin=0)
    axes.set(xlabel="step", ylabel=f"units, by {name.replace('_', ' ')}, highest on top")
    figure.colorbar(image, label="mean |h| over training clips")
    return figure


def draw_scatter(scores: Mapping[str, Values], first: str) -> Figure:
    """Draw one criterion's scores against each other one's, a point a unit.

    Args:
        scores: name -> ``(units,)``.
        first: the one on the vertical axes.
    """
    others = [name for name in scores if name != first]
    figure = Figure(figsize=(3.6 * len(others), 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(others), squeeze=False, sharey=True)[0], others, strict=True):
        axes.scatter(scores[name], scores[first], s=4, alpha=0.5)
        axes.set_xlabel(_labelled(name))
        varied = np.ptp(scores[name]) > 0 and np.ptp(scores[first]) > 0
        correlation = f"{spearmanr(scores[name], scores[first]).statistic:.2f}" if varied else "none: constant"
        axes.set_title(f"rank correlation {correlation}", fontsize=9)
    figure.axes[0].set_ylabel(_labelled(first))
    return figure


def _labelled(name: str) -> str:
    """A criterion, and what its scores are if that has a name."""
    return name.replace("_", " ") + (f" ({UNITS[name]})" if name in UNITS else "")
