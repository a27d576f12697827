"""Which layers read a layer's units, found by following marks through the network: no name or sequence has to tell.

A unit's outputs are set to NaN, and whatever is computed of them is NaN as well. Where the mark arrives at a layer that
can read units, the columns that it arrives in are taken down and the mark is taken away, so that what it arrives at
elsewhere is read directly. Where it arrives in anything else that has weights, or in the outputs of the network, the
units cannot be cut. It works for any code that passes the batch, in any branch that the batch takes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from prunekit.units.layers import CELLS, GATES
from prunekit.units.links import Link
from prunekit.units.parts import Part
from prunekit.units.watching import floating

MARK = float("nan")


class _Arrivals:
    """Where a mark arrived.

    Attributes:
        columns: name of a layer -> ``(inputs,)`` bool, where in what it reads.
        rows: name of a layer -> what it read, call by call, ``(n, inputs)``.
        blocked: what it arrived in that cannot read units.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Tensor] = {}
        self.rows: dict[str, list[Tensor]] = {}
        self.blocked: list[str] = []


@torch.no_grad()
def trace(module: nn.Module, part: Part, run: Callable[[], Any]) -> list[Link]:
    """The layers that read a part's units from outside of its module.

    The next layer of the same module reads them as well, and the part itself, which needs no finding out.

    Args:
        module: in evaluation mode.
        part: of a recurrent module or a cell in it.
        run: passes a batch through the module and gives those outputs whose shape is to stay.

    Raises:
        ValueError: if the units reach something that cannot read units, or that reads something else beside them.

    Example:
        >>> from prunekit.units.parts import parts_of
        >>> net = nn.ModuleDict({"memory": nn.GRU(2, 3), "say": nn.Linear(6, 1)})
        >>> def run():
        ...     h = net["memory"](torch.randn(5, 4, 2))[0]
        ...     return net["say"](torch.cat([h.mean(0), h[-1]], 1))
        >>> [(link.reader, link.column) for link in trace(net, parts_of(net, "memory")[0], run)]
        [('say', 0), ('say', 3)]
    """
    if any(bool(leaf.isnan().any()) for leaf in floating(run())):
        raise ValueError("outputs are NaN already")
    units = torch.arange(part.units)
    some = units[torch.randperm(part.units, generator=torch.Generator().manual_seed(0))[: (part.units + 1) // 2]]
    found = _arrivals(module, part, run, units, MARK)
    if found.blocked:
        raise ValueError("; ".join(dict.fromkeys(found.blocked)))
    again = _arrivals(module, part, run, some.sort().values, MARK)
    links = []
    for name, columns in found.columns.items():
        begins = _blocks(columns.nonzero().flatten(), part.units)
        expected = torch.zeros_like(columns)
        for begin in begins or ():
            expected[begin + some] = True
        if begins is None or not torch.equal(expected, again.columns.get(name, ~expected)):
            raise ValueError(f"{name} reads something that mixes them")
        links += [Link(part.layer, name, (), (part.number, part.direction), begin) for begin in begins]
    silent = _arrivals(module, part, run, units, 0.0, list(found.columns))
    for name, columns in found.columns.items():
        if any(bool(rows[:, columns].any()) for rows in silent.rows.get(name, [])):
            added = "a residual or another direction is added"
            raise ValueError(f"{name} reads something else in the same places, as it does where {added}")
    return links


def _arrivals(
    module: nn.Module, part: Part, run: Callable[[], Any], units: Tensor, value: float, readers: list[str] | None = None
) -> _Arrivals:
    """Where a value arrives that takes the place of some units' outputs; only NaN is looked for, else rows are kept."""
    found = _Arrivals()
    source = module.get_submodule(part.layer)

    def arrive(name: str, layer: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            given = [*inputs, *named.values()]
            if readers is not None:
                if name in readers:
                    rows = next(iter(floating(given)))
                    found.rows.setdefault(name, []).append(rows.reshape(-1, rows.shape[-1]))
                return None
            marked = [bool(leaf.isnan().any()) for leaf in floating(given)]
            if not any(marked):
                return None
            if type(layer) in (nn.Linear, *GATES, *CELLS):
                if marked[0]:
                    x = next(iter(floating(given)))
                    columns = x.isnan().reshape(-1, x.shape[-1]).any(0).cpu()
                    found.columns[name] = columns | found.columns.get(name, torch.zeros_like(columns))
                if any(marked[1:]) and layer is not source:
                    found.blocked.append(f"{name} begins with their states")
            else:
                found.blocked.append(f"{name or 'the network'}, an nn.{type(layer).__name__}, reads them")
            return tree_map(_unmarked, inputs), tree_map(_unmarked, named)

        return hook

    def leave(_: nn.Module, inputs: Any, outputs: Any) -> Any:
        return _with(source, part, outputs, units, value)

    with _hooked(module, source, arrive, leave):
        outputs = run()
    if readers is None and any(bool(leaf.isnan().any()) for leaf in floating(outputs)):
        found.blocked.append("they are outputs of the network (predict= says which outputs have to stay)")
    return found


@contextmanager
def _hooked(module: nn.Module, source: nn.Module, arrive: Any, leave: Any) -> Iterator[None]:
    hooks = [
        layer.register_forward_pre_hook(arrive(name, layer), with_kwargs=True)
        for name, layer in module.named_modules()
        if any(parameter is not None for parameter in layer._parameters.values())
    ]
    hooks.append(source.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with(source: nn.Module, part: Part, outputs: Any, units: Tensor, value: float) -> Any:
    """What a recurrent module or a cell gives, with a value in place of what some units of a part give."""

    def marked(tensor: Tensor, first: int = 0) -> Tensor:
        tensor = tensor.clone()
        tensor[..., first + units.to(tensor.device)] = value
        return tensor

    if isinstance(source, nn.RNNCellBase):
        return tree_map(marked, outputs)
    assert isinstance(source, nn.RNNBase)
    h, finals = outputs
    if part.number == source.num_layers - 1:
        first = part.direction * part.units
        h = h._replace(data=marked(h.data, first)) if not isinstance(h, Tensor) else marked(h, first)
    row = part.number * (2 if source.bidirectional else 1) + part.direction

    def of_row(tensor: Tensor) -> Tensor:
        return torch.cat([tensor[:row], marked(tensor[row : row + 1]), tensor[row + 1 :]])

    return h, tree_map(of_row, finals)


def _unmarked(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.masked_fill(leaf.isnan(), 0.0)
    return leaf


def _blocks(columns: Tensor, width: int) -> list[int] | None:
    """Where blocks of adjacent columns begin; None if there are others."""
    if len(columns) % width:
        return None
    begins = columns[::width]
    whole = (begins[:, None] + torch.arange(width)).flatten()
    return begins.tolist() if torch.equal(whole, columns) else None
