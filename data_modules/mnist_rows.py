"""MNIST read row by row."""

from typing import Any

from prunekit.data_modules.mnist import Mnist


class MnistRows(Mnist):
    """MNIST as sequences of 28 rows of 28 pixels, ``(n, 28, 28)`` float32 in [0, 1], read as :class:`Mnist` does.

    Args:
        data_dir: a folder of data sets, only read.
        cache_dir: a writable folder.
        batch_size: samples of a training batch over all devices together.
        validation: share of the training data held out, in [0, 1).
        seed: of the shuffling of each epoch.
        eval_batch_size: samples of an evaluation batch.
        download: whether missing files may be fetched from torchvision's mirrors.
        scoring: how many of the training samples units are scored and repaired on, the first ones; None for all.

    Raises:
        ArgumentError: if the files are missing, damaged or cannot be unpacked.
    """

    def __init__(
        self,
        data_dir: str,
        cache_dir: str,
        batch_size: int,
        validation: float,
        seed: int,
        eval_batch_size: int = 500,
        download: bool = True,
        scoring: int | None = None,
    ) -> None:
        super().__init__(data_dir, cache_dir, batch_size, validation, seed, eval_batch_size, download, scoring)

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data."""
        return {"inputs": 28, "outputs": 10, "classes": 10}
