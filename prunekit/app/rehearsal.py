"""One step of a fit, taken on a copy before anything is spent."""

import copy
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytorch_lightning as pl

from prunekit.app.build import build_trainer
from prunekit.app.config import Config
from prunekit.app.errors import ConfigError
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.pruning import Pruning
from prunekit.errors import ArgumentError
from prunekit.random_state import undisturbed


class _Look(pl.Callback):
    """Has callbacks look at the first batch that they will score, whatever the epoch that they do it after."""

    def __init__(self, callbacks: Iterable[pl.Callback]) -> None:
        self._callbacks = [each for each in callbacks if isinstance(each, Pruning | PruningObserver)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the one step is taken."""
        for callback in self._callbacks:
            callback.rehearse(pl_module)


def rehearse(
    config: Config, module: pl.LightningModule, data: pl.LightningDataModule, callbacks: Iterable[pl.Callback] = ()
) -> None:
    """Train a copy of ``module`` for one batch with the config's trainer; random numbers go on as if it had not been.

    Not Lightning's ``fast_dev_run``, which validates too, whatever ``limit_val_batches`` says: the run never does.

    What the classes cannot know of each other shows here: images that do not fit the first layer, more classes than
    outputs, an optimizer that refuses its learning rate, a trainer setting that fails only when it is used.

    Args:
        config: the resolved config.
        module: stays as it is.
        data: what it is trained on.
        callbacks: the run's, those that look at data among them.

    Raises:
        ConfigError: if the step fails.
        ArgumentError: if a callback refuses the data.
    """
    trainer_settings = {
        **config["trainer"],
        "limit_train_batches": 1,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
    }
    with TemporaryDirectory() as folder:
        trial = {**config, "trainer": trainer_settings, "logger": None}
        trainer = build_trainer(trial, Path(folder), [_Look(callbacks)], max_epochs=1)
        try:
            with undisturbed(trainer.strategy.root_device):
                trainer.fit(copy.deepcopy(module), datamodule=data)
        except (ArgumentError, OSError):
            raise
        except Exception as error:  # whatever a model raises on data that does not fit it
            got = {"model": config["model"]["_target_"], "data": config["data"]["_target_"]}
            accepted = f"a model, data and trainer that fit; a first step failed: {type(error).__name__}: {error}"
            raise ConfigError("model, data, trainer", got, accepted) from error
