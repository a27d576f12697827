"""Clips that are decoded when a batch of them is asked for."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunekit.data_modules.features import ReadClip, Sampling, read_clip
from prunekit.data_modules.frames import ClipError
from prunekit.errors import ArgumentError


@dataclass(frozen=True)
class ClipFrames:
    """Clips that are indexed as a tensor ``(n, frames, height, width, 3)`` uint8 would be; see ``LazySamples``.

    Args:
        clips: video files, with the SHA-256 of their content.
        sampling: how frames are taken.
        decoders: threads that decode.
        device: where the frames of a batch go.
        owner: whose ``source`` the clips are of, for messages.
    """

    clips: Sequence[tuple[Path, str]]
    sampling: Sampling
    decoders: int
    device: torch.device | None = None
    owner: object = None

    @property
    def shape(self) -> torch.Size:
        """That of the tensor."""
        return torch.Size([len(self.clips), self.sampling.frames, *self.sampling.size, 3])

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Decode the clips of an int64 index ``(k,)`` or a slice.

        Raises:
            ArgumentError: if a clip cannot be read, or is not what it was when the run began.
        """
        rows = range(len(self.clips))[index] if isinstance(index, slice) else index.tolist()
        batch = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        with ThreadPoolExecutor(self.decoders) as pool:
            for number, read in enumerate(pool.map(self._read, rows)):
                batch[number] = read.frames
        return torch.from_numpy(batch).to(self.device)

    def subset(self, index: Tensor) -> "ClipFrames":
        """The same, of some clips only; nothing is decoded."""
        return replace(self, clips=[self.clips[i] for i in index.tolist()])

    def to(self, device: torch.device) -> "ClipFrames":
        """The same, with batches on another device; nothing is decoded."""
        return replace(self, device=device)

    def fingerprint(self) -> bytes:
        """Equal exactly when the clips' contents and the sampling are."""
        return hashlib.sha256(repr(([sha for _, sha in self.clips], self.sampling)).encode()).digest()

    def _read(self, row: int) -> ReadClip:
        path, sha = self.clips[row]
        try:
            read = read_clip(path, self.sampling)
            if read.sha != sha:
                raise ClipError("it has changed")
        except ClipError as error:
            accepted = "clips that stay as they are during a run"
            raise ArgumentError("source", f"{path}: {error}", accepted, self.owner) from error
        return read
