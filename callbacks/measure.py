"""What a network is judged by, in a plain loop that can run inside ``fit`` (a Trainer call there would end the fit).

That is accuracy, or what the module has as ``metric``, see :mod:`prunekit.metrics`.

What is measured, and on what, are two functions that a user can give:

- ``predict(module, batch)`` gives logits and classes of a batch; by default a batch is ``(inputs, classes, ...)`` and
  the module is called with the inputs. :func:`prunekit.measuring.each_sample` says which forms they may have. A module
  that goes on from batch to batch has ``predictor()``, which gives such a function anew for each measurement.
- ``data(trainer, part)`` gives the batches of ``train``, ``validation`` or ``test``, and None where there are none. On
  several devices it gives those of this rank; each sample counts as often as all ranks together give it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import Any

import torch
import torchmetrics
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from prunekit import measuring
from prunekit.errors import ArgumentError
from prunekit.measuring import Outcome, Predict
from prunekit.metrics import metric_of
from prunekit.random_state import undisturbed

TRAIN, VALIDATION, TEST = "train", "validation", "test"
Data = Callable[[Trainer, str], Iterable[Any] | None] | None  # None: as own_data below


def own_data(trainer: Trainer, part: str) -> Iterable[Any] | None:
    """The batches of the data module, else of the loaders that ``fit`` was given, else of the module's own hooks.

    Several loaders of one part follow each other. On several devices each rank takes its share of a ``DataLoader``
    that gives all of them the same batches; of anything else every rank takes what it is given.
    """
    fit = trainer.fit_loop
    loops: dict[str, Any] = {TRAIN: fit, VALIDATION: fit.epoch_loop.val_loop, TEST: trainer.test_loop}
    source = loops[part]._data_source
    if not source.is_defined():
        return None
    loaders: Any = getattr(source.instance, source.name)() if source.is_module() else source.instance
    there = [loader for loader in CombinedLoader(loaders, "sequential").flattened if not _is_empty(loader)]
    return chain.from_iterable(_of_this_rank(trainer, loader) for loader in there) if there else None


def _is_empty(batches: Any) -> bool:
    try:
        return batches is None or len(batches) == 0
    except TypeError:  # a stream, whose length nobody knows
        return False


def _of_this_rank(trainer: Trainer, loader: Any) -> Iterable[Any]:
    if trainer.world_size == 1 or not isinstance(loader, DataLoader):
        return loader  # type: ignore[no-any-return]
    plain = isinstance(loader.sampler, SequentialSampler) and type(loader.batch_sampler) in (BatchSampler, type(None))
    return islice(loader, trainer.global_rank, None, trainer.world_size) if plain else loader


def has_part(trainer: Trainer, part: str, data: Data = None) -> bool:
    """Whether there are batches of ``train``, ``validation`` or ``test``."""
    return not _is_empty((data or own_data)(trainer, part))


def watched_part(trainer: Trainer, data: Data = None) -> str:
    """The part of the data that curves and events are measured on: validation, or test where that is empty.

    Raises:
        ArgumentError: if there is neither.
    """
    for part in (VALIDATION, TEST):
        if has_part(trainer, part, data):
            return part
    raise ArgumentError("data", "no validation data and no test data", _wanted(VALIDATION))


def _wanted(part: str) -> str:
    hook = {TRAIN: "train_dataloader", VALIDATION: "val_dataloader", TEST: "test_dataloader"}[part]
    return f"a {hook} of the data module, of the model or given to fit; or a function data(trainer, part) of batches"


def batches_of(trainer: Trainer, part: str, data: Data = None) -> Iterable[Any]:
    """This rank's batches of ``train``, ``validation`` or ``test``.

    Raises:
        ArgumentError: if there are none.
    """
    batches = (data or own_data)(trainer, part)
    if batches is None or _is_empty(batches):
        raise ArgumentError("data", f"no {part} data", _wanted(part))
    return batches


def scoring_loader(trainer: Trainer, data: Data = None) -> Any:
    """What serves this rank's training samples in their own order, each once over all ranks.

    It is the data module's ``scoring_dataloader``; where there is none, the training batches.

    Raises:
        ArgumentError: on several devices, if there is none.
    """
    serve = getattr(getattr(trainer, "datamodule", None), "scoring_dataloader", None)
    if data is None and serve is not None:
        return serve()
    if data is None and trainer.world_size > 1:
        accepted = "on several devices need a data module with scoring_dataloader, as prunekit's have"
        raise ArgumentError("data", "none", accepted)
    return batches_of(trainer, TRAIN, data)


@torch.no_grad()
def outputs_and_targets(
    trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the module makes of this rank's batches, and their targets, batch by batch, on the trainer's device."""
    batches = batches_of(trainer, part, data)
    predict = predict or getattr(module, "predictor", lambda: measuring.predict)()
    with evaluating(module, trainer.strategy.root_device):
        for batch in on_device(trainer, batches):
            with trainer.precision_plugin.forward_context():
                found = predict(module, batch)
            yield found


def predictions(
    trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """This rank's logits ``(n, classes)`` and classes ``(n,)``, batch by batch, on the trainer's device."""
    with closing(outputs_and_targets(trainer, module, part, predict, data)) as found:  # type: ignore[type-var]
        for logits, classes in found:
            yield measuring.each_sample(logits, classes)


def check_first_batch(
    trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None
) -> None:
    """Refuse what cannot be measured by measuring one batch.

    Raises:
        ArgumentError: if there are no batches, or if a batch or what the module gives is of no form that is known.
    """
    metric = metric_of(module)
    look = predictions if metric.make is None else outputs_and_targets
    with closing(look(trainer, module, part, predict, data)) as found:  # type: ignore[type-var]
        first = next(found, None)
    if first is not None and metric.make is not None:
        _take(metric.make().to(trainer.strategy.root_device), *first)


def outcome(
    trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None
) -> Outcome:
    """What ``module`` takes this rank's samples for; on return it is on the device and in the mode it came in."""
    return measuring.outcome(predictions(trainer, module, part, predict, data), trainer.strategy.root_device)


def accuracy_of(trainer: Trainer, taken: Outcome) -> float:
    """The share of samples of all ranks, in [0, 1], that were taken for what they are."""
    counts = measuring.right_and_all(taken)
    right, total = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
    if not total:
        raise ArgumentError("data", "loaders without a sample", "some to measure on, at each time anew")
    return float(right / total)


def confusion_of(trainer: Trainer, taken: Outcome) -> Tensor:
    """How many samples of each class (row), over all ranks, were taken for which (column).

    Returns:
        ``(classes, classes)`` int64 on the CPU.
    """
    counts = measuring.confusion_counts(taken, number_of_classes(trainer, taken))
    matrix: Tensor = trainer.strategy.reduce(counts.to(trainer.strategy.root_device), reduce_op="sum")
    return matrix.cpu()


def chance_of(trainer: Trainer, taken: Outcome) -> tuple[float, int]:
    """The share of the most common class, which saying it always would reach, and of how many samples it is."""
    there = taken.classes[taken.classes >= 0].cpu()  # counted there, as deterministic algorithms refuse it on a GPU
    counted = torch.bincount(there, minlength=number_of_classes(trainer, taken)).to(trainer.strategy.root_device)
    counts: Tensor = trainer.strategy.reduce(counted, reduce_op="sum")
    total = int(counts.sum())
    return (float(counts.max() / total) if total else math.nan), total


def number_of_classes(trainer: Trainer, taken: Outcome) -> int:
    """How many classes there are; a rank without samples learns it from the others."""
    number = torch.tensor(taken.number, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(number, reduce_op="max") if trainer.world_size > 1 else number)


def _take(meter: torchmetrics.Metric, outputs: Tensor, targets: Tensor) -> None:
    try:
        meter.update(outputs, targets)
    except (ValueError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        got = f"what {type(meter).__name__} cannot measure ({type(error).__name__}: {error})"
        raise ArgumentError(
            "predict", got, "a function predict(module, batch) that gives outputs and targets"
        ) from error


def value_of(trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None) -> float:
    """What ``module`` is judged by, over all ranks: its accuracy, or the value of its ``metric``.

    Arguments and errors are those of :func:`accuracy`.
    """
    metric = metric_of(module)
    if metric.make is None:
        return accuracy(trainer, module, part, predict, data)
    meter = metric.make().to(trainer.strategy.root_device)
    for outputs, targets in outputs_and_targets(trainer, module, part, predict, data):
        _take(meter, outputs, targets)
    value = float(meter.compute())
    if math.isnan(value):
        got = f"a {metric.name} that is no number"
        raise ArgumentError("data", got, "some samples to measure on, and a module whose outputs are finite")
    return value


def accuracy(trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None) -> float:
    """The share of samples that ``module`` classifies right, over all ranks, each sample once.

    Args:
        trainer: whose data this is.
        module: on return it is on the device and in the mode it came in.
        part: ``train``, ``validation`` or ``test``.
        predict: gives logits and classes of a batch; None for ``(inputs, classes, ...)``.
        data: gives the batches of a part; None for those that the trainer has.

    Returns:
        A number in [0, 1].

    Raises:
        ArgumentError: if there is nothing to measure on, or it has no form that is known.
    """
    return accuracy_of(trainer, outcome(trainer, module, part, predict, data))


def confusion(
    trainer: Trainer, module: LightningModule, part: str, predict: Predict = None, data: Data = None
) -> Tensor:
    """How many samples of each class (row) are taken for which (column), over all ranks, each sample once.

    Arguments and errors are those of :func:`accuracy`.

    Returns:
        ``(classes, classes)`` int64 on the CPU.
    """
    return confusion_of(trainer, outcome(trainer, module, part, predict, data))


def on_device(trainer: Trainer, batches: Iterable[Any]) -> Iterator[Any]:
    """The batches on the trainer's device and in its precision."""
    for batch in batches:
        yield trainer.precision_plugin.convert_input(trainer.strategy.batch_to_device(batch))


@contextmanager
def placed(module: LightningModule, device: torch.device) -> Iterator[None]:
    """``module`` on ``device`` meanwhile: after a fit Lightning leaves it on the CPU; batches go to the trainer's."""
    before = module.device
    module.to(device)
    try:
        yield
    finally:
        module.to(before)


@contextmanager
def evaluating(module: LightningModule, device: torch.device) -> Iterator[None]:
    """``module`` in evaluation mode and on ``device``; then as it came.

    Each part of it is in its own mode again, as a frozen one may be in evaluation mode while the rest is trained, and
    random numbers go on as if nothing had been drawn: a ``DataLoader`` draws some whenever it is iterated.
    """
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with placed(module, device), undisturbed(device):
            yield
    finally:
        for part, mode in training.items():
            part.training = mode
