"""Units and gates of recurrent layers, and outputs of linear ones, as groups."""

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration, Seen
from prunekit.errors import ArgumentError
from prunekit.units.gates import check_gates
from prunekit.units.layers import GATES
from prunekit.units.links import recurrent_link
from prunekit.units.parts import Part, parts_of
from prunekit.units.series import Recorder
from prunekit.units.unit_grouping import UnitGrouping

OBSERVED = frozenset({"outputs", "success", "moments", "readers", "means", "calibration"})


class Units(UnitGrouping):
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
        >>> from prunekit.masks import Mask
        >>> net = nn.ModuleDict({"gru": nn.GRU(2, 3)})
        >>> units = Units("gru")
        >>> units(net, Mask.full(net, units.parameters(net))).numbers["gru.bias_ih_l0"].tolist()
        [0, 1, 2, 0, 1, 2, 0, 1, 2]
    """

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

    def parts(self, module: nn.Module) -> list[Part]:
        """The layer's, of all its layers or of the last one."""
        layer = self.find(module)
        first = 0 if self.every or not isinstance(layer, nn.RNNBase) else layer.num_layers - 1
        return parts_of(module, self.layer, first)

    def check(self, module: nn.Module, needs: frozenset[str]) -> None:
        """Refuse a module without the layer, or without a head where one is needed."""
        self.parameters(module)
        if not needs <= OBSERVED:
            got = f"one that looks at {', '.join(sorted(needs - OBSERVED))}"
            raise ArgumentError("criterion", got, f"one that looks at what each {self.word} does, or at weights alone")
        if needs - {"calibration"}:
            layer = self.find(module)
            alone = "; else a criterion of weights alone, and no repair"
            if not isinstance(layer, nn.RNNBase):
                raise ArgumentError("layer", self.layer, f"a recurrent layer, whose outputs can be looked at{alone}")
            if layer.bidirectional or (self.every and layer.num_layers > 1):
                got = f"{self.layer}, of {'two directions' if layer.bidirectional else 'which every layer is meant'}"
                raise ArgumentError("layer", got, f"the last layer of one direction, whose outputs are seen{alone}")
        if (needs and self.head is not None) or needs & {"success", "readers"}:
            self._head(module)
        if "readers" in needs:
            self.reader(module)

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
        if not needs - {"calibration"}:
            return Seen(calibration=calibration)
        layer = self.find(module)
        assert isinstance(layer, nn.RNNBase)
        head = module.get_submodule(self._head(module)) if "success" in needs else None
        reader = self.reader(module)[1] if "readers" in needs else None
        recorder = Recorder(layer, head, "moments" in needs, self.word == "gate", reader)
        recorder.run(module, calibration)
        series, moments, means = recorder.series(calibration)
        own = layer.get_parameter(f"weight_hh_l{layer.num_layers - 1}").detach()
        readers = None if reader is None else [(own, reader.weight.detach())]
        return Seen(series, None if moments is None else [moments], readers, means, calibration=calibration)

    def label(self) -> str:
        """Such as ``lstm.units``."""
        return f"{self.layer}.{self.word}s".removeprefix(".")

    def saved_share(self, module: nn.Module, removed: int) -> float:
        """The share of the last layer's multiply-adds that need no longer be done when so many groups are removed.

        A unit takes its rows in all gates and its column of W_hh along; a gate is one row, and only what computes no
        empty rows saves it.

        Example:
            >>> net = nn.ModuleDict({"lstm": nn.LSTM(2, 2)})
            >>> Units("lstm").saved_share(net, 1), Gates("lstm").saved_share(net, 4)
            (0.625, 0.5)
        """
        part = self.parts(module)[-1]
        inputs = module.get_parameter(part.names[0]).shape[1]
        left = part.units - removed
        return 1 - left * (inputs + left) / (part.units * (inputs + part.units))


class Gates(Units):
    """Single gates of an LSTM's units: of each its row of W_ih, W_hh, b_ih and b_hh; see :mod:`prunekit.units.gates`.

    Args:
        layer: name of an ``nn.LSTM`` of one layer and direction, with biases.
        head: as for units.

    Example:
        >>> from prunekit.masks import Mask
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

    def _number(self, part: Part) -> Tensor:
        return torch.arange(part.gates * part.units)

    def saved_share(self, module: nn.Module, removed: int) -> float:
        """One row each."""
        return removed / len(self._number(self.parts(module)[0]))
