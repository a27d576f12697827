"""What a network went by: decisions one by one, each class in the mean, and whether the evidence can be believed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
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
    figure, grid = _grid(lines, len(widths) - 1, (0.6 + 7 * blocks, 1.35 + 1.8 * lines), width_ratios=widths[:-1])
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
    regions = "the regions of neurons' weights that spoke most for the answer, and how much each gave to its logit"
    maps = "DeepLIFT: what in the image speaks for and against the answer, and another class (colours scaled by image)"
    figure.suptitle(f"{title}\nleft to right: the image | {regions}\n{maps}", fontsize=11)
    for number, decision in enumerate(decisions):
        block, line = divmod(number, lines)
        _decision(grid[line, 6 * block : 6 * block + 5], decision)
    _evidence_bar(figure, list(grid.flat))
    return figure


def _decision(axes: Iterable[Axes], decision: Decision) -> None:
    picture, regions, names, *maps = axes
    _show(picture, decision.image, f"a {decision.true}")
    _show(regions, _with_regions(decision), "where it looked")
    for rank, region in enumerate(decision.regions):
        named = f"{rank + 1}. neuron {region.neuron}\n    {region.evidence:+.1f}"
        names.text(0.0, 0.92 - 0.19 * rank, named, color=COLOURS[rank % len(COLOURS)], fontsize=8, va="center")
    wrong = decision.true != decision.predicted
    said = [f"taken for a {decision.predicted}  " if wrong else f"is it a {decision.predicted}?  "]
    said.append(f"is it a {decision.other}?  ")
    scale = max(float(np.abs(evidence).max()) for evidence in decision.evidence) or 1.0
    for each, words, share, evidence in zip(maps, said, decision.probabilities, decision.evidence, strict=True):
        _map(each, evidence, decision.image, scale, f"{words}{share:.0%}")
    maps[0].title.set_color("C3" if wrong else "black")


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
    figure, grid = _grid(2 * lines, columns, (1.5 * columns, 0.6 + 3.3 * lines))
    figure.suptitle(title, fontsize=12)
    for number, (name, mean, own) in enumerate(zip(names, means, evidence, strict=True)):
        line, column = divmod(number, columns)
        upper, lower = grid[2 * line : 2 * line + 2, column]
        _show(upper, mean, f"the mean {name}")
        scale = float(np.quantile(np.abs(own), BRIGHTEST)) or 1.0  # of an image, not of its one best pixel
        _map(lower, own, mean, scale, f"for a {name}")
    _evidence_bar(figure, list(grid.flat))
    return figure


def draw_faithfulness(curves: Mapping[str, Mapping[str, Curves]]) -> Figure:
    """Draw accuracy while pixels are taken away and while they are given, a row for each network.

    Args:
        curves: network -> method -> curves.
    """
    figure = Figure(figsize=(11, 0.8 + 3.9 * len(curves)), dpi=100, layout="constrained")
    figure.suptitle("Does the network go by the evidence? Pixels go, or come, the most evidence first", fontsize=12)
    grid = figure.subplots(len(curves), 2, squeeze=False, sharex=True, sharey=True)
    titles = {"deletion": "pixels are blackened: low is good", "insertion": "pixels are shown on black: high is good"}
    for line, (network, methods) in zip(grid, curves.items(), strict=True):
        for kind, axes in zip(Curves._fields, line, strict=True):
            for number, (method, found) in enumerate(methods.items()):
                curve = getattr(found, kind)
                label = f"{method}: area {found.areas()[kind]:.1%}"
                # DeepLIFT and integrated gradients nearly coincide: a thin line on a thick one.
                style = ":" if method in CONTROLS else "-"
                shares, width = np.linspace(0, 1, len(curve)), 3 if number == 1 else 1.4
                axes.plot(shares, curve, style, color=f"C{number}", linewidth=width, label=label)
            axes.set_title(f"{network} network: {titles[kind]}", fontsize=10)
            axes.legend(loc="upper center", ncols=2, fontsize=8, frameon=False)
            axes.set_ylim(-0.03, 1.36)  # the legend is above the curves
            axes.set_yticks(np.linspace(0, 1, 6))
            axes.grid(alpha=0.3)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1))
            axes.set(ylabel="test accuracy", xlabel="share of each image's lit pixels taken away, or given")
            axes.label_outer()
    return figure


def _grid(rows: int, columns: int, size: tuple[float, float], **widths: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure of panels without axes."""
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    grid = np.asarray(figure.subplots(rows, columns, squeeze=False, **widths))
    for axes in grid.flat:
        axes.set_axis_off()
    return figure, grid


def _show(axes: Axes, image: Image, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10)


def _map(axes: Axes, evidence: Image, image: Image, scale: float, title: str) -> None:
    """Evidence in colour, with the outline of what is in the image."""
    axes.imshow(evidence, cmap=EVIDENCE, vmin=-scale, vmax=scale, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    grey = image if image.ndim == 2 else image.mean(2)
    if grey.min() < 0.5 * grey.max() and min(grey.shape) > 1:
        axes.contour(grey, levels=[0.5 * grey.max()], colors="0.35", linewidths=0.6)


def _evidence_bar(figure: Figure, axes: Sequence[Axes]) -> None:
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), EVIDENCE), ax=list(axes), shrink=0.5, pad=0.01, aspect=30)
    bar.set_ticks([-0.9, 0, 0.9], labels=["against", "nothing", "for"])
    bar.ax.tick_params(labelsize=9, length=0)
