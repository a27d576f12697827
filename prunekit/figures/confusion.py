"""Which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

NUMBERS_UP_TO = 15  # classes up to which counts can be read in their cells


def draw_confusion(matrix: NDArray[np.int64], names: Sequence[str] | None, part: str = "test") -> Figure:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one.

    Colours are shares of a row, numbers are counts.

    Args:
        matrix: ``(classes, classes)`` counts.
        names: of the classes; None leaves them out.
        part: of the data, for the title.

    Example:
        >>> draw_confusion(np.eye(3, dtype=np.int64), ["a", "b", "c"]).axes[0].get_xlabel()
        'predicted'
    """
    count = len(matrix)
    # Room for the names, which stand upright and beside; a layout engine would draw everything twice.
    room = 0.5 + 0.085 * max(map(len, names or [""]))
    side = max(min(13.0, 4.5 + 0.5 * count), room + 3)
    room /= side
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((room, room, 0.97 - room, 0.93 - room))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    right = int(matrix.trace())
    figure.suptitle(f"{right} of {matrix.sum()} {part} samples right ({right / max(matrix.sum(), 1):.1%})")
    if names is not None:
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if count <= NUMBERS_UP_TO:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    return figure
