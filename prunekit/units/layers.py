"""The layers that compaction knows, linear and recurrent: what they read, and how they are cut."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunekit.models.recurrent_stack import RecurrentStack

# Gates of a kind, and which of them is the candidate: what the state moves towards.
GATES: dict[type[nn.RNNBase], tuple[int, int]] = {nn.LSTM: (4, 2), nn.GRU: (3, 2), nn.RNN: (1, 0)}
Kept = Sequence[Sequence[Tensor]]  # for each layer and direction the units that stay; a linear layer has one of each
Indices = tuple[Tensor, ...]  # for each dimension of a parameter those that stay of it
Origin = Mapping[str, tuple[str, Indices]]  # parameter name -> the parameter that it is a part of, and which part


def check_layer(name: str, layer: nn.Module) -> None:
    """Refuse a layer that cannot be cut.

    Raises:
        ValueError: if it is of another kind, or has a projection or reparametrised weights.
    """
    if type(layer) is not nn.Linear and type(layer) not in GATES:
        raise ValueError(f"{name} is a {type(layer).__name__}; accepted: nn.Linear, nn.LSTM, nn.GRU, nn.RNN")
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{name} has a projection, so that its outputs are not its units'")
    wanted = ["weight"] if isinstance(layer, nn.Linear) else ["weight_ih_l0", "weight_hh_l0"]
    if not all(isinstance(layer._parameters.get(own), nn.Parameter) for own in wanted):
        raise ValueError(f"{name} has reparametrised weights; make them plain parameters first")


def count_inputs(layer: nn.Module) -> int:
    """How many numbers a layer reads, at a step."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.input_size)  # type: ignore[arg-type]


def count_outputs(layer: nn.Module) -> int:
    """How many numbers a layer gives, at a step."""
    if isinstance(layer, nn.RNNBase):
        return layer.hidden_size * len(suffixes(layer))
    return int(layer.out_features)  # type: ignore[arg-type]


def suffixes(layer: nn.RNNBase) -> list[str]:
    """Of the names of the two directions' parameters."""
    return ["", "_reverse"] if layer.bidirectional else [""]


def reading(layer: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The weights with a column for each input, and the biases beside them."""
    if not isinstance(layer, nn.RNNBase):
        return [(layer.get_parameter("weight"), layer._parameters["bias"])]
    own = layer._parameters
    return [(layer.get_parameter(f"weight_ih_l0{s}"), own.get(f"bias_ih_l0{s}")) for s in suffixes(layer)]


def outputs_kept(layer: nn.Module, kept: Kept) -> Tensor:
    """Which of a layer's outputs stay, directions one after the other."""
    return _beside(kept[-1], count_outputs(layer) // len(kept[-1]))


def _beside(directions: Sequence[Tensor], units: int) -> Tensor:
    return torch.cat([indices + number * units for number, indices in enumerate(directions)])


def remade(layer: nn.Module, inputs: Tensor | None, kept: Kept | None) -> tuple[nn.Module, Origin]:
    """A layer with some of its inputs and units, None for all of them; and what its parameters are of the layer's.

    A recurrent layer whose layers come to differ in width becomes a stack.
    """
    inputs = torch.arange(count_inputs(layer)) if inputs is None else inputs
    make = _remade_recurrent if isinstance(layer, nn.RNNBase) else _remade_linear
    made, origin = make(layer, inputs, kept)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            whole = layer.get_parameter(origin[name][0])
            parameter.copy_(cut(whole, origin[name][1]))
            parameter.requires_grad_(whole.requires_grad)
    return made.train(layer.training), origin


def cut(tensor: Tensor, indices: Indices) -> Tensor:
    """A copy that has of each dimension these indices."""
    for dimension, index in enumerate(indices):
        tensor = tensor.index_select(dimension, index.to(tensor.device))
    return tensor


def _remade_linear(layer: Any, inputs: Tensor, kept: Kept | None) -> tuple[nn.Module, Origin]:
    neurons = torch.arange(layer.out_features) if kept is None else kept[0][0]
    made = _empty(nn.Linear, layer.weight, len(inputs), len(neurons), bias=layer.bias is not None)
    return made, {"weight": ("weight", (neurons, inputs)), "bias": ("bias", (neurons,))}


def _remade_recurrent(layer: Any, inputs: Tensor, kept: Kept | None) -> tuple[nn.Module, Origin]:
    units, gates, names = layer.hidden_size, GATES[type(layer)][0], suffixes(layer)
    kept = [[torch.arange(units)] * len(names)] * layer.num_layers if kept is None else kept
    widths = [len(directions[0]) for directions in kept]
    settings = {name: getattr(layer, name) for name in ("bias", "batch_first", "bidirectional")}
    settings |= {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}

    def make(inputs: int, width: int, **others: Any) -> Any:
        return _empty(type(layer), layer.weight_ih_l0, inputs, width, **settings, **others)

    whole = len(set(widths)) == 1
    made: nn.Module
    if whole:
        made = make(len(inputs), widths[0], num_layers=layer.num_layers, dropout=layer.dropout)
    else:
        heard = [len(inputs), *(len(names) * width for width in widths)]
        made = RecurrentStack([make(*sizes) for sizes in zip(heard, widths, strict=False)], layer.dropout)
    origin: dict[str, tuple[str, Indices]] = {}
    for number, directions in enumerate(kept):
        for name, indices in zip(names, directions, strict=True):
            rows = torch.cat([indices + gate * units for gate in range(gates)])
            parts = {"weight_ih": (rows, inputs), "weight_hh": (rows, indices), "bias_ih": (rows,), "bias_hh": (rows,)}
            for kind, part in parts.items():
                old = f"{kind}_l{number}{name}"
                origin[old if whole else f"layers.{number}.{kind}_l0{name}"] = (old, part)
        inputs = _beside(directions, units)
    return made, origin


def _empty(kind: type[nn.Module], like: Tensor, *sizes: int, **settings: Any) -> nn.Module:
    """A layer of which no weight is set, so that no random number is drawn."""
    return kind(*sizes, **settings, device="meta", dtype=like.dtype).to_empty(device=like.device)
