"""What single regions and pixels contribute to a decision, in numbers that add up to the logits.

In a chain of linear layers and elementwise functions a region ``r`` of neuron ``n`` of the first layer takes in
``u_r = sum_{p in r} W1[n, p] x_p``. Each elementwise function ``f`` is replaced by the line through its values for
this image and for a black one, of slope ``s = (f(z) - f(z0)) / (z - z0)``, where ``z0`` is what goes in when the image
is 0. Along these lines the network is linear, and the evidence of the region for class ``c`` is

    E[r, c] = (W_L diag(s_{L-1}) W_{L-1} ... diag(s_1))[c, n] * u_r

Because the lines meet the functions at both ends, nothing is lost to curvature: over all regions the evidence for a
class adds up to its logit less the logit of a black image, which is the remainder and has the closed form
``W_L f(... f(W_2 f(b_1) + b_2) ...) + b_L`` of the biases alone.

Softmax does not see a number that is added to all logits, so the evidence used here is *centred*: that for a class less
its mean over all classes. It adds up to the centred logits.

Source: DeepLIFT with its rescale rule, of Shrikumar, Greenside and Kundaje, Learning Important Features Through
Propagating Activation Differences, 2017; here taken to regions of weights.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from prunekit.regions.labels import region_neurons

# Where what a function takes in hardly differs from what it takes in for a black image, its slope is the tangent's.
NEAR = 1e-6
PASSES = (nn.Flatten, nn.Identity, nn.Dropout)  # in evaluation mode
ELEMENTWISE = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Hardtanh)


class Chain(NamedTuple):
    """A network as linear layers and the elementwise functions between them.

    Attributes:
        linears: the first takes pixels, the last gives logits.
        functions: after each linear layer but the last, one after the other.
    """

    linears: list[nn.Linear]
    functions: list[nn.Sequential]

    def logits(self, x: Tensor) -> Tensor:
        """The network's output, ``(n, classes)``, for ``(n, pixels)``."""
        z: Tensor = self.linears[0](x)
        for function, layer in zip(self.functions, self.linears[1:], strict=True):
            z = layer(function(z))
        return z


def find_chain(module: nn.Module, parameter: str) -> Chain:
    """The chain that begins with the linear layer whose weight is called ``parameter``.

    Args:
        module: applies an ``nn.Sequential``, in which the layer is, to images ``(n, ...)`` flattened.
        parameter: name of the layer's weight.

    Raises:
        ValueError: if it is no such network.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))
        >>> chain = find_chain(network, "0.weight")
        >>> [layer.out_features for layer in chain.linears], chain.functions
        ([3, 2], [Sequential(
          (0): Sigmoid()
        )])
    """
    path, _, name = parameter.rpartition(".")
    outer = module.get_submodule(path.rpartition(".")[0])
    if name != "weight" or not isinstance(outer, nn.Sequential):
        raise ValueError(f"{parameter} is no weight of a layer in an nn.Sequential")
    linears: list[nn.Linear] = []
    functions: list[nn.Sequential] = []
    for layer in outer:
        if isinstance(layer, nn.Linear):
            linears.append(layer)
            functions.append(nn.Sequential())
        elif isinstance(layer, ELEMENTWISE) and linears:
            functions[-1].append(layer)
        elif not isinstance(layer, PASSES):
            raise ValueError(f"{type(layer).__name__} is neither linear nor elementwise")
    if not linears or linears[0] is not module.get_submodule(path) or len(functions[-1]):
        raise ValueError(f"{parameter} is not of the first of its linear layers, or the last one's outputs are changed")
    return Chain(linears, functions[:-1])


class Slopes(NamedTuple):
    """How a chain depends on its first layer, along lines from a black image; all in float64 and centred.

    Attributes:
        classes: ``(n, classes, neurons)``: what one more unit of a neuron's input gives to each logit; ``(n, 1,
            neurons)`` where they are for one class an image.
        logits: ``(n, classes)``, of the images.
        remainder: ``(classes,)``, of a black image.
    """

    classes: Tensor
    logits: Tensor
    remainder: Tensor


@torch.no_grad()
def slopes(chain: Chain, x: Tensor, classes: Tensor | None = None) -> Slopes:
    """How much each neuron's input gives to each centred logit.

    Args:
        chain: the network.
        x: ``(n, pixels)`` real; black is 0.
        classes: ``(n,)`` int64, one class for each image; None for all classes.

    Returns:
        In float64, on the device of ``x``.

    Example:
        >>> chain = Chain([nn.Linear(2, 1), nn.Linear(1, 2)], [nn.Sequential(nn.ReLU())])
        >>> found = slopes(chain, torch.rand(5, 2))
        >>> found.classes.shape, found.logits.shape, found.remainder.shape
        (torch.Size([5, 2, 1]), torch.Size([5, 2]), torch.Size([2]))
        >>> slopes(chain, torch.rand(5, 2), torch.zeros(5, dtype=torch.int64)).classes.shape
        torch.Size([5, 1, 1])
    """
    weights = [layer.weight.double() for layer in chain.linears]
    biases = [layer.bias.double() if layer.bias is not None else layer.weight.new_zeros(()) for layer in chain.linears]
    black = x.new_zeros(1, x.shape[1])
    z = torch.cat([black, x]).double() @ weights[0].T + biases[0]
    secants = []
    for function, weight, bias in zip(chain.functions, weights[1:], biases[1:], strict=True):
        secants.append(_secants(function, z))
        z = function(z) @ weight.T + bias
    centre = torch.eye(z.shape[1], dtype=z.dtype, device=z.device) - 1 / z.shape[1]
    gives = centre.expand(len(x), -1, -1) if classes is None else centre[classes][:, None]
    for weight, secant in zip(reversed(weights[1:]), reversed(secants), strict=True):
        gives = gives @ weight * secant[:, None]
    z = z @ centre
    return Slopes(gives, z[1:], z[0])


def _secants(function: nn.Module, z: Tensor) -> Tensor:
    """The slopes of the lines from ``(z[0], f(z[0]))`` to ``(z, f(z))``, ``(n, neurons)`` for ``z`` of 1 + n rows."""
    with torch.enable_grad():
        inner = z[1:].detach().requires_grad_()
        # Of clones, since functions may work in place.
        (tangent,) = torch.autograd.grad(function(inner.clone()).sum(), inner)
    reached = function(z.clone())
    rise, run = reached[1:] - reached[:1], z[1:] - z[:1]
    same = run.abs() < NEAR
    return torch.where(same, tangent, rise / run.masked_fill(same, 1))


def deeplift(chain: Chain, x: Tensor, classes: Tensor) -> Tensor:
    """DeepLIFT from a black image: what each pixel gives to one class's centred logit.

    It is the evidence of a region that is one pixel of all neurons: ``(slopes[c] @ W1) * x``. Summed over the pixels of
    an image it is the class's centred logit less its remainder, whatever the regions that weights are cut into.
    Captum's ``DeepLift`` gives the same, but for GELU, SiLU and Hardtanh, of which it takes the gradients.

    Args:
        chain: the network.
        x: ``(n, pixels)`` real.
        classes: ``(n,)`` int64, a class for each image.

    Returns:
        ``(n, pixels)`` float64.
    """
    return slopes(chain, x, classes).classes[:, 0] @ chain.linears[0].weight.detach().double() * x


class Regions:
    """The regions of a chain's first layer, ready to be held against images.

    Args:
        labels: ``(neurons, ...)`` int64, 0 in none, their pixels in the order of the layer's inputs. For the evidence
            to add up every weight that is not 0 is in a region.
        layer: the first layer.

    Example:
        >>> chain = Chain([nn.Linear(2, 2, bias=False)], [])
        >>> with torch.no_grad(): _ = chain.linears[0].weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
        >>> x, regions = torch.tensor([[1.0, 1.0]]), Regions(np.array([[[1, 2]], [[0, 3]]]), chain.linears[0])
        >>> regions.evidence(slopes(chain, x), x)  # of 4 - 2, centred
        array([[[ 1.5, -1.5],
                [ 0.5, -0.5],
                [-1. ,  1. ]]])
    """

    def __init__(self, labels: NDArray[np.int64], layer: nn.Linear) -> None:
        rows = labels.reshape(len(labels), -1)
        neurons, pixels = np.nonzero(rows)
        where = (rows[neurons, pixels] - 1, pixels)
        shape = (int(labels.max(initial=0)), rows.shape[1])
        weights = layer.weight.detach().double().cpu().numpy()[neurons, pixels]
        self.neurons = region_neurons(labels)
        self._weights, self._pixels = (csr_array((v, where), shape) for v in (weights, np.ones_like(weights)))

    def evidence(self, found: Slopes, x: Tensor) -> NDArray[np.float64]:
        """What each region gives to each class's centred logit.

        Args:
            found: the slopes of the images.
            x: the images, ``(n, pixels)`` real.

        Returns:
            ``(n, R, classes)`` float64, region 1 first; of slopes for one class an image, ``(n, R, 1)``.
        """
        takes_in = self._weights @ x.double().cpu().numpy().T
        gives = found.classes.cpu().numpy()[:, :, self.neurons]
        return np.asarray(np.einsum("rn,ncr->nrc", takes_in, gives))

    def spread(self, evidence: NDArray[np.float64], x: Tensor) -> Tensor:
        """Spread each region's evidence evenly over those of its pixels that are not black.

        Args:
            evidence: ``(n, R)`` float64, for one class an image.
            x: the images, ``(n, pixels)`` real.

        Returns:
            ``(n, pixels)`` float64; its sums over an image are those of the evidence.
        """
        lit = (x != 0).cpu().numpy()
        share = evidence / np.maximum(self._pixels @ lit.T.astype(np.float64), 1).T
        return torch.from_numpy(np.asarray((self._pixels.T @ share.T).T * lit))
