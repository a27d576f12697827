"""Frames of clips, a row a clip."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def draw_frames(rows: Sequence[tuple[str, NDArray[np.uint8]]]) -> Figure:
    """Draw clips as they were decoded: time runs from left to right.

    Args:
        rows: a label and ``(n, height, width, 3)`` uint8 frames each, of one shape.

    Example:
        >>> len(draw_frames([("Surfing", np.zeros((5, 24, 32, 3), np.uint8))]).axes)
        5
    """
    columns, height, width = rows[0][1].shape[:3]
    figure = Figure(figsize=(2 * columns, (2 * height / width + 0.3) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (label, frames), line in zip(rows, grid, strict=True):
        for axes, frame in zip(line, frames, strict=True):
            axes.imshow(frame)
            axes.set_axis_off()
        line[0].set_title(label, loc="left", fontsize=10)
    return figure
