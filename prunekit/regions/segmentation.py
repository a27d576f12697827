"""How a neuron's weight image is cut into regions: a class for each way, all with one call."""

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from prunekit.errors import ArgumentError, check_choice
from prunekit.regions.labels import in_raster_order, region_sizes

CONNECTIVITIES = (1, 2)

Images = NDArray[np.floating]
Kept = NDArray[np.bool_]
Labels = NDArray[np.int64]


class Segmentation(ABC):
    """Cuts the weights that a mask keeps into regions.

    Args:
        connectivity: 1 joins pixels that share an edge, 2 also those that share a corner.

    Raises:
        ArgumentError: if ``connectivity`` is neither.
    """

    def __init__(self, connectivity: int = 1) -> None:
        check_choice("connectivity", connectivity, CONNECTIVITIES)
        self.connectivity = connectivity

    @final
    def __call__(self, weights: Images, kept: Kept) -> Labels:
        """Number the regions of a layer, all neurons at once.

        Args:
            weights: ``(N, H, W)`` or ``(N, channels, H, W)`` real. A channel is an image of its own: no region is in
                two.
            kept: bool, of the same shape; True where a weight is kept.

        Returns:
            int64 of the same shape: 0 exactly where nothing is kept, else 1..R, numbered over all neurons in raster
            order of each region's first pixel.

        Raises:
            ValueError: if a shape is another, ``kept`` is not bool, or a kept weight is not finite.
            RuntimeError: if a subclass's ``cut`` does not number exactly what is kept.
        """
        if kept.ndim not in (3, 4) or kept.dtype != np.bool_ or weights.shape != kept.shape:
            got = f"{weights.dtype} {weights.shape} and {kept.dtype} {kept.shape}"
            raise ValueError(f"expected weights and a bool array of one shape (N, [channels,] H, W), got {got}")
        if not np.isfinite(weights[kept]).all():
            raise ValueError("a kept weight is not finite")
        images = (-1, *kept.shape[-2:])
        labels = self.cut(weights.reshape(images), kept.reshape(images)).reshape(kept.shape)
        if ((labels > 0) != kept).any() or not region_sizes(labels).all():
            raise RuntimeError(
                f"{type(self).__name__}.cut leaves out a kept weight or a number, or takes a removed one"
            )
        return in_raster_order(labels)

    @abstractmethod
    def cut(self, weights: Images, kept: Kept) -> Labels:
        """Number the regions of ``(images, H, W)`` weights in any order, every number from 1 to R used."""


@final
class Connected(Segmentation):
    """The connected components of the kept weights, whatever their signs: the regions of the region-pruning paper.

    Example:
        >>> kept = np.array([[[1, 0], [0, 1]], [[1, 1], [0, 0]]], dtype=bool)
        >>> Connected()(np.ones((2, 2, 2)), kept).tolist()
        [[[1, 0], [0, 2]], [[3, 3], [0, 0]]]
        >>> Connected(connectivity=2)(np.ones((2, 2, 2)), kept).tolist()
        [[[1, 0], [0, 1]], [[2, 2], [0, 0]]]
    """

    def cut(self, weights: Images, kept: Kept) -> Labels:
        """Components of what is kept."""
        return _components(kept, self.connectivity)


@final
class Signed(Segmentation):
    """The connected components of the positive and of the negative kept weights. A kept 0 counts as positive.

    Example:
        >>> Signed()(np.array([[[1.0, 2.0, -1.0, 1.0]]]), np.ones((1, 1, 4), dtype=bool)).tolist()
        [[[1, 1, 2, 3]]]
    """

    def cut(self, weights: Images, kept: Kept) -> Labels:
        """Components of one sign."""
        return _components(np.where(kept, np.where(weights >= 0, 1, 2), 0).astype(np.uint8), self.connectivity)


@final
class Watershed(Segmentation):
    """The basins around the peaks of the smoothed magnitude, positive and negative weights apart.

    The magnitude of one sign's kept weights is smoothed by a Gaussian, 0 beyond them and beyond the image. Each of
    its local maxima (a plateau is one) floods those kept weights of its sign that it reaches downhill: every signed
    component becomes one basin or several. A kept 0 counts as positive. Which of two peaks that are equal to the last
    bit gets the weights just between them is not defined, but is the same at every call.

    Source: Vincent and Soille, Watersheds in Digital Spaces, 1991, by :func:`skimage.segmentation.watershed`.

    Args:
        sigma: standard deviation of the Gaussian, in pixels; 0 smooths nothing, and makes a region of every peak.
        connectivity: of pixels, as for the others.

    Example:
        >>> row = np.array([[[5.0, 1.0, 4.0, -1.0, -2.0]]])
        >>> Watershed(sigma=0)(row, np.ones((1, 1, 5), dtype=bool)).tolist()
        [[[1, 1, 2, 3, 3]]]
    """

    def __init__(self, sigma: float = 1.0, connectivity: int = 1) -> None:
        super().__init__(connectivity)
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma < np.inf:
            raise ArgumentError("sigma", sigma, "a number of pixels, 0 or more")
        self.sigma = sigma

    def cut(self, weights: Images, kept: Kept) -> Labels:
        """Basins of one sign, then of the other."""
        labels = np.zeros(kept.shape, dtype=np.int64)
        for sign in (weights >= 0, weights < 0):
            here = kept & sign
            basins = self._basins(np.where(here, np.abs(weights), 0).astype(np.float32), here)
            labels += np.where(here, basins + labels.max(initial=0), 0)
        return labels

    def _basins(self, magnitude: Images, here: Kept) -> Labels:
        smooth = gaussian_filter(magnitude, self.sigma, mode="constant", axes=(1, 2)) if self.sigma else magnitude
        # Below every magnitude where there is nothing: so each component has a peak of its own, were it all zeros.
        height = _tall(np.where(here, smooth, -1).astype(np.float32), -1)
        inside = _tall(here, False)
        peaks = label(inside & local_maxima(height, connectivity=self.connectivity), connectivity=self.connectivity)
        return _untall(watershed(-height, peaks, mask=inside, connectivity=self.connectivity), here.shape)


def _components(values: NDArray[np.bool_ | np.uint8], connectivity: int) -> Labels:
    """Connected components of equal values, 0 apart."""
    return _untall(label(_tall(values, 0), connectivity=connectivity), values.shape)


# All images are handled in one call: stacked into one tall image with a blank row between them, so that regions of two
# never touch. (A call on the (images, H, W) stack would join them.)
def _tall(images: NDArray[Any], blank: int) -> NDArray[Any]:
    count, height, width = images.shape
    tall = np.full((count, height + 1, width), blank, dtype=images.dtype)
    tall[:, :height] = images
    return tall.reshape(-1, width)


def _untall(tall: NDArray[np.integer], shape: tuple[int, ...]) -> Labels:
    count, height, width = shape
    return np.asarray(tall, dtype=np.int64).reshape(count, height + 1, width)[:, :height]
