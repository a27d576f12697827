"""A recurrent network that goes on where it was: some steps and all states in, outputs and all states out."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunekit.models.networks import RecognizerNetwork
from prunekit.step_layers import Carried
from prunekit.units.before_and_now import floats
from prunekit.units.layers import GATES

Runner = Callable[[Sequence[Tensor]], Sequence[Tensor]]  # sequences and states -> outputs and states


class State(NamedTuple):
    """What a step hands on to the next.

    Attributes:
        name: unique among the states of a network.
        shape: None stands for the batch.
        dtype: torch's name of it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def zeros(self, batch: int) -> Tensor:
        """What it is before the first step.

        Example:
            >>> State("lstm.h", (1, None, 4), "float32").zeros(2).shape
            torch.Size([1, 2, 4])
        """
        return torch.zeros(self.sizes(batch), dtype=getattr(torch, self.dtype))

    def sizes(self, batch: int) -> tuple[int, ...]:
        """Its shape for so many sequences."""
        return tuple(batch if size is None else size for size in self.shape)


class StepNetwork(nn.Module):
    """A network that reads some steps of a sequence, from the states that it left after the steps before.

    The mean over steps, a readout of prunekit's recognisers, goes on too: as a sum, in float64 lest a long stream
    drift, and a count.

    Args:
        network: in evaluation mode; it is copied. Whether it can be run so is the concern of :func:`step_network`.
        names: of the recurrent layers to carry on; None for all.
        form: what takes their places.

    Example:
        >>> network = RecognizerNetwork(nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 4)).eval()
        >>> step = StepNetwork(network)
        >>> [state.name for state in step.states]
        ['lstm.h', 'lstm.c']
        >>> logits, h, c = step(torch.zeros(2, 1, 3), *(state.zeros(2) for state in step.states))
        >>> logits.shape, h.shape
        (torch.Size([2, 4]), torch.Size([1, 2, 5]))
    """

    def __init__(self, network: nn.Module, names: list[str] | None = None, form: type[Carried] = Carried) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.names = recurrent_names(network) if names is None else names
        for name in self.names:
            made = form(self.network.get_submodule(name))  # type: ignore[arg-type]
            if name:
                self.network.set_submodule(name, made)
            else:
                self.network = made
        self.eval().requires_grad_(False)
        self.mean = isinstance(network, RecognizerNetwork) and network.readout == "mean"

    @property
    def carried(self) -> dict[str, Carried]:
        """Its recurrent layers."""
        return {name: self.network.get_submodule(name) for name in self.names}  # type: ignore[misc]

    @property
    def states(self) -> list[State]:
        """What it takes and gives beside sequences and outputs, in that order."""
        found = []
        for name, one in self.carried.items():
            shape = (one.layer.num_layers, None, one.layer.hidden_size)
            dtype = str(next(one.layer.parameters()).dtype).removeprefix("torch.")
            found += [State(f"{name}.{kind}".lstrip("."), shape, dtype) for kind in one.kinds]
        if self.mean:
            found += [State("sum", (None, found[-1].shape[-1]), "float64"), State("count", (), "int64")]
        return found

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Outputs after these steps, as the network gives them of a clip, and all states after the last of them."""
        given = list(states)
        for one in self.carried.values():
            one.states, given = tuple(given[: len(one.kinds)]), given[len(one.kinds) :]
        if self.mean:
            assert isinstance(self.network, RecognizerNetwork)
            h, (total, count) = self.network.states(x), given
            total, count = total + h.double().sum(1), count + h.shape[1]
            given, out = [total, count], self.network.head((total / count).to(h.dtype))
        else:
            out = floats(self.network(x))[0]
        last = [state for one in self.carried.values() for state in one.states]
        for one in self.carried.values():
            one.states = ()
        return (out, *last, *given)


def recurrent_names(network: nn.Module) -> list[str]:
    """The names of a network's recurrent layers, which a stack's parts are by themselves."""
    return [name for name, part in network.named_modules() if type(part) in GATES]


def run_on(step: Callable[..., Sequence[Tensor]], given: Sequence[Tensor]) -> Sequence[Tensor]:
    """What a module makes of sequences and states."""
    return step(*given)
