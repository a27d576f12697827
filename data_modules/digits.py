"""Scikit-learn's handwritten digits: real images that need no download."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import interpolate

from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.errors import check_count


class Digits(InMemoryDataModule):
    """1,797 handwritten digits, embedded in scikit-learn, enlarged to the size of MNIST's.

    The images are 8x8 with values 0..16; they come out ``(n, size, size)`` float32 in [0, 1], enlarged
    bilinearly. A fifth, drawn class by class and always the same, is the test data.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.

    Args:
        batch_size: samples of a training batch over all devices together.
        validation: share of the training data held out, in [0, 1).
        seed: of the shuffling of each epoch.
        size: side of the enlarged images, in pixels.
        eval_batch_size: samples of an evaluation batch.

    Example:
        >>> digits = Digits(batch_size=10, validation=0.0, seed=0)
        >>> digits.arrays.train_x.shape, digits.arrays.test_x.shape
        (torch.Size([1437, 28, 28]), torch.Size([360, 28, 28]))
    """

    def __init__(
        self, batch_size: int, validation: float, seed: int, size: int = 28, eval_batch_size: int = 5000
    ) -> None:
        super().__init__(batch_size, validation, seed, eval_batch_size)
        self.size = check_count("size", size, least=8)

    def load(self) -> Arrays:
        """Read, split and enlarge the digits."""
        images, classes = load_digits(return_X_y=True)
        train_x, test_x, train_y, test_y = train_test_split(
            images, classes, test_size=0.2, stratify=classes, random_state=0
        )
        return Arrays(
            self._enlarge(torch.from_numpy(train_x)),
            torch.from_numpy(train_y).long(),
            self._enlarge(torch.from_numpy(test_x)),
            torch.from_numpy(test_y).long(),
        )

    def _enlarge(self, x: torch.Tensor) -> torch.Tensor:
        small = x.float().view(-1, 1, 8, 8) / 16
        return interpolate(small, size=(self.size, self.size), mode="bilinear", align_corners=False)[:, 0]
