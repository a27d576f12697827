"""From a config to objects: everything that a config names is built here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from prunekit.app.checkpoint_file import CheckpointFile
from prunekit.app.config import Config
from prunekit.app.errors import ConfigError
from prunekit.app.types import arguments_of, check_types, find_target
from prunekit.callbacks.checkpoints import WholeCheckpointIO
from prunekit.callbacks.profiling import NoProfiler
from prunekit.callbacks.pruning import PruningCallback
from prunekit.errors import ArgumentError, check_count

NOT_ARGUMENTS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
Built = Mapping[int, tuple[object, str]]


class Builder:
    """Builds the objects of one run and knows under which key of the config each was built.

    Args:
        led_to: keys whose value is another key's, with that key: what a user sets is the other one.

    Attributes:
        built: the id of an object -> the object and its key.
    """

    def __init__(self, led_to: Mapping[str, str] | None = None) -> None:
        self._led_to = led_to or {}
        self.built: dict[int, tuple[object, str]] = {}

    def build(self, node: Config, key: str, **injected: Any) -> Any:
        """Build one node of the config, and the nodes inside it first.

        Args:
            node: with ``_target_``, and what else Hydra's ``instantiate`` knows.
            key: where it stands in the config.
            injected: arguments that no config holds, such as the run's folder.

        Raises:
            ConfigError: if a class refuses its arguments.
        """
        with self.naming():
            check_types(node, key)
            return self._made(node, key, **injected)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Put the key of its object before each argument that an error raised within names."""
        try:
            yield
        except ArgumentError as error:
            raise self.named(error) from error

    def named(self, error: ArgumentError) -> ConfigError:
        """The same with a full key; with the bare argument if it is of no object that was built here."""
        error = _named(error, self.built)
        return ConfigError(self._set_by(error.argument), error.got, error.accepted)

    def _set_by(self, key: str) -> str:
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            if other := self._led_to.get(".".join(parts[:end])):
                return self._set_by(".".join([other, *parts[end:]]))
        return key

    def _made(self, value: Any, key: str, **injected: Any) -> Any:
        if isinstance(value, list):
            return [self._made(part, f"{key}[{number}]") for number, part in enumerate(value)]
        if not isinstance(value, dict):
            return value
        deep = value.get("_recursive_", True)
        parts = {name: self._made(part, f"{key}.{name}") if deep else part for name, part in value.items()}
        if "_target_" not in value:
            return parts
        given = {name: part for name, part in parts.items() if name not in NOT_ARGUMENTS} | injected
        target, positional = find_target(value, key), parts.get("_args_", [])
        if value.get("_partial_"):
            made: Any = Deferred(target, *positional, **given)
            made.key = key
        else:
            try:
                made = target(*positional, **given)
            except (ConfigError, OSError):
                raise
            except ArgumentError as error:
                raise _named(error, self.built, key) from error
            except Exception as error:
                got = {name: part for name, part in value.items() if name not in NOT_ARGUMENTS}
                raise ConfigError(key, got, f"arguments that {value['_target_']} takes: {error}") from error
        self.built[id(made)] = made, key
        return made


class Deferred(partial[Any]):
    """A node with ``_partial_``: an error raised when it is called has its ``key`` too, copied or not."""

    key: str

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it."""
        try:
            return super().__call__(*arguments, **keywords)
        except ArgumentError as error:
            raise _named(error, {}, self.key) from error


def _named(error: ArgumentError, built: Built, key: str = "") -> ConfigError:
    """An error with the key of its owner, or else ``key``, before its argument."""
    if isinstance(error, ConfigError):
        return error
    _, key = built.get(id(error.owner), (None, key))
    return ConfigError(".".join(filter(None, [key, error.argument])), error.got, error.accepted)


def build(node: Config, key: str, **injected: Any) -> Any:
    """Build one node of a config that belongs to no run; see :meth:`Builder.build`."""
    return Builder().build(node, key, **injected)


def build_model(node: Config, arguments: Config, builder: Builder | None = None) -> pl.LightningModule:
    """Build the model, with what the data tells for arguments that the config leaves null.

    Args:
        node: the config's ``model``.
        arguments: what a model has to be given to fit the data.
        builder: the run's.
    """
    told = {name: value for name, value in arguments.items() if name in node and node[name] is None}
    module = (builder or Builder()).build({**node, **told}, "model")
    assert isinstance(module, pl.LightningModule)
    return module


def build_callbacks(config: Config, stamp: Config, builder: Builder | None = None) -> list[pl.Callback]:
    """The config's callbacks, those that prune first and in the config's order.

    Measuring callbacks then see, at whatever hook, what the pruning ones did at it. A class that takes a ``name`` or a
    ``stamp`` which its node does not set is given the node's name, and ``stamp``.

    Args:
        config: the resolved config.
        stamp: what checkpoints say of the run that wrote them.
        builder: the run's.
    """
    builder = builder or Builder()
    built = [
        builder.build(node, f"callbacks.{name}", **_offered(node, f"callbacks.{name}", name=name, stamp=stamp))
        for name, node in config["callbacks"].items()
    ]
    if not config["trainer"].get("enable_progress_bar", True):  # Lightning would refuse the contradiction
        built = [callback for callback in built if not isinstance(callback, pl.callbacks.ProgressBar)]
    return sorted(built, key=lambda callback: not isinstance(callback, PruningCallback))


def _offered(node: Config, key: str, **offered: Any) -> dict[str, Any]:
    """Of what is offered, the arguments that the node's class takes and the node does not set."""
    takes, _ = arguments_of(find_target(node, key).func)
    return {name: value for name, value in offered.items() if name in takes and node.get(name) is None}


def build_loggers(nodes: Any, folder: Path, builder: Builder | None = None) -> list[Any]:
    """The config's ``logger``: a node, or several by name or in a list. They write into ``folder``, if into any."""
    builder, key = builder or Builder(), "logger"
    if isinstance(nodes, list):
        named = {f"{key}[{number}]": node for number, node in enumerate(nodes)}
    elif not nodes or "_target_" in nodes:
        named = {key: nodes} if nodes else {}
    else:
        named = {f"{key}.{name}": node for name, node in nodes.items()}
    return [builder.build(node, key, **_offered(node, key, save_dir=str(folder))) for key, node in named.items()]


def build_trainer(
    config: Config, folder: Path, callbacks: list[pl.Callback], max_epochs: int, builder: Builder | None = None
) -> pl.Trainer:
    """A trainer that writes into ``folder`` and stops after ``max_epochs``."""
    builder = builder or Builder()
    trainer = builder.build(
        {**config["trainer"], "max_epochs": max_epochs},
        "trainer",
        **({} if config["trainer"].get("profiler") else {"profiler": NoProfiler()}),
        callbacks=callbacks,
        logger=build_loggers(config.get("logger"), folder, builder),
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


def schedule_end(config: Config, callbacks: list[pl.Callback]) -> int:
    """The epochs of the whole run: the dense ones, and until the last retraining is over.

    Raises:
        ArgumentError: if an event falls into the dense epochs, or ``trainer.max_epochs`` is too few for the schedule.
    """
    dense = check_count("dense_epochs", config["dense_epochs"])
    pruners = [callback for callback in callbacks if isinstance(callback, PruningCallback)]
    for callback in pruners:
        if callback.start_epoch < dense:
            raise ArgumentError("start_epoch", callback.start_epoch, f"dense_epochs={dense} or more", callback)
    end = max([dense, *(callback.end_epoch for callback in pruners)])
    limit = config["trainer"].get("max_epochs")
    if limit is not None and check_count("trainer.max_epochs", limit) < end:
        raise ConfigError("trainer.max_epochs", limit, f"null, or at least the {end} epochs of the schedule")
    return limit or end
