"""MNIST read row by row."""

from typing import Any

from prunekit.data_modules.mnist import Mnist


class MnistRows(Mnist):
    """MNIST as sequences of 28 rows of 28 pixels, ``(n, 28, 28)`` float32 in [0, 1]; arguments as :class:`Mnist`."""

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data."""
        return {"inputs": 28, "outputs": 10, "classes": 10}
