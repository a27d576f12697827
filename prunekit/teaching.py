"""A network trained towards the outputs of another one, on batches without labels."""

import logging

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from prunekit.calibration import Calibration, differentiable, evaluating
from prunekit.units.watching import floating

LEARNING_RATE, MOST_NORM = 1e-3, 1.0
log = logging.getLogger("prunekit")


def teach(
    student: nn.Module, teacher: nn.Module, given: Calibration, epochs: int, learning_rate: float = LEARNING_RATE
) -> list[float]:
    """Train a network in place towards another's outputs, by Adam on their squared difference; the best is kept.

    Dropout and batch normalisation are as in evaluation. Parameters that want no gradient stay.

    Args:
        student: is trained.
        teacher: says what the outputs should be.
        given: batches that can be gone through again and again; those that it holds out say which epoch was best.
        epochs: over the others.
        learning_rate: at the start; it falls to 0 along a half cosine.

    Returns:
        The error on held-out batches before and after each epoch: ``sum (a - b)^2 / sum a^2``.

    Example:
        >>> dense, small = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> batches = [torch.randn(16, 3) for _ in range(8)]
        >>> errors = teach(small, dense, Calibration(batches), epochs=20, learning_rate=0.1)
        >>> min(errors) < errors[0]
        True
    """
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with evaluating(teacher), evaluating(student), differentiable(student):
        errors = [_held_out(student, teacher, given)]
        best = {name: value.clone() for name, value in student.state_dict().items()}
        for _ in range(epochs):
            for batch, held in given.parted():
                if held:
                    continue
                optimizer.zero_grad()
                apart, size = _error(student, teacher, given, batch)
                (apart / size.clamp(min=torch.finfo(size.dtype).tiny)).backward()  # type: ignore[no-untyped-call]
                clip_grad_norm_(parameters, MOST_NORM)
                optimizer.step()
            schedule.step()
            errors.append(_held_out(student, teacher, given))
            if errors[-1] < min(errors[:-1]):
                best = {name: value.clone() for name, value in student.state_dict().items()}
        student.load_state_dict(best)
        optimizer.zero_grad()
    log.info("teacher: error on held-out batches %.3g, at best %.3g", errors[0], min(errors))
    return errors


def relative_error(wanted: object, found: object) -> tuple[Tensor, Tensor]:
    """How far outputs are from those wanted, ``sum (a - b)^2``, and how large these are, ``sum a^2``.

    Example:
        >>> [each.item() for each in relative_error((torch.ones(2), "x"), (torch.zeros(2), "y"))]
        [2.0, 2.0]
    """
    a_all, b_all = floating(wanted), floating(found)
    apart = torch.stack([(a - b).square().sum() for a, b in zip(a_all, b_all, strict=True)]).sum()
    return apart, torch.stack([a.square().sum() for a in a_all]).sum()


def _error(student: nn.Module, teacher: nn.Module, given: Calibration, batch: object) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        wanted = given.predict(teacher, batch)[0]
    return relative_error(wanted, given.predict(student, batch)[0])


@torch.no_grad()
def _held_out(student: nn.Module, teacher: nn.Module, given: Calibration) -> float:
    total = torch.zeros(2, dtype=torch.float64)
    for batch in given.judged():
        total += torch.stack(_error(student, teacher, given, batch)).cpu().double()
    return float(total[0] / total[1]) if total[1] else 0.0
