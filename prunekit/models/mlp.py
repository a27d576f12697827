"""A multilayer perceptron classifier."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from prunekit.errors import ArgumentError, check_choice, check_count
from prunekit.models.classifier import Classifier
from prunekit.models.networks import MlpNetwork

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def _normal(layer: nn.Linear) -> None:
    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
    nn.init.zeros_(layer.bias)


def _xavier(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


INITIALISATIONS: dict[str, Callable[[nn.Linear], None]] = {
    "normal": _normal,
    "xavier": _xavier,
    "torch": nn.Linear.reset_parameters,
}


class Mlp(MlpNetwork, Classifier):
    """A fully connected classifier trained with softmax cross-entropy.

    Its layers are ``layers.hidden1``, ``layers.hidden2``, ... and ``layers.output``.

    Args:
        sizes: number of inputs, of neurons in each hidden layer, and of classes.
        activation: after each hidden layer: ``sigmoid``, ``relu`` or ``tanh``.
        initialisation: ``normal`` draws weights from N(0, 1/fan_in), ``xavier`` from Glorot's uniform law, both
            with biases 0; ``torch`` is ``nn.Linear``'s own.
        optimizer: parameters -> optimizer, such as ``functools.partial(torch.optim.SGD, lr=0.1)``.

    Raises:
        ArgumentError: if a size, the activation or the initialisation is not accepted.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> mlp = Mlp([784, 100, 50, 10], optimizer=partial(torch.optim.SGD, lr=0.1))
        >>> mlp(torch.zeros(3, 28, 28)).shape, [name for name, _ in mlp.named_parameters()][:2]
        (torch.Size([3, 10]), ['layers.hidden1.weight', 'layers.hidden1.bias'])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        activation: str = "sigmoid",
        initialisation: str = "normal",
    ) -> None:
        if len(sizes) < 2:
            raise ArgumentError("sizes", list(sizes), "inputs, hidden layers if any, and classes")
        for size in sizes:
            check_count("sizes", size, least=1)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("initialisation", initialisation, INITIALISATIONS)
        super().__init__(nn.Sequential())
        for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            last = number == len(sizes) - 1
            layer = nn.Linear(inputs, outputs)
            INITIALISATIONS[initialisation](layer)
            self.layers.add_module("output" if last else f"hidden{number}", layer)
            if not last:
                self.layers.add_module(f"activation{number}", ACTIVATIONS[activation]())
        self._optimizer = optimizer

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The mean cross-entropy of a batch of (images, int64 classes)."""
        x, y = batch
        return cross_entropy(self(x), y)

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over all parameters."""
        return self._optimizer(self.parameters())
