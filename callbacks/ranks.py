"""What all processes of a training have to have in common, to the last bit."""

from collections.abc import Iterable

import pytorch_lightning as pl
import torch

from prunekit.masks import Mask, find_parameter


@torch.no_grad()
def give_parameters(trainer: pl.Trainer, module: pl.LightningModule, names: Iterable[str]) -> None:
    """Give all ranks rank 0's values: what each has computed may differ in the last bits on unequal machines."""
    if trainer.world_size > 1:
        for name in names:
            parameter = find_parameter(module, name)
            value = parameter.detach().to(trainer.strategy.root_device)  # after a fit the network is on the CPU
            torch.distributed.broadcast(value, src=0)  # in place, and nothing is pickled
            parameter.copy_(value)


def same_on_ranks(trainer: pl.Trainer, mask: Mask) -> Mask:
    """The mask, which must be rank 0's; what is held is rank 0's to the last bit."""
    if trainer.world_size == 1:
        return mask
    kept, held = trainer.strategy.broadcast((Mask(dict(mask)).digest(), mask.held))
    if kept != Mask(dict(mask)).digest():
        raise RuntimeError(f"rank {trainer.global_rank} chose another mask than rank 0: their weights differ")
    return Mask(dict(mask), held)
