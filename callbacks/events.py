"""Pruning events, and the callbacks that are told of them."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from prunekit.masks import Mask


@dataclass(frozen=True)
class PruningEvent:
    """One pruning of one callback.

    Attributes:
        name: the callback's, such as ``l2_mask``.
        round: from 1.
        epoch: epochs completed when it happened.
        before: the model's mask before, over all pruning callbacks.
        after: the model's mask after it.
    """

    name: str
    round: int
    epoch: int
    before: Mask
    after: Mask


class PruningObserver(pl.Callback):
    """A callback that is told of pruning events."""

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module that this callback cannot work on."""

    def rehearse(self, module: pl.LightningModule) -> None:
        """Refuse data that this callback cannot work on, at the start of a fit."""

    def report(self) -> dict[str, Any]:
        """What results say of this callback."""
        return {}

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Called when an event is due and nothing has changed yet."""

    def after_pruning(self, trainer: pl.Trainer, module: pl.LightningModule, event: PruningEvent) -> None:
        """Called when the mask is on the model."""
