"""Units scored inside ``fit``: one pass over the training clips, without gradients."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from safetensors.torch import save
from torch import Tensor, nn

from callbacks.measure import evaluating
from prunekit.errors import ConfigError
from prunekit.runs.files import write_whole
from prunekit.runs.rank import is_rank_zero
from prunekit.runs.reuse import SharedScores, network_digest
from prunekit.units.criteria.criterion import Criterion, Scores
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


def check_head(module: pl.LightningModule, name: str, key: str) -> None:
    """Refuse a name that is no part of ``module``.

    Raises:
        ConfigError: with the names there are.
    """
    parts = [other for other, _ in module.named_modules() if other]
    if name not in parts:
        raise ConfigError(
            key, name, f"the part of the model that makes logits of the LSTM's outputs; {', '.join(parts)}"
        )


def score(
    module: pl.LightningModule,
    lstm: str,
    head: str,
    criteria: Mapping[str, Criterion],
    key: str,
    shared: SharedScores | None = None,
    watch: bool = False,
) -> tuple[dict[str, Scores], UnitSeries | None]:
    """Score the units of an LSTM by several criteria, with at most one pass over the training clips.

    Scores that need the pass are taken from ``shared`` where they are, and left there where they are not.

    Args:
        module: attached to a trainer whose data module serves the clips.
        lstm: name of the LSTM.
        head: name of the part that makes logits of its outputs.
        criteria: by name.
        key: the config key of the callback, for messages.
        shared: where runs with one dense network keep scores for each other; None for nowhere.
        watch: whether the series are wanted even if all scores are known.

    Returns:
        Scores by name, and the series if there was a pass.

    Raises:
        ConfigError: if the model or what it gives cannot be scored.
    """
    layer = find_lstm(module, lstm, f"{key}.lstm")
    with _known(module, lstm, head, criteria, shared) as (known, leave):
        todo = {name: criterion for name, criterion in criteria.items() if name not in known}
        try:
            passed = watch or any(criterion.needs_series for criterion in todo.values())
            series = _record(module, layer, head) if passed else None
            found = {name: criterion.scores(layer, series) for name, criterion in todo.items()}
        except (ValueError, TypeError) as error:
            got = f"{lstm} and {head} of {type(module).__name__}: {error}"
            raise ConfigError(key, got, "units to score") from error
        leave(found)
    scores = {name: known[name] if name in known else found[name] for name in criteria}
    for name, (values, _) in scores.items():
        if bool((values == values[0]).all()):
            log.warning("%s: all units have the same score, so they go in the order of their numbers", name)
    return scores, series


@contextmanager
def _known(
    module: pl.LightningModule, lstm: str, head: str, criteria: Mapping[str, Criterion], shared: SharedScores | None
) -> Iterator[tuple[dict[str, Scores], Callable[[Mapping[str, Scores]], None]]]:
    """The scores that others have left, and how to leave more; meanwhile nobody else works on the same."""
    strategy = module.trainer.strategy
    if shared is None or not any(criterion.needs_series for criterion in criteria.values()):
        yield {}, lambda found: None
        return
    places: dict[str, Path] = {}
    if is_rank_zero():
        network = network_digest(module)
        for name, criterion in criteria.items():
            place = shared.place(network, lstm, head, criterion) if criterion.needs_series else None
            if place is not None:
                places[name] = place

    def leave(found: Mapping[str, Scores]) -> None:
        for name, new in found.items():
            if name in places:
                shared.save(places[name], new)

    with shared.hold(places.values()):
        there = {name: old for name, place in places.items() if (old := shared.load(place)) is not None}
        yield strategy.broadcast(there), leave


def _record(module: pl.LightningModule, layer: nn.LSTM, head: str) -> UnitSeries:
    trainer = module.trainer
    data = trainer.datamodule  # type: ignore[attr-defined]
    serve: Callable[[], object] = getattr(data, "scoring_dataloader", data.train_dataloader)
    batches = serve()
    recorder = Recorder(layer, module.get_submodule(head))
    with evaluating(module, trainer.strategy.root_device):

        def on_device() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in batches:  # type: ignore[attr-defined]
                yield trainer.strategy.batch_to_device(batch)

        with trainer.precision_plugin.forward_context():
            recorder.run(module, on_device())

    def add_up(local: Tensor) -> Tensor:
        total: Tensor = trainer.strategy.reduce(local.to(trainer.strategy.root_device), reduce_op="sum")
        return total.cpu()

    if trainer.world_size == 1:
        return recorder.series()
    rows = batches.rows() if hasattr(batches, "rows") else None
    if rows is None:
        raise ValueError("several devices need a data module with scoring_dataloader, as prunekit's have")
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
