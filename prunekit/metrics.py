"""What networks are judged by: accuracy, or a loss of sequences that is told as it is or as perplexity."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

PADDING = -100  # a target below 0 counts nowhere; torch's own number for it
Losses = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor]
]  # outputs, targets -> of each step its loss, and if it counts


class Metric(NamedTuple):
    """What a module is judged by. A module that is judged by something else than accuracy has one as ``metric``.

    Attributes:
        key: in results, as in ``dense/test_acc``.
        name: for people, as in ``test accuracy``.
        make: a new torchmetrics object, whose ``update`` is given outputs and targets batch by batch; None for
            accuracy, which is counted from the classes that samples are taken for.
        higher_is_better: whether a larger value is a better one.
        share: whether it is a share in [0, 1], which is told in percent.

    Example:
        >>> ACCURACY.show(0.945), PERPLEXITY.show(117.32), NLL.show(3.4567)
        ('94.50%', '117.3', '3.457')
        >>> ACCURACY.scale, PERPLEXITY.scale
        (100, 1)
    """

    key: str
    name: str
    make: Callable[[], torchmetrics.Metric] | None = None
    higher_is_better: bool = True
    share: bool = False

    @property
    def scale(self) -> int:
        """What a value is multiplied by where people read it."""
        return 100 if self.share else 1

    def show(self, value: float) -> str:
        """A value, for people."""
        return f"{value:.2%}" if self.share else f"{value:.4g}"


def class_losses(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies in nats, of logits ``(..., classes)`` and int64 classes ``(...)``; 0 where these are below 0.

    Example:
        >>> losses, counts = class_losses(torch.zeros(1, 2, 4), torch.tensor([[3, PADDING]]))
        >>> losses.exp().round(decimals=4), counts
        (tensor([[4., 1.]]), tensor([[ True, False]]))
    """
    counts = classes >= 0
    losses = cross_entropy(logits.flatten(0, -2), classes.clamp(min=0).flatten(), reduction="none")
    return losses.view(classes.shape) * counts, counts


def vector_losses(logits: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Of binary vectors, sums of the entries' cross-entropies in nats; 0 where a vector is below 0.

    Args:
        logits: ``(N, T, n)``.
        vectors: ``(N, T, n)`` float, 0 and 1.

    Example:
        >>> losses, counts = vector_losses(torch.zeros(1, 2, 3), torch.tensor([[[0.0, 1.0, 1.0], [-100.0] * 3]]))
        >>> losses.exp().round(decimals=4), counts
        (tensor([[8., 1.]]), tensor([[ True, False]]))
    """
    counts = vectors[..., 0] >= 0
    losses = binary_cross_entropy_with_logits(logits, vectors.clamp(min=0), reduction="none").sum(-1)
    return losses * counts, counts


def frame_accuracy(logits: Tensor, vectors: Tensor) -> Tensor:
    """Of binary vectors the expected ``TP / (TP + FP + FN)``, if each entry is said to be 1 by its probability.

    Where no entry is 1, ``1 / (1 + FP)``; 1 where a vector is below 0. Most entries of a piano roll are 0, so that how
    probable all of them are hardly tells one step from another; this asks for those that are 1.

    Args:
        logits: ``(N, T, n)``.
        vectors: ``(N, T, n)`` float, 0 and 1.

    Returns:
        ``(N, T)`` in [0, 1].

    Source: Bay, Ehmann and Downie, Evaluation of multiple-F0 estimation and tracking systems, ISMIR 2009.

    Example:
        >>> sure = torch.tensor([[[9.0, 9.0, -9.0], [-9.0, -9.0, -9.0]]])
        >>> frame_accuracy(sure, torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])).round(decimals=2)
        tensor([[0.5000, 1.0000]])
    """
    p, y = logits.sigmoid(), vectors.clamp(min=0)
    right, said, there = (p * y).sum(-1), p.sum(-1), y.sum(-1)
    accuracy = torch.where(there > 0, right / (said + there - right).clamp(min=1e-12), 1 / (1 + said))
    return torch.where(vectors[..., 0] >= 0, accuracy, 1.0)


class MeanLoss(torchmetrics.MeanMetric):
    """The mean loss of the steps that count, or its exponential.

    Not torchmetrics' ``Perplexity``, which takes logarithms of float32 probabilities: one that is rounded to 0, as a
    network without most of its units gives it, makes it infinite.

    Args:
        losses: of outputs and targets, those of each step, and which of them count.
        exponential: whether the exponential of the mean is told.
    """

    def __init__(self, losses: Losses, exponential: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.set_dtype(torch.float64)
        self.losses, self.exponential = losses, exponential

    def update(self, outputs: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """Take in a batch."""
        losses, counts = self.losses(outputs.float(), targets)
        super().update(losses, counts)

    def compute(self) -> Tensor:
        """The value over all batches, and over all ranks where torch.distributed runs."""
        mean = super().compute()
        return mean.exp().clamp(max=torch.finfo(mean.dtype).max) if self.exponential else mean


ACCURACY = Metric("acc", "accuracy", share=True)
PERPLEXITY = Metric("ppl", "perplexity", lambda: MeanLoss(class_losses, exponential=True), higher_is_better=False)
NLL = Metric("nll", "negative log-likelihood a step", lambda: MeanLoss(vector_losses), higher_is_better=False)


def metric_of(module: nn.Module) -> Metric:
    """What a module says that it is judged by; accuracy if it says nothing of this kind.

    Example:
        >>> metric_of(nn.Linear(2, 2)).name
        'accuracy'
    """
    said = getattr(module, "metric", None)
    return said if isinstance(said, Metric) else ACCURACY
