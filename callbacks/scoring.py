"""Groups looked at and scored inside ``fit``: one pass over the training data, none where others have left it."""

import inspect
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache as once
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from safetensors.torch import save
from torch import Tensor

from prunekit import units
from prunekit.cache import Cache
from prunekit.calibration import Calibration, Predict, Seen, alone, predict_batch
from prunekit.callbacks.images import folder_of
from prunekit.callbacks.measure import Data, evaluating, on_device, scoring_loader
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.digests import digest, tensor_digest
from prunekit.errors import ArgumentError
from prunekit.files import write_whole
from prunekit.groups import Grouping, Groups
from prunekit.pruning import all_needs
from prunekit.repair import Repair
from prunekit.units.moments import OutputMoments

log = logging.getLogger("prunekit")


class Scored(NamedTuple):
    """What is known of groups: their scores by criterion, and what was seen of them for a repair or a picture."""

    scores: dict[str, Scores]
    seen: Seen


def score(
    module: pl.LightningModule,
    grouping: Grouping,
    groups: Groups,
    criteria: Mapping[str, Criterion],
    repair: Repair | None = None,
    cache: Cache | None = None,
    watch: bool = False,
    predict: Predict | None = None,
    data: Data | None = None,
) -> Scored:
    """Score groups by several criteria, with at most one pass over the training data.

    What needs the pass is taken from the cache where it is there, and left there where it is not.

    Args:
        module: attached to a trainer.
        grouping: what made the groups.
        groups: of the module as it is.
        criteria: by name.
        repair: whose needs are seen as well.
        cache: where runs keep for each other what they have found; None for nowhere.
        watch: whether the pass is made even if all is known.
        predict: how the module takes a batch; None for ``module(x)``.
        data: gives the batches of a part; None for those that the trainer has, whose data module may say by
            ``valid(batch)`` which steps of padded sequences are no padding, ``(N, T)`` bool.

    Raises:
        ArgumentError: if the module or what it gives cannot be scored.
    """
    needs = all_needs(criteria.values(), repair)
    kept, share = cache or Cache(), module.trainer.strategy.broadcast if module.trainer.world_size > 1 else alone
    network = tensor_digest(module.state_dict()) if needs and cache is not None else ""
    # The code counts as well: after a change to it scores are others.
    of = {
        "network": network,
        "device": module.trainer.strategy.root_device.type,  # not where the module lies: after a fit that is the CPU
        "grouping": [grouping.word, vars(grouping)],
        "code": [_code(), _source(type(module))] if "success" in needs else _code(),
    }
    made: list[Seen] = []

    def look() -> Seen:
        if not made:
            made.append(_observe(module, grouping, needs, predict, data))
        return made[0]

    def take(inputs: dict[str, Any], make: Callable[[], dict[str, Tensor]], needed: Iterable[str]) -> dict[str, Tensor]:
        return kept.get({**of, **inputs}, make, share) if needed else make()

    scores = {}
    with _refusing(module, grouping, criteria):
        for name, criterion in criteria.items():
            kind = f"{type(criterion).__module__}.{type(criterion).__qualname__}"
            inputs = {"criterion": kind, "arguments": vars(criterion), "code": [_code(), _source(type(criterion))]}
            found = take(
                inputs,
                lambda c=criterion: _content(c.checked(module, groups, look() if c.needs else Seen())),  # type: ignore[misc]
                criterion.needs,
            )
            scores[name] = Scores(found["values"], found.get("p_values"))
        seen = look() if watch else Seen()
        wanted = repair.needs if repair is not None else frozenset()
        if "moments" in wanted:
            content = take({"seen": "moments"}, lambda: _moments(look()), wanted)
            seen = replace(seen, moments=OutputMoments.of_parts(content))
        if "means" in wanted:
            seen = replace(seen, means=take({"seen": "means"}, lambda: _means(look()), wanted)["means"])
        if "calibration" in wanted:
            seen = replace(seen, calibration=_calibration(module, predict, data, again=True))
    for name, (values, _) in scores.items():
        if len(values) > 1 and bool((values == values[0]).all()):
            log.warning(
                "%s: all %ss have the same score, so they go in the order of their numbers", name, grouping.word
            )
    return Scored(scores, seen)


def look_at_first(
    module: pl.LightningModule,
    grouping: Grouping,
    criteria: Mapping[str, Criterion],
    repair: Repair | None = None,
    predict: Predict | None = None,
    data: Data | None = None,
) -> None:
    """Refuse a module or data that could not be scored later by looking at the first batch; on one device alone.

    Raises:
        ArgumentError: as :func:`score` does.
    """
    needs = all_needs(criteria.values(), repair)
    if needs and module.trainer.world_size == 1:
        with _refusing(module, grouping, criteria):
            _observe(module, grouping, needs, predict, data, batches=1)


@contextmanager
def _refusing(module: pl.LightningModule, grouping: Grouping, criteria: Iterable[str]) -> Iterator[None]:
    try:
        yield
    except ArgumentError:
        raise
    except (ValueError, TypeError) as error:
        got = f"{', '.join(criteria)} on a {type(module).__name__}: {error}"
        raise ArgumentError("criterion", got, f"{grouping.word}s that can be scored") from error


def _content(scores: Scores) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in scores._asdict().items() if tensor is not None}


def _moments(seen: Seen) -> dict[str, Tensor]:
    assert seen.moments is not None
    return OutputMoments.content_of(seen.moments)


def _means(seen: Seen) -> dict[str, Tensor]:
    assert seen.means is not None
    return {"means": seen.means}


@once
def _code() -> str:
    """A digest of the code that what is seen is made by."""
    return digest([path.read_text() for path in sorted(Path(units.__file__).parent.glob("*.py"))])


def _source(kind: type[Any]) -> str:
    """A digest of the file of a class, such as a criterion's."""
    try:
        return digest(Path(inspect.getsourcefile(kind) or "").read_text())
    except (TypeError, OSError):  # written in a notebook or a shell: of no file, so others cannot know it
        return uuid.uuid4().hex


def _observe(
    module: pl.LightningModule,
    grouping: Grouping,
    needs: frozenset[str],
    predict: Predict | None,
    data: Data | None,
    batches: int | None = None,
) -> Seen:
    trainer = module.trainer
    with evaluating(module, trainer.strategy.root_device), trainer.precision_plugin.forward_context():
        return grouping.observe(module, needs, _calibration(module, predict, data, batches))


def _calibration(
    module: pl.LightningModule,
    predict: Predict | None,
    data: Data | None,
    batches: int | None = None,
    again: bool = False,
) -> Calibration:
    """The training data, in the same order each time they are gone through."""
    trainer = module.trainer
    device, loader = trainer.strategy.root_device, scoring_loader(trainer, data)
    kept: list[Any] = []

    class Batches:
        def __iter__(self) -> Iterator[Any]:
            if not again:
                return iter(on_device(trainer, islice(loader, batches)))
            if not kept:  # somebody's loader may shuffle each time
                kept.extend(islice(loader, batches))
            return iter(on_device(trainer, kept))

    def add_up(local: Tensor) -> Tensor:
        total: Tensor = trainer.strategy.reduce(local.to(device), reduce_op="sum")
        return total.cpu()

    told = getattr(module, "success", None)
    success = (lambda _, batch: told(batch)) if callable(told) else None
    valid = getattr(getattr(trainer, "datamodule", None), "valid", None) if data is None else None
    given = Calibration(Batches(), predict or predict_batch, valid=valid, success=success)
    if trainer.world_size > 1:
        if not hasattr(loader, "rows"):
            accepted = "on several devices one whose scoring_dataloader says which rows are a rank's, as prunekit's do"
            raise ArgumentError("datamodule", type(trainer.datamodule).__name__, accepted)  # type: ignore[attr-defined]
        rows = loader.rows()
        samples = int(add_up(torch.tensor(len(rows))))
        given = replace(given, rows=rows, samples=samples, sum_over_ranks=add_up)
    return given


def leave_scores(trainer: pl.Trainer, file_name: str, scores: Mapping[str, Scores]) -> None:
    """Save scores, and p-values as ``<name>.p_values``, in the run's folder; show their histograms in TensorBoard."""
    if not trainer.is_global_zero:
        return
    content = {name: found.values for name, found in scores.items()}
    content |= {f"{name}.p_values": found.p_values for name, found in scores.items() if found.p_values is not None}
    write_whole(folder_of(trainer) / file_name, lambda file: file.write(save(content)))
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, found in scores.items():
                logger.experiment.add_histogram(f"scores/{name}", found.values, trainer.current_epoch)
