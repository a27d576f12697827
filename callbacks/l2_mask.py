"""Magnitude pruning: the weights of smallest norm go, over all named parameters together."""

from collections.abc import Sequence
from typing import ClassVar

import pytorch_lightning as pl
import torch

from prunekit.callbacks.pruning import PruningCallback
from prunekit.masks import Mask, all_weights, exact_count, find_parameter, gradual_rate, lowest


class L2Mask(PruningCallback):
    """Removes the share ``rate`` of weights with the smallest L2 norm (of a single weight: its magnitude).

    Exactly ``round(rate * n)`` of the n weights of all ``parameters`` together are gone after the last round,
    ties by index. With several rounds each removes the same share of what is left, as in iterative magnitude
    pruning (Han et al., Learning both weights and connections, 2015).

    Args:
        parameters: names as in ``module.named_parameters()``; None for all weights of the module.
        rate: share of the weights removed in the end, in [0, 1].
        rounds: number of events.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.

    Example:
        >>> L2Mask(["layers.hidden1.weight"], rate=0.5, start_epoch=15).end_epoch
        15
    """

    name: ClassVar[str] = "l2_mask"

    def __init__(
        self,
        parameters: Sequence[str] | None,
        rate: float,
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
    ) -> None:
        super().__init__(parameters or [], rate, rounds, retrain_epochs, start_epoch)

    def check(self, module: pl.LightningModule) -> None:
        """Name all weights if none was named."""
        self.parameters = self.parameters or all_weights(module)
        super().check(module)

    def select(self, module: pl.LightningModule, mask: Mask) -> Mask:
        """Keep all but the weights of smallest magnitude; what is removed already goes first."""
        scores = torch.cat(
            [
                find_parameter(module, name).detach().cpu().abs().masked_fill(~mask[name], -1.0).flatten()
                for name in self.parameters
            ]
        )
        k = exact_count(gradual_rate(self.rate, self.rounds_done + 1, self.rounds), len(scores))
        kept = ~lowest(scores, max(k, mask.removed()))
        parts = torch.split(kept, [mask[name].numel() for name in self.parameters])
        return Mask({name: part.view_as(mask[name]) for name, part in zip(self.parameters, parts, strict=True)})
