"""How much a first-order change of each weight would change the loss of single samples."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunekit.calibration import Calibration
from prunekit.gpu import float64


def weight_saliency(module: nn.Module, layer: nn.Linear, calibration: Calibration) -> tuple[Tensor, int]:
    """Add up ``abs(w * dL_i/dw)`` over samples, for each weight of a linear layer.

    ``L_i`` is the cross-entropy of sample ``i``. The gradient of a linear layer's weight is the product of what
    comes in and of the gradient at what goes out, so one matrix product a batch has the magnitudes of all samples:
    ``abs(w) * sum_i abs(dL_i/dz_i)^T abs(x_i)``.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, 2019, the first-order criterion,
    taken in magnitude sample by sample.

    Args:
        module: in evaluation mode; gives logits ``(n, classes)``, and no sample's depend on another.
        layer: of the module, called once a forward pass with ``(n, inputs)``.
        calibration: batches with int64 classes ``(n,)``.

    Returns:
        The sums, ``(outputs, inputs)`` float64 on the CPU, and the number of samples. Divided, they are the saliencies.

    Raises:
        ValueError: if the layer is not called once with a matrix, or no batch comes, or it has no classes.

    Example:
        >>> layer = nn.Linear(1, 2, bias=False)
        >>> with torch.no_grad(): _ = layer.weight.copy_(torch.tensor([[1.0], [1.0]]))
        >>> weight_saliency(layer, layer, Calibration([(torch.tensor([[2.0]]), torch.tensor([0]))]))
        (tensor([[1.],
                [1.]], dtype=torch.float64), 1)
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.requires_grad_() if output.is_leaf else output  # of a frozen layer
        seen.append((inputs[0], output))
        return output.clone()  # what comes next may work in place

    handle = layer.register_forward_hook(watch)
    total, samples = torch.zeros(layer.weight.shape, dtype=torch.float64), 0
    try:
        for batch in calibration.batches:
            seen.clear()
            with torch.enable_grad():
                logits, y = calibration.predict(module, batch)
                if y is None:
                    raise ValueError("saliency wants the classes of a batch")
                loss = cross_entropy(logits.float(), y, reduction="sum")
                if len(seen) != 1 or seen[0][0].dim() != 2:
                    raise ValueError(f"the layer was called {len(seen)} times, or with something else than a matrix")
                came_in, went_out = seen[0]
                (slope,) = torch.autograd.grad(loss, went_out)
            total += (float64(slope).abs().T @ float64(came_in.detach()).abs()).cpu()
            samples += len(y)
    finally:
        handle.remove()
    if not samples:
        raise ValueError("no samples to take saliencies on")
    return total * layer.weight.detach().cpu().double().abs(), samples
