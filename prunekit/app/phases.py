"""The phases of a run, one after the other: dense training, pruning as a resume of the dense checkpoint, results."""

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.loggers import TensorBoardLogger

from prunekit.app import control
from prunekit.app import results as leave
from prunekit.app.build import build_callbacks, build_model, build_trainer, fit, schedule_end
from prunekit.app.builder import Builder
from prunekit.app.checkpoint_file import CheckpointFile, newest_readable
from prunekit.app.config import Config
from prunekit.app.control import TEACHER, controlled, teacher_of
from prunekit.app.data import fingerprint
from prunekit.app.dense import CHECKPOINT, dense_callbacks, dense_checkpoint, dense_record, say_resumed
from prunekit.app.errors import ConfigError
from prunekit.app.identity import content_digest, dense_hash, flat
from prunekit.app.kept import keep
from prunekit.app.measured import measured, training
from prunekit.app.setting import Setting, Shared
from prunekit.app.thread_choice import choose_threads
from prunekit.cache import Cache
from prunekit.callbacks.averaging import check_averaging
from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.curves import Curves, Known
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.pruning import Pruning
from prunekit.digests import digest
from prunekit.files import write_record, write_whole
from prunekit.folders import clear_remains, locked
from prunekit.metrics import ACCURACY, Metric, metric_of
from prunekit.rank import is_rank_zero

DENSE = ("model", "data", "seed", "dense_epochs", "trainer")  # what a dense network depends on
log = logging.getLogger("prunekit")


def run(setting: Setting, shared: Shared) -> dict[str, Any]:
    """All phases; what ``results.json`` holds.

    Raises:
        ConfigError: before any training, if the config, the data or a checkpoint cannot work.
    """
    told = control.described(setting.config)
    setting = setting._replace(config=controlled(setting.config), identity=controlled(setting.identity))
    config, folder, builder = setting.config, setting.folder, setting.builder
    data = data_of(setting, shared)
    try:
        module = new_network(config, data, builder)
        device = checked(setting, module)
        stamp = {"config_hash": setting.config_hash, "config": setting.identity}
        of_data = fingerprint(data)
        dense_id = stamp["dense_hash"] = dense_hash(setting.identity, of_data, device.type)
        if is_rank_zero():
            write_whole(folder / "config.yaml", lambda file: file.write(setting.text.encode()))
        sharing = config["reuse"] and setting.given is None
        dense_folder = (setting.home if sharing else folder) / "dense" / dense_id
        start = beginning(setting, module, dense_folder)
        of_start = told_of(setting, dense_id)
        given: dict[str, Any] = dict(taught_by(setting, stamp, data, of_data, device))
        if given:
            module = new_network(config, data, builder)  # as it would be had the teacher been there already
        if trains := start is None or start.epochs_done < config["dense_epochs"]:
            with locked(dense_folder, "paths.runs_dir", wait=True, share=setting.share):
                start = dense_checkpoint(config, stamp, module, data, dense_folder, start, builder, **given)
        record = dense_record(dense_folder)
        given |= known(setting, record, of_data, sharing, metric_of(module))
        callbacks = build_callbacks(config, stamp, builder, **given)
        end = schedule_end(config, callbacks.values())
        trainer = build_trainer(config, folder, list(callbacks.values()), end, builder, start)
        say_resumed(None if trains else start, end)
        clear_remains(folder)
        pl.seed_everything(config["seed"], workers=True, verbose=False)
        started = time.perf_counter()
        fit(trainer, module, data, start)
        before = None if trains else start.seconds
        seconds = time.perf_counter() - started + (record.get("seconds", 0.0) if before is None else before)
        found = measured(setting, trainer, module, data, callbacks, shared, seconds, given.get(TEACHER))
        found |= told | of_start | {"training": training(config, trainer, end, found["macs"])}
        if trainer.is_global_zero:
            found |= keep(folder, dense_folder / CHECKPOINT, module, current_mask(trainer), start)
            show_results(trainer, setting.shown, found["metrics"])
            found["config_digest"] = content_digest(yaml.safe_load(setting.text))
            (folder / "hparams.yaml").unlink(missing_ok=True)  # the logger's; config.yaml has more
            write_record(folder / leave.RESULTS, found)
        return found
    finally:
        data.trainer = None  # which would keep the network


def new_network(config: Config, data: Any, builder: Builder) -> pl.LightningModule:
    """The config's model with the weights that its seed gives, after which the seed's numbers go on."""
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    module = build_model(config["model"], getattr(data, "model_arguments", dict)(), builder)
    choose_threads(module, config["threads"])
    return module


def taught_by(
    setting: Setting, stamp: dict[str, Any], data: Any, of_data: str, device: torch.device
) -> dict[str, pl.LightningModule]:
    """The dense network that teaches in a control, trained or found, as callbacks are given it; else nothing."""
    config, identity = teacher_of(setting.config), teacher_of(setting.identity)
    if config is None or identity is None:
        return {}
    own = dense_hash(identity, of_data, device.type)
    folder = (setting.home if config["reuse"] else setting.folder) / "dense" / own
    log.info("the dense network that teaches")
    module = new_network(config, data, setting.builder)
    stamp = {**stamp, "config": identity, "dense_hash": own}
    with locked(folder, "paths.runs_dir", wait=True, share=setting.share):
        found = dense_checkpoint(config, stamp, module, data, folder, None, setting.builder)
    module.load_state_dict(found.content["state_dict"])
    return {TEACHER: module}


def show_results(trainer: pl.Trainer, shown: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Have loggers say what runs are compared by, and what came out."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(shown, metrics)
        else:  # others take no metrics along
            logger.log_hyperparams(shown)
            logger.log_metrics(metrics)
        logger.finalize("success")


def data_of(setting: Setting, shared: Shared) -> Any:
    """The config's data module, the last run's if that was the same."""
    node, builder = setting.config["data"], setting.builder
    key = digest(node)
    if key not in shared.data:
        shared.data.clear()
        data = builder.build(node, "data")
        shared.data[key] = data, dict(builder.built)
    data, built = shared.data[key]
    builder.built |= built
    return data


def checked(setting: Setting, module: pl.LightningModule) -> torch.device:
    """Refuse what would fail only after the dense training; the device that is trained on."""
    config = setting.config
    callbacks = build_callbacks(config, {}, setting.builder)
    dense_callbacks(config, callbacks)
    for wanted in (Curves, Checkpoints):
        if not any(isinstance(callback, wanted) for callback in callbacks.values()):
            accepted = f"a list with {wanted.__name__.lower()}: a run cannot do without"
            raise ConfigError("callbacks", list(config["callbacks"]), accepted)
    if config["trainer"].get("limit_train_batches") == 0:
        raise ConfigError("trainer.limit_train_batches", 0, "null, or at least one batch")
    for callback in callbacks.values():
        if isinstance(callback, Pruning | PruningObserver):
            callback.check(module)
    end = schedule_end(config, callbacks.values())
    last = max((callback.schedule.last for callback in callbacks.values() if isinstance(callback, Pruning)), default=-1)
    check_averaging(list(callbacks.values()), last, end)
    trainer = build_trainer(config, setting.folder, list(callbacks.values()), end, setting.builder)
    return torch.device(trainer.strategy.root_device)


def known(
    setting: Setting, record: dict[str, Any], of_data: str, sharing: bool, metric: Metric = ACCURACY
) -> dict[str, Any]:
    """What callbacks are given that no config holds: where scores are shared, what is known of the dense network."""
    if not sharing:
        return {}
    said = f"test_{metric.key}"
    dense = (setting.config["dense_epochs"], record[said]) if said in record else None
    return {"cache": Cache(setting.home / "shared", {"data": of_data}), "known": Known(own_rows=True, dense=dense)}


def told_of(setting: Setting, dense_id: str) -> dict[str, Any]:
    """What results say of another run's checkpoint that this one was told to go on from; nothing of its own.

    Raises:
        ConfigError: if it was trained for other epochs than this run trains before it prunes.
    """
    given = setting.given
    if given is None or given.stamp.get("config_hash") == setting.config_hash:
        return {}
    theirs, ours = given.stamp.get("config"), setting.identity
    trained = theirs["dense_epochs"] if isinstance(theirs, dict) else max(given.epochs_done, ours["dense_epochs"])
    if trained != ours["dense_epochs"] and given.epochs_done > ours["dense_epochs"]:
        got = f"{ours['dense_epochs']}, while {given.path} was trained for {trained} epochs before it was pruned"
        raise ConfigError("dense_epochs", got, f"{trained}, or the checkpoint of as many epochs")
    differs: dict[str, Any] = {}
    if isinstance(theirs, dict) and given.stamp.get("dense_hash") != dense_id:
        own, other = (flat({key: each.get(key) for key in DENSE}) for each in (ours, theirs))
        differs = {key: [other.get(key), own.get(key)] for key in own.keys() | other.keys()}
        differs = {key: pair for key, pair in sorted(differs.items()) if pair[0] != pair[1]}
        words = ", ".join(f"{key}: {pair[0]} there, {pair[1]} here" for key, pair in differs.items())
        log.warning("%s is of other settings (%s)", given.path, words or "other data or another device")
    about = {"checkpoint": str(given.path), "epochs": given.epochs_done, "run": given.stamp.get("config_hash")}
    return {"start": {**about, "differs": differs}}


def beginning(setting: Setting, module: pl.LightningModule, dense_folder: Path) -> CheckpointFile | None:
    """The checkpoint to go on from: the given file, or this run's newest; None if the dense part comes first.

    Raises:
        ConfigError: if it is another model's, or if there should be one and is none.
    """
    start = setting.given or newest_readable(list_checkpoints(setting.folder / "checkpoints"))
    if start is not None:
        start.require_fit(module)
    elif setting.config["ckpt_path"] == "last" and not any(dense_folder.rglob("*.ckpt")):
        looked = f"last, but there is no checkpoint in {setting.folder} or {dense_folder}"
        raise ConfigError("ckpt_path", looked, "null to start from scratch, or a checkpoint file")
    return start
