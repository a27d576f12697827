"""Drawings that answer to the mouse: a point says which run it is, a click on the legend hides a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource, DataTable, HoverTool, TableColumn
from bokeh.palettes import Category10_10, Category20_20
from bokeh.plotting import figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.app.identity import flat
from prunekit.app.reports.collect import Runs, plain
from prunekit.app.reports.labels import CRITERION, short
from prunekit.app.reports.page import Plot
from prunekit.app.reports.run import ORDER, RATE, SEED, TRAINING
from prunekit.app.reports.summary import groups, summarize

MOST_ROWS, MOST_PANELS, MOST_POINTS = 3_000, 12, 2_000
SIZE: dict[str, Any] = {"width": 820, "height": 380, "tools": "pan,wheel_zoom,box_zoom,reset,save"}
WHOLE = {"sizing_mode": "scale_width"}


def of_sweep(runs: Runs) -> list[Plot]:
    """The metric against rates or sparsity, against what training took, and a table of all rows to sort."""
    made = _lines(runs) if CRITERION in runs.table else [_scatter(runs, "sparsity", "sparsity of all weights, %", 100)]
    if TRAINING in runs.table and runs.table[TRAINING].nunique() > 1:
        made.append(_scatter(runs, TRAINING, "multiply-adds of training", 1, logarithmic=True))
    return [*made, _table(runs)]


def _lines(runs: Runs) -> list[Plot]:
    """A drawing for each combination of the axes' values, a line for each criterion and order."""
    by, name, scale = [*runs.axes, CRITERION, ORDER, RATE], runs.names.final, runs.metric.scale
    summary = summarize(runs.table, by, [name, runs.names.dense])
    looks = {key: number for number, (key, _) in enumerate(groups(summary, [CRITERION, ORDER]))}
    plots = []
    for where, part in list(groups(summary, runs.axes))[:MOST_PANELS]:
        title = ", ".join(f"{short(key)} {plain(value)}" for key, value in zip(runs.axes, where, strict=True))
        drawing = figure(x_axis_label="units removed, %", y_axis_label=_metric(runs), **SIZE, **WHOLE)
        for key, rows in groups(part, [CRITERION, ORDER]):
            line = rows.sort_values(RATE)
            mean, half = scale * line[f"{name}.mean"], (scale * line[f"{name}.half"]).fillna(0)
            top = (mean + half).clip(upper=100.0 if runs.metric.share else None)
            base = (mean - half).clip(lower=0.0 if runs.metric.share else None)
            data = {"rate": 100 * line[RATE], "mean": mean, "top": top, "base": base, "n": line["n"]}
            source = ColumnDataSource({**data, "who": [" ".join(map(str, key))] * len(line)})
            color = _colour(looks[key], len(looks))
            label = " ".join(map(str, key))
            drawing.line("rate", "mean", source=source, color=color, legend_label=label, line_width=2)
            drawing.scatter("rate", "mean", source=source, color=color, legend_label=label, size=6)
            drawing.segment("rate", "base", "rate", "top", source=source, color=color, alpha=0.4)  # the axis shows all
        dense = scale * float(part[f"{runs.names.dense}.mean"].mean())
        drawing.line([0, 100 * summary[RATE].max()], [dense, dense], color="#666", legend_label="dense network")
        tips = [("", "@who"), ("removed", "@rate %"), (runs.metric.name, "@mean{0.00}"), ("networks", "@n")]
        drawing.add_tools(HoverTool(tooltips=tips, mode="mouse"))
        plots.append(Plot(f"{_metric(runs)} against the rate{f': {title}' if title else ''}", _legend(drawing)))
    return plots


def _scatter(runs: Runs, x: str, label: str, times: float, logarithmic: bool = False) -> Plot:
    """A point for each run, ``times`` as far to the right as its value."""
    scale = runs.metric.scale
    kind = "log" if logarithmic else "linear"
    drawing = figure(x_axis_label=label, y_axis_label=_metric(runs), x_axis_type=kind, **SIZE, **WHOLE)
    keys = [key for key in runs.keys if key in runs.table]
    by = CRITERION if CRITERION in runs.table else next(iter(runs.axes), SEED)
    parts = list(groups(runs.table.dropna(subset=[x]), [by]))
    for number, (value, part) in enumerate(parts):
        data = {"x": (times * part[x]).to_list(), "y": (scale * part[runs.names.final]).to_list()}
        data |= {f"key{at}": [str(plain(v)) for v in part[key]] for at, key in enumerate(keys)}
        named = f"{short(by)} {plain(value[0])}" if number < 20 else "others"
        color = _colour(number, len(parts))
        drawing.scatter("x", "y", source=ColumnDataSource(data), size=7, color=color, legend_label=named)
    tips = [(label, "@x{0.[000]a}"), (runs.metric.name, "@y{0.00}")]
    tips += [(short(key), f"@key{at}") for at, key in enumerate(keys)]
    drawing.add_tools(HoverTool(tooltips=tips))
    return Plot(f"{_metric(runs)} against {label}", _legend(drawing))


def _colour(number: int, of: int) -> str:
    """Far apart where ten do."""
    palette = Category10_10 if of <= len(Category10_10) else Category20_20
    return str(palette[number % len(palette)])


def _legend(drawing: Any) -> Any:
    if drawing.legend:
        drawing.legend.click_policy = "hide"
        drawing.legend.label_text_font_size = "11px"
        drawing.add_layout(drawing.legend[0], "right")
    return drawing


def _metric(runs: Runs) -> str:
    return f"test {runs.metric.name}{', %' if runs.metric.share else ''}"


def _table(runs: Runs) -> Plot:
    """All rows, to be sorted by a click on a column's head."""
    shown = [*dict.fromkeys([*runs.keys, runs.names.dense, runs.names.final, "sparsity", "config_hash"])]
    table = runs.table[[name for name in shown if name in runs.table]].head(MOST_ROWS)
    data = {str(key): [_cell(plain(value)) for value in values] for key, values in table.items()}
    columns = [TableColumn(field=key, title=short(key)) for key in data]
    title = f"Runs: {len(table)} rows" if len(table) == len(runs.table) else (
        f"Runs: the first {len(table)} of {len(runs.table)} rows; results.csv has all"
    )  # fmt: skip
    how = {"height": min(420, 40 + 26 * len(table)), "index_position": None, "reorderable": False}
    return Plot(title, DataTable(source=ColumnDataSource(data), columns=columns, **how, **WHOLE))


def _cell(value: Any) -> Any:
    """A number that is sorted as one, and reads well; anything else as text."""
    return float(f"{value:.5g}") if isinstance(value, float) else value if isinstance(value, int) else str(value)


def of_run(folder: Path) -> list[Plot]:
    """The curves of one run, as TensorBoard has them."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": MOST_POINTS, "images": 1, "tensors": 1})
    reader.Reload()
    drawings = []
    for tag in sorted(reader.Tags()["scalars"]):
        points = sorted({event.step: event.value for event in reader.Scalars(tag)}.items())
        if len(points) < 2:
            continue
        drawing = figure(title=tag, x_axis_label="step", **{**SIZE, "height": 260}, **WHOLE)
        source = ColumnDataSource({"step": [step for step, _ in points], "value": [value for _, value in points]})
        drawing.line("step", "value", source=source, line_width=2)
        drawing.scatter("step", "value", source=source, size=5)
        drawing.add_tools(HoverTool(tooltips=[("step", "@step"), ("value", "@value{0.0000}")]))
        drawings.append(drawing)
    return [Plot("Curves", column(drawings, **WHOLE))] if drawings else []


def plain_values(results: Mapping[str, Any], parts: Sequence[str]) -> dict[str, str]:
    """What of results can stand in a table of two columns, under names with dots."""
    found = flat({part: results[part] for part in parts if results.get(part)})
    return {
        name: f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in found.items()
        if name and not isinstance(value, list | Mapping)
    }
