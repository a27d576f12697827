"""Accuracy in a plain loop, so that it can be taken inside ``fit`` (a Trainer call there would end the fit)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.functional import confusion_matrix

VALIDATION, TEST = "validation", "test"


def watched_part(trainer: pl.Trainer) -> str:
    """The part of the data that curves and events are measured on: validation, or test where that is empty."""
    return VALIDATION if trainer.datamodule.val_dataloader() else TEST  # type: ignore[attr-defined]


def accuracy(trainer: pl.Trainer, module: pl.LightningModule, part: str) -> float:
    """The share of samples that ``module`` classifies right, over all ranks, each sample once.

    Args:
        trainer: whose data module serves batches of (inputs, int64 classes ``(n,)``).
        module: gives logits ``(n, classes)``; on return it is on the device and in the mode it came in.
        part: ``validation`` or ``test``.

    Returns:
        A number in [0, 1].
    """
    counts = torch.zeros(2, dtype=torch.int64, device=trainer.strategy.root_device)
    for logits, y in predictions(trainer, module, part):
        counts += torch.stack([(logits.argmax(1) == y).sum(), torch.tensor(len(y), device=y.device)])
    right, total = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
    return float(right / total)


def confusion(trainer: pl.Trainer, module: pl.LightningModule, part: str) -> Tensor:
    """How many samples of each class (row) are taken for which (column), over all ranks, each sample once.

    Args:
        trainer: as for :func:`accuracy`.
        module: as for :func:`accuracy`.
        part: ``validation`` or ``test``.

    Returns:
        ``(classes, classes)`` int64 on the CPU.
    """
    device = trainer.strategy.root_device
    counts: list[Tensor] = []
    for logits, y in predictions(trainer, module, part):
        counts.append(confusion_matrix(logits.argmax(1), y, task="multiclass", num_classes=logits.shape[1]))
    # A rank without samples learns the number of classes from the others.
    size = torch.tensor(len(counts[0]) if counts else 0, device=device)
    classes = int(trainer.strategy.reduce(size, reduce_op="max") if trainer.world_size > 1 else size)
    matrix = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    total: Tensor = trainer.strategy.reduce(matrix + sum(counts), reduce_op="sum")
    return total.cpu()


def accuracy_of(matrix: Tensor) -> float:
    """The share of samples on the diagonal of a confusion matrix.

    Example:
        >>> accuracy_of(torch.tensor([[3, 1], [0, 4]]))
        0.875
    """
    return int(matrix.trace()) / int(matrix.sum())


@torch.no_grad()
def predictions(trainer: pl.Trainer, module: pl.LightningModule, part: str) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's logits ``(n, classes)`` and classes ``(n,)``, batch by batch, on the trainer's device."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    batches = data.val_dataloader() if part == VALIDATION else data.test_dataloader()
    with evaluating(module, trainer.strategy.root_device):
        for x, y in on_device(trainer, batches):
            with trainer.precision_plugin.forward_context():
                logits = module(x)
            yield logits, y


def scoring_loader(trainer: pl.Trainer) -> Any:
    """What serves this rank's training samples in their own order, each once over all ranks.

    It is the data module's ``scoring_dataloader``; of one that has none, for its training batches.

    Raises:
        ValueError: on several devices, if it has none.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    serve = getattr(data, "scoring_dataloader", None)
    if serve is None and trainer.world_size > 1:
        raise ValueError("several devices need a data module with scoring_dataloader, as prunekit's have")
    return (serve or data.train_dataloader)()


def on_device(trainer: pl.Trainer, batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches on the trainer's device and in its precision."""
    for batch in batches:
        yield trainer.precision_plugin.convert_input(trainer.strategy.batch_to_device(batch))


@contextmanager
def evaluating(module: pl.LightningModule, device: torch.device) -> Iterator[None]:
    """``module`` in evaluation mode and on ``device`` (after a fit Lightning leaves it on the CPU); then as it came."""
    training, before = module.training, module.device
    module.eval().to(device)
    try:
        yield
    finally:
        module.train(training).to(before)
