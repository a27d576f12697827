"""Region pruning: connected regions of each neuron's weight image go, lowest mean magnitude first."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch

from callbacks.pruning import PruningCallback, check_parameter
from prunekit.errors import ConfigError, check_choice
from prunekit.masks import Mask, find_parameter
from prunekit.regions.labels import CONNECTIVITIES
from prunekit.regions.neurons import NeuronSummary, summarise_neurons
from prunekit.regions.removal import COUNTED, remove_regions


class RegionMeanMask(PruningCallback):
    """Removes whole connected regions of surviving weights, ranked over all neurons by mean magnitude.

    Args:
        parameter: a ``(neurons, height * width)`` weight, such as the first layer's of an image classifier.
        image_shape: ``[height, width]`` of the input images.
        rate: share that each round removes of what is left, in [0, 1].
        of: what the rate counts, surviving ``weights`` or ``regions``.
        connectivity: 1 joins weights that share an edge, 2 also those that share a corner.
        rounds: number of events; each finds the regions anew.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.

    Example:
        >>> RegionMeanMask("layers.hidden1.weight", [28, 28], rate=0.4, rounds=2, retrain_epochs=3).end_epoch
        6
    """

    name: ClassVar[str] = "region_mean_mask"

    def __init__(
        self,
        parameter: str,
        image_shape: Sequence[int],
        rate: float,
        of: str = "weights",
        connectivity: int = 1,
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
    ) -> None:
        super().__init__([parameter], rate, rounds, retrain_epochs, start_epoch)
        check_choice(self.key("of"), of, COUNTED)
        check_choice(self.key("connectivity"), connectivity, CONNECTIVITIES)
        self.parameter, self.image_shape = parameter, check_image_shape(self.key("image_shape"), image_shape)
        self.of, self.connectivity = of, connectivity
        self.base = Mask({})

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a parameter that is missing or holds no images of that shape."""
        check_parameter(self.key("parameter"), module, self.parameter)
        check_holds_images(self.key("image_shape"), module, self.parameter, self.image_shape)

    def state_dict(self) -> dict[str, Any]:
        """Besides the mask, what was kept before the first region went."""
        return {**super().state_dict(), "base": dict(self.base)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's masks."""
        super().load_state_dict(state_dict)
        self.base = Mask(state_dict["base"])

    def select(self, module: pl.LightningModule, mask: Mask) -> Mask:
        """Label, rank and remove the regions of what the mask keeps."""
        mask = Mask({self.parameter: mask[self.parameter]})
        self.base = self.base or mask
        weights = find_parameter(module, self.parameter).detach().cpu().float()
        images = (-1, *self.image_shape)
        removal = remove_regions(
            weights.numpy().reshape(images),
            mask[self.parameter].numpy().reshape(images),
            self.rate,
            self.of,
            self.connectivity,
        )
        return Mask({self.parameter: torch.from_numpy(removal.kept).view_as(weights)})

    def report(self) -> dict[str, NeuronSummary]:
        """What is left of the layer's neurons; nothing before the first event."""
        if not self.mask:
            return {}
        return {"neurons": summarise_neurons(self.mask[self.parameter].numpy(), self.base[self.parameter].numpy())}


def check_image_shape(key: str, image_shape: Sequence[int]) -> tuple[int, int]:
    """Return ``image_shape`` as (height, width).

    Raises:
        ConfigError: if it is not two whole numbers above 0.
    """
    if len(image_shape) != 2 or not all(isinstance(side, int) and side > 0 for side in image_shape):
        raise ConfigError(key, list(image_shape), "[height, width] of the input images")
    return image_shape[0], image_shape[1]


def check_holds_images(key: str, module: pl.LightningModule, parameter: str, image_shape: tuple[int, int]) -> None:
    """Refuse an ``image_shape`` that the rows of ``parameter`` do not have.

    Raises:
        ConfigError: if the parameter is no matrix or its rows have another length.
    """
    shape = tuple(find_parameter(module, parameter).shape)
    height, width = image_shape
    if len(shape) != 2 or shape[1] != height * width:
        wanted = f"height * width = {shape[1]}" if len(shape) == 2 else "a (neurons, pixels) matrix"
        raise ConfigError(key, f"[{height}, {width}] for {parameter} of shape {shape}", wanted)
