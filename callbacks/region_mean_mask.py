"""Region pruning: whole regions of each neuron's weight image go, lowest index first."""

from collections.abc import Sequence
from typing import Any

import torch

from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.criterion import Criterion
from prunekit.criteria.magnitude import REDUCTIONS, Magnitude
from prunekit.criteria.saliency import Saliency
from prunekit.errors import check_choice
from prunekit.masks import Mask
from prunekit.pruning import Pruned
from prunekit.regions.grouping import Regions
from prunekit.regions.neurons import NeuronSummary, summarise_neurons
from prunekit.regions.segmentation import Segmentation

COUNTED = {"weights": "weights", "regions": "groups"}
SCOPES = {"global": "all", "neuron": "within"}
INDICES = (*REDUCTIONS, "saliency")


class RegionMeanMask(Pruning):
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
        name: in events, results and logs.

    Attributes:
        base: what was kept before the first region went.
        labels: ``int32`` of the parameter's shape: the regions at the last event, from 1; 0 in none.

    Example:
        >>> RegionMeanMask("layers.hidden1.weight", [28, 28], rate=0.4, rounds=2, retrain_epochs=3).schedule.end
        6
    """

    default_name = "region_mean_mask"
    renamed = {"criterion": "index"}  # noqa: RUF012 - the base class declares it

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
        name: str | None = None,
    ) -> None:
        for argument, value, choices in (("of", of, COUNTED), ("index", index, INDICES), ("scope", scope, SCOPES)):
            check_choice(argument, value, choices)
        self.parameter = parameter
        criterion: Criterion = Saliency() if index == "saliency" else Magnitude(index)  # type: ignore[arg-type]
        super().__init__(
            Regions(parameter, image_shape, segmentation), criterion, rate, of=COUNTED[of], scope=SCOPES[scope],
            floor=floor, each_round=True, rounds=rounds, retrain_epochs=retrain_epochs, start_epoch=start_epoch,
            name=name,
        )  # fmt: skip
        self.base = Mask({})
        self.labels = torch.zeros(0, dtype=torch.int32)

    def taken(self, pruned: Pruned) -> None:
        """Keep the regions as they were; all of them together are what was kept before."""
        self.labels = pruned.groups.numbers[self.parameter].int() + 1
        self.base = self.base or Mask({self.parameter: self.labels > 0})

    def state_dict(self) -> dict[str, Any]:
        """Besides the mask, what was kept before the first region went, and the regions at the last event."""
        return {**super().state_dict(), "base": dict(self.base), "labels": self.labels}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's masks."""
        super().load_state_dict(state_dict)
        self.base, self.labels = Mask(state_dict["base"]), state_dict["labels"]

    def report(self) -> dict[str, NeuronSummary]:
        """What is left of the layer's neurons; nothing before the first event."""
        if not self.mask:
            return {}
        kept, base = self.mask[self.parameter].numpy(), self.base[self.parameter].numpy()
        return {"neurons": summarise_neurons(kept, base, self.labels.numpy())}
