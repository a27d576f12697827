"""How a module is held to a mask while optimizers move its parameters."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunekit.masks import Mask, find_parameter


class HeldMask:
    """Holds a module to a mask through the steps of its optimizers.

    After each optimizer step removed entries are again exactly what the mask holds them at, whatever the optimizer did
    to them: momentum, Adam's moments and weight decay included. Gradients of removed entries are zeroed as they are
    produced, so they enter neither an accumulation nor a clip norm. The gradient hook is a tensor hook and not one
    that runs after accumulation, because DDP copies its reduced gradients over what the latter would have written.
    A parameter that takes no gradient gets no such hook.

    Args:
        mask: what to hold; it is applied at once.
        module: its parameters must be on their final device.
        optimizers: those that step these parameters.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(layer.parameters(), lr=1.0)
        >>> held = HeldMask(Mask({"weight": torch.tensor([[True, False]])}), layer, [sgd])
        >>> layer(torch.ones(1, 2)).sum().backward(); sgd.step()
        >>> layer.weight[0, 1].item()
        0.0
        >>> held.release()
    """

    def __init__(self, mask: Mask, module: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        mask.apply(module)
        self._held: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._handles: list[RemovableHandle] = []
        for name, kept in mask.items():
            parameter = find_parameter(module, name)
            # Multiplying by 0 and 1 costs a tenth of masked_fill_.
            factor = kept.to(parameter.device, parameter.dtype)
            self._held.append((parameter, factor, mask.held.get(name, torch.zeros(())).to(factor)))
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(factor.mul))  # type: ignore[no-untyped-call]
        self._handles += [optimizer.register_step_post_hook(self._zero) for optimizer in optimizers]

    @torch.no_grad()
    def _zero(self, *_: Any) -> None:
        for parameter, factor, held_at in self._held:
            # 0 + w * factor: one pass, and +0.0 where a plain product would leave -0.0.
            torch.addcmul(held_at, parameter, factor, out=parameter)

    def release(self) -> None:
        """Let go: later steps may move removed entries again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
