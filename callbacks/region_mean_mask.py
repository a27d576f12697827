"""Region pruning: whole regions of each neuron's weight image go, lowest index first."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunekit.callbacks.measure import evaluating, on_device, scoring_loader
from prunekit.callbacks.pruning import PruningCallback, check_parameter
from prunekit.errors import ConfigError, check_choice
from prunekit.masks import Mask, find_parameter
from prunekit.regions.index import INDICES
from prunekit.regions.neurons import NeuronSummary, summarise_neurons
from prunekit.regions.removal import COUNTED, SCOPES, remove_regions
from prunekit.regions.saliency import weight_saliency
from prunekit.regions.segmentation import Connected, Segmentation


class RegionMeanMask(PruningCallback):
    """Removes whole regions of surviving weights; by default, as its authors do, connected ones by mean magnitude.

    Args:
        parameter: a weight whose rows are images, such as the first layer's of an image classifier.
        image_shape: ``[height, width]`` of the input images, or ``[channels, height, width]``.
        rate: share that each round removes of what is left, in [0, 1].
        of: what the rate counts, surviving ``weights`` or ``regions``.
        segmentation: what a region is; :class:`~prunekit.regions.segmentation.Connected` by default.
        index: by what regions are ranked: ``mean``, ``sum`` or ``max`` of their weights' magnitudes, or ``saliency``,
            the mean over weights and training samples of ``abs(w * dL_i/dw)``.
        scope: among what they are ranked: ``global``, those of all neurons together, or those of each ``neuron``.
        floor: whether every neuron keeps at least one region.
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
        segmentation: Segmentation | None = None,
        index: str = "mean",
        scope: str = "global",
        floor: bool = False,
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
    ) -> None:
        super().__init__([parameter], rate, rounds, retrain_epochs, start_epoch)
        check_choice(self.key("of"), of, COUNTED)
        check_choice(self.key("index"), index, INDICES)
        check_choice(self.key("scope"), scope, SCOPES)
        self.parameter, self.image_shape = parameter, check_image_shape(self.key("image_shape"), image_shape)
        self.of, self.index, self.scope, self.floor = of, index, scope, floor
        self.segmentation = segmentation or Connected()
        self.base = Mask({})
        self.labels = torch.zeros(0, dtype=torch.int32)

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a parameter that is missing or holds no images of that shape."""
        check_parameter(self.key("parameter"), module, self.parameter)
        check_holds_images(self.key("image_shape"), module, self.parameter, self.image_shape)
        if self.index == "saliency" and not isinstance(self._layer(module), nn.Linear):
            got = f"saliency with {self.parameter}"
            raise ConfigError(self.key("index"), got, "mean, sum or max, or the weight of an nn.Linear")

    def state_dict(self) -> dict[str, Any]:
        """Besides the mask, what was kept before the first region went, and the regions at the last event."""
        return {**super().state_dict(), "base": dict(self.base), "labels": self.labels}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's masks."""
        super().load_state_dict(state_dict)
        self.base = Mask(state_dict["base"])
        if "labels" in state_dict:
            self.labels = state_dict["labels"]
        elif self.mask:  # checkpoints from before there were other regions than connected ones say nothing
            self.labels = self._connected(self.mask[self.parameter])

    def select(self, module: pl.LightningModule, mask: Mask) -> Mask:
        """Cut what the mask keeps into regions, rank and remove them."""
        mask = Mask({self.parameter: mask[self.parameter]})
        self.base = self.base or mask
        weights = find_parameter(module, self.parameter).detach().cpu().float()
        removal = remove_regions(
            self._images(weights),
            self._images(mask[self.parameter]),
            self.rate,
            self.of,
            self.segmentation,
            self.index,
            self.scope,
            self.floor,
            self._images(self._saliency(module)) if self.index == "saliency" else None,
        )
        self.labels = torch.from_numpy(removal.labels).int().view_as(weights)
        return Mask({self.parameter: torch.from_numpy(removal.kept).view_as(weights)})

    def report(self) -> dict[str, NeuronSummary]:
        """What is left of the layer's neurons; nothing before the first event."""
        if not self.mask:
            return {}
        kept, base = self.mask[self.parameter].numpy(), self.base[self.parameter].numpy()
        return {"neurons": summarise_neurons(kept, base, self.labels.numpy())}

    def _images(self, rows: Tensor) -> NDArray[Any]:
        return np.asarray(rows.reshape(-1, *self.image_shape))

    def _connected(self, kept: Tensor) -> Tensor:
        images = self._images(kept)
        return torch.from_numpy(Connected()(images.astype(np.float32), images)).int().view(kept.shape)

    def _layer(self, module: pl.LightningModule) -> nn.Module:
        return module.get_submodule(self.parameter.rpartition(".")[0])

    def _saliency(self, module: pl.LightningModule) -> Tensor:
        """Of the network as it is now, over all training samples and ranks."""
        trainer, layer = module.trainer, self._layer(module)
        assert isinstance(layer, nn.Linear)
        try:
            batches = on_device(trainer, scoring_loader(trainer))
            with evaluating(module, trainer.strategy.root_device), trainer.precision_plugin.forward_context():
                total, samples = weight_saliency(module, layer, batches)
        except ValueError as error:
            got = f"saliency of {type(module).__name__}: {error}"
            raise ConfigError(self.key("index"), got, "mean, sum or max, or what saliency can be taken on") from error
        counted = torch.cat([total.flatten(), total.new_tensor([samples])])
        if trainer.world_size > 1:
            counted = trainer.strategy.reduce(counted.to(trainer.strategy.root_device), reduce_op="sum").cpu()
        return (counted[:-1] / counted[-1]).view_as(total)


def check_image_shape(key: str, image_shape: Sequence[int]) -> tuple[int, ...]:
    """Return ``image_shape`` as a tuple.

    Raises:
        ConfigError: if it is not two or three whole numbers above 0.
    """
    sides = list(image_shape)
    if len(sides) not in (2, 3) or not all(type(side) is int and side > 0 for side in sides):
        raise ConfigError(key, list(image_shape), "[height, width] of the input images, or [channels, height, width]")
    return tuple(image_shape)


def check_holds_images(key: str, module: pl.LightningModule, parameter: str, image_shape: tuple[int, ...]) -> None:
    """Refuse an ``image_shape`` that the rows of ``parameter`` do not have.

    Raises:
        ConfigError: if the parameter is a vector or its rows have another number of weights.
    """
    shape = tuple(find_parameter(module, parameter).shape)
    if len(shape) < 2 or math.prod(shape[1:]) != math.prod(image_shape):
        names = " * ".join(("channels", "height", "width")[-len(image_shape) :])
        wanted = f"{names} = {math.prod(shape[1:])}" if len(shape) > 1 else "a matrix, a row a neuron"
        raise ConfigError(key, f"{list(image_shape)} for {parameter} of shape {shape}", wanted)
