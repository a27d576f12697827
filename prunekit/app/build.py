"""From a composed config to objects: every ``instantiate`` call is here."""

import difflib
import inspect
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from prunekit.app.checkpoint_file import CheckpointFile
from prunekit.callbacks.checkpoints import Checkpoints, WholeCheckpointIO
from prunekit.callbacks.profiling import NoProfiler
from prunekit.callbacks.pruning import Pruning
from prunekit.errors import ConfigError, check_count

Config = dict[str, Any]
TOP_LEVEL: dict[str, Any] = {
    "name": str,
    "seed": int,
    "dense_epochs": int,
    "dense_callbacks": list[str],
    "ckpt_path": str | None,
    "run_dir": str | None,
    "force": bool,
    "reuse": bool,
    "threads": int | None,
    "paths": dict[str, str],
    "criterion": dict[str, Any] | None,
    "segmentation": dict[str, Any] | None,
    "callbacks": dict[str, dict[str, Any]],
    "model": dict[str, Any],
    "data": dict[str, Any],
    "trainer": dict[str, Any],
    "logger": dict[str, Any] | None,
}
NAME = re.compile(r"[\w.-]+")


def resolve(cfg: DictConfig) -> tuple[Config, Config]:
    """Resolve a config twice: as it is, with absolute paths, and with each path replaced by its key.

    Returns:
        The config to build from, and the same one to hash: moving folders does not make another run.

    Raises:
        ConfigError: if a value is missing or an interpolation leads nowhere.
    """
    absolute = {name: str(Path(str(path)).absolute()) for name, path in cfg.paths.items()}
    nameless = {str(name): f"<{name}>" for name in cfg.paths}
    resolved = []
    copy = cfg.copy()
    for paths in (absolute, nameless):
        copy.paths = paths
        try:
            content = OmegaConf.to_container(copy, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(str(error.full_key or "config"), str(error), "a value") from error
        assert isinstance(content, dict)
        resolved.append({str(key): value for key, value in content.items()})
    for key in resolved[0].keys() - TOP_LEVEL.keys():
        near = difflib.get_close_matches(key, TOP_LEVEL) or list(TOP_LEVEL)
        raise ConfigError(key, resolved[0][key], f"no such key; nearest: {', '.join(near)}")
    for key, hint in TOP_LEVEL.items():
        if not _has_type(resolved[0].get(key), hint):
            raise ConfigError(key, resolved[0].get(key), _in_words(hint))
    if not NAME.fullmatch(resolved[0]["name"]):
        raise ConfigError("name", resolved[0]["name"], "letters, digits, '.', '_' and '-', as it names a folder")
    return resolved[0], resolved[1]


def with_references(absolute: Any, nameless: Any) -> Any:
    """The first of :func:`resolve`'s configs with references to ``paths`` where the second has names of paths.

    Such a config is the same run when it is read again, wherever its paths are moved to.

    Example:
        >>> with_references({"file": "/x/y", "other": "/x/z"}, {"file": "<data_dir>/y", "other": "/x/z"})
        {'file': '${paths.data_dir}/y', 'other': '/x/z'}
    """
    if isinstance(absolute, dict):
        return {key: with_references(value, nameless[key]) for key, value in absolute.items()}
    if isinstance(absolute, list):
        return [with_references(*pair) for pair in zip(absolute, nameless, strict=True)]
    if isinstance(absolute, str) and absolute != nameless:
        return re.sub(r"^<(\w+)>", r"${paths.\1}", nameless)
    return absolute


def build(node: Config, key: str, **injected: Any) -> Any:
    """Instantiate one node of the config.

    Args:
        node: with ``_target_``.
        key: where it stands in the config, for messages.
        injected: arguments that no config holds, such as the run's folder.

    Raises:
        ConfigError: if the class refuses its arguments.
    """
    check_types(node, key)
    try:
        return instantiate(node, _convert_="all", **injected)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError | OSError):
            raise cause from None
        accepted = f"arguments that {node.get('_target_')} takes: {cause or error}"
        raise ConfigError(key, {k: v for k, v in node.items() if k != "_target_"}, accepted) from error


def build_model(node: Config, arguments: Config) -> pl.LightningModule:
    """Build the model, with what the data tells for arguments that the config leaves null.

    Args:
        node: the config's ``model``.
        arguments: what a model has to be given to fit the data.
    """
    told = {name: value for name, value in arguments.items() if name in node and node[name] is None}
    module = build({**node, **told}, "model")
    assert isinstance(module, pl.LightningModule)
    return module


def check_types(node: Config, key: str) -> None:
    """Refuse a node with a key that its class does not take, or a value of another type than the class declares.

    Hydra refuses a misspelt key but not a wrong value, and many classes notice one only when it is used, after
    hours perhaps. Nodes inside the node are checked too.

    Raises:
        ConfigError: with the key and the type declared.
    """
    target = _target(node, key)
    if not isinstance(node.get("_partial_", False), bool):
        raise ConfigError(f"{key}._partial_", node["_partial_"], "true or false")
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name not in parameters:
            raise ConfigError(f"{key}.{name}", value, f"only {', '.join(parameters)}, which {node['_target_']} takes")
        if isinstance(value, dict) and "_target_" in value:
            check_types(value, f"{key}.{name}")
        elif isinstance(value, dict) and any(isinstance(v, dict) and "_target_" in v for v in value.values()):
            for inner, part in value.items():
                check_types(part, f"{key}.{name}.{inner}")
        elif name in hints and not _has_type(value, hints[name]):
            raise ConfigError(f"{key}.{name}", value, _in_words(hints[name]))


def _target(node: Config, key: str) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        hint = "a node with _target_, the path of a class"
        if key.startswith("callbacks."):
            name = key.split(".")[1]
            hint += f"; the list of callbacks does not name {name}: add it there, or drop the values with ~{key}"
        raise ConfigError(key, node, hint)
    try:
        target = get_object(node["_target_"])
    except Exception as error:  # importing runs code that may raise anything
        raise ConfigError(f"{key}._target_", node["_target_"], f"the path of a class; {error}") from error
    if not callable(target):
        raise ConfigError(f"{key}._target_", node["_target_"], "the path of a class")
    return target


def _has_type(value: object, hint: Any) -> bool:
    # YAML has no tuples, and a whole number is a fine float.
    for candidate in (value, tuple(value)) if isinstance(value, list) else (value,):
        try:
            check_type(candidate, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            continue
        # A bool is an int to Python, but true is no number in a config.
        return not (isinstance(value, bool) and not _has_bool(hint))
    return False


def _in_words(hint: Any) -> str:
    """A type as a user reads it: ``int | null``, or the literals it admits."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_in_words(part) for part in parts)
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not parts else str(hint).replace("typing.", "")


def _has_bool(hint: Any) -> bool:
    return hint is bool or any(_has_bool(part) for part in typing.get_args(hint)) or hint in (Any, object)


def build_callbacks(config: Config, stamp: Config, **given: Any) -> dict[str, pl.Callback]:
    """The config's callbacks by the names of their nodes, those that prune first and in the config's order.

    Measuring callbacks then see, at whatever hook, what the pruning ones did at it.

    Args:
        config: the resolved config.
        stamp: what checkpoints say of the run that wrote them.
        given: arguments that no config holds, for those callbacks whose classes take them.
    """
    built: dict[str, pl.Callback] = {}
    for name, node in config["callbacks"].items():
        target = _target(node, f"callbacks.{name}")
        more = {**given, "name": name} if isinstance(target, type) and issubclass(target, Pruning) else given
        takes = inspect.signature(target).parameters
        own = {key: value for key, value in more.items() if key in takes and node.get(key) is None}
        callback = build(node, f"callbacks.{name}", **own)
        if isinstance(callback, Checkpoints):
            callback.stamp = stamp  # not an argument: Hydra would instantiate the nodes it holds
        if not isinstance(callback, pl.callbacks.ProgressBar) or config["trainer"].get("enable_progress_bar", True):
            built[name] = callback  # Lightning would refuse the contradiction
    return dict(sorted(built.items(), key=lambda item: not isinstance(item[1], Pruning)))


def build_trainer(config: Config, folder: Path, callbacks: list[pl.Callback], max_epochs: int) -> pl.Trainer:
    """A trainer that writes into ``folder`` and stops after ``max_epochs``."""
    logger = build(config["logger"], "logger", save_dir=str(folder)) if config["logger"] else False
    trainer = build(
        {**config["trainer"], "max_epochs": max_epochs},
        "trainer",
        **({} if config["trainer"].get("profiler") else {"profiler": NoProfiler()}),
        callbacks=callbacks,
        logger=logger,
        plugins=[WholeCheckpointIO()],
        default_root_dir=str(folder),
    )
    assert isinstance(trainer, pl.Trainer)
    return trainer


def fit(
    trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, start: CheckpointFile | None
) -> None:
    """``trainer.fit``, from a checkpoint that was read without executing anything in it.

    Raises:
        ConfigError: if Lightning finds that the trainer's settings and the data do not go together.
    """
    path = None
    if start is not None:
        path, trainer.strategy.checkpoint_io.read = start.path, start.content  # type: ignore[attr-defined]
    try:
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError("trainer", str(error), "settings that go together, and with the data") from error


def schedule_end(config: Config, callbacks: Iterable[pl.Callback]) -> int:
    """The epochs of the whole run: the dense ones, and until the last retraining is over.

    Raises:
        ConfigError: if an event falls into the dense epochs, or ``trainer.max_epochs`` is too few for the schedule.
    """
    dense = check_count("dense_epochs", config["dense_epochs"])
    pruners = [callback for callback in callbacks if isinstance(callback, Pruning)]
    for callback in pruners:
        if callback.start_epoch < dense:
            raise ConfigError(
                f"callbacks.{callback.name}.start_epoch", callback.start_epoch, f"dense_epochs={dense} or more"
            )
    end = max([dense, *(callback.end_epoch for callback in pruners)])
    limit = config["trainer"].get("max_epochs")
    if limit is not None and check_count("trainer.max_epochs", limit) < end:
        raise ConfigError("trainer.max_epochs", limit, f"null, or at least the {end} epochs of the schedule")
    return limit or end
