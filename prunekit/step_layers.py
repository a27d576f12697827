"""A recurrent layer that goes on from states which it is handed, in the three forms that a step network needs."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

ATEN = {"lstm": torch.ops.aten.lstm.input, "gru": torch.ops.aten.gru.input}
ATEN |= {"rnn_tanh": torch.ops.aten.rnn_tanh.input, "rnn_relu": torch.ops.aten.rnn_relu.input}
# ONNX's names, and where its gates lie in torch's order: i f g o against i o f c, r z n against z r h.
ONNX = {"lstm": ("LSTM", [0, 3, 1, 2]), "gru": ("GRU", [1, 0, 2]), "rnn_tanh": ("RNN", [0]), "rnn_relu": ("RNN", [0])}


@torch.library.custom_op("prunekit::recurrent", mutates_args=())
def _recurrent(
    x: Tensor, states: list[Tensor], weights: list[Tensor], kind: str, layers: int, bias: bool, batch_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Stand in for a recurrent operator of torch while it is traced, and never run: see :func:`put_operators`."""
    raise RuntimeError("prunekit::recurrent is for tracing")


@_recurrent.register_fake
def _shapes(
    x: Tensor, states: list[Tensor], weights: list[Tensor], kind: str, layers: int, bias: bool, batch_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    h = x.new_empty((x.shape[0], x.shape[1], states[0].shape[-1]))
    return h, torch.empty_like(states[0]), torch.empty_like(states[-1])


def put_operators(program: torch.export.ExportedProgram) -> None:
    """Put torch's own operators where a traced program has the stand-in, in place.

    Traced by themselves they would fix the number of steps: torch finds their shapes by running them step by step.
    """
    for node in program.graph.nodes:
        if node.target is torch.ops.prunekit.recurrent.default:
            x, states, weights, kind, layers, bias, batch_first = node.args
            node.target = ATEN[kind]
            start = states if kind == "lstm" else states[0]
            node.args = (x, start, weights, bias, layers, 0.0, False, False, batch_first)
    program.graph_module.recompile()


class Carried(nn.Module):
    """A recurrent layer that begins with the states it is handed, whatever its caller says, and keeps the last.

    Args:
        layer: of one direction, without a projection.

    Attributes:
        states: each ``(layers, N, units)``: set before a call, and after it those of its last step.
        calls: how often it was called.

    Example:
        >>> carried = Carried(nn.GRU(3, 5, batch_first=True))
        >>> carried.states = (torch.zeros(1, 2, 5),)
        >>> carried(torch.zeros(2, 4, 3))[0].shape, carried.states[0].shape
        (torch.Size([2, 4, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.states: tuple[Tensor, ...] = ()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # the module around it may ask for its sizes
            return getattr(super().__getattr__("layer"), name)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its states are called."""
        return ("h", "c") if self.layer.mode == "LSTM" else ("h",)

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Outputs and last states, as of the layer; ``hx`` is not asked."""
        self.calls += 1
        h, self.states = self.run(x)
        return h, self.states if len(self.states) > 1 else self.states[0]

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs and last states, from those that it has."""
        h, last = self.layer(x, self.states if len(self.states) > 1 else self.states[0])
        return h, last if isinstance(last, tuple) else (last,)


class Traced(Carried):
    """The same for ``torch.export``, with the stand-in."""

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:  # noqa: D102
        own = self.layer
        how = (own.mode.lower(), own.num_layers, own.bias, own.batch_first)
        weights = [getattr(own, name) for name in own._flat_weights_names]
        h, *last = torch.ops.prunekit.recurrent(x, list(self.states), weights, *how)
        return h, tuple(last[: len(self.states)])


class OnnxCarried(Carried):
    """The same for ONNX: one of its recurrent nodes for each layer, with the weights as they are laid out there."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__(copy.deepcopy(layer))
        own = dict(layer.named_parameters())
        for number in range(layer.num_layers):
            w, r = (self._laid_out(own[f"weight_{kind}_l{number}"]) for kind in ("ih", "hh"))
            self.register_buffer(f"w{number}", w)
            self.register_buffer(f"r{number}", r)
            biases = [self._laid_out(own[f"bias_{kind}_l{number}"]) for kind in ("ih", "hh") if layer.bias]
            self.register_buffer(f"b{number}", torch.cat(biases, 1)[..., 0] if biases else None)

    def _laid_out(self, rows: Tensor) -> Tensor:
        gates = ONNX[self.layer.mode.lower()][1]
        parts = rows.detach().view(len(gates), self.layer.hidden_size, -1)
        return parts[gates].flatten(0, 1)[None].contiguous()

    def run(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:  # noqa: D102
        mode, units = self.layer.mode.lower(), self.layer.hidden_size
        settings: dict[str, Any] = {"hidden_size": units}
        settings |= {"linear_before_reset": 1} if mode == "gru" else {}
        settings |= {"activations": [mode.removeprefix("rnn_").capitalize()]} if mode.startswith("rnn") else {}
        x = x.transpose(0, 1) if self.layer.batch_first else x
        last = []
        for number in range(self.layer.num_layers):
            weights = [getattr(self, f"{kind}{number}") for kind in "wrb"]
            start = [state[number : number + 1] for state in self.states]
            state = (1, x.shape[1], units)
            x, *own = torch.onnx.ops.symbolic_multi_out(
                ONNX[mode][0],
                [x, *weights, None, *start],  # None: all sequences are whole
                settings,
                dtypes=[x.dtype] * (1 + len(start)),
                shapes=[(x.shape[0], *state), *[state] * len(start)],
                version=None,
            )
            x = x.squeeze(1)
            last.append(own)
        states = tuple(torch.cat(each) for each in zip(*last, strict=True))
        return x.transpose(0, 1) if self.layer.batch_first else x, states
