"""The regions of weight images: connected components of what a mask keeps."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

CONNECTIVITIES = (1, 2)


def label_regions(kept: NDArray[np.bool_], connectivity: int = 1) -> NDArray[np.int64]:
    """Number the connected regions of every neuron's kept weights.

    All neurons are labelled in one call: their images are stacked into one tall image with a blank row between
    them, so regions of two neurons never touch. (``label`` on the ``(N, H, W)`` stack would join neurons.)

    Args:
        kept: ``(N, H, W)`` bool, True where a weight is kept.
        connectivity: 1 joins pixels that share an edge, 2 also those that share a corner.

    Returns:
        ``(N, H, W)`` int64: 0 where nothing is kept, else 1..R, numbered over all neurons in their order, in
        raster order of each region's first pixel within a neuron.

    Raises:
        ValueError: if ``kept`` is not a 3-D bool array or ``connectivity`` is neither 1 nor 2.

    Example:
        >>> label_regions(np.array([[[1, 0], [0, 1]], [[1, 1], [0, 0]]], dtype=bool)).tolist()
        [[[1, 0], [0, 2]], [[3, 3], [0, 0]]]
        >>> label_regions(np.array([[[1, 0], [0, 1]]], dtype=bool), connectivity=2).tolist()
        [[[1, 0], [0, 1]]]
    """
    if kept.ndim != 3 or kept.dtype != np.bool_:
        raise ValueError(f"expected an (N, H, W) bool array, got {kept.dtype} of shape {kept.shape}")
    if connectivity not in CONNECTIVITIES:
        raise ValueError(f"connectivity is 1 or 2, got {connectivity!r}")
    neurons, height, width = kept.shape
    tall = np.zeros((neurons, height + 1, width), dtype=bool)
    tall[:, :height] = kept
    labels = label(tall.reshape(-1, width), connectivity=connectivity)
    return np.asarray(labels, dtype=np.int64).reshape(neurons, height + 1, width)[:, :height]


def region_sizes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of weights of each region, ``(R,)`` int64, region 1 first.

    Example:
        >>> region_sizes(np.array([[[1, 1], [0, 2]]]))
        array([2, 1])
    """
    return np.bincount(labels.ravel(), minlength=1)[1:].astype(np.int64)
