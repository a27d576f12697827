"""A sweep's report in Markdown: whether it is whole, and tables with n."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from prunekit.app.control import CONTROLS
from prunekit.app.reports.collect import COUNTS, Runs, missing, plain
from prunekit.app.reports.labels import CRITERION, short
from prunekit.app.reports.run import ORDER, RATE, SEED, Columns
from prunekit.app.reports.summary import COSTS, groups, only

SHOWN_MISSING = 30
MEANINGS = {  # of columns
    "dense": "the network before the first pruning",
    "pruned": "right after the last pruning, before it was retrained",
    "final": "in the end",
    "sparsity": "share of weights gone",
    "at_least_90": "share of neurons that lost 90 % of their weights or more",
    "at_most_40": "that lost 40 % or less",
    "alive": "how many neurons keep a weight",
    "median_area": "median share of the image that a living neuron keeps",
    "upper_area": "its 90th percentile",
    "regions": "how many regions are left",
    "median_region": "weights in the median region",
}


def state(runs: Runs) -> list[str]:
    """Whether the sweep is whole, and if not what is missing."""
    absent = missing(runs)
    problems = [f"- {problem}" for problem in runs.problems]
    if absent is None:
        return ["Too many combinations to see which are missing.", "", *problems, ""]
    if not absent and not problems:
        return ["All combinations of the values seen have a result.", ""]
    lines = ["**Incomplete.**", "", *problems]
    if absent:
        lines.append(f"- {len(absent)} combinations of the values seen have no result:")
        grouped = _grouped(absent)
        lines += [f"  - {group}" for group in grouped[:SHOWN_MISSING]]
        lines += [f"  - and {len(grouped) - SHOWN_MISSING} more such lines"] * (len(grouped) > SHOWN_MISSING)
    return [*lines, ""]


def _grouped(absent: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is absent, seeds and then rates of otherwise equal combinations on one line."""
    found = [{key: (value,) for key, value in row.items()} for row in absent]
    for together in (SEED, RATE) if RATE in absent[0] else (SEED,):
        merged: dict[Any, dict[str, tuple[Any, ...]]] = {}
        for group in found:
            others = tuple((key, values) for key, values in group.items() if key != together)
            known = merged.setdefault(others, {**group, together: ()})
            known[together] += group[together]
        found = list(merged.values())
    return [" ".join(f"{key}={','.join(map(str, values))}" for key, values in group.items()) for group in found]


def unit_tables(
    summary: pd.DataFrame,
    dense: pd.DataFrame | None,
    facets: Sequence[str],
    title: str,
    share: bool = True,
    least: float = 0.0,
) -> list[str]:
    """A table of criteria and orders by rates, for each combination of the facets' values.

    Args:
        summary: rows with the facets, ``criterion``, ``order``, ``rate``, ``mean``, ``half`` and ``n``.
        facets: columns.
        dense: the same of the dense networks, told above each table; None for nothing.
        title: over all of them.
        share: whether the values are shares, or differences of such, to be told in percent.
        least: that a share can be; -1 of differences.
    """
    cell = partial(_cell, least=least) if share else _plain_cell
    lines = [
        f"## {title}",
        "",
        "Mean and 95 % t-interval over seeds; n is their number. ascending: the lowest scores go first.",
        "",
    ]
    for key, part in groups(summary, facets):
        where = dict(zip(facets, key, strict=True))
        if facets:
            lines += ["### " + ", ".join(f"{short(name)} {plain(value)}" for name, value in where.items()), ""]
        if dense is not None:
            lines += [f"Dense: {cell(*only(dense, where).iloc[0][['mean', 'half', 'n']])}", ""]
        rates = sorted(part[RATE].unique())
        lines += markdown_head(["criterion", "order", "n", *(f"{100 * rate:g} % removed" for rate in rates)])
        for (criterion, order), line in groups(part, [CRITERION, ORDER]):
            cells = {row[RATE]: cell(row["mean"], row["half"]) for row in line.to_dict("records")}
            least, most = line["n"].min(), line["n"].max()
            n = str(least) if least == most else f"{least} to {most}"
            way = "" if criterion in CONTROLS.values() else order
            lines.append(f"| {' | '.join([criterion, way, n, *(cells.get(rate, '') for rate in rates)])} |")
        lines.append("")
    return lines


def setting_table(
    summary: pd.DataFrame, axes: Sequence[str], measures: Sequence[str], plainly: Sequence[str] = ()
) -> list[str]:
    """A table with a row for each setting and a column for each measure, in % but for counts and those told plainly."""
    counted = ", ".join(name.replace("_", " ") for name in measures if name in COUNTS or name in plainly)
    which = f"In % but for {counted}" if counted else "In %"
    meant = [f"{name.replace('_', ' ')}: {words}" for name, words in MEANINGS.items() if name in measures]
    meant = [f"{when}: {MEANINGS[when]}" for when in _networks(measures)] + meant
    lines = ["## Results", "", f"{which}; means with 95 % t-intervals over seeds, of which n is the number.", ""]
    lines += [f"{'; '.join(meant)}.", ""]
    lines += markdown_head([*map(short, axes), *(name.replace("_", " ") for name in measures), "n"])
    for row in summary.to_dict("records"):
        cells = [_word(key, plain(row[key])) for key in axes]
        for name in measures:
            mean, half = row[f"{name}.mean"], row[f"{name}.half"]
            if name in plainly:
                cells.append(_plain_cell(mean, half))
            else:
                cells.append(_cell(mean, half) if name not in COUNTS else _plain_count(mean, half))
        lines.append(f"| {' | '.join([*cells, str(row['n'])])} |")
    return [*lines, ""]


def _networks(measures: Sequence[str]) -> list[str]:
    """Which networks a table's columns are of, such as ``dense`` of ``dense_test_acc``."""
    return [when for when in Columns._fields if any(name.startswith(f"{when}_test_") for name in measures)]


def _word(key: str, value: Any) -> str:
    return "none: pruned" if key == "control" and value is None else str(value)


def cost_table(summary: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """A table of what compact networks cost against their dense ones, a row for each setting."""
    lines = ["## Cost of the networks that were cut to size, against the dense ones", ""]
    names = ["bytes on disk", "fewer multiply-adds", "faster, batch of 1", "faster, batch of 64"]
    lines += markdown_head([*map(short, by), *names, "n"])
    for row in summary.to_dict("records"):
        times = ["" if math.isnan(row[f"{name}.mean"]) else f"{row[f'{name}.mean']:.1f}x" for name in COSTS[1:]]
        cells = [*(str(plain(row[key])) for key in by), f"{row['size.mean']:.1%}", *times, str(row["n"])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def markdown_head(names: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]


def _cell(mean: float, half: float, n: float | None = None, least: float = 0.0) -> str:
    """In percent, empty if not known; an interval beyond what a share can be ends there, which covers as often."""
    if math.isnan(mean):
        return ""
    spread = "" if math.isnan(half) else f" ± {100 * half:.1f}"
    if not math.isnan(half) and (mean - half < least or mean + half > 1):
        spread = f" ({100 * max(least, mean - half):.1f} to {100 * min(1.0, mean + half):.1f})"
    return f"{100 * mean:.1f}{spread}" + (f" (n={n:.0f})" if n is not None else "")


def _plain_count(mean: float, half: float) -> str:
    """A count, to one decimal."""
    return "" if math.isnan(mean) else f"{mean:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")


def _plain_cell(mean: float, half: float, n: float | None = None) -> str:
    """What is no share, such as a perplexity, as it is."""
    spread = "" if math.isnan(half) else f" ± {half:.3g}"
    return f"{mean:.4g}{spread}" + (f" (n={n:.0f})" if n is not None else "")
