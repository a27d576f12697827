"""The final network of a finished run, made again from what the run has left.

Jobs that only prune keep a mask and no weights: their network is the shared dense one, pruned. It is made by the same
code as in the run, from the dense network or the run's own newest checkpoint, and held against the run's mask.
"""

import logging
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytorch_lightning as pl
from hydra.utils import get_class
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor

from prunekit.app.life import CONFIG, Run
from prunekit.app.results import MASKS, RESULTS, load_masks
from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.pruning import PruningObserver
from prunekit.errors import ConfigError
from prunekit.folders import read_json
from prunekit.masks import Mask
from prunekit.rank import is_rank_zero

KEY = "run"
AVERAGING = (StochasticWeightAveraging, WeightAveraging)
log = logging.getLogger("prunekit")


class Rebuilt(NamedTuple):
    """A run's network made again.

    Attributes:
        module: masked.
        data: the data module that the run was on.
        dense: the weights before the first pruning, not read until they are used; None where their checkpoint is gone.
        mask: of the module.
        config: the run's, resolved.
        results: what the run had left.
        recurrent: names of the recurrent layers pruned or measured, and of what reads them.
    """

    module: pl.LightningModule
    data: Any
    dense: dict[str, Tensor] | None
    mask: Mask
    config: dict[str, Any]
    results: dict[str, Any]
    recurrent: list[tuple[str, str]]


def rebuild(folder: Path) -> Rebuilt:
    """Make a finished run's network again.

    Raises:
        ConfigError: if there is no finished run, or what is made now has another mask.
    """
    results = read_json(folder / RESULTS, KEY)
    if results is None or not (folder / CONFIG).exists():
        raise ConfigError(KEY, str(folder), f"the folder of a finished run, with {CONFIG} and {RESULTS}")
    config: Any = OmegaConf.load(folder / CONFIG)
    stored = config.pop("config_hash")
    config.force, config.ckpt_path = False, None
    if Run(config).config_hash != stored:
        got = f"{folder}, whose config is not the one that it was run with, or that began from another run's checkpoint"
        raise ConfigError(KEY, got, "a run as it was left")
    recurrent = [(node.lstm, node.head) for node in config.callbacks.values() if "lstm" in node and "head" in node]
    classes = {name: get_class(node._target_) for name, node in config.callbacks.items()}
    for name, kind in classes.items():
        if issubclass(kind, AVERAGING):
            raise ConfigError(f"callbacks.{name}", kind.__name__, "a run whose last checkpoint has its final weights")
    whole: Any = OmegaConf.to_container(config, resolve=True)
    # What only measures or draws is left out, which makes no other network.
    config.callbacks = {
        name: node
        for name, node in config.callbacks.items()
        if issubclass(classes[name], Curves) or not issubclass(classes[name], PruningObserver)
    }
    config.logger = None
    with TemporaryDirectory() as scratch:
        config.run_dir = scratch
        for checkpoint in list_checkpoints(folder / "checkpoints")[-1:]:
            (Path(scratch) / "checkpoints").mkdir()
            shutil.copy(checkpoint, Path(scratch) / "checkpoints")
        if (folder / "dense").exists():  # of a run that shares nothing
            shutil.copytree(folder / "dense", Path(scratch) / "dense")
        run = Run(config)
        run.keep_network = True
        again = run.go()
        if not is_rank_zero():
            sys.exit(0)
        made = load_masks(Path(scratch) / MASKS, run.module)
        dense = run.dense.content["state_dict"] if run.dense is not None else None
        wanted = load_masks(folder / MASKS, run.module) if (folder / MASKS).exists() else Mask({})
    if made != wanted:
        got = f"{folder}, which now comes out with another mask: its data, the code or the machine has changed"
        raise ConfigError(KEY, got, "a run that can be made again here; run it anew with force=true")
    now, then = (each["metrics"]["final/test_acc"] for each in (again, results))
    if now != then:
        log.warning("test accuracy is %.2f %% now and was %.2f %% then", 100 * now, 100 * then)
    return Rebuilt(run.module, run.data, dense, made, whole, results, recurrent)
