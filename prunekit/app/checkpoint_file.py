"""What a checkpoint file says of itself, read without executing anything in it."""

import hashlib
import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import nn

from prunekit.app.errors import ConfigError
from prunekit.sealed import is_whole

log = logging.getLogger("prunekit")


@dataclass(frozen=True)
class CheckpointFile:
    """A readable checkpoint.

    Attributes:
        path: where it lies.
        epochs_done: whole epochs behind it.
        stamp: which run wrote it; empty if not one of ours.
        shapes: parameter and buffer name -> shape.
        content: all that it holds.
    """

    path: Path
    epochs_done: int
    stamp: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    content: dict[str, Any] = field(repr=False)

    def require_fit(self, module: nn.Module, key: str = "ckpt_path") -> None:
        """Refuse a module of other parameters.

        Raises:
            ConfigError: with the first difference.
        """
        wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        for name in sorted(wanted.keys() | self.shapes.keys()):
            if self.shapes.get(name) != wanted.get(name):
                got = f"{self.path} of another model ({name}: {self.shapes.get(name, 'absent')})"
                raise ConfigError(key, got, f"a checkpoint of this model ({name}: {wanted.get(name, 'absent')})")

    @property
    def progress(self) -> str:
        """How far it is, in words, such as ``epoch 3 and 12 batches``."""
        loop = self.content["loops"]["fit_loop"]
        begun = loop["epoch_progress"]["current"]["ready"] > self.epochs_done
        batches = loop["epoch_loop.batch_progress"]["current"]["ready"] if begun else 0
        return f"epoch {self.epochs_done}" + (f" and {batches} batches" if batches else "")

    @property
    def seconds(self) -> float | None:
        """What training it has taken, over all processes; None if it does not say."""
        found = self.stamp.get("seconds")
        return float(found) if isinstance(found, int | float) else None

    def digest(self) -> str:
        """Twelve hex digits of the SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def read_checkpoint(path: Path, key: str = "ckpt_path") -> CheckpointFile:
    """Open a Lightning checkpoint with ``weights_only=True``.

    Raises:
        ConfigError: if it is missing, damaged, holds more than plain values and tensors, or is no checkpoint.
    """
    accepted = "a whole checkpoint that a Lightning trainer wrote"
    try:
        # Mapped, so that of a checkpoint only what is used is read: a job that only prunes needs no optimizer state.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
        epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        shapes = {name: tuple(tensor.shape) for name, tensor in content["state_dict"].items()}
        stamp = dict(content.get("prunekit", {}))
        whole = is_whole(path)
        if whole is False or (stamp and not whole):  # a run's are all sealed
            raise ValueError("its content is not what was written")
        return CheckpointFile(path, int(epochs), stamp, shapes, content)
    except FileNotFoundError:
        raise ConfigError(key, str(path), "a file that exists") from None
    except pickle.UnpicklingError as error:
        raise ConfigError(key, f"{path}, which is damaged or unsafe to load", accepted) from error
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(key, f"{path} ({type(error).__name__}: {error})", accepted) from error


def newest_readable(paths: Sequence[Path]) -> CheckpointFile | None:
    """The last of ``paths`` that can be read; each damaged one behind it is named in the log."""
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except ConfigError as error:
            log.warning("%s; it is left out, and the one before is used", error)
    return None
