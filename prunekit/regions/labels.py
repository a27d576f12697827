"""Arrays of region numbers: 0 where there is no region, else 1..R over all neurons of a layer."""

import numpy as np
from numpy.typing import NDArray


def region_sizes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of weights of each region, ``(R,)`` int64, region 1 first.

    Example:
        >>> region_sizes(np.array([[[1, 1], [0, 2]]]))
        array([2, 1])
    """
    return np.bincount(labels.ravel(), minlength=1)[1:].astype(np.int64)


def region_neurons(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which neuron each region is of, counted from 0, ``(R,)`` int64; labels are ``(N, ...)``.

    Example:
        >>> region_neurons(np.array([[[1, 2]], [[0, 3]]]))
        array([0, 0, 1])
    """
    neurons = np.zeros(labels.max(initial=0) + 1, dtype=np.int64)
    neurons[labels.ravel()] = np.repeat(np.arange(len(labels)), labels[:1].size)
    return neurons[1:]


def in_raster_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same regions, numbered anew by where the first pixel of each comes in the array; every number must be used.

    Example:
        >>> in_raster_order(np.array([[[0, 3, 1], [2, 2, 1]]])).tolist()
        [[[0, 1, 2], [3, 3, 2]]]
    """
    flat = labels.ravel()
    first = np.zeros(labels.max(initial=0) + 1, dtype=np.int64)
    inside = np.flatnonzero(flat)[::-1]
    first[flat[inside]] = inside  # of a number that is assigned to twice the last one stays: the first in the array
    number = np.zeros_like(first)
    number[1 + np.argsort(first[1:])] = np.arange(1, len(first))
    return number[labels]
