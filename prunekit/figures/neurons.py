"""One tile per neuron: its weights, its regions, what was removed; and the histogram of pruning rates.

Every function takes arrays of ``(N, H, W)`` weight images and returns a figure that explains itself: a title, a
number and a share at each tile, and a legend.
"""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from skimage.color import label2rgb
from skimage.util import montage

from prunekit.regions.neurons import MOSTLY_KEPT, MOSTLY_REMOVED, neuron_groups, neuron_rates

LARGE, MIDDLE = 17, 13  # points of letters: TensorBoard shows a picture at a third of its size first
GAP = 8  # pixels between tiles: room for a caption
PAPER = (0.16, 0.16, 0.18)
NAVY, BLUE, WINE, RED = "#101a4d", "#6f9bff", "#4d1010", "#ff6f6f"
NOW, EARLIER, KEPT = "#e8862e", "#000000", "#ffffff"
WEIGHT_COLOURS = LinearSegmentedColormap.from_list("weights", [BLUE, NAVY, WINE, RED])

Images = NDArray[np.floating]
Kept = NDArray[np.bool_]


def side_by_side(images: NDArray[Any]) -> NDArray[Any]:
    """``(N, channels, H, W)`` images as ``(N, H, channels * W)`` ones, channels from left to right; others as they are.

    Example:
        >>> side_by_side(np.array([[[[1], [2]], [[3], [4]]]])).tolist()
        [[[1, 3], [2, 4]]]
    """
    if images.ndim == 3:
        return images
    count, channels, height, width = images.shape
    return images.transpose(0, 2, 1, 3).reshape(count, height, channels * width)


def weight_colours(weights: Images, kept: Kept, scale: float) -> NDArray[np.float64]:
    """Red where positive, blue where negative, brighter = larger magnitude, black exactly where removed.

    Kept weights never get darker than dark red or dark blue, so that black means one thing.

    Args:
        weights: ``(N, H, W)`` real.
        kept: ``(N, H, W)`` bool.
        scale: the magnitude shown brightest.

    Returns:
        ``(N, H, W, 3)`` RGB in [0, 1].

    Example:
        >>> image = weight_colours(np.array([[[1.0, -1.0, 5.0]]]), np.array([[[True, True, False]]]), scale=1.0)
        >>> red, blue, removed = image[0, 0]
        >>> bool(red[0] > red[2]), bool(blue[2] > blue[0]), removed.tolist()
        (True, True, [0.0, 0.0, 0.0])
    """
    size = np.clip(np.abs(weights) / scale, 0, 1)[..., None]
    dark = np.where(weights[..., None] >= 0, to_rgb(WINE), to_rgb(NAVY))
    bright = np.where(weights[..., None] >= 0, to_rgb(RED), to_rgb(BLUE))
    return np.asarray(np.where(kept[..., None], dark + size * (bright - dark), 0.0))


def draw_weights(weights: Images, kept: Kept, title: str) -> Figure:
    """The weight images in colour, with each neuron's removed share."""
    values = np.abs(weights[kept])
    scale = float(np.quantile(values, 0.995)) if values.size and values.any() else 1.0
    figure, axes = _tiles(weight_colours(weights, kept, scale), kept, title)
    bar = figure.colorbar(ScalarMappable(Normalize(-scale, scale), WEIGHT_COLOURS), ax=axes, shrink=0.4, pad=0.01)
    bar.set_label("weight: red positive, blue negative; black = removed")
    return figure


def draw_regions(labels: NDArray[np.int64], kept: Kept, title: str) -> Figure:
    """The regions in distinct colours; those that were removed in grey.

    Args:
        labels: ``(N, H, W)`` int64, numbered over all neurons; 0 = in no region.
        kept: ``(N, H, W)`` bool, what is left of them.
        title: above the picture.
    """
    # Consecutive numbers are neighbours, so the palette only has to tell near numbers apart.
    palette = [to_rgb(f"C{number}") for number in (0, 1, 2, 3, 4, 6, 8, 9)]
    colours = label2rgb(np.where(kept, labels, 0), colors=palette, bg_label=0, bg_color=(0, 0, 0))
    colours[(labels > 0) & ~kept] = 0.35
    words = {"black": "removed before", "#595959": "region removed now", "C0": "kept: one colour, one region"}
    return _tiles(colours, kept, title, words)[0]


def draw_kept(kept: Kept, before: Kept, title: str) -> Figure:
    """What is kept, what was removed now, and what had been removed before."""
    colours = np.where(kept[..., None], to_rgb(KEPT), np.where(before[..., None], to_rgb(NOW), to_rgb(EARLIER)))
    return _tiles(colours, kept, title, {KEPT: "kept", NOW: "removed now", EARLIER: "removed before"})[0]


def draw_rates(kept: Kept, base: Kept | None, title: str) -> Figure:
    """Histograms of the neurons' pruning rates: of all weights and, if ``base`` is given, of those it keeps."""
    panels = [("of all weights", neuron_rates(kept))]
    if base is not None:
        panels.append(("of the weights that the L2 mask had left", neuron_rates(kept, base)))
    figure = Figure(figsize=(5.5 * len(panels), 4.6), dpi=100, layout="constrained")
    figure.suptitle(textwrap.fill(title, 46 * len(panels)), fontsize=MIDDLE)
    for axes, (counted, rates) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        groups = neuron_groups(rates)
        words = (f"at most 40 % removed: {groups['at_most_40']:.0%} of neurons",
                 f"at least 90 % removed: {groups['at_least_90']:.0%} of neurons")  # fmt: skip
        spans = ((0, MOSTLY_KEPT, "C0"), (MOSTLY_REMOVED, 1, "C3"))
        for left, right, colour in spans:
            axes.axvspan(left, right, color=colour, alpha=0.12)
        axes.hist(rates[np.isfinite(rates)], bins=np.linspace(0, 1, 21).tolist(), color="0.35", rwidth=0.92)
        axes.set(
            title=f"counted {counted}", xlabel="removed share of a neuron's weights", ylabel="neurons", xlim=(0, 1)
        )
        for text in (axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_fontsize(MIDDLE)
        handles = [Patch(color=span[2], alpha=0.3, label=label) for span, label in zip(spans, words, strict=True)]
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=MIDDLE)
    return figure


def _tiles(images: NDArray[Any], kept: Kept, title: str, words: Mapping[str, str] | None = None) -> tuple[Figure, Axes]:
    """All ``(N, H, W, 3)`` images in one grid, each under its number and removed share; colours -> words below."""
    count, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    mosaic = montage(images, fill=PAPER, grid_shape=(rows, columns), padding_width=GAP, channel_axis=-1)
    head = [*textwrap.wrap(title, 68), "one tile = one neuron: its number and the share of its weights removed"]
    inches = 0.6 + 0.4 * len(head) + (0.7 if words is not None else 0.0)
    size = (11.5, inches + 10 * rows * (height + GAP) / (columns * (width + GAP)))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("\n".join(head), fontsize=LARGE)
    letters = 72 * figure.get_figwidth() * 0.85 / (columns * (width + GAP)) * GAP * 0.7
    for neuron, rate in enumerate(neuron_rates(kept)):
        row, column = divmod(neuron, columns)
        left, top = GAP + column * (width + GAP), row * (height + GAP) + GAP / 2
        axes.text(left, top, f"{neuron}  {rate:.0%}", color="white", fontsize=letters, va="center")
    if words is not None:
        handles = [Patch(facecolor=colour, edgecolor="0.4", label=text) for colour, text in words.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=LARGE)
    return figure, axes
