"""The life of a run: dense training, then pruning as a resume of the dense checkpoint, then results.

The same config finds the same folder: a run that was cut off goes on from its newest checkpoint, a finished one is
only read. Dense training is shared by runs that differ in nothing it depends on.
"""

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from prunekit.accounting import account
from prunekit.app import results as leave
from prunekit.app.build import build_callbacks, build_model, build_trainer, fit, schedule_end
from prunekit.app.builder import Builder
from prunekit.app.checkpoint_file import CheckpointFile, newest_readable, read_checkpoint
from prunekit.app.config import references, resolve, with_references
from prunekit.app.data import fingerprint
from prunekit.app.dense import CHECKPOINT, dense_checkpoint, read_record
from prunekit.app.identity import config_hash, dense_hash, digest
from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.measure import evaluating
from prunekit.callbacks.pruning import (
    PruningCallback,
    PruningObserver,
    check_averaging,
    current_mask,
    current_values,
    pruning_callbacks,
)
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.errors import ConfigError, check_count
from prunekit.files import write_json, write_whole
from prunekit.folders import clear, clear_remains, locked, read_json
from prunekit.rank import is_rank_zero, on_rank_zero
from prunekit.reuse import SharedScores

CONFIG = "config.yaml"
log = logging.getLogger("prunekit")
# The last data module of this process and what its builder knew, by the hash of its config.
_kept: dict[str, tuple[Any, dict[int, tuple[object, str]]]] = {}


class Run:
    """One run of a composed config.

    Args:
        cfg: the composed config, unresolved.
        keep_data: whether the data is kept in memory for the next run of this process, which may have the same.

    Attributes:
        config: the resolved config.
        config_hash: which run it is.
        folder: where it lies.
        home: where all runs lie.
        keep_network: whether the three below are set; a sweep's jobs must not hold on to theirs.
        data: the data module, once the run has begun in this process.
        module: the network, likewise; the final one when it is over.
        dense: the checkpoint of the dense network, likewise; None if it is not kept any more.

    Raises:
        ConfigError: if the config cannot be resolved or the checkpoint that it names cannot be read.
    """

    data: Any
    module: pl.LightningModule
    dense: CheckpointFile | None

    def __init__(self, cfg: DictConfig, keep_data: bool = False) -> None:
        self._keep_data, self.keep_network = keep_data, False
        self.config, self._identity = resolve(cfg)
        self._led_to = references(cfg)
        check_count("seed", self.config["seed"])
        check_count("dense_epochs", self.config["dense_epochs"], least=1)
        if self.config["threads"] is not None:
            check_count("threads", self.config["threads"], least=1)
        self.config_hash = config_hash(self._identity)
        self._given: CheckpointFile | None = None
        if self.config["ckpt_path"] not in (None, "last"):
            self._given = read_checkpoint(Path(self.config["ckpt_path"]))
            if self._given.stamp.get("config_hash") != self.config_hash:
                # From another run's checkpoint it is another run: a plain one must not take its folder for its own.
                self.config_hash = digest([self.config_hash, self._given.digest()])
        self.home = Path(self.config["paths"]["runs_dir"])
        own = self.home / self.config["name"] / self.config_hash
        self.folder = Path(self.config["run_dir"]).absolute() if self.config["run_dir"] else own
        self._folder_key = "run_dir" if self.config["run_dir"] else "paths.runs_dir"
        # As asked for: which GPU of several it gets is no part of it.
        self._shown = {**with_references(self.config, self._identity), "paths": self.config["paths"]}

    def use_gpu(self, number: int) -> None:
        """Run on this GPU of several; which one is no part of what the run is."""
        self.config["trainer"]["devices"] = [number]

    def go(self, wait: bool = False) -> dict[str, Any]:
        """Run, continue or only read the run; return what ``results.json`` holds.

        Args:
            wait: whether to wait for another process that is at the same run, or to refuse at once.

        Raises:
            ConfigError: before any training, if the folder is in use or holds another run, or if the config, the
                data or a checkpoint cannot work.
        """
        with on_rank_zero(locked(self.folder, self._folder_key, wait=wait)):
            if self.config["force"] and is_rank_zero():
                clear(self.folder)
            results: dict[str, Any] | None = read_json(self.folder / leave.RESULTS, self._folder_key)
            self._refuse_another_run()
            if results is None:
                builder = Builder(self._led_to)
                try:
                    with builder.naming():
                        return self._fit(builder)
                finally:
                    for data, _ in _kept.values():
                        data.trainer = None  # which would keep the network
            log.info("this run had finished; force=true would start it anew")
            return results

    def _refuse_another_run(self) -> None:
        try:
            theirs = OmegaConf.select(OmegaConf.load(self.folder / CONFIG), "config_hash")
        except FileNotFoundError:
            return
        if theirs != self.config_hash:
            got = f"{self.folder}, which holds run {theirs} while this is {self.config_hash}"
            raise ConfigError(self._folder_key, got, "an empty folder, this run's own, or force=true")

    def _fit(self, builder: Builder) -> dict[str, Any]:
        if self.config["threads"] is not None:
            torch.set_num_threads(self.config["threads"])
        data = self._data(builder)
        pl.seed_everything(self.config["seed"], workers=True, verbose=False)
        module = build_model(self.config["model"], getattr(data, "model_arguments", dict)(), builder)
        if self.keep_network:
            self.data, self.module = data, module
        stamp = {"config_hash": self.config_hash, "config": self._identity}
        callbacks = build_callbacks(self.config, stamp, builder)
        self._check(callbacks, module)
        end = schedule_end(self.config, callbacks)
        check_averaging(callbacks, end)
        trainer = build_trainer(self.config, self.folder, callbacks, end, builder)
        device = trainer.strategy.root_device
        dense_id = stamp["dense_hash"] = dense_hash(self._identity, fingerprint(data), device.type)
        if is_rank_zero():
            text = OmegaConf.to_yaml({"config_hash": self.config_hash, **self._shown})
            write_whole(self.folder / CONFIG, lambda file: file.write(text.encode()))

        shared = self.config["reuse"] and self._given is None
        dense_folder = (self.home if shared else self.folder) / "dense" / dense_id
        start = self._start(module, dense_folder)
        if start is None or start.epochs_done < self.config["dense_epochs"]:
            with on_rank_zero(locked(dense_folder, "paths.runs_dir", wait=True)):
                start = dense_checkpoint(self.config, stamp, module, data, dense_folder, start, builder)

        if self.keep_network:
            self.dense = newest_readable([path for path in [dense_folder / CHECKPOINT] if path.exists()])
        record = read_record(dense_folder)
        if shared:
            self._tell_what_is_known(callbacks, record, SharedScores(dense_folder / "scores"))
        clear_remains(self.folder)
        started = time.perf_counter()
        fit(trainer, module, data, start)
        seconds = time.perf_counter() - started + record.get("seconds", 0.0)
        results = self._results(trainer, module, data, device, seconds)
        if trainer.is_global_zero:
            leave.save_masks(self.folder / leave.MASKS, current_mask(trainer))
            for logger in trainer.loggers:
                shown = leave.hyperparameters(self._identity)
                if isinstance(logger, TensorBoardLogger):
                    logger.log_hyperparams(shown, results["metrics"])
                else:  # others take no metrics along
                    logger.log_hyperparams(shown)
                    logger.log_metrics(results["metrics"])
                logger.finalize("success")
            (self.folder / "hparams.yaml").unlink(missing_ok=True)  # the logger's; config.yaml has more
            write_json(self.folder / leave.RESULTS, results)
        return results

    def _data(self, builder: Builder) -> Any:
        if not self._keep_data:
            return builder.build(self.config["data"], "data")
        key = digest(self.config["data"])
        if key not in _kept:
            _kept.clear()
            data = builder.build(self.config["data"], "data")
            _kept[key] = data, dict(builder.built)
        data, built = _kept[key]
        builder.built |= built
        return data

    def _check(self, callbacks: list[Callback], module: pl.LightningModule) -> None:
        """Refuse what would fail only after the dense training."""
        for wanted in (Curves, Checkpoints):
            if not any(isinstance(callback, wanted) for callback in callbacks):
                accepted = f"a list with {wanted.__name__.lower()}: a run cannot do without"
                raise ConfigError("callbacks", list(self.config["callbacks"]), accepted)
        if self.config["trainer"].get("limit_train_batches") == 0:
            raise ConfigError("trainer.limit_train_batches", 0, "null, or at least one batch")
        for callback in callbacks:
            if isinstance(callback, PruningCallback | PruningObserver):
                callback.check(module)

    def _tell_what_is_known(self, callbacks: list[Callback], record: dict[str, Any], scores: SharedScores) -> None:
        """Have callbacks take from the shared dense network what needs no second look."""
        for callback in callbacks:
            if isinstance(callback, Curves):
                callback.own_rows = True
                if "test_acc" in record:
                    callback.known_dense = self.config["dense_epochs"], record["test_acc"]
            if isinstance(callback, UnitMask | UnitCurve):
                callback.shared_scores = scores

    def _start(self, module: pl.LightningModule, dense_folder: Path) -> CheckpointFile | None:
        """The checkpoint to go on from: the given file, or this run's newest; None if the dense part comes first.

        Raises:
            ConfigError: if it is another model's, or if there should be one and is none.
        """
        start = self._given or newest_readable(list_checkpoints(self.folder / "checkpoints"))
        if start is not None:
            start.require_fit(module)
        elif self.config["ckpt_path"] == "last" and not any(dense_folder.rglob("*.ckpt")):
            looked = f"last, but there is no checkpoint in {self.folder} or {dense_folder}"
            raise ConfigError("ckpt_path", looked, "null to start from scratch, or a checkpoint file")
        return start

    def _results(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        data: Any,
        device: torch.device,
        seconds: float,
    ) -> dict[str, Any]:
        told: dict[str, Any] = getattr(data, "report", dict)()
        curves = next(c for c in trainer.callbacks if isinstance(c, Curves))  # type: ignore[attr-defined]
        pruners = pruning_callbacks(trainer)
        mask = current_mask(trainer)
        # Without an event the final network is the dense one.
        dense = curves.final_test_acc if curves.dense_test_acc is None else curves.dense_test_acc
        pruned = curves.events[-1]["test_acc"] if curves.events else dense
        reporting = [c for c in trainer.callbacks if isinstance(c, PruningCallback | PruningObserver)]  # type: ignore[attr-defined]
        sparsity = leave.sparsity(module, mask, {callback.name: callback.rate for callback in pruners})
        sparsity["achieved"] |= {name: share for callback in pruners for name, share in callback.achieved().items()}
        regularization = self.config["model"].get("regularization")
        recurrent = [(c.lstm, c.head) for c in reporting if isinstance(c, UnitMask | UnitCurve)]
        with evaluating(module, device):
            example = trainer.precision_plugin.convert_input(next(iter(data.test_dataloader()))[0][:1].to(device))
            held = sum(int((value != 0).sum()) for value in current_values(trainer).values())
            cost = account(module, mask.removed() - held, recurrent, example)
        return {
            "experiment": self.config["name"],
            "seed": self.config["seed"],
            "config_hash": self.config_hash,
            **leave.provenance(),
            **({"data": told} if told else {}),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "seconds": {"train": seconds, "prune": sum(c.seconds for c in pruners), "test": curves.seconds},
            "metrics": {
                "dense/test_acc": dense,
                "pruned/test_acc": pruned,
                "final/test_acc": curves.final_test_acc,
            },
            "sparsity": sparsity,
            **cost,
            "events": curves.events,
            **({"regularization": regularization} if regularization else {}),
            **{key: value for callback in reversed(reporting) for key, value in callback.report().items()},
        }
