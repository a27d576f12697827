"""The final network of a finished run, loaded from what the run has left; nothing is trained or measured again."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from prunekit.app.build import build, build_model
from prunekit.app.checkpoint_file import read_checkpoint
from prunekit.app.config import read_config, resolve
from prunekit.app.control import controlled
from prunekit.app.errors import ConfigError
from prunekit.app.identity import config_hash
from prunekit.app.kept import load_network
from prunekit.app.life import CONFIG
from prunekit.app.results import RESULTS
from prunekit.app.trust import require_trusted
from prunekit.errors import ArgumentError
from prunekit.files import read_record
from prunekit.masks import Mask

KEY = "run"
log = logging.getLogger("prunekit")


class Rebuilt(NamedTuple):
    """A run's network.

    Attributes:
        module: masked, on the CPU.
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


def rebuild(folder: Path, trusted: Sequence[str] = ()) -> Rebuilt:
    """Load a finished run's network, on whatever device it was made.

    Args:
        folder: the run's.
        trusted: modules, packages or full names of the user's own that the run's config may name.

    Raises:
        ConfigError: if there is no finished run, its files do not make the network that it had, or its config names
            code that is neither ours nor trusted.
    """
    results = read_record(folder / RESULTS, KEY)
    stored = read_config(folder / CONFIG, KEY)
    if results is None and stored is not None:
        again = shlex.quote(f"resume={folder}")
        more = f"one that has finished; `prunekit train {again}` goes on with it"
        raise ConfigError(KEY, f"{folder}, of a run that has not finished", more)
    if results is None or stored is None:
        raise ConfigError(
            KEY, str(folder), f"the folder of a finished run, with {CONFIG} and {RESULTS}{_runs_in(folder)}"
        )
    written = stored.pop("config_hash", None)
    try:
        config, identity = resolve(stored)
        config = controlled(config)
    except (ArgumentError, OmegaConfBaseException, LookupError) as error:
        raise ConfigError(KEY, f"{folder / CONFIG}, which is no run's ({error})", "a run as it was left") from error
    kept = results.get("network")
    if not isinstance(kept, dict) or not {"checkpoint", "dense"} <= kept.keys():
        raise ConfigError(KEY, f"{folder}, of a version that kept no network", "a run made with this version")
    if config_hash(identity) != written and config["ckpt_path"] in (None, "last"):
        raise ConfigError(KEY, f"{folder}, whose config is not the one that it was run with", "a run as it was left")
    for part in ("data", "model"):
        require_trusted(config[part], part, str(folder), trusted)
    data = build(config["data"], "data")
    module = build_model(config["model"], getattr(data, "model_arguments", dict)())
    base = read_checkpoint(_checkpoint(folder, kept["checkpoint"], config), KEY)
    mask = load_network(folder, module, base.content["state_dict"], kept, KEY)
    path = _place(folder, kept["dense"], config)
    dense = read_checkpoint(path, KEY).content["state_dict"] if path.exists() else None
    callbacks = config["callbacks"].values()
    recurrent = [(node["lstm"], node["head"]) for node in callbacks if "lstm" in node and "head" in node]
    return Rebuilt(module.eval(), data, dense, mask, config, results, recurrent)


def _runs_in(folder: Path) -> str:
    """What to say of finished runs that lie in a folder, or in the nearest one above that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    found = sorted(path.parent for path in [*folder.glob(f"*/{RESULTS}"), *folder.glob(f"*/*/{RESULTS}")])
    return f"; such as {found[0]}, of {len(found)} there" if found else ""


def _place(folder: Path, kept: str, config: Mapping[str, Any]) -> Path:
    """Where a checkpoint lies: as seen from the run's folder, or for one that was moved below all runs."""
    path = folder / kept
    below = Path(config["paths"]["runs_dir"], *Path(kept).parts[-3:])  # dense/<hash>/dense.ckpt
    return below if not path.exists() and below.exists() else path


def _checkpoint(folder: Path, kept: str, config: Mapping[str, Any]) -> Path:
    path = _place(folder, kept, config)
    if not path.exists():
        lies = Path(*Path(kept).parts[-3:])
        accepted = f"a run whose checkpoint was moved with it: bring {lies} along, to {os.path.normpath(folder / kept)}"
        raise ConfigError(KEY, f"{folder}, without the network that it came from", accepted)
    return path
