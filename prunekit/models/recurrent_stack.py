"""Recurrent layers of different widths, one after the other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

State = Tensor | tuple[Tensor, Tensor]


class RecurrentStack(nn.Module):
    """What an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` of several layers is, where the layers differ in width.

    Args:
        layers: of one layer each and of one kind; a layer's outputs are the next one's inputs.
        dropout: between layers, in training.

    Example:
        >>> import torch
        >>> stack = RecurrentStack([nn.LSTM(3, 5), nn.LSTM(5, 2)])
        >>> out, (h, c) = stack(torch.zeros(7, 4, 3))
        >>> out.shape, [tuple(state.shape) for state in h]
        (torch.Size([7, 4, 2]), [(4, 5), (4, 2)])
    """

    def __init__(self, layers: Sequence[nn.RNNBase], dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_layers, self.dropout = len(layers), dropout
        self.batch_first, self.bidirectional = layers[0].batch_first, layers[0].bidirectional

    def forward(
        self, x: Tensor | PackedSequence, hx: Any = None
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, ...] | tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Outputs as of the one recurrent layer; final states as a tuple, indexed by layer and direction as there.

        Args:
            x: a batch of sequences, padded or packed.
            hx: states to begin with, as an earlier call gave them; None for 0, which a tensor of zeros of the form
                that the one layer took, of any width, is as well.

        Raises:
            ValueError: if they are of another form.
        """
        starts = [None] * self.num_layers if hx is None or self._are_zeros(hx) else self._of_layers(hx)
        finals: list[State] = []
        for number, (layer, start) in enumerate(zip(self.layers, starts, strict=True)):
            x, final = layer(x if number == 0 else self._dropped(x), start)
            finals.append(final)
        hidden = [final[0] if isinstance(final, tuple) else final for final in finals]
        h = tuple(state for layer in hidden for state in layer)
        if not isinstance(finals[0], tuple):
            return x, h
        return x, (h, tuple(state for final in finals for state in final[1]))

    def _are_zeros(self, hx: Any) -> bool:
        """Whether states, a tensor each, are the zeros that code made when all layers were of one width."""
        kinds = hx if isinstance(self.layers[0], nn.LSTM) else (hx,)
        rows = self.num_layers * (2 if self.bidirectional else 1)
        tensors = all(isinstance(state, Tensor) and len(state) == rows for state in kinds)
        return tensors and not any(bool(state.any()) for state in kinds)

    def _of_layers(self, hx: Any) -> list[Any]:
        """States by layer, each as its layer wants them."""
        pair = isinstance(self.layers[0], nn.LSTM)
        kinds = hx if pair else (hx,)
        directions = 2 if self.bidirectional else 1
        widths = [layer.hidden_size for layer in self.layers for _ in range(directions)]
        if len(kinds) != 1 + pair or any([state.shape[-1] for state in each] != widths for each in kinds):
            raise ValueError("layers that differ in width begin with states of 0, or with what an earlier call gave")
        split = [
            [torch.stack(tuple(each[n : n + directions])) for n in range(0, len(each), directions)] for each in kinds
        ]
        return [tuple(layer) if pair else layer[0] for layer in zip(*split, strict=True)]

    def _dropped(self, x: Tensor | PackedSequence) -> Tensor | PackedSequence:
        if not isinstance(x, PackedSequence):
            return dropout(x, self.dropout, self.training)
        return x._replace(data=dropout(x.data, self.dropout, self.training))
