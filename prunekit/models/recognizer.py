"""An action recogniser: features of frames -> LSTM -> two fully connected layers."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from prunekit.errors import ArgumentError, check_choice, check_count
from prunekit.models.classifier import Classifier
from prunekit.models.networks import READOUTS, RecognizerNetwork

REGULARIZED = ("recurrent", "all")


def l1(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The sum of magnitudes, sum abs(w)."""
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()


def l2_squared(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The sum of squares, sum w^2."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum()


def l2(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The Euclidean norm of all of them together, sqrt(sum w^2)."""
    return l2_squared(parameters).sqrt()


# The strengths by default make each penalty about as large as the cross-entropy of a guess, for 1,024 units.
PENALTIES: dict[str, tuple[Callable[[Iterable[nn.Parameter]], Tensor], float]] = {
    "l1": (l1, 1e-5),
    "l2": (l2, 1e-2),
    "l2_squared": (l2_squared, 1e-4),
}


class Recognizer(RecognizerNetwork, Classifier):
    """An LSTM that reads a clip's features frame by frame, and a head of two fully connected layers.

    Its modules are ``lstm`` and ``head``, whose parts are ``head.hidden``, ``head.activation`` (ReLU) and
    ``head.output``. The loss is cross-entropy + strength * penalty(w).

    Args:
        inputs: features of a frame.
        classes: actions to tell apart.
        optimizer: parameters -> optimizer, such as ``functools.partial(torch.optim.Adam, lr=0.001)``.
        units: units of an LSTM layer.
        layers: LSTM layers.
        hidden: neurons of the first fully connected layer.
        readout: what the head is applied to: the ``last`` step's output, or the ``mean`` over all steps.
        regularization: penalty of the weights: ``none``, ``l1`` (sum of magnitudes), ``l2`` (Euclidean norm) or
            ``l2_squared`` (its square).
        regularized: the w of the penalty: ``recurrent`` (all of the LSTM's parameters) or ``all`` that are trained.
        strength: of the penalty, 0 or more; None: 1e-5 for ``l1``, 1e-2 for ``l2``, 1e-4 for ``l2_squared``.
        backbone: a network from frames to features, to be trained through; None if the inputs are features.

    Raises:
        ArgumentError: if a value is not accepted.

    Example:
        >>> from functools import partial
        >>> net = Recognizer(inputs=512, classes=6, optimizer=partial(torch.optim.Adam), units=8, hidden=4)
        >>> clips = torch.zeros(3, 25, 512)
        >>> net(clips).shape, net.steps(clips).shape, net.states(clips).shape
        (torch.Size([3, 6]), torch.Size([3, 25, 6]), torch.Size([3, 25, 8]))
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        units: int = 1024,
        layers: int = 1,
        hidden: int = 512,
        readout: str = "last",
        regularization: str = "none",
        regularized: str = "recurrent",
        strength: float | None = None,
        backbone: nn.Module | None = None,
    ) -> None:
        sizes = {"inputs": inputs, "classes": classes, "units": units, "layers": layers, "hidden": hidden}
        for name, size in sizes.items():
            check_count(f"{name}", size, least=1)
        check_choice("readout", readout, READOUTS)
        check_choice("regularization", regularization, ("none", *PENALTIES))
        check_choice("regularized", regularized, REGULARIZED)
        if strength is not None and not 0 <= strength < float("inf"):
            raise ArgumentError("strength", strength, "null, or a number of 0 or more")
        lstm = nn.LSTM(inputs, units, layers, batch_first=True)
        head = nn.Sequential()
        head.add_module("hidden", nn.Linear(units, hidden))
        head.add_module("activation", nn.ReLU())
        head.add_module("output", nn.Linear(hidden, classes))
        super().__init__(lstm, head, readout, backbone)
        self.regularization, self.regularized = regularization, regularized
        self.strength = PENALTIES[regularization][1] if strength is None and regularization != "none" else strength
        self._optimizer = optimizer

    def penalty(self) -> Tensor | float:
        """What the loss adds to the cross-entropy; 0.0 without regularisation."""
        if self.regularization == "none" or not self.strength:
            return 0.0
        module = self.lstm if self.regularized == "recurrent" else self
        measure, _ = PENALTIES[self.regularization]
        return self.strength * measure(p for p in module.parameters() if p.requires_grad)

    def success(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The probability of each clip's class when the head is applied at each step, ``(N, T)``."""
        x, y = batch
        probability = self.steps(x).softmax(-1)
        return probability.gather(2, y[:, None, None].expand(-1, probability.shape[1], 1))[..., 0]

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy and penalty of a batch of (clips, int64 classes)."""
        x, y = batch
        return cross_entropy(self(x), y) + self.penalty()

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over all parameters that are trained."""
        return self._optimizer(p for p in self.parameters() if p.requires_grad)
