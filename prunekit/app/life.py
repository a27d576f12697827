"""A run of a composed config: which one it is, where it lies, and whether it begins, goes on or is only read.

The same config finds the same folder: a run that was cut off goes on from its newest checkpoint, a finished one is
only read. Dense training is shared by runs that differ in nothing it depends on.
"""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunekit.app import phases
from prunekit.app.builder import Builder
from prunekit.app.checkpoint_file import CheckpointFile, read_checkpoint
from prunekit.app.config import read_config, references, resolve, with_references
from prunekit.app.control import controlled
from prunekit.app.devices import current, own_gpu
from prunekit.app.differences import differences, typed
from prunekit.app.errors import ConfigError
from prunekit.app.identity import config_hash
from prunekit.app.joining import join
from prunekit.app.naming import find_folder, run_name
from prunekit.app.results import RESULTS, hyperparameters
from prunekit.app.setting import Setting, Shared
from prunekit.digests import digest
from prunekit.errors import ArgumentError, check_count
from prunekit.files import read_record
from prunekit.folders import LOCK, clear, locked
from prunekit.rank import is_rank_zero

CONFIG = "config.yaml"
log = logging.getLogger("prunekit")


class Run:
    """One run of a composed config.

    Args:
        cfg: the composed config, unresolved.
        shared: what the runs of this process have in common; None if it is the only one.

    Attributes:
        config: the resolved config.
        config_hash: which run it is.
        folder: where it lies.
        home: where all runs lie.

    Raises:
        ConfigError: if the config cannot be resolved or the checkpoint that it names cannot be read.
    """

    def __init__(self, cfg: DictConfig, shared: Shared | None = None) -> None:
        self._shared, self._references = shared, references(cfg)
        self.config, self._identity = resolve(cfg)
        check_count("seed", self.config["seed"])
        check_count("dense_epochs", self.config["dense_epochs"], least=1)
        for part in ("criterion", "segmentation"):
            node = self.config.get(part)
            if node is not None and not _is_read(node, self.config["callbacks"]):
                log.warning("%s=%s changes nothing: no callback reads it", part, node.get("_target_"))
        controlled(self.config)  # refuses what cannot be one
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
        changed = differences(self._identity)
        self._shown = hyperparameters(self._identity, changed, typed())
        name = run_name(self.config["seed"], changed, self.config_hash)
        own = find_folder(self.home / self.config["name"], self.config_hash, name)
        self.folder = Path(self.config["run_dir"]).absolute() if self.config["run_dir"] else own
        self._folder_key = "run_dir" if self.config["run_dir"] else "paths.runs_dir"
        # As asked for: which GPU of several it gets is no part of it.
        shown = {**with_references(self.config, self._identity), "paths": self.config["paths"]}
        self._text = OmegaConf.to_yaml({"config_hash": self.config_hash, **shown})

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
        own = current(own_gpu(self.config["trainer"]))  # features too are computed there
        with own, locked(self.folder, self._folder_key, wait, share := join(self.config, self.folder)):
            if self.config["force"] and is_rank_zero():
                self._throw_away()
            if share is not None:
                share(None)  # and so all ranks see what rank 0 has left there
            results: dict[str, Any] | None = read_record(self.folder / RESULTS, self._folder_key)
            self._refuse_another_run()
            if results is not None:
                if results.get("config_hash") != self.config_hash:
                    got = f"{self.folder}, whose {RESULTS} is of run {results.get('config_hash')}"
                    raise ConfigError(self._folder_key, got, "this run's own, or another folder")
                log.info("this run had finished: nothing is trained, its results are shown")
                return results
            builder = Builder(self._references)
            parts = (self.config, self._identity, self.config_hash, self._text, self.folder, self.home)
            begun = (self.folder / CONFIG).exists()
            try:
                with builder.naming():
                    setting = Setting(*parts, self._shown, self._given, builder, share)
                    return phases.run(setting, self._shared or Shared())
            except ArgumentError:
                if not begun and is_rank_zero() and {path.name for path in self.folder.iterdir()} <= {LOCK, CONFIG}:
                    (self.folder / CONFIG).unlink(missing_ok=True)  # there was no run
                raise

    def _throw_away(self) -> None:
        """Delete what a run has left, and nothing else that somebody has named as its folder."""
        others = [path for path in self.folder.iterdir() if path.name != LOCK]
        if others and not any((self.folder / name).exists() for name in (CONFIG, RESULTS, "checkpoints", "dense")):
            got = f"{self.folder}, which holds {others[0].name} and no run"
            raise ConfigError("force", got, "false, or the folder of a run: force=true deletes all that is in it")
        clear(self.folder)

    def _refuse_another_run(self) -> None:
        stored = read_config(self.folder / CONFIG, self._folder_key)
        if stored is None:
            return
        theirs = OmegaConf.select(stored, "config_hash")
        if theirs != self.config_hash:
            got = f"{self.folder}, which holds run {theirs} while this is {self.config_hash}"
            accepted = "an empty folder or this run's own; resume=FOLDER alone goes on with the run that is there"
            raise ConfigError(self._folder_key, got, accepted)


def _is_read(node: Any, within: Any) -> bool:
    """Whether a node is there as it is, which it is where a callback refers to it."""
    if node == within:
        return True
    parts = within.values() if isinstance(within, dict) else within if isinstance(within, list) else ()
    return any(_is_read(node, part) for part in parts)
