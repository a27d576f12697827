"""The base of data modules whose whole data set fits in memory."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from prunekit.data_modules.batches import LazySamples, TensorBatches, epoch_order
from prunekit.errors import ArgumentError, check_count, check_rate

KINDS = (torch.float32, torch.int8, torch.int64)


class Arrays(NamedTuple):
    """A data set: inputs ``(n, ...)`` and what goes with each, for training, for testing and perhaps for validation.

    Inputs are float32 or lazy with int64 classes ``(n,)``. A sequence may be of tokens, int64, and have a target a
    step; and numbers of one byte are int8 until they are made a batch. Without validation data of their own, they are
    taken from the training data.
    """

    train_x: Tensor | LazySamples
    train_y: Tensor
    test_x: Tensor | LazySamples
    test_y: Tensor
    validation_x: Tensor | None = None
    validation_y: Tensor | None = None


class InMemoryDataModule(pl.LightningDataModule, ABC):
    """Loads a data set once, holds out a validation part and serves batches from the training device.

    Args:
        batch_size: samples of a training batch over all devices together.
        validation: share of the training data held out, in [0, 1).
        seed: of the shuffling of each epoch. The held-out part does not depend on it: runs that differ in their
            seed validate on the same samples.
        eval_batch_size: samples of an evaluation batch.
        scoring: how many of the training samples units are scored and repaired on, the first ones; None for all.

    Raises:
        ArgumentError: if a value is not accepted.
    """

    def __init__(
        self, batch_size: int, validation: float, seed: int, eval_batch_size: int = 5000, scoring: int | None = None
    ) -> None:
        super().__init__()
        self.scoring = None if scoring is None else check_count("scoring", scoring, least=1)
        self.batch_size = check_count("batch_size", batch_size, least=1)
        self.eval_batch_size = check_count("eval_batch_size", eval_batch_size, least=1)
        self.seed = check_count("seed", seed)
        if check_rate("validation", validation) == 1:
            raise ArgumentError("validation", validation, "a share below 1: something must be left to train on")
        self.validation = validation
        self._arrays: Arrays | None = None
        self._device: torch.device | None = None
        self._parts: dict[str, tuple[Tensor | LazySamples, Tensor]] = {}

    @abstractmethod
    def load(self) -> Arrays:
        """Read the data set; called once."""

    @property
    def arrays(self) -> Arrays:
        """The data set, read at first use."""
        if self._arrays is None:
            self._arrays = check_arrays(self.load())
        return self._arrays

    def fingerprint(self) -> str:
        """A SHA-256 over all samples and labels: equal exactly when the data is."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        sha = hashlib.sha256()
        for samples in self.arrays:
            if samples is None:
                continue
            if isinstance(samples, Tensor):
                sha.update(f"{samples.dtype}{tuple(samples.shape)}".encode())
                sha.update(samples.contiguous().numpy().data)
            else:
                sha.update(samples.fingerprint())
        return sha.hexdigest()

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data, for arguments that its config leaves null."""
        return {}

    def report(self) -> dict[str, Any]:
        """What results say of the data."""
        return {}

    def setup(self, stage: str | None = None) -> None:
        """Split off the validation part and bring everything to the training device."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self._device == device:
            return
        x, y, test_x, test_y, validation_x, validation_y = self.arrays
        held_out = round(self.validation * len(y))
        if len(y) - held_out < self.batch_size:
            accepted = f"at most the {len(y) - held_out} training samples"
            raise ArgumentError("batch_size", self.batch_size, accepted, self)
        order = epoch_order(len(y), seed=0, epoch=0) if held_out else torch.arange(len(y))
        train, validation = order[held_out:], order[:held_out]
        parts = {
            "train": (_subset(x, train), y[train]),
            "validation": (_subset(x, validation), y[validation])
            if validation_x is None or validation_y is None
            else (validation_x, validation_y),
            "test": (test_x, test_y),
        }
        self._device = device
        self._parts = {name: (px.to(device), py.to(device)) for name, (px, py) in parts.items()}

    def train_dataloader(self) -> TensorBatches:
        """Shuffled batches, in an order that derives from (seed, epoch)."""
        rank, world = self._place()
        if self.batch_size % world:
            raise ArgumentError("batch_size", self.batch_size, f"a multiple of the {world} devices", self)
        return TensorBatches(*self._parts["train"], self.batch_size, self.seed, rank, world, self.made)

    def val_dataloader(self) -> TensorBatches | list[TensorBatches]:
        """The held-out part, every sample once over all ranks; no loader at all if nothing is held out."""
        return self._evaluation("validation") if len(self._parts["validation"][1]) else []

    def test_dataloader(self) -> TensorBatches:
        """The test data, every sample once over all ranks."""
        return self._evaluation("test")

    def scoring_dataloader(self) -> TensorBatches:
        """The training data in its own order, every sample once over all ranks: what units are scored on."""
        return self._evaluation("train", self.scoring)

    @property
    def made(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """What a batch is of its samples and what goes with them; None for just these."""
        return None

    def _evaluation(self, part: str, first: int | None = None) -> TensorBatches:
        rank, world = self._place()
        x, y = self._parts[part]
        if first is not None and first < len(y):
            x, y = _subset(x, torch.arange(first)), y[:first]
        return TensorBatches(x, y, self.eval_batch_size, None, rank, world, self.made)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def check_arrays(arrays: Arrays) -> Arrays:
    """Return ``arrays`` if they are what :class:`Arrays` says.

    Raises:
        TypeError: if an entry is no tensor or of another dtype.
        ValueError: if inputs and classes differ in number, or training and test inputs in shape.
    """
    for name, samples in arrays._asdict().items():
        if (name.endswith("x") and _is_lazy(samples)) or (name.startswith("validation") and samples is None):
            continue
        wanted = KINDS if name.endswith("x") else KINDS[-1:]
        if not isinstance(samples, Tensor) or samples.dtype not in wanted:
            kinds = " or ".join(map(str, wanted))
            raise TypeError(f"{name} is a {kinds} tensor, got {getattr(samples, 'dtype', type(samples))}")
    pairs = [(x, y) for x, y in zip(arrays[::2], arrays[1::2], strict=True) if x is not None and y is not None]
    if any(y.shape[:1] != x.shape[:1] or y.shape[1:] not in ((), x.shape[1:]) for x, y in pairs) or (
        len({x.shape[1:] for x, _ in pairs}) > 1
    ):
        shapes = {name: tuple(samples.shape) for name, samples in arrays._asdict().items() if samples is not None}
        raise ValueError(f"inputs (n, ...) and classes (n,) do not go together: {shapes}")
    return arrays


def _subset(samples: Tensor | LazySamples, index: Tensor) -> Tensor | LazySamples:
    return samples[index] if isinstance(samples, Tensor) else samples.subset(index)


def _is_lazy(samples: object) -> bool:
    return not isinstance(samples, Tensor) and isinstance(samples, LazySamples)
