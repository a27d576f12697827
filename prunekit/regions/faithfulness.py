"""Whether evidence says what the network goes by: accuracy while pixels are taken away, or given, in its order.

An order that puts what matters first makes accuracy fall early when pixels are blackened (a small area under the
*deletion* curve) and rise early when they are shown on black (a large area under the *insertion* curve).

Source: Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, 2018; here with
accuracy in place of a class's probability, and over an image's own pixels: taking away a black pixel changes nothing.
"""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Network = Callable[[Tensor], Tensor]
STEPS = 20
PATH = 16  # points of the integral of integrated gradients; on our networks the sum is then right to 3e-6


class Curves(NamedTuple):
    """Accuracies in [0, 1], ``(steps + 1,)`` float64 each, when 0 to all pixels have been taken away or given.

    Attributes:
        deletion: starts at the accuracy on whole images and ends at that on black ones.
        insertion: the other way round.
    """

    deletion: Tensor
    insertion: Tensor

    def areas(self) -> dict[str, float]:
        """The areas under both, by name."""
        return {name: area(curve) for name, curve in self._asdict().items()}


@torch.no_grad()
def faithfulness(network: Network, x: Tensor, y: Tensor, evidence: Tensor, steps: int = STEPS) -> Curves:
    """Take pixels away, and give them, in descending order of evidence.

    At each step the same share of each image's pixels that are not black, rounded, has been taken away or given. Pixels
    of equal evidence go in the order of their numbers.

    Args:
        network: ``(n, pixels)`` -> logits ``(n, classes)``.
        x: ``(n, pixels)`` real, or ``(n, channels, pixels)``: a pixel goes in all its channels. 0 is black.
        y: ``(n,)`` int64, the true classes.
        evidence: ``(n, pixels)`` real.
        steps: equal steps from 0 to all pixels.

    Raises:
        ValueError: if the shapes do not go together or an evidence is NaN.

    Example:
        >>> x, y, evidence = torch.tensor([[1.0, 1.0]]), torch.tensor([0]), torch.tensor([[2.0, 1.0]])
        >>> curves = faithfulness(lambda x: x - torch.tensor([0.0, 0.5]), x, y, evidence, steps=2)
        >>> curves.deletion.tolist(), curves.insertion.tolist()
        ([1.0, 0.0, 1.0], [1.0, 1.0, 1.0])
    """
    if evidence.shape != (len(x), x.shape[-1]) or y.shape != evidence.shape[:1]:
        raise ValueError(f"images {tuple(x.shape)}, classes {tuple(y.shape)}, evidence {tuple(evidence.shape)}")
    if evidence.isnan().any():
        raise ValueError("evidence is NaN")
    lit = (x != 0).any(1) if x.dim() == 3 else x != 0
    # Black pixels come after all others, where no step reaches.
    first = torch.argsort(evidence.double().masked_fill(~lit, -torch.inf), dim=1, descending=True, stable=True)
    rank = torch.argsort(first, dim=1)
    count = lit.sum(1, keepdim=True)
    deletion: list[Tensor] = []
    insertion: list[Tensor] = []
    for step in range(steps + 1):
        chosen = rank < (count * step / steps).round()
        chosen = chosen[:, None] if x.dim() == 3 else chosen
        for kept, accuracies in ((~chosen, deletion), (chosen, insertion)):
            right = network(x * kept).argmax(1) == y
            accuracies.append(right.double().mean())
    return Curves(torch.stack(deletion), torch.stack(insertion))


def area(accuracies: Tensor) -> float:
    """The area under a curve over [0, 1], by the trapezoidal rule: the mean accuracy on the way.

    Example:
        >>> area(torch.tensor([1.0, 0.5, 0.0]))
        0.5
    """
    return float(torch.trapezoid(accuracies.double(), dx=1 / (len(accuracies) - 1)))


def centred_logit(network: Network, classes: Tensor) -> Callable[[Tensor], Tensor]:
    """What the rivals explain, as region evidence does: each image's logit of a class less the mean of its logits.

    Args:
        network: ``(n, ...)`` -> logits ``(n, classes)``.
        classes: ``(n,)`` int64.

    Returns:
        ``(n, ...)`` -> ``(n,)``.
    """

    def of(x: Tensor) -> Tensor:
        logits = network(x)
        chosen = one_hot(classes.repeat(len(x) // len(classes)), logits.shape[1]).to(logits)
        return (logits * (chosen - 1 / logits.shape[1])).sum(1)

    return of


def gradient_times_input(network: Network, x: Tensor, classes: Tensor) -> Tensor:
    """The gradient of each image's centred logit of a class, times the image; of the shape of ``x``.

    Example:
        >>> gradient_times_input(lambda x: x**2, torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
        tensor([[ 9., -1.]])
    """
    inner = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(centred_logit(network, classes)(inner).sum(), inner)
    return gradient * x


def has_captum() -> bool:
    """Whether integrated gradients can be taken: ``pip install 'prunekit[attribution]'``."""
    return importlib.util.find_spec("captum") is not None


def integrated_gradients(network: Network, x: Tensor, classes: Tensor) -> Tensor:
    """Captum's integrated gradients of each image's centred logit of a class from black, of the shape of ``x``.

    Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, 2017.
    """
    from captum.attr import IntegratedGradients  # noqa: PLC0415 - an extra

    found: Tensor = IntegratedGradients(centred_logit(network, classes)).attribute(x, n_steps=PATH)
    return found.detach()
