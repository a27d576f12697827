"""Whole recognisers that read streams: how good they are, what a frame takes of them, and which are not outdone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from prunekit.app.control import CONTROLS
from prunekit.app.reports.collect import Runs, plain
from prunekit.app.reports.labels import CRITERION, short
from prunekit.app.reports.run import ORDER, RATE
from prunekit.app.reports.summary import groups, only, summarize

PARTS = ("decoding", "backbone", "network")
TOLERATED = 0.01  # of accuracy
NEAR = 1e-9  # what means over seeds are rounded by
ACCURACY = "accuracy"
MEAN, HALF = "accuracy.mean", "accuracy.half"


def recognizers(runs: Runs) -> pd.DataFrame:
    """The dense and the pruned recognisers of runs on clips, a row each: means over seeds, and medians of times.

    Returns:
        The axes, ``criterion``, ``order`` and ``rate`` (0 of a dense network, whose other settings of callbacks are
        None), ``accuracy.mean``, ``.half`` and ``n``; milliseconds of ``decoding``, ``backbone`` and ``network``, and
        their sum ``frame``; and ``second``, that for all frames that are looked at in a second. Empty without any.
    """
    if "frame_every" not in runs.times or not runs.metric.share:
        return pd.DataFrame()
    own = [name for name in runs.times if name.startswith("frame_")]
    table = runs.table.merge(runs.times[["config_hash", *own]], on="config_hash").dropna(subset=["frame_every"])
    if CRITERION in table:
        table = table[~table[CRITERION].isin(CONTROLS.values())]
    nothing = dict.fromkeys([CRITERION, ORDER, *(key for key in runs.axes if key.startswith("callbacks."))])
    made = [_networks(table.assign(**nothing, **{RATE: 0.0}), runs.axes, runs.names.dense, "dense")]
    if "frame_compact" in table and CRITERION in table:
        made.append(_networks(table.dropna(subset=["frame_compact"]), runs.axes, runs.names.final, "compact"))
    return pd.concat([each for each in made if not each.empty], ignore_index=True)


def _networks(table: pd.DataFrame, axes: Sequence[str], metric: str, network: str) -> pd.DataFrame:
    by = [*axes, CRITERION, ORDER, RATE]
    rows = []
    for key, group in groups(table.assign(**{ACCURACY: table[metric]}), by):
        times = 1000 * group[["frame_decoding", "frame_backbone", f"frame_{network}"]].median()
        row = dict(zip(by, key, strict=True)) | dict(zip(PARTS, times, strict=True)) | {"frame": times.sum()}
        row |= {"second": times.sum() / group["frame_every"].median()}
        rows.append(row | summarize(group, [], [ACCURACY]).iloc[0].to_dict())
    return pd.DataFrame(rows)


def on_front(cost: Sequence[float], good: Sequence[float]) -> list[bool]:
    """Which points are not outdone: no other one costs as little and is better, or costs less and is as good.

    Example:
        >>> on_front([1.0, 2.0, 2.0, 3.0, 4.0], [0.5, 0.8, 0.7, 0.8, 0.9])
        [True, True, False, False, True]
    """
    found, best = [False] * len(cost), -np.inf
    for place in sorted(range(len(cost)), key=lambda at: (cost[at], -good[at])):
        if good[place] > best:
            found[place], best = True, good[place]
    return found


def chosen(found: pd.DataFrame, axes: Sequence[str]) -> dict[int, list[str]]:
    """The rows to tell of, and why: the dense recogniser, its network pruned, the cheapest ones, the fronts.

    The dense recogniser is the one that takes most of a second of video: accuracies on test data do not choose it.
    """
    dense = found[found[RATE] == 0.0]["second"].idxmax()
    kept = found[found[MEAN] >= found.loc[dense, MEAN] - TOLERATED - NEAR]
    said: dict[int, list[str]] = {dense: ["dense"]}
    backbone = [key for key in axes if not key.startswith("callbacks.")]
    pruned = only(found, {key: found.loc[dense, key] for key in backbone})
    pruned = pruned[pruned[RATE] > 0.0]
    if not pruned.empty:
        near = pruned[pruned.index.isin(kept.index)]
        best = near["frame"].idxmin() if not near.empty else pruned[MEAN].idxmax()
        said.setdefault(best, []).append("network alone pruned")
    for cost, words in (("frame", "a frame"), ("second", "a second")):
        said.setdefault(kept[cost].idxmin(), []).append(f"within 1 point, least {words}")
        for place in found.index[on_front(found[cost].tolist(), found[MEAN].tolist())]:
            said.setdefault(place, []).append(f"front {words}")
    return said


def frame_table(found: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """A table of the fronts, and of what they are to be held against."""
    said = chosen(found, axes)
    words = (
        "Medians of one thread's milliseconds at work: decoding (of frames in between too), backbone, recurrent "
        "network with its head, their sum, and that for a second of video. Points lost are against the dense one."
    )
    settings = [*axes, CRITERION]
    head = ["", *map(short, settings), "removed", "accuracy", "points lost", *PARTS, "ms a frame", "ms a second", "n"]
    lines = ["## Whole recognisers, a frame at a time", "", words, ""]
    lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    dense = found.loc[next(place for place, why in said.items() if "dense" in why)]
    for place in sorted(said, key=lambda place: -found.loc[place, "second"]):
        row = found.loc[place]
        half = "" if np.isnan(row[HALF]) else f" ± {100 * row[HALF]:.1f}"
        lost = 100 * (dense[MEAN] - row[MEAN])
        cells = [
            "; ".join(said[place]),
            *(str(plain(row[key]) or "") for key in settings),
            f"{row[RATE]:.1%}",
            f"{100 * row[MEAN]:.1f}{half}",
        ]
        cells += [f"{lost:.1f}", *(f"{row[part]:.2f}" for part in (*PARTS, "frame")), f"{row['second']:.0f}"]
        lines.append(f"| {' | '.join([*cells, str(int(row['n']))])} |")
    return [*lines, ""]
