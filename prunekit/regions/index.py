"""The index of a region: one number by which regions are ranked."""

import numpy as np
from numpy.typing import NDArray

from prunekit.regions.labels import region_sizes


def mean_magnitude(weights: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean magnitude of each region's weights, ``mean(abs(w))``, summed in float64.

    Args:
        weights: ``(N, H, W)`` real.
        labels: ``(N, H, W)`` int, as :func:`~prunekit.regions.labels.label_regions` gives them.

    Returns:
        ``(R,)`` float64, region 1 first.

    Raises:
        ValueError: if the shapes differ or a weight inside a region is not finite.

    Example:
        >>> mean_magnitude(np.array([[[1.0, -3.0, 9.0, 5.0]]]), np.array([[[1, 1, 0, 2]]]))
        array([2., 5.])
    """
    if weights.shape != labels.shape:
        raise ValueError(f"weights {weights.shape} and labels {labels.shape} differ in shape")
    magnitude = np.where(labels > 0, np.abs(weights.astype(np.float64)), 0.0)
    if not np.isfinite(magnitude).all():
        raise ValueError("a weight inside a region is not finite")
    return np.bincount(labels.ravel(), weights=magnitude.ravel(), minlength=1)[1:] / region_sizes(labels)
