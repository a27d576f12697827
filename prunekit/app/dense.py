"""The dense part of a run: trained once, kept whole, shared by all runs that differ in nothing it depends on."""

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar

from prunekit.app.build import build_callbacks, build_trainer, fit
from prunekit.app.builder import Builder
from prunekit.app.checkpoint_file import CheckpointFile, newest_readable
from prunekit.app.config import Config
from prunekit.app.errors import ConfigError
from prunekit.app.rehearsal import rehearse
from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.pruning import Pruning
from prunekit.errors import ArgumentError
from prunekit.files import read_record, write_record
from prunekit.folders import clear, clear_remains
from prunekit.rank import is_rank_zero

CHECKPOINT, RECORD = "dense.ckpt", "dense.json"
# Dense training depends on no other callback that is not named, so that runs with other callbacks can share it.
CALLBACKS = (Curves, Checkpoints, ProgressBar)
log = logging.getLogger("prunekit")


def dense_checkpoint(
    config: Config,
    stamp: dict[str, Any],
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    folder: Path,
    start: CheckpointFile | None = None,
    builder: Builder | None = None,
    **given: Any,
) -> CheckpointFile:
    """Train the dense network in ``folder``, or find it trained there.

    Args:
        config: the resolved config.
        stamp: what checkpoints say of the run that wrote them.
        module: of the right seed and untrained; left trained, or untouched if the network is found.
        data: what it is trained on.
        folder: the dense network's own; the caller holds its lock.
        start: a checkpoint to go on from, instead of the newest in the folder.
        builder: the run's.
        given: further arguments of callbacks that no config holds.

    Returns:
        The checkpoint of the last dense epoch.
    """
    found = newest_readable([path for path in [folder / CHECKPOINT] if path.exists()])
    if found is not None:
        log.info("dense network: taken from %s", folder)
        return found
    built = build_callbacks(config, stamp, builder, **given)
    rehearse(config, module, data, built.values())
    start = start or newest_readable(list_checkpoints(folder / "checkpoints"))
    say_resumed(start, config["dense_epochs"])
    started = time.perf_counter()
    taken = dense_callbacks(config, built)
    if later := ", ".join(name for name in built if name not in taken):
        log.info(
            "in the dense epochs: %s; only after them: %s (dense_callbacks=[...] adds to these)",
            ", ".join(taken),
            later,
        )
    callbacks = list(taken.values())
    trainer = build_trainer(config, folder, callbacks, config["dense_epochs"], builder, start)
    clear_remains(folder)
    fit(trainer, module, data, start)
    if is_rank_zero():
        curves = next(callback for callback in callbacks if isinstance(callback, Curves))
        before = start.seconds if start is not None else None
        record = {
            "seconds": (before or 0.0) + time.perf_counter() - started,
            f"test_{curves.metric.key}": curves.final_test,
        }
        write_record(folder / RECORD, record)
        list_checkpoints(folder / "checkpoints")[-1].replace(folder / CHECKPOINT)
        clear(folder / "checkpoints")
    trainer.strategy.barrier()
    dense = newest_readable([folder / CHECKPOINT])
    assert dense is not None
    return dense


def say_resumed(start: CheckpointFile | None, end: int) -> None:
    """Tell from where training goes on."""
    if start is not None:
        log.info("resumed: training goes on after %s of %d, from %s", start.progress, end, start.path)


def dense_callbacks(config: Config, built: dict[str, Callback]) -> dict[str, Callback]:
    """Of a run's callbacks those of the dense epochs: what measures, saves and shows, and what the config names.

    Raises:
        ConfigError: if one is named that is not there, or that prunes.
    """
    for name in config["dense_callbacks"]:
        if isinstance(built.get(name), Pruning | None):
            accepted = f"names of callbacks that do not prune: {', '.join(built)}"
            raise ConfigError("dense_callbacks", config["dense_callbacks"], accepted)
    return {n: c for n, c in built.items() if isinstance(c, CALLBACKS) or n in config["dense_callbacks"]}


def dense_record(folder: Path) -> dict[str, Any]:
    """What is known of a dense training: its ``seconds``, ``test_acc`` or so; nothing if it was done elsewhere."""
    try:
        return read_record(folder / RECORD) or {}
    except ArgumentError as error:
        log.warning("%s; it is left out, and what it said is measured again", error)
        return {}
