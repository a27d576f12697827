"""The door to a sweep's results: ``prunekit report FOLDER`` makes tables and figures of a folder of runs.

A sweep's own folder, ``runs/sweeps/TIME``, stands for the runs of its jobs.
"""

import argparse
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from prunekit.app.control import CONTROLS
from prunekit.app.door import errors_told
from prunekit.app.naming import run_folder
from prunekit.app.reports.collect import MEASURES, Runs, collect, pooled
from prunekit.app.reports.cost_figures import draw_costs, draw_training
from prunekit.app.reports.figures import draw_areas, draw_grains, draw_settings, draw_units
from prunekit.app.reports.frame_figures import of_frames
from prunekit.app.reports.html_page import run_page, sweep_page
from prunekit.app.reports.labels import CRITERION, SEGMENTATION, short
from prunekit.app.reports.page import bokeh_there
from prunekit.app.reports.run import CONFIG, ORDER, RATE, SAVED, SEED, TRAINING
from prunekit.app.reports.summary import CONTROL, COSTS, costs, differences, groups, losses, summarize, unnamed
from prunekit.app.reports.text import cost_table, setting_table, state, unit_tables
from prunekit.app.reports.writing import save_figure, write_text
from prunekit.digests import digest

MOST_PANELS = 12  # side by side
FOLLOWS = ("compensation", "retrain_epochs", "rounds")  # on the choice of units
LONGEST_NAME = 150  # characters of a folder's: file systems take 255 bytes
SPARSITY, AREA = "sparsity", "median_area"

log = logging.getLogger("prunekit")


def report(folder: Path, out: Path, pool: Sequence[str] = (), page: bool = False) -> list[Path]:
    """Write the report of a folder of runs.

    Args:
        folder: holds runs of one experiment, however deep; or a sweep's, for those of its jobs.
        out: a folder for ``report.md``, ``results.csv``, ``times.csv``, figures as PNG and SVG and ``tensorboard/``.
        pool: config keys whose values count as repetitions, as seeds do.
        page: whether to write ``report.html`` too, which can be sent by itself; of one run it is that run's.

    Returns:
        What was written.

    Raises:
        ArgumentError: if there are no finished runs, or runs of several experiments.
    """
    if page:
        bokeh_there()
    runs = collect(folder)
    if runs.problems:
        log.warning(
            "not all is in the report, which says why in a line each (%d): %s", len(runs.problems), runs.problems[0]
        )
    written = [out / "results.csv", out / "times.csv"]
    for path, table in zip(written, (runs.table, runs.times), strict=True):
        write_text(path, table.to_csv(index=False, lineterminator="\n"))
    head = [f"# {runs.experiment}: {runs.table['config_hash'].nunique()} runs", "", *state(runs)]
    if pool:
        runs = pooled(runs, pool)
        head += [f"Each value of {' and '.join(pool)} counts as a repetition, as each seed does; n counts both.", ""]
    part = _of_units if CRITERION in runs.table else _of_settings
    text, figures = part(runs, out / "tensorboard")
    of_whole, drawn = of_frames(runs)
    text, figures = [*text, *of_whole], figures | drawn
    for name, figure in figures.items():
        figure.suptitle(runs.experiment, x=0.01, ha="left", fontsize=8, color="0.4")
        written += save_figure(figure, out / name)
        text += ["", f"![{name}]({name}.png)"]
    constant = [f"{key}={value}" for key, value in runs.constant.items()]
    tail = ["", "<details><summary>The same in all runs</summary>", "", "```", *constant, "```", "</details>", ""]
    write_text(out / "report.md", "\n".join([*head, *text, *tail]))
    if page:
        one = (folder / CONFIG).exists()
        pictures = [path for path in written if path.suffix == ".png"]
        content = run_page(folder) if one else sweep_page(folder, runs, [*head, *text], pictures)
        written.append(write_text(out / "report.html", content))
    return [out / "report.md", *written]


def _of_units(runs: Runs, tensorboard: Path) -> tuple[list[str], dict[str, Figure]]:
    facets = sorted(runs.axes, key=lambda key: key != "model.regularization")  # regularisations lie side by side
    by = [*facets, CRITERION, ORDER, RATE]
    networks = runs.table.drop_duplicates([*facets, SEED])
    metric, names = runs.metric, runs.names
    share, plain = (
        metric.share,
        "" if metric.share else f"; {'higher' if metric.higher_is_better else 'lower'} is better",
    )
    dense = unnamed(summarize(networks, facets, [names.dense]), names.dense)
    summary = unnamed(summarize(runs.table, by, [names.final]), names.final)
    curves(summary, by[:-1], RATE, ["mean", "half"], tensorboard)
    criteria = sorted(summary[CRITERION].unique())
    named = metric.name.replace(" ", "_")
    figures = {named: draw_units(summary, facets, dense, f"test {metric.name}", criteria, share)}
    pruning = {key.removesuffix(".rounds") for key in (*runs.constant, *runs.axes) if key.endswith(".rounds")}
    ends = [f"{node}.{name}" for node in sorted(pruning) for name in FOLLOWS]
    followed = [key for key in ends if key in runs.constant]
    text = [
        f"In each row, but for controls: {', '.join(f'{short(key)} {runs.constant[key]}' for key in followed)}.",
        "",
    ] * bool(followed)
    text += unit_tables(summary, dense, facets, f"Test {metric.name}{' in %' if share else plain}", share)
    for grain in [key for key in facets if set(runs.table[key]) <= {"unit", "gate"}][:1] if SAVED in runs.table else []:
        of_saved = summarize(runs.table, by, [names.final, names.dense, SAVED])
        others = [key for key in facets if key != grain]
        figures["grains"] = draw_grains(of_saved, grain, others, criteria, metric)
    points = f"Points of {metric.name}" if share else f"Test {metric.name}"
    title = f"{points} against the dense network, paired{plain}"
    text += unit_tables(losses(runs.table, facets, names), None, facets, title, share, least=-1)
    if TRAINING in runs.table and set(CONTROLS.values()) & set(criteria):
        others = [key for key in facets if not key.endswith(".retrain_epochs")]
        paid = summarize(runs.table, by, [names.final, names.dense, TRAINING]).dropna(subset=[f"{TRAINING}.mean"])
        figures["training"] = draw_training(paid.sort_values(f"{TRAINING}.mean"), others, criteria, metric)
    priced = costs(runs)
    if not priced.empty:
        prices = summarize(priced, by, [names.final, names.dense, *COSTS])
        figures["costs"] = draw_costs(prices, facets, [CRITERION, ORDER], criteria, metric)
        text += cost_table(summarize(priced, [*facets, RATE], COSTS), [*facets, RATE])
    for control in CONTROLS.values():
        if not (against := differences(runs.table, facets, names, control)).empty:
            title = f"{points} against {control}, paired by seed{plain}"
            text += unit_tables(against, None, facets, title, share, least=-1)
    against = differences(runs.table, facets, names)
    if not against.empty:
        label = f"test {metric.name}, less that of random order"
        figures["difference"] = draw_units(against, facets, None, label, criteria, share)
        title = f"{points} against random order, paired by seed{plain}"
        text += unit_tables(against, None, facets, title, share, least=-1)
    elif criteria != [CONTROL]:
        text += [f"No random order: run criterion={CONTROL} as well to see what the criteria are worth.", ""]
    return text, figures


def _of_settings(runs: Runs, tensorboard: Path) -> tuple[list[str], dict[str, Figure]]:
    names = runs.names
    measures = [*names, *(name for name in MEASURES if name in runs.table)]
    at = measures.index(SPARSITY) + 1
    measures[at:at] = [name for name in runs.table if str(name).startswith(f"{SPARSITY}.")]
    summary = summarize(runs.table, runs.axes, measures)
    text = setting_table(summary, runs.axes, measures, () if runs.metric.share else names)
    priced, figures = costs(runs), {}
    if not priced.empty:
        priced = summarize(priced, runs.axes, [names.final, names.dense, *COSTS])
        figures["costs"] = draw_costs(priced, [], [], [], runs.metric)
        text += cost_table(priced, runs.axes)
    if AREA in measures and runs.axes and runs.table[AREA].max() > 0:
        # What a region is and how it is ranked come first: that is what the figure is about.
        by = sorted(runs.axes, key=lambda key: (key != SEGMENTATION, not key.endswith(".index")))
        counted = summarize(runs.table, runs.axes, [*measures, "neurons"])
        figures["areas"] = draw_areas(counted, by[0], next(iter(by[1:]), None))

    def place(key: str) -> tuple[bool, bool]:
        """Rates of callbacks come first, and of these the rates of regions of images."""
        node, _, last = key.rpartition(".")
        return last != RATE or not node.startswith("callbacks."), f"{node}.image_shape" not in runs.constant

    numeric = sorted((key for key in runs.axes if all(_is_number(value) for value in summary[key])), key=place)
    if not numeric:
        return text, figures
    x, colour = numeric[0], next(iter(numeric[1:]), None)
    columns = [f"{name}.{part}" for name in measures for part in ("mean", "half")]
    curves(summary, [key for key in runs.axes if key != x], x, columns, tensorboard)
    facets = [key for key in runs.axes if key not in (x, colour)]
    if facets and len(summary.drop_duplicates(facets)) > MOST_PANELS:
        return [*text, f"No settings.png: it would have more than {MOST_PANELS} columns of panels.", ""], figures
    return text, {"settings": draw_settings(summary, facets, x, colour, runs.metric), **figures}


def curves(summary: pd.DataFrame, by: Sequence[str], x: str, columns: Sequence[str], folder: Path) -> None:
    """Write a TensorBoard run for each combination of ``by``.

    Its step is ``x``: in percent if it is a rate or not whole everywhere.
    """
    for old in folder.rglob("events.out.tfevents.*"):
        old.unlink()
    percent = x.rpartition(".")[2] == RATE or any(value != round(value) for value in summary[x])
    for key, line in groups(summary, by):
        name = "_".join(_word(part) for part in key) or "all"
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}_{digest(name)}"
        with SummaryWriter(str(folder / name)) as writer:
            for row in line.sort_values(x).to_dict("records"):
                for column in columns:
                    if not math.isnan(row[column]):
                        writer.add_scalar(f"sweep/{column}", row[column], round(100 * row[x] if percent else row[x]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _word(value: object) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^\w.=+-]+", "-", str(value)).rstrip("-")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command and write the report."""
    parser = argparse.ArgumentParser(prog="prunekit report", description="Tables and figures of a folder of runs.")
    parser.add_argument("folder", type=run_folder, help="holds runs of one experiment, such as runs/ucf101_te")
    parser.add_argument("--out", type=Path, help="a folder for the report; default: FOLDER/report")
    words = "take a key's values for repetitions"
    parser.add_argument("--pool", action="append", default=[], metavar="KEY", help=words)
    words = "write report.html as well: one page that can be sent, with drawings that answer to the mouse"
    parser.add_argument("--html", action="store_true", help=words)
    given = parser.parse_args(arguments)
    with errors_told():
        written = report(given.folder, given.out or given.folder / "report", given.pool, given.html)
        print(*written, f"read first: {written[-1] if given.html else written[0]}", sep="\n")


if __name__ == "__main__":
    main()
