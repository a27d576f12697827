"""Whole recognisers in one picture: accuracy against what a frame takes, and against what a second of video takes."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prunekit.app.reports.collect import Runs
from prunekit.app.reports.frames import MEAN, frame_table, on_front, recognizers
from prunekit.app.reports.panels import draw_legend, in_words, make_logarithmic, new_grid
from prunekit.app.reports.run import RATE
from prunekit.app.reports.summary import combinations, only

COSTS = {"frame": "ms a frame, one thread", "second": "ms a second of video, one thread"}


def draw_frames(found: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """Draw accuracy against what a frame takes and what a second takes, with the front of each.

    Args:
        found: as :func:`recognizers` gives it.
        axes: keys that differ; those of callbacks, as the rates, have no colours of their own.
    """
    wheres = combinations(found, [key for key in axes if not key.startswith("callbacks.")])
    figure, grid = new_grid(1, len(COSTS), 4.6, 3.6, sharey=True)
    for (cost, label), panel in zip(COSTS.items(), grid.flat, strict=True):
        for number, where in enumerate(wheres):
            here = only(found, where)
            for dense in (True, False):
                points = here[(here[RATE] == 0.0) == dense]
                face = "none" if dense else f"C{number}"
                look = {"color": f"C{number}", "markerfacecolor": face, "marker": _marker(number), "linestyle": ""}
                panel.plot(points[cost], points[MEAN], markersize=5, **look)
        front = found[on_front(found[cost].tolist(), found[MEAN].tolist())].sort_values(cost)
        panel.step(front[cost], front[MEAN], where="post", color="0.4", linewidth=1, zorder=0)
        make_logarithmic(panel)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
        panel.set_ylim(top=min(1.005, panel.get_ylim()[1]))
        panel.set(xlabel=label, ylabel="test accuracy")
        panel.label_outer()
    looks = [(in_words(where) or "pruned", {"color": f"C{number}", "marker": _marker(number), "linestyle": ""})
             for number, where in enumerate(wheres)]  # fmt: skip
    hollow = {"color": "0.3", "marker": "o", "markerfacecolor": "none", "linestyle": ""}
    draw_legend(
        figure,
        [
            ("front: nothing else is as good\nand as cheap", {"color": "0.4", "linewidth": 1}),
            ("hollow: not pruned", hollow),
            *looks,
        ],
        beside=True,
    )
    return figure


def _marker(number: int) -> str:
    """Another one for each ten colours."""
    return "os^Dv"[number // 10 % 5]


def of_frames(runs: Runs) -> tuple[list[str], dict[str, Figure]]:
    """The part of a report that is on whole recognisers; nothing where runs have no streams to tell of."""
    found = recognizers(runs)
    if len(found) < 2:
        return [], {}
    return frame_table(found, runs.axes), {"frames": draw_frames(found, runs.axes)}
