"""Recurrent layers as cuDNN has them: their weights lie in one piece of memory, and a layer whose do not is refused.

On CUDA torch copies them together at every call, and warns. It lays them out for CUDA alone; here that is done for the
stand-in as well.
"""

from typing import Any

import torch
from torch import nn

from tests.standin import NAME


def _ours(layer: nn.RNNBase) -> bool:
    weights = layer._flat_weights
    kinds = {(weight.device.type, weight.dtype) if isinstance(weight, torch.Tensor) else None for weight in weights}
    return len(kinds) == 1 and next(iter(kinds or {None}), None) is not None and weights[0].device.type == NAME


def _pieces(layer: nn.RNNBase) -> int:
    return len({weight.untyped_storage().data_ptr() for weight in layer._flat_weights})


def require() -> None:
    """Lay weights out wherever torch would on CUDA, and refuse a layer that is called with others."""
    lay_out, call = nn.RNNBase.flatten_parameters, nn.LSTM.forward

    @torch.no_grad()
    def flatten_parameters(self: nn.RNNBase) -> None:
        if not _ours(self):
            lay_out(self)
            return
        whole = torch.cat([weight.reshape(-1) for weight in self._flat_weights])
        sizes = [weight.numel() for weight in self._flat_weights]
        for weight, part in zip(self._flat_weights, whole.split(sizes), strict=True):
            weight.data = part.view_as(weight)

    def forward(self: nn.LSTM, *arguments: Any, **named: Any) -> Any:
        if _ours(self) and _pieces(self) > 1:
            raise RuntimeError(f"weights in {_pieces(self)} pieces of memory: flatten_parameters() is missing")
        return call(self, *arguments, **named)

    nn.RNNBase.flatten_parameters = flatten_parameters
    nn.LSTM.forward = forward
