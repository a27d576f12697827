"""Units and gates of recurrent layers, and outputs of linear ones, as groups."""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration, Seen
from prunekit.errors import ArgumentError
from prunekit.groups import Grouping, Groups
from prunekit.masks import Mask
from prunekit.units.gates import check_gates
from prunekit.units.layers import GATES, suffixes
from prunekit.units.links import recurrent_link
from prunekit.units.series import Recorder

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
OBSERVED = frozenset({"outputs", "success", "moments", "means"})


class Rows(NamedTuple):
    """The parameters with a row for each gate of each unit, of one layer and direction; a linear layer has one gate."""

    names: list[str]
    gates: int
    units: int


class Units(Grouping):
    """The units of a layer: of each its rows in every gate, weights and biases, so that its output is 0 at every step.

    With all of these at 0 an LSTM's gates are sigmoid(0), its candidate tanh(0) = 0, so the cell stays at its 0 and
    ``h_j = sigmoid(0) tanh(0) = 0``; a GRU's or RNN's unit stays at the 0 that it starts with; a linear layer's output
    is 0. The columns that read ``h_j`` may keep their weights.

    Args:
        layer: name of an ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` without projection, or of an ``nn.Linear``; empty if the
            module is one.
        head: name of the part that makes logits of the layer's outputs at any step, for criteria that look at success
            and for what reads the units; None where nobody asks.
        every: whether the units of all layers of a stack are groups; if not, those of the last one alone, whose outputs
            others see.

    Example:
        >>> net = nn.ModuleDict({"gru": nn.GRU(2, 3)})
        >>> units = Units("gru")
        >>> units(net, Mask.full(net, units.parameters(net))).numbers["gru.bias_ih_l0"].tolist()
        [0, 1, 2, 0, 1, 2, 0, 1, 2]
    """

    word = "unit"
    constants_live: ClassVar[bool] = True

    def __init__(self, layer: str, head: str | None = None, every: bool = False) -> None:
        self.layer, self.head, self.every = layer, head, every

    def find(self, module: nn.Module) -> nn.RNNBase | nn.Linear:
        """The layer.

        Raises:
            ArgumentError: if there is none of that name, or it has a projection.
        """
        found = dict(module.named_modules()).get(self.layer)
        kinds = (*GATES, nn.Linear)
        if not isinstance(found, kinds):
            there = [name for name, part in module.named_modules() if isinstance(part, tuple(GATES))]
            accepted = "the name of an nn.LSTM, nn.GRU, nn.RNN or nn.Linear of the model"
            raise ArgumentError("layer", self.layer, f"{accepted}; recurrent ones: {', '.join(there) or 'none'}")
        if getattr(found, "proj_size", 0):
            raise ArgumentError("layer", self.layer, "a layer without projection")
        return found  # type: ignore[return-value]

    def rows(self, module: nn.Module) -> Iterator[Rows]:
        """What has rows of units, layer by layer and direction by direction."""
        layer = self.find(module)
        if isinstance(layer, nn.Linear):
            own = [self._name(name) for name, _ in layer.named_parameters(recurse=False)]
            yield Rows(own, 1, layer.out_features)
            return
        for number in range(0 if self.every else layer.num_layers - 1, layer.num_layers):
            for suffix in suffixes(layer):
                names = [f"{kind}_l{number}{suffix}" for kind in KINDS]
                there = [self._name(name) for name in names if hasattr(layer, name)]
                yield Rows(there, GATES[type(layer)][0], layer.hidden_size)

    def _name(self, own: str) -> str:
        return f"{self.layer}.{own}".removeprefix(".")

    def parameters(self, module: nn.Module) -> list[str]:
        """The names of those parameters."""
        return [name for rows in self.rows(module) for name in rows.names]

    def check(self, module: nn.Module, needs: frozenset[str]) -> None:
        """Refuse a module without the layer, or without a head where one is needed."""
        self.parameters(module)
        if not needs <= OBSERVED:
            got = f"one that looks at {', '.join(sorted(needs - OBSERVED))}"
            raise ArgumentError("criterion", got, f"one that looks at what each {self.word} does, or at weights alone")
        if needs:
            layer = self.find(module)
            alone = "; else a criterion of weights alone, and no repair"
            if not isinstance(layer, nn.RNNBase):
                raise ArgumentError("layer", self.layer, f"a recurrent layer, whose outputs can be looked at{alone}")
            if layer.bidirectional or (self.every and layer.num_layers > 1):
                got = f"{self.layer}, of {'two directions' if layer.bidirectional else 'which every layer is meant'}"
                raise ArgumentError("layer", got, f"the last layer of one direction, whose outputs are seen{alone}")
        if (needs and self.head is not None) or needs & {"success", "moments"}:
            self._head(module)
        if "moments" in needs:
            self.reader(module)

    def __call__(self, module: nn.Module, mask: Mask) -> Groups:
        """A unit is gone if nothing of it is kept and none of its gates is held at a constant."""
        numbers: dict[str, Tensor] = {}
        sizes: list[Tensor] = []
        there: list[Tensor] = []
        for rows in self.rows(module):
            number = self._number(rows)
            first, count = sum(map(len, sizes)), int(number.max()) + 1
            size, alive = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
            for name in rows.names:
                kept = mask[name].reshape(len(number), -1)
                size.index_add_(0, number, torch.full_like(number, kept.shape[1]))
                alive[number[kept.any(1)]] = True
                if self.constants_live and name in mask.held:
                    alive[number[mask.held[name].reshape(len(number), -1).any(1)]] = True
                numbers[name] = (number + first).view(-1, *[1] * (mask[name].dim() - 1))
            sizes.append(size)
            there.append(alive)
        within = torch.arange(len(sizes)).repeat_interleave(torch.tensor([len(size) for size in sizes]))
        return Groups(numbers, torch.cat(sizes), within, ~torch.cat(there))

    def _number(self, rows: Rows) -> Tensor:
        """The group of each row, ``(gates * units,)`` int64, from 0."""
        return torch.arange(rows.units).repeat(rows.gates)

    def reader(self, module: nn.Module) -> tuple[str, nn.Linear]:
        """The linear layer that reads the layer's outputs as they are, or means of them over steps, and its name.

        Raises:
            ArgumentError: if the head does not begin with one.
        """
        accepted = "a head that begins with an nn.Linear"
        try:
            link = recurrent_link(module, self.layer, self._head(module))
        except ValueError as error:
            raise ArgumentError("head", f"{self.head}: {error}", accepted) from None
        for name in link.between:
            if not isinstance(module.get_submodule(name), nn.Identity | nn.Dropout):
                raise ArgumentError(
                    "head", f"{self.head}, where {name} is between {self.layer} and {link.reader}", accepted
                )
        reader = module.get_submodule(link.reader)
        assert isinstance(reader, nn.Linear)
        return link.reader, reader

    def _head(self, module: nn.Module) -> str:
        parts = [name for name, _ in module.named_modules() if name]
        if self.head not in parts:
            accepted = f"the part of the model that makes logits of the layer's outputs; {', '.join(parts)}"
            raise ArgumentError("head", self.head, accepted)
        return str(self.head)

    def observe(self, module: nn.Module, needs: frozenset[str], calibration: Calibration) -> Seen:
        """One pass over the batches.

        Raises:
            ValueError: if the module does not call the layer once a batch, with states of 0 to start with.
        """
        layer = self.find(module)
        assert isinstance(layer, nn.RNNBase)
        head = module.get_submodule(self._head(module)) if "success" in needs else None
        reader = self.reader(module)[1] if "moments" in needs else None
        recorder = Recorder(layer, head, reader is not None, self.word == "gate", reader)
        recorder.run(module, calibration)
        series, moments, means = recorder.series(calibration)
        own = layer.get_parameter(f"weight_hh_l{layer.num_layers - 1}").detach()
        readers = None if reader is None else (own, reader.weight.detach())
        return Seen(series, moments, readers, means)

    def label(self) -> str:
        """Such as ``lstm.units``."""
        return self._name(f"{self.word}s")

    def saved_share(self, module: nn.Module, removed: int) -> float:
        """The share of the last layer's multiply-adds that need no longer be done when so many groups are removed.

        A unit takes its rows in all gates and its column of W_hh along; a gate is one row, and only what computes no
        empty rows saves it.

        Example:
            >>> net = nn.ModuleDict({"lstm": nn.LSTM(2, 2)})
            >>> Units("lstm").saved_share(net, 1), Gates("lstm").saved_share(net, 4)
            (0.625, 0.5)
        """
        *_, rows = self.rows(module)
        inputs = module.get_parameter(rows.names[0]).shape[1]
        left = rows.units - removed
        return 1 - left * (inputs + left) / (rows.units * (inputs + rows.units))


class Gates(Units):
    """Single gates of an LSTM's units: of each its row of W_ih, W_hh, b_ih and b_hh; see :mod:`prunekit.units.gates`.

    Args:
        layer: name of an ``nn.LSTM`` of one layer and direction, with biases.
        head: as for units.

    Example:
        >>> net = nn.ModuleDict({"lstm": nn.LSTM(2, 1)})
        >>> gates = Gates("lstm")
        >>> gates(net, Mask.full(net, gates.parameters(net))).numbers["lstm.bias_ih_l0"].tolist()
        [0, 1, 2, 3]
    """

    word = "gate"
    constants_live = False  # a gate that is held at its mean is gone

    def __init__(self, layer: str, head: str | None = None) -> None:
        super().__init__(layer, head)

    def find(self, module: nn.Module) -> nn.RNNBase | nn.Linear:
        """The LSTM."""
        layer = super().find(module)
        try:
            check_gates(layer)
        except ValueError as error:
            raise ArgumentError(
                "layer", f"{self.layer}, {error}", "for gates an LSTM of one layer with biases"
            ) from None
        return layer

    def _number(self, rows: Rows) -> Tensor:
        return torch.arange(rows.gates * rows.units)

    def saved_share(self, module: nn.Module, removed: int) -> float:
        """One row each."""
        return removed / len(self._number(next(self.rows(module))))
