"""The index of a region: one number by which regions are ranked."""

import numpy as np
from numpy.typing import NDArray

from prunekit.regions.labels import region_sizes

INDICES = ("mean", "sum", "max", "saliency")


def region_index(
    name: str,
    labels: NDArray[np.int64],
    weights: NDArray[np.floating],
    saliency: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """The index of each region, in float64.

    ``mean``, ``sum`` and ``max`` are those of its weights' magnitudes ``abs(w)``; ``mean`` is the region-pruning
    paper's. ``saliency`` is the mean of its weights' saliencies.

    Args:
        name: one of the four.
        labels: ``(N, ...)`` int, as a segmentation gives them.
        weights: real, of the same shape.
        saliency: real, of the same shape; wanted by ``saliency``.

    Returns:
        ``(R,)`` float64, region 1 first.

    Raises:
        ValueError: if the name is unknown, a shape differs or a value inside a region is not finite.

    Example:
        >>> weights, labels = np.array([[[1.0, -3.0, 9.0, 5.0]]]), np.array([[[1, 1, 0, 2]]])
        >>> [region_index(name, labels, weights).tolist() for name in ("mean", "sum", "max")]
        [[2.0, 5.0], [4.0, 5.0], [3.0, 5.0]]
    """
    if name not in INDICES:
        raise ValueError(f"index is one of {INDICES}, got {name!r}")
    values = saliency if name == "saliency" else weights
    if values is None or values.shape != labels.shape:
        raise ValueError(f"labels {labels.shape} and values {getattr(values, 'shape', None)} differ in shape")
    inside = labels > 0
    regions, values = labels[inside], np.abs(values[inside].astype(np.float64))
    if not np.isfinite(values).all():
        raise ValueError("a value inside a region is not finite")
    sizes = region_sizes(labels)
    if name == "max":
        largest = np.zeros(len(sizes))
        np.maximum.at(largest, regions - 1, values)
        return largest
    total = np.bincount(regions, weights=values, minlength=len(sizes) + 1)[1:].astype(np.float64)
    return total if name == "sum" else np.asarray(total / sizes)
