"""What a network went by: decisions one by one, each class in the mean, and whether the evidence can be believed."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from prunekit.regions.explanation import CONTROLS, Decision
from prunekit.regions.faithfulness import Curves

COLOURS = tuple(f"C{number}" for number in (1, 2, 4, 9, 6))  # of regions; red and blue mean for and against
EVIDENCE = "RdBu_r"
BRIGHTEST = 0.99  # quantile
Image = NDArray[np.floating]


def draw_decisions(decisions: Sequence[Decision], title: str) -> Figure:
    """Draw decisions, two to a line: the image, the regions that spoke for its class, and what else it might be."""
    blocks = min(2, len(decisions))
    lines = math.ceil(len(decisions) / blocks)
    widths = [1, 1, 0.6, 1, 1, 0.1] * blocks
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure(figsize=(0.6 + 7 * blocks, 1.35 + 1.8 * lines), dpi=100, layout=layout)
    regions = "the regions of neurons' weights that spoke most for the answer, and how much each gave to its logit"
    maps = "what in the image speaks for and against the answer, and another class (colours scaled by image)"
    figure.suptitle(f"{title}\nleft to right: the image | {regions}\n{maps}", fontsize=11)
    grid = figure.subplots(lines, len(widths) - 1, squeeze=False, width_ratios=widths[:-1])
    for axes in grid.flat:
        axes.set_axis_off()
    for number, decision in enumerate(decisions):
        block, line = divmod(number, lines)
        _decision(grid[line, 6 * block : 6 * block + 5], decision)
    _evidence_bar(figure, list(grid.flat))
    return figure


def _decision(axes: Iterable[Axes], decision: Decision) -> None:
    picture, regions, names, *maps = axes
    _show(picture, decision.image)
    picture.set_title(f"a {decision.true}", fontsize=10)
    _show(regions, _with_regions(decision))
    regions.set_title("where it looked", fontsize=10)
    for rank, region in enumerate(decision.regions):
        colour, where = COLOURS[rank % len(COLOURS)], (0.0, 0.92 - 0.19 * rank)
        named = f"{rank + 1}. neuron {region.neuron}\n    {region.evidence:+.1f}"
        names.text(*where, named, color=colour, fontsize=8, va="center")
    right = decision.true == decision.predicted
    classes = (decision.predicted, decision.other)
    scale = max(float(np.abs(evidence).max()) for evidence in decision.evidence) or 1.0
    for each, name, share, evidence in zip(maps, classes, decision.probabilities, decision.evidence, strict=True):
        _map(each, evidence, decision.image, scale)
        colour = "black" if right or each is maps[1] else "C3"
        said = f"is it a {name}?  {share:.0%}" if right or each is maps[1] else f"taken for a {name}  {share:.0%}"
        each.set_title(said, fontsize=10, color=colour)


def _with_regions(decision: Decision) -> Image:
    """The image in grey, its regions in colour: strong where they see something, pale where they see black."""
    grey = decision.image if decision.image.ndim == 2 else decision.image.mean(2)
    canvas = np.repeat(0.75 * grey[..., None], 3, axis=2)
    for rank, region in reversed(list(enumerate(decision.regions))):
        strength = np.where(region.pixels, np.where(grey > 0, 0.9, 0.35), 0.0)[..., None]
        shade = 0.45 + 0.55 * np.clip(grey, 0, 1)[..., None]
        canvas = (1 - strength) * canvas + strength * shade * np.array(to_rgb(COLOURS[rank % len(COLOURS)]))
    return np.asarray(canvas)


def draw_classes(means: Image, evidence: Image, names: Sequence[str], title: str) -> Figure:
    """Draw for each class its mean image and, below it, the mean evidence for the class over its images.

    Args:
        means: ``(classes, H, W)`` or ``(classes, H, W, 3)`` in [0, 1].
        evidence: ``(classes, H, W)``.
        names: of the classes.
        title: above the picture.
    """
    columns = min(10, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(1.5 * columns, 0.6 + 3.3 * lines), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(2 * lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, name in enumerate(names):
        line, column = divmod(number, columns)
        _show(grid[2 * line, column], means[number])
        grid[2 * line, column].set_title(f"the mean {name}", fontsize=10)
        scale = float(np.quantile(np.abs(evidence[number]), BRIGHTEST)) or 1.0  # of an image, not of its one best pixel
        _map(grid[2 * line + 1, column], evidence[number], means[number], scale)
        grid[2 * line + 1, column].set_title(f"for a {name}", fontsize=10)
    _evidence_bar(figure, list(grid.flat))
    return figure


def draw_faithfulness(
    curves: Mapping[str, Mapping[str, Curves]], areas: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> Figure:
    """Draw accuracy while pixels are taken away and while they are given, a row for each network.

    Args:
        curves: network -> method -> curves.
        areas: network -> method -> ``deletion`` and ``insertion``, the areas under them.
    """
    figure = Figure(figsize=(11, 0.8 + 3.9 * len(curves)), dpi=100, layout="constrained")
    figure.suptitle("Does the network go by the evidence? Pixels go, or come, the most evidence first", fontsize=12)
    grid = figure.subplots(len(curves), 2, squeeze=False, sharex=True, sharey=True)
    titles = {
        "deletion": "pixels are blackened: low is good",
        "insertion": "pixels are shown on black: high is good",
    }
    for line, (network, methods) in zip(grid, curves.items(), strict=True):
        for kind, axes in zip(Curves._fields, line, strict=True):
            for number, (method, found) in enumerate(methods.items()):
                curve = getattr(found, kind)
                label = f"{method}: area {areas[network][method][kind]:.1%}"
                # Evidence by pixel and integrated gradients nearly coincide: a thin line on a thick one.
                style = ":" if method in CONTROLS else "-"
                shares, width = np.linspace(0, 1, len(curve)), 3 if number == 1 else 1.4
                axes.plot(shares, curve, style, color=f"C{number}", linewidth=width, label=label)
            axes.set_title(f"{network} network: {titles[kind]}", fontsize=10)
            axes.legend(loc="upper center", ncols=2, fontsize=8, frameon=False)
            axes.set_ylim(-0.03, 1.36)  # the legend is above the curves
            axes.set_yticks(np.linspace(0, 1, 6))
            axes.grid(alpha=0.3)
            axes.xaxis.set_major_formatter(PercentFormatter(1))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        line[0].set_ylabel("test accuracy")
    for axes in grid[-1]:
        axes.set_xlabel("share of each image's lit pixels taken away, or given")
    return figure


def _show(axes: Axes, image: Image) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _map(axes: Axes, evidence: Image, image: Image, scale: float) -> None:
    """Evidence in colour, with the outline of what is in the image."""
    axes.imshow(evidence, cmap=EVIDENCE, vmin=-scale, vmax=scale, interpolation="nearest")
    grey = image if image.ndim == 2 else image.mean(2)
    if grey.min() < 0.5 * grey.max() and min(grey.shape) > 1:
        axes.contour(grey, levels=[0.5 * grey.max()], colors="0.35", linewidths=0.6)


def _evidence_bar(figure: Figure, axes: Sequence[Axes]) -> None:
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), EVIDENCE), ax=list(axes), shrink=0.5, pad=0.01, aspect=30)
    bar.set_ticks([-0.9, 0, 0.9], labels=["against", "nothing", "for"])
    bar.ax.tick_params(labelsize=9, length=0)
