"""The layers that compaction knows, linear and recurrent: what they read, and how they are cut."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prunekit.models.recurrent_stack import RecurrentStack

# Gates of a kind, and which of them is the candidate: what the state moves towards.
GATES: dict[type[nn.RNNBase], tuple[int, int]] = {nn.LSTM: (4, 2), nn.GRU: (3, 2), nn.RNN: (1, 0)}
CELLS: dict[type[nn.RNNCellBase], tuple[int, int]] = {nn.LSTMCell: (4, 2), nn.GRUCell: (3, 2), nn.RNNCell: (1, 0)}
M = TypeVar("M", bound=nn.Module)
Kept = Sequence[Sequence[Tensor]]  # for each layer and direction the units that stay; a linear layer has one of each
Indices = tuple[Tensor, ...]  # for each dimension of a parameter those that stay of it
Origin = Mapping[str, tuple[str, Indices]]  # parameter name -> the parameter that it is a part of, and which part


def copied(module: M) -> M:
    """A deep copy whose recurrent layers have their weights in one piece, else gathered by cuDNN at every call."""
    made = copy.deepcopy(module)
    for part in made.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
    return made


def check_layer(name: str, layer: nn.Module) -> None:
    """Refuse a layer that cannot be cut.

    Raises:
        ValueError: if it is of another kind, or has a projection or reparametrised weights.
    """
    if type(layer) is not nn.Linear and type(layer) not in (*GATES, *CELLS):
        kinds = "nn.Linear, nn.LSTM, nn.GRU, nn.RNN and their cells"
        raise ValueError(f"{name} is a {type(layer).__name__}; accepted: {kinds}")
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{name} has a projection, so that its outputs are not its units'")
    wanted = ["weight"]
    if not isinstance(layer, nn.Linear):
        wanted = [kind + level(layer, 0) for kind in ("weight_ih", "weight_hh")]
    if not all(isinstance(layer._parameters.get(own), nn.Parameter) for own in wanted):
        raise ValueError(f"{name} has reparametrised weights; make them plain parameters first")


def gates_of(layer: nn.Module) -> tuple[int, int]:
    """How many gates a recurrent module or a cell has, and which is the candidate."""
    return GATES[type(layer)] if isinstance(layer, nn.RNNBase) else CELLS[type(layer)]  # type: ignore[index]


def level(layer: nn.Module, number: int, suffix: str = "") -> str:
    """How the names of the parameters of one layer and direction of a recurrent module end; a cell has one of each."""
    return f"_l{number}{suffix}" if isinstance(layer, nn.RNNBase) else ""


def count_inputs(layer: nn.Module) -> int:
    """How many numbers a layer reads, at a step."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.input_size)  # type: ignore[arg-type]


def count_outputs(layer: nn.Module) -> int:
    """How many numbers a layer gives, at a step."""
    if isinstance(layer, nn.RNNBase):
        return layer.hidden_size * len(suffixes(layer))
    if isinstance(layer, nn.RNNCellBase):
        return layer.hidden_size
    return int(layer.out_features)  # type: ignore[arg-type]


def count_units(layer: nn.Module) -> int:
    """How many units a layer has in each of its layers and directions."""
    return int(getattr(layer, "hidden_size", 0) or layer.out_features)  # type: ignore[arg-type]


def suffixes(layer: nn.RNNBase) -> list[str]:
    """Of the names of the two directions' parameters."""
    return ["", "_reverse"] if layer.bidirectional else [""]


def reading(layer: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The weights with a column for each input, and the biases beside them."""
    own = layer._parameters
    if isinstance(layer, nn.RNNCellBase):
        return [(layer.get_parameter("weight_ih"), own["bias_ih"])]
    if not isinstance(layer, nn.RNNBase):
        return [(layer.get_parameter("weight"), own["bias"])]
    return [(layer.get_parameter(f"weight_ih_l0{s}"), own.get(f"bias_ih_l0{s}")) for s in suffixes(layer)]


def outputs_kept(layer: nn.Module, kept: Kept) -> Tensor:
    """Which of a layer's outputs stay, directions one after the other."""
    return _beside(kept[-1], count_outputs(layer) // len(kept[-1]))


def _beside(directions: Sequence[Tensor], units: int) -> Tensor:
    return torch.cat([indices + number * units for number, indices in enumerate(directions)])


def resized(layer: nn.Module, inputs: int, widths: Sequence[int]) -> nn.Module:
    """A layer like another but for its sizes, on the meta device: it takes no memory, and no random number is drawn.

    Args:
        layer: linear or recurrent.
        inputs: how many numbers it is to read.
        widths: of a linear layer how many it is to give, of a recurrent one the units of each layer. Where these
            differ it becomes a stack.

    Example:
        >>> resized(nn.GRU(3, 5, num_layers=2), 4, [2, 2])
        GRU(4, 2, num_layers=2)
    """
    dtype = next(layer.parameters()).dtype
    if isinstance(layer, nn.RNNCellBase):
        how: dict[str, Any] = {"bias": layer.bias, "device": "meta", "dtype": dtype}
        how |= {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNNCell) else {}
        return type(layer)(inputs, widths[0], **how)
    if not isinstance(layer, nn.RNNBase):
        return nn.Linear(inputs, widths[0], bias=layer.bias is not None, device="meta", dtype=dtype)
    names = ["bias", "batch_first", "bidirectional", *(["nonlinearity"] if isinstance(layer, nn.RNN) else [])]
    settings: dict[str, Any] = {name: getattr(layer, name) for name in names}
    make: Callable[..., nn.RNNBase] = partial(type(layer), device="meta", dtype=dtype, **settings)
    if len(set(widths)) == 1:
        return make(inputs, widths[0], num_layers=len(widths), dropout=layer.dropout if len(widths) > 1 else 0.0)
    heard = [inputs, *(width * len(suffixes(layer)) for width in widths)]
    return RecurrentStack([make(*sizes) for sizes in zip(heard, widths, strict=False)], layer.dropout)


def remade(layer: nn.Module, inputs: Tensor | None, kept: Kept | None) -> tuple[nn.Module, Origin]:
    """A layer with some of its inputs and units, None for all of them; and what its parameters are of the layer's."""
    inputs = torch.arange(count_inputs(layer)) if inputs is None else inputs
    kept = everything(layer) if kept is None else kept
    made = resized(layer, len(inputs), [len(directions[0]) for directions in kept])
    made.to_empty(device=next(layer.parameters()).device)
    origin = _origin(layer, inputs, kept, stacked=isinstance(made, RecurrentStack))
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


def everything(layer: Any) -> Kept:
    """All units of a layer."""
    if not isinstance(layer, nn.RNNBase):
        return [[torch.arange(count_outputs(layer))]]
    return [[torch.arange(layer.hidden_size)] * len(suffixes(layer))] * layer.num_layers


def _origin(layer: nn.Module, inputs: Tensor, kept: Kept, stacked: bool) -> Origin:
    if isinstance(layer, nn.Linear):
        return {"weight": ("weight", (kept[0][0], inputs)), "bias": ("bias", (kept[0][0],))}
    assert isinstance(layer, nn.RNNBase | nn.RNNCellBase)
    units, gates = layer.hidden_size, gates_of(layer)[0]
    origin: dict[str, tuple[str, Indices]] = {}
    for number, directions in enumerate(kept):
        names = suffixes(layer) if isinstance(layer, nn.RNNBase) else [""]
        for name, indices in zip(names, directions, strict=True):
            rows = torch.cat([indices + gate * units for gate in range(gates)])
            parts = {"weight_ih": (rows, inputs), "weight_hh": (rows, indices), "bias_ih": (rows,), "bias_hh": (rows,)}
            for kind, part in parts.items():
                old = f"{kind}{level(layer, number, name)}"
                origin[f"layers.{number}.{kind}_l0{name}" if stacked else old] = (old, part)
        inputs = _beside(directions, units)
    return origin
