"""What compaction leaves as it is though a mask has emptied it, and why."""

from collections.abc import Container

import torch
from torch import Tensor, nn

from prunekit.units.layers import CELLS, GATES, gates_of
from prunekit.units.parts import parts_of


def alive(layer: nn.RNNBase | nn.RNNCellBase) -> Tensor:
    """Which units have a candidate, ``(layers, directions, units)`` bool; a cell has one layer and direction.

    Example:
        >>> layer = nn.RNN(2, 3)
        >>> with torch.no_grad():
        ...     for parameter in layer.parameters():
        ...         _ = parameter[1].zero_()
        >>> alive(layer)
        tensor([[[ True, False,  True]]])
    """
    gates, candidate = gates_of(layer)
    found = []
    for part in parts_of(layer, ""):
        own = [layer.get_parameter(name).view(gates, layer.hidden_size, -1) for name in part.names]
        found.append(torch.stack([(rows[candidate] != 0).any(1) for rows in own]).any(0))
    return torch.stack(found).view(part.number + 1, -1, layer.hidden_size)


def leftovers(module: nn.Module, read: Container[str]) -> dict[str, str]:
    """The layers that have neurons, units or channels without weights, and why these were not cut.

    Args:
        module: compact.
        read: names of the layers that are known to be read by others.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        >>> with torch.no_grad():
        ...     _ = net[0].weight[1].zero_()
        >>> leftovers(net, [])
        {'0': '1 of 2 rows are 0, but an nn.Conv2d is not cut'}
    """
    found = {}
    for name, layer in module.named_modules():
        empty = _empty(layer)
        if empty.any():
            is_read = name in read or name.rpartition(".layers.")[0] in read  # a layer of what has become a stack
            found[name] = f"{int(empty.sum())} of {empty.numel()} rows are 0, but {_why(layer, is_read)}"
    return found


def weights(layer: nn.Module) -> list[Tensor]:
    """A layer's own matrices; none of an embedding, whose rows are inputs and not neurons."""
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return []
    return [p for name, p in layer.named_parameters(recurse=False) if name.startswith("weight") and p.dim() > 1]


def _empty(layer: nn.Module) -> Tensor:
    if type(layer) in (*GATES, *CELLS) and not getattr(layer, "proj_size", 0):
        return ~alive(layer)  # type: ignore[arg-type]
    return torch.cat([torch.zeros(0).bool(), *((own.cpu().flatten(1) == 0).all(1) for own in weights(layer))])


def _why(layer: nn.Module, is_read: bool) -> str:
    if type(layer) is not nn.Linear and type(layer) not in (*GATES, *CELLS):
        return f"an nn.{type(layer).__name__} is not cut"
    if not is_read:
        return "no link says which layer reads it; only what is elementwise may lie between, not a normalisation"
    if isinstance(layer, nn.RNNBase):
        return "torch has no layer without units, and two directions are of one width"
    return "one neuron has to stay, or what a dead one says is a constant, and its reader has no bias to take it up"
