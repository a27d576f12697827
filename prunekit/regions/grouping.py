"""The regions of each neuron's weight image as groups."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunekit.calibration import Calibration, Seen
from prunekit.errors import ArgumentError
from prunekit.groups import Grouping, Groups, require_parameter
from prunekit.masks import Mask, find_parameter
from prunekit.regions.labels import region_neurons, region_sizes
from prunekit.regions.saliency import weight_saliency
from prunekit.regions.segmentation import Connected, Segmentation

CHANNELS = (1, 3, 4)  # of grey, colour, and colour with opacity


class Regions(Grouping):
    """What a segmentation cuts the kept weights into, found anew each time; each neuron's are within it.

    Args:
        parameter: a weight whose rows are images, such as the first layer's of an image classifier.
        image_shape: ``[height, width]`` of the input images, or ``[channels, height, width]``.
        segmentation: what a region is; :class:`~prunekit.regions.segmentation.Connected` by default.

    Raises:
        ArgumentError: if the shape is none.

    Example:
        >>> layer = nn.Linear(4, 1)
        >>> kept = torch.tensor([[True, False, False, True]])
        >>> Regions("weight", [2, 2])(layer, Mask({"weight": kept})).numbers["weight"].tolist()
        [[0, -1, -1, 1]]
    """

    word = "region"

    def __init__(self, parameter: str, image_shape: Sequence[int], segmentation: Segmentation | None = None) -> None:
        self.parameter, self.image_shape = parameter, check_image_shape(image_shape)
        self.segmentation = segmentation or Connected()

    def parameters(self, module: nn.Module) -> list[str]:
        """The one that holds images."""
        check_holds_images(module, self.parameter, self.image_shape)
        return [self.parameter]

    def check(self, module: nn.Module, needs: frozenset[str]) -> None:
        """Refuse a parameter that is missing or holds no such images, and saliency of layers that are not linear."""
        self.parameters(module)
        if needs and (needs != {"saliency"} or not isinstance(self._layer(module), nn.Linear)):
            got = f"{', '.join(sorted(needs))} with {self.parameter}"
            raise ArgumentError("criterion", got, "one of weights alone, or saliency of the weight of an nn.Linear")

    def __call__(self, module: nn.Module, mask: Mask) -> Groups:
        """Only what is kept is in a region, so none is gone."""
        kept = mask[self.parameter]
        weights = find_parameter(module, self.parameter).detach().cpu().float()
        labels = self.segmentation(self.images(weights), self.images(kept))
        numbers = torch.from_numpy(labels).view(kept.shape) - 1
        sizes, within = (torch.from_numpy(each(labels)) for each in (region_sizes, region_neurons))
        return Groups({self.parameter: numbers}, sizes, within, torch.zeros(len(sizes), dtype=torch.bool))

    def images(self, rows: Tensor) -> NDArray[Any]:
        """The rows of the parameter, or of something in its shape, as images."""
        return np.asarray(rows.reshape(-1, *self.image_shape))

    def observe(self, module: nn.Module, needs: frozenset[str], calibration: Calibration) -> Seen:
        """The saliency of the weights, over all samples and ranks.

        Raises:
            ValueError: if the layer is not called once with a matrix, or no batch comes.
        """
        layer = self._layer(module)
        assert isinstance(layer, nn.Linear)
        total, samples = weight_saliency(module, layer, calibration)
        counted = calibration.sum_over_ranks(torch.cat([total.flatten(), total.new_tensor([samples])])).cpu()
        return Seen(saliency={self.parameter: (counted[:-1] / counted[-1]).view_as(total)})

    def _layer(self, module: nn.Module) -> nn.Module:
        return module.get_submodule(self.parameter.rpartition(".")[0])


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Return ``image_shape`` as a tuple.

    Raises:
        ArgumentError: if it is not two or three whole numbers above 0.
    """
    sides = list(image_shape)
    if len(sides) not in (2, 3) or not all(type(side) is int and side > 0 for side in sides):
        accepted = "[height, width] of the input images, or [channels, height, width]"
        raise ArgumentError("image_shape", sides, accepted)
    if len(sides) == 3 and sides[2] in CHANNELS and min(sides[:2]) > max(CHANNELS):
        turned = [sides[2], *sides[:2]]
        raise ArgumentError("image_shape", sides, f"channels first, as images lie in memory: {turned}")
    return tuple(sides)


def check_holds_images(module: nn.Module, parameter: str, image_shape: tuple[int, ...]) -> None:
    """Refuse a parameter that is missing, or whose rows do not have that shape.

    Raises:
        ArgumentError: if so, or if the parameter is a vector.
    """
    shape = tuple(require_parameter("parameter", module, parameter).shape)
    if len(shape) < 2 or math.prod(shape[1:]) != math.prod(image_shape):
        names = " * ".join(("channels", "height", "width")[-len(image_shape) :])
        wanted = f"{names} = {math.prod(shape[1:])}" if len(shape) > 1 else "a matrix, a row a neuron"
        raise ArgumentError("image_shape", f"{list(image_shape)} for {parameter} of shape {shape}", wanted)
