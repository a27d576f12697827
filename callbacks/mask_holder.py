"""A callback that has a mask: how a trainer's module is held to all of them, and which checkpoints they refuse."""

from functools import reduce
from operator import and_
from typing import Any

import pytorch_lightning as pl

from prunekit.errors import ArgumentError
from prunekit.held_mask import HeldMask
from prunekit.masks import Mask


class MaskHolder(pl.Callback):
    """Has a mask that the trainer's module is held to.

    Attributes:
        mask: what it keeps; empty before it has pruned anything.
    """

    def __init__(self) -> None:
        self.mask = Mask({})
        self._held: HeldMask | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint of a pruned network whose mask nobody would hold."""
        known = {holder.state_key for holder in mask_holders(trainer)}
        for key, state in checkpoint["callbacks"].items():
            if key not in known and isinstance(state, dict) and state.get("mask"):
                accepted = "with that callback, under that name and with that grouping and start_epoch"
                raise ArgumentError("ckpt_path", f"of a network that {key} has pruned", accepted)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the module; its zeros stay."""
        if self._held is not None:
            self._held.release()


def mask_holders(trainer: pl.Trainer) -> list[MaskHolder]:
    """The trainer's callbacks that have masks, in their order."""
    return [c for c in trainer.callbacks if isinstance(c, MaskHolder)]  # type: ignore[attr-defined]


def current_mask(trainer: pl.Trainer) -> Mask:
    """What all of a trainer's masks keep together."""
    return reduce(and_, (holder.mask for holder in mask_holders(trainer)), Mask({}))


def hold(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Hold ``module`` to :func:`current_mask`, once: the first that has a mask has the hold."""
    first = mask_holders(trainer)[0]
    if first._held is not None:
        first._held.release()
    first._held = HeldMask(current_mask(trainer), module, trainer.optimizers)
