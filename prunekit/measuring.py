"""Which class a network gives each sample, and how often that is right."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunekit.errors import ArgumentError

Predict = Callable[[Any, Any], tuple[Tensor, Tensor]] | None  # None: as predict below
WANTED = "a function predict(module, batch) that gives logits (n, classes) and int64 classes (n,)"


def predict(module: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits and classes of a batch ``(inputs, classes, ...)``, whose further entries are left alone.

    Raises:
        ArgumentError: if the batch is of another form, such as a dict.
    """
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        keys = f" with {', '.join(map(str, batch))}" if isinstance(batch, dict) else ""
        got = f"none, while a batch is a {type(batch).__name__}{keys}"
        raise ArgumentError("predict", got, f"{WANTED}; without one a batch is (inputs, classes, ...)")
    return module(batch[0]), batch[1]


def each_sample(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Bring what a network gave into the form of one row of logits a class.

    Logits ``(n, T, classes)``, or ``(n, classes, T)`` as torch's cross entropy has them, with classes ``(n, T)`` are
    T samples each; if T is the number of classes, the last axis is taken for theirs. With classes ``(n,)`` the last
    step's logits are the sample's.

    Raises:
        ArgumentError: if it has no such form, such as the one logit of a binary classifier.

    Example:
        >>> logits, classes = each_sample(torch.zeros(8, 5, 3), torch.zeros(8, 5, dtype=torch.int64))
        >>> tuple(logits.shape), tuple(classes.shape)
        ((40, 3), (40,))
    """
    if not (isinstance(logits, Tensor) and isinstance(classes, Tensor)):
        raise ArgumentError("predict", f"{type(logits).__name__} and {type(classes).__name__}", WANTED)
    given, wanted = tuple(logits.shape), WANTED
    if classes.shape == logits.shape[:1] and logits.ndim == 3:
        logits = logits[:, -1]
    elif classes.ndim > 1 and classes.shape == logits.shape[:1] + logits.shape[2:] != logits.shape[:-1]:
        logits = logits.movedim(1, -1)
    if logits.shape in (classes.shape, (*classes.shape, 1)):
        wanted = f"{WANTED}; of one logit z a sample they are torch.stack([torch.zeros_like(z), z], 1)"
    elif classes.shape == logits.shape[:-1] and not classes.is_floating_point():
        return logits.reshape(-1, logits.shape[-1]), classes.reshape(-1)
    got = f"logits {given} with {str(classes.dtype).removeprefix('torch.')} classes {tuple(classes.shape)}"
    raise ArgumentError("predict", got, wanted)


class Outcome(NamedTuple):
    """Samples and what they were taken for.

    Attributes:
        predicted: ``(n,)`` int64.
        classes: ``(n,)``, the true ones; one below 0, as padding has it, counts nowhere.
        number: how many classes there are; 0 where there are no samples to tell.
    """

    predicted: Tensor
    classes: Tensor
    number: int


def outcome(predictions: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Outcome:
    """Take logits ``(n, classes)`` and classes ``(n,)``, batch by batch, for their largest logit's class."""
    number = 0
    predicted = [torch.empty(0, dtype=torch.int64, device=device)]
    classes = [*predicted]
    for logits, y in predictions:
        predicted.append(logits.argmax(1))
        classes.append(y)
        number = logits.shape[1]
    return Outcome(torch.cat(predicted), torch.cat(classes), number)


def right_and_all(taken: Outcome) -> Tensor:
    """How many samples were taken for what they are, and how many there are, ``(2,)`` int64.

    Example:
        >>> right_and_all(Outcome(torch.tensor([0, 1, 1]), torch.tensor([0, 1, -100]), 2)).tolist()
        [2, 2]
    """
    return torch.stack([(taken.predicted == taken.classes).sum(), (taken.classes >= 0).sum()])


def confusion_counts(taken: Outcome, number: int) -> Tensor:
    """How many samples of each class (row) were taken for which (column).

    Counted by ``torch.bincount`` on the CPU: torchmetrics needs samples x classes^2 numbers for it as soon as
    deterministic algorithms are asked for, 8 GB for 100,000 samples of 100 classes.

    Args:
        taken: of the samples.
        number: of classes, as an outcome without samples does not know it.

    Returns:
        ``(number, number)`` int64 on the CPU.

    Raises:
        ArgumentError: if there is a class that no logit is of.

    Example:
        >>> confusion_counts(Outcome(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2), 2).tolist()
        [[1, 1], [0, 1]]
    """
    predicted, classes = taken.predicted.cpu(), taken.classes.cpu()
    there = classes >= 0
    if len(classes) and int(classes.max()) >= number:
        raise ArgumentError("predict", f"class {int(classes.max())} with {number} logits", WANTED)
    cells = classes[there] * number + predicted[there]
    return torch.bincount(cells, minlength=number * number).reshape(number, number)
