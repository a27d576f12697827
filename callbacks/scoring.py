"""Units scored inside ``fit``: one pass over the training clips, without gradients."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from safetensors.torch import save
from torch import Tensor, nn

from prunekit.callbacks.measure import evaluating, on_device, scoring_loader
from prunekit.errors import ConfigError, check_choice
from prunekit.files import write_whole
from prunekit.rank import is_rank_zero
from prunekit.reuse import SharedScores, network_digest
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.criteria.gate_means import GateMeans
from prunekit.units.gates import check_gates
from prunekit.units.links import recurrent_link
from prunekit.units.moments import OutputMoments
from prunekit.units.series import Recorder, UnitSeries

log = logging.getLogger("prunekit")


def find_lstm(module: pl.LightningModule, name: str, key: str) -> nn.LSTM:
    """The LSTM of ``module`` called ``name``.

    Raises:
        ConfigError: if there is none, or it has two directions or a projection.
    """
    found = dict(module.named_modules()).get(name)
    if not isinstance(found, nn.LSTM):
        there = [other for other, part in module.named_modules() if isinstance(part, nn.LSTM)]
        raise ConfigError(key, name, f"the name of an nn.LSTM of the model; there: {', '.join(there) or 'none'}")
    if found.bidirectional or found.proj_size:
        raise ConfigError(key, name, "an LSTM of one direction and without projection")
    return found


def find_reader(module: pl.LightningModule, lstm: str, head: str, key: str) -> tuple[str, nn.Linear]:
    """The linear layer that reads an LSTM's outputs as they are, or means of them, and its name.

    Raises:
        ConfigError: if the head does not begin with one.
    """
    accepted = "a head that begins with an nn.Linear"
    try:
        link = recurrent_link(module, lstm, head)
    except ValueError as error:
        raise ConfigError(f"{key}.head", f"{head}: {error}", accepted) from None
    for name in link.between:
        if not isinstance(module.get_submodule(name), nn.Identity | nn.Dropout):
            raise ConfigError(f"{key}.head", f"{head}, where {name} is between {lstm} and {link.reader}", accepted)
    reader = module.get_submodule(link.reader)
    assert isinstance(reader, nn.Linear)
    return link.reader, reader


def check_grain(key: str, grain: str, criteria: Iterable[Criterion], compensation: str) -> str:
    """Accept what is pruned, each ``unit`` or each ``gate``, if all criteria can score it.

    Raises:
        ConfigError: otherwise, and for gates with compensation.
    """
    check_choice(f"{key}.granularity", grain, ("unit", "gate"))
    for criterion in criteria:
        if grain not in criterion.grains:
            accepted = f"{' or '.join(criterion.grains)} for {criterion.name}"
            raise ConfigError(f"{key}.granularity", grain, accepted)
    if grain == "gate" and compensation != "none":
        accepted = "none with granularity=gate: a removed gate is no linear map of others"
        raise ConfigError(f"{key}.compensation", compensation, accepted)
    return grain


def check_module(
    module: pl.LightningModule,
    lstm: str,
    head: str,
    criteria: Iterable[Criterion],
    grain: str,
    compensation: str,
    key: str,
) -> nn.LSTM:
    """The LSTM of a module whose units or gates can be scored and removed as is asked.

    Args:
        module: any.
        lstm: name of the LSTM.
        head: name of the part that makes logits of its outputs; need not be there if nobody looks at it.
        criteria: what scores.
        grain: what is removed, each ``unit`` or each ``gate``.
        compensation: ``none`` or ``linear``.
        key: the config key of the callback, for messages.

    Raises:
        ConfigError: if the LSTM or the head is missing or not of the kind that this takes.
    """
    layer = find_lstm(module, lstm, f"{key}.lstm")
    criteria, linear = list(criteria), compensation != "none"
    if grain == "gate":
        try:
            check_gates(layer)
        except ValueError as error:
            got = f"{lstm}, {error}"
            raise ConfigError(f"{key}.lstm", got, "for gates an LSTM of one layer with biases") from None
    if grain == "gate" or linear or any(criterion.needs_series for criterion in criteria):
        _check_head(module, head, f"{key}.head")
    if linear or any(criterion.needs_moments for criterion in criteria):
        find_reader(module, lstm, head, key)
    return layer


def _check_head(module: pl.LightningModule, name: str, key: str) -> None:
    parts = [other for other, _ in module.named_modules() if other]
    if name not in parts:
        raise ConfigError(
            key, name, f"the part of the model that makes logits of the LSTM's outputs; {', '.join(parts)}"
        )


class Scored(NamedTuple):
    """What is known of the units of an LSTM.

    Attributes:
        scores: by criterion.
        series: what the units did over the training clips, if there was a pass.
        moments: of their outputs, if they were asked for.
        means: of the gates' activations, ``(4 * units,)`` float64, if gates were scored: what removed ones become.
    """

    scores: dict[str, Scores]
    series: UnitSeries | None
    moments: OutputMoments | None
    means: Tensor | None


def score(
    module: pl.LightningModule,
    lstm: str,
    head: str,
    criteria: Mapping[str, Criterion],
    key: str,
    shared: SharedScores | None = None,
    watch: bool = False,
    moments: bool = False,
    grain: str = "unit",
) -> Scored:
    """Score the units of an LSTM by several criteria, with at most one pass over the training clips.

    What needs the pass is taken from ``shared`` where it is there, and left there where it is not.

    Args:
        module: attached to a trainer whose data module serves the clips.
        lstm: name of the LSTM.
        head: name of the part that makes logits of its outputs.
        criteria: by name.
        key: the config key of the callback, for messages.
        shared: where runs with one dense network keep scores for each other; None for nowhere.
        watch: whether the series are wanted even if all scores are known.
        moments: whether the moments of the outputs are wanted too.
        grain: what is scored, each ``unit`` or each ``gate``.

    Raises:
        ConfigError: if the model or what it gives cannot be scored.
    """
    layer = find_lstm(module, lstm, f"{key}.lstm")
    wanted = {**criteria, GateMeans.name: GateMeans()} if grain == "gate" else criteria
    with _known(module, lstm, head, wanted, shared, moments, grain) as (known, known_moments, leave):
        todo = {name: criterion for name, criterion in wanted.items() if name not in known}
        take_moments = known_moments is None and (moments or any(c.needs_moments for c in todo.values()))
        try:
            passed = watch or take_moments or any(criterion.needs_series for criterion in todo.values())
            series = _record(module, layer, head, take_moments, grain) if passed else None
            if series is not None and any(criterion.needs_moments for criterion in todo.values()):
                read_by = find_reader(module, lstm, head, key)[1].weight.detach()
                series = replace(series, moments=known_moments or series.moments, read_by=read_by)
            found = {
                name: criterion.scores(layer, series) if grain == "unit" else criterion.gate_scores(layer, series)
                for name, criterion in todo.items()
            }
        except (ValueError, TypeError) as error:
            got = f"{lstm} and {head} of {type(module).__name__}: {error}"
            raise ConfigError(key, got, "units to score") from error
        new_moments = series.moments if take_moments and series is not None else None
        leave(found, new_moments)
    every = {**known, **found}
    scores = {name: every[name] for name in criteria}
    for name, (values, _) in scores.items():
        if bool((values == values[0]).all()):
            log.warning("%s: all units have the same score, so they go in the order of their numbers", name)
    means = every[GateMeans.name].values if grain == "gate" else None
    return Scored(scores, series, known_moments or new_moments, means)


Leave = Callable[[Mapping[str, Scores], OutputMoments | None], None]


@contextmanager
def _known(
    module: pl.LightningModule,
    lstm: str,
    head: str,
    criteria: Mapping[str, Criterion],
    shared: SharedScores | None,
    moments: bool,
    grain: str,
) -> Iterator[tuple[dict[str, Scores], OutputMoments | None, Leave]]:
    """What others have left, and how to leave more; meanwhile nobody else works on the same."""
    strategy = module.trainer.strategy
    if shared is None or not (moments or any(criterion.needs_series for criterion in criteria.values())):
        yield {}, None, lambda found, moments: None
        return
    places: dict[str, Path] = {}
    moments_place: Path | None = None
    if is_rank_zero():
        network = network_digest(module)
        for name, criterion in criteria.items():
            place = shared.place(network, lstm, head, criterion, grain) if criterion.needs_series else None
            if place is not None:
                places[name] = place
        if moments or any(criterion.needs_moments for criterion in criteria.values()):
            moments_place = shared.moments_place(network, lstm)

    def leave(found: Mapping[str, Scores], new: OutputMoments | None) -> None:
        for name, scores in found.items():
            if name in places:
                shared.save(places[name], scores)
        if moments_place is not None and new is not None:
            shared.save_moments(moments_place, new)

    with shared.hold([*places.values(), *([moments_place] if moments_place is not None else [])]):
        there = {name: old for name, place in places.items() if (old := shared.load(place)) is not None}
        wanted = moments or any(c.needs_moments for name, c in criteria.items() if name not in there)
        old_moments = shared.load_moments(moments_place) if wanted and moments_place is not None else None
        there, old_moments = strategy.broadcast((there, old_moments))
        yield there, old_moments, leave


def _record(module: pl.LightningModule, layer: nn.LSTM, head: str, moments: bool, grain: str) -> UnitSeries:
    trainer = module.trainer
    batches = scoring_loader(trainer)
    recorder = Recorder(layer, module.get_submodule(head), moments, gates=grain == "gate")
    with evaluating(module, trainer.strategy.root_device), trainer.precision_plugin.forward_context():
        recorder.run(module, on_device(trainer, batches))

    def add_up(local: Tensor) -> Tensor:
        total: Tensor = trainer.strategy.reduce(local.to(trainer.strategy.root_device), reduce_op="sum")
        return total.cpu()

    if trainer.world_size == 1:
        return recorder.series()
    rows = batches.rows() if hasattr(batches, "rows") else None
    if rows is None:
        raise ValueError(
            "on several devices scoring_dataloader has to say which rows are this rank's, as prunekit's do"
        )
    return recorder.series(rows, int(add_up(rows.new_tensor(len(rows)))), add_up)


def leave_scores(trainer: pl.Trainer, file_name: str, scores: Mapping[str, Scores]) -> None:
    """Save scores, and p-values as ``<name>.p_values``, in the run's folder; show their histograms in TensorBoard."""
    if not trainer.is_global_zero:
        return
    content = {name: found.values for name, found in scores.items()}
    content |= {f"{name}.p_values": found.p_values for name, found in scores.items() if found.p_values is not None}
    write_whole(Path(trainer.default_root_dir) / file_name, lambda file: file.write(save(content)))
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, found in scores.items():
                logger.experiment.add_histogram(f"scores/{name}", found.values, trainer.current_epoch)
