"""Accuracy or another metric, and sparsity, over epochs, with the pruning events marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from prunekit.metrics import ACCURACY, Metric


def draw_curves(
    rows: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]], part: str, metric: Metric = ACCURACY
) -> Figure:
    """Draw a run.

    Args:
        rows: one per epoch, with ``epoch``, the metric by its name, such as ``accuracy``, and ``sparsity``.
        events: pruning events, with ``name``, ``round``, ``epoch``, the metric as ``acc_after`` and ``sparsity``.
        part: what the metric was measured on, for the label.
        metric: what was measured.
    """
    figure = Figure(figsize=(9, 5.5), dpi=100)  # in TensorBoard it is first seen at a third of its size
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    figure.subplots_adjust(0.13, 0.12, 0.98, 0.92, hspace=0.08)  # a layout engine would take as long as all the rest
    points = sorted(
        [(row["epoch"], 0, row[metric.name], row["sparsity"]) for row in rows]
        + [(event["epoch"], 1 + i, event[f"{metric.key}_after"], event["sparsity"]) for i, event in enumerate(events)]
    )
    epochs, _, values, sparsities = zip(*points, strict=True)
    top.plot(epochs, values, color="C0", marker="o", markersize=3)
    top.set_ylabel(f"{part} {metric.name}")
    bottom.plot(epochs, sparsities, color="C3", marker="o", markersize=3)
    bottom.set_ylabel("sparsity\n(of all weights)")
    bottom.set_ylim(-0.03, 1.03)
    bottom.set_xlabel("epochs done")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        for epoch in {event["epoch"] for event in events}:
            axes.axvline(epoch, color="0.4", linestyle=":", linewidth=1)
    for epoch in sorted({event["epoch"] for event in events}):
        names = [f"{event['name']} {event['round']}" for event in events if event["epoch"] == epoch]
        top.annotate(
            "\n".join(names),
            (epoch, 0.02),
            xycoords=("data", "axes fraction"),
            ha="right",
            fontsize=12,
            color="0.3",
        )
    top.set_title(f"{metric.name.capitalize()} and sparsity of a run; dotted: pruning events")
    for axes in (top, bottom):
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_fontsize(15)
    return figure
