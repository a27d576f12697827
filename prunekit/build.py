"""From a composed config to objects: every ``instantiate`` call is here."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from callbacks.checkpoints import Checkpoints, WholeCheckpointIO
from callbacks.pruning import PruningCallback
from prunekit.errors import ConfigError, check_count

Config = dict[str, Any]


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
    for paths in (absolute, nameless):
        copy = cfg.copy()
        copy.paths = paths
        try:
            content = OmegaConf.to_container(copy, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(str(error.full_key or "config"), str(error), "a value") from error
        assert isinstance(content, dict)
        resolved.append({str(key): value for key, value in content.items()})
    return resolved[0], resolved[1]


def build(node: Config, key: str, **injected: Any) -> Any:
    """Instantiate one node of the config.

    Args:
        node: with ``_target_``.
        key: where it stands in the config, for messages.
        injected: arguments that no config holds, such as the run's folder.

    Raises:
        ConfigError: if the class refuses its arguments.
    """
    try:
        return instantiate(node, _convert_="all", **injected)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        accepted = f"arguments that {node.get('_target_')} takes: {cause or error}"
        raise ConfigError(key, {k: v for k, v in node.items() if k != "_target_"}, accepted) from error


def build_callbacks(config: Config, stamp: Config) -> list[pl.Callback]:
    """The config's callbacks, those that prune first and in the config's order.

    Measuring callbacks then see, at whatever hook, what the pruning ones did at it.

    Args:
        config: the resolved config.
        stamp: what checkpoints say of the run that wrote them.
    """
    built = []
    for name, node in config["callbacks"].items():
        built.append(build(node, f"callbacks.{name}"))
        if isinstance(built[-1], Checkpoints):
            built[-1].stamp = stamp  # not an argument: Hydra would instantiate the nodes it holds
    if not config["trainer"]["enable_progress_bar"]:  # Lightning would refuse the contradiction
        built = [callback for callback in built if not isinstance(callback, pl.callbacks.ProgressBar)]
    pruners = [callback for callback in built if isinstance(callback, PruningCallback)]
    others = [callback for callback in built if not isinstance(callback, PruningCallback)]
    return [*pruners, *others]


def build_trainer(config: Config, folder: Path, callbacks: list[pl.Callback], max_epochs: int) -> pl.Trainer:
    """A trainer that writes into ``folder`` and stops after ``max_epochs``."""
    logger = build(config["logger"], "logger", save_dir=str(folder)) if config["logger"] else False
    trainer = build(
        {**config["trainer"], "max_epochs": max_epochs},
        "trainer",
        callbacks=callbacks,
        logger=logger,
        plugins=[WholeCheckpointIO()],
        default_root_dir=str(folder),
    )
    assert isinstance(trainer, pl.Trainer)
    return trainer


def schedule_end(config: Config, callbacks: list[pl.Callback]) -> int:
    """The epochs of the whole run: the dense ones, and until the last retraining is over.

    Raises:
        ConfigError: if an event falls into the dense epochs, or ``trainer.max_epochs`` is too few for the schedule.
    """
    dense = check_count("dense_epochs", config["dense_epochs"])
    pruners = [callback for callback in callbacks if isinstance(callback, PruningCallback)]
    for callback in pruners:
        if callback.start_epoch < dense:
            raise ConfigError(callback.key("start_epoch"), callback.start_epoch, f"dense_epochs={dense} or more")
    end = max([dense, *(callback.end_epoch for callback in pruners)])
    limit = config["trainer"]["max_epochs"]
    if limit is not None and check_count("trainer.max_epochs", limit) < end:
        raise ConfigError("trainer.max_epochs", limit, f"null, or at least the {end} epochs of the schedule")
    return limit or end
