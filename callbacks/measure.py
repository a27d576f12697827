"""Accuracy in a plain loop, so that it can be taken inside ``fit`` (a Trainer call there would end the fit)."""

import pytorch_lightning as pl
import torch

VALIDATION, TEST = "validation", "test"


def watched_part(trainer: pl.Trainer) -> str:
    """The part of the data that curves and events are measured on: validation, or test where that is empty."""
    return VALIDATION if trainer.datamodule.val_dataloader() else TEST  # type: ignore[attr-defined]


@torch.no_grad()
def accuracy(trainer: pl.Trainer, module: pl.LightningModule, part: str) -> float:
    """The share of samples that ``module`` classifies right, over all ranks, each sample once.

    Args:
        trainer: whose data module serves batches of (inputs, int64 classes ``(n,)``).
        module: gives logits ``(n, classes)``; on return it is on the device and in the mode it came in.
        part: ``validation`` or ``test``.

    Returns:
        A number in [0, 1].
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    batches = data.val_dataloader() if part == VALIDATION else data.test_dataloader()
    training, device = module.training, module.device
    module.eval().to(trainer.strategy.root_device)  # after a fit Lightning leaves it on the CPU
    counts = torch.zeros(2, dtype=torch.int64, device=module.device)
    for batch in batches:
        x, y = trainer.strategy.batch_to_device(batch)
        with trainer.precision_plugin.forward_context():
            hits = module(x).argmax(1) == y
        counts += torch.stack([hits.sum(), torch.tensor(len(y), device=hits.device)])
    module.train(training).to(device)
    right, total = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
    return float(right / total)
