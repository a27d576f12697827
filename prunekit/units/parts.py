"""What of a network has units of its own: each layer and direction of a recurrent module, each recurrent cell."""

from typing import NamedTuple

from torch import nn

from prunekit.units.layers import CELLS, GATES, suffixes

Key = tuple[str, int, int]  # a part's layer, number and direction
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Part(NamedTuple):
    """One layer and direction of a recurrent module, a cell, or a linear layer.

    Attributes:
        layer: name of the module; empty if the network is one.
        names: of the parameters with a row for each gate of each unit, in the network; W_ih and W_hh come first.
        gates: how many rows a unit has in each; a linear layer's have one.
        units: how many there are.
        number: which layer of the module it is, from 0.
        direction: 0, or 1 for the reverse one.
    """

    layer: str
    names: list[str]
    gates: int
    units: int
    number: int = 0
    direction: int = 0

    @property
    def key(self) -> Key:
        """Which part it is."""
        return self.layer, self.number, self.direction

    def label(self) -> str:
        """Such as ``lstm.1 (reverse)``."""
        return f"{self.layer}.{self.number}".lstrip(".") + (" (reverse)" if self.direction else "")


def parts_of(module: nn.Module, name: str, first: int = 0) -> list[Part]:
    """The parts of a recurrent module, a cell or a linear layer, layer by layer and direction by direction.

    Args:
        module: the network.
        name: of the layer in it; empty if the network is one.
        first: the first of the module's layers that counts.

    Example:
        >>> [part.names[0] for part in parts_of(nn.GRU(2, 3, num_layers=2, bidirectional=True), "", first=1)]
        ['weight_ih_l1', 'weight_ih_l1_reverse']
        >>> parts_of(nn.ModuleDict({"cell": nn.RNNCell(2, 3)}), "cell")[0].names[:2]
        ['cell.weight_ih', 'cell.weight_hh']
    """
    layer = module.get_submodule(name)

    def named(own: list[str]) -> list[str]:
        return [f"{name}.{each}".removeprefix(".") for each in own if layer._parameters.get(each) is not None]

    if isinstance(layer, nn.Linear):
        return [Part(name, named(["weight", "bias"]), 1, layer.out_features)]
    if isinstance(layer, nn.RNNCellBase):
        return [Part(name, named([*KINDS]), CELLS[type(layer)][0], layer.hidden_size)]
    assert isinstance(layer, nn.RNNBase)
    return [
        Part(name, named([f"{kind}_l{number}{suffix}" for kind in KINDS]), GATES[type(layer)][0], layer.hidden_size,
             number, direction)
        for number in range(first, layer.num_layers)
        for direction, suffix in enumerate(suffixes(layer))
    ]  # fmt: skip


def recurrent_layers(module: nn.Module) -> list[str]:
    """The names of a network's recurrent modules and cells.

    Example:
        >>> recurrent_layers(nn.ModuleDict({"memory": nn.LSTM(2, 3), "say": nn.Linear(3, 1)}))
        ['memory']
    """
    return [name for name, part in module.named_modules() if type(part) in GATES or type(part) in CELLS]
