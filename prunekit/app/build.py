"""A run's parts, from its config: the model, callbacks, loggers and trainer, and the schedule that they make."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from prunekit.app.builder import Builder, find_target, parameters_of
from prunekit.app.checkpoint_file import CheckpointFile
from prunekit.app.config import Config
from prunekit.app.devices import accelerator
from prunekit.app.errors import ConfigError
from prunekit.app.ranks import watch_children
from prunekit.callbacks.checkpoints import WholeCheckpointIO
from prunekit.callbacks.profiling import NoProfiler
from prunekit.callbacks.pruning import Pruning
from prunekit.errors import ArgumentError, check_count


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


def build_callbacks(
    config: Config, stamp: Config, builder: Builder | None = None, **given: Any
) -> dict[str, pl.Callback]:
    """The config's callbacks by the names of their nodes, those that prune first and in the config's order.

    Measuring callbacks then see, at whatever hook, what the pruning ones did at it. A class that takes a ``name``, a
    ``stamp`` or what else is given, and whose node does not set it, gets it; its ``name`` is the node's.

    Args:
        config: the resolved config.
        stamp: what checkpoints say of the run that wrote them.
        builder: the run's.
        given: further arguments that no config holds.
    """
    builder = builder or Builder()
    built = {
        name: builder.build(node, key, **_offered(node, key, name=name, stamp=stamp, **given))
        for name, node in config["callbacks"].items()
        if (key := f"callbacks.{name}")
    }
    if not config["trainer"].get("enable_progress_bar", True):  # Lightning would refuse the contradiction
        built = {name: one for name, one in built.items() if not isinstance(one, pl.callbacks.ProgressBar)}
    return dict(sorted(built.items(), key=lambda item: not isinstance(item[1], Pruning)))


def _offered(node: Config, key: str, **offered: Any) -> dict[str, Any]:
    """Of what is offered, the arguments that the node's class takes and the node does not set."""
    takes = parameters_of(find_target(node, key).func) or {}
    return {name: value for name, value in offered.items() if name in takes and node.get(name) is None}


def build_loggers(nodes: Any, folder: Path, builder: Builder | None = None) -> list[Any]:
    """The config's ``logger``: a node, or several by name or in a list. They write into ``folder``, if into any."""
    builder = builder or Builder()
    if isinstance(nodes, list):
        named = {f"logger[{number}]": node for number, node in enumerate(nodes)}
    else:
        single = "_target_" in (nodes or {})
        named = {"logger": nodes} if single else {f"logger.{name}": node for name, node in (nodes or {}).items()}
    return [builder.build(node, key, **_offered(node, key, save_dir=str(folder))) for key, node in named.items()]


def build_trainer(
    config: Config,
    folder: Path,
    callbacks: list[pl.Callback],
    max_epochs: int,
    builder: Builder | None = None,
    start: CheckpointFile | None = None,
) -> pl.Trainer:
    """A trainer that writes into ``folder``, stops after ``max_epochs`` and need not read ``start`` again."""
    builder = builder or Builder()
    kind = accelerator(config["trainer"].get("accelerator", "auto"))
    trainer = builder.build(
        {**config["trainer"], "accelerator": kind, "max_epochs": max_epochs},
        "trainer",
        **({} if config["trainer"].get("profiler") else {"profiler": NoProfiler()}),
        callbacks=callbacks,
        logger=build_loggers(config.get("logger"), folder, builder),
        plugins=[WholeCheckpointIO(start.content if start is not None else None)],
        default_root_dir=str(folder),
    )
    assert isinstance(trainer, pl.Trainer)
    # Its handlers of signals would broadcast in the middle of whatever is going on, and save files that are taken for
    # newer than our checkpoints: `prunekit.stopping` is obeyed instead.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    watch_children(trainer)
    return trainer


def fit(
    trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, start: CheckpointFile | None
) -> None:
    """``trainer.fit``, from a checkpoint that was read without executing anything in it.

    Raises:
        ConfigError: if Lightning finds that the trainer's settings and the data do not go together.
    """
    path = start.path if start is not None else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise ConfigError("trainer", str(error), "settings that go together, and with the data") from error


def schedule_end(config: Config, callbacks: Iterable[pl.Callback]) -> int:
    """The epochs of the whole run: the dense ones, and until the last retraining is over.

    Raises:
        ArgumentError: if an event falls into the dense epochs, or ``trainer.max_epochs`` is too few for the schedule.
    """
    dense = check_count("dense_epochs", config["dense_epochs"])
    pruners = [callback for callback in callbacks if isinstance(callback, Pruning)]
    for callback in pruners:
        if callback.schedule.start < dense:
            raise ArgumentError("start_epoch", callback.schedule.start, f"dense_epochs={dense} or more", callback)
    end = max([dense, *(callback.schedule.end for callback in pruners)])
    limit = config["trainer"].get("max_epochs")
    if limit is not None and check_count("trainer.max_epochs", limit) < end:
        raise ConfigError("trainer.max_epochs", limit, f"null, or at least the {end} epochs of the schedule")
    return limit or end
