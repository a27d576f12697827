"""Clips that are decoded when a batch of them is asked for."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunekit.data_modules.features import ReadClip, Sampling, read_clip
from prunekit.data_modules.frames import ClipError
from prunekit.errors import ConfigError


class ClipFrames:
    """Clips that are indexed as a tensor ``(n, frames, height, width, 3)`` uint8 would be; see ``LazySamples``.

    Args:
        clips: video files, with the SHA-256 of their content.
        sampling: how frames are taken.
        decoders: threads that decode.
        device: where the frames of a batch go.
    """

    dtype = torch.uint8

    def __init__(
        self,
        clips: Sequence[tuple[Path, str]],
        sampling: Sampling,
        decoders: int,
        device: torch.device | None = None,
    ) -> None:
        self._clips, self._sampling, self._decoders, self._device = clips, sampling, decoders, device
        self.shape = torch.Size([len(clips), sampling.frames, *sampling.size, 3])

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Decode the clips of an int64 index ``(k,)`` or a slice.

        Raises:
            ConfigError: if a clip cannot be read, or is not what it was when the run began.
        """
        rows = range(len(self._clips))[index] if isinstance(index, slice) else index.tolist()
        with ThreadPoolExecutor(self._decoders) as pool:
            frames = [read.frames for read in pool.map(self._read, rows)]
        return torch.from_numpy(np.stack([one for one in frames if one is not None])).to(self._device)

    def subset(self, index: Tensor) -> "ClipFrames":
        """The same, of some clips only; nothing is decoded."""
        return ClipFrames([self._clips[i] for i in index.tolist()], self._sampling, self._decoders, self._device)

    def to(self, device: torch.device) -> "ClipFrames":
        """The same, with batches on another device; nothing is decoded."""
        return ClipFrames(self._clips, self._sampling, self._decoders, device)

    def fingerprint(self) -> bytes:
        """Equal exactly when the clips' contents and the sampling are."""
        return hashlib.sha256(repr(([sha for _, sha in self._clips], self._sampling)).encode()).digest()

    def _read(self, row: int) -> ReadClip:
        path, sha = self._clips[row]
        try:
            read = read_clip(path, self._sampling)
            if read.sha != sha:
                raise ClipError("it has changed")
        except ClipError as error:
            raise ConfigError("data.source", f"{path}: {error}", "clips that stay as they are during a run") from error
        return read
