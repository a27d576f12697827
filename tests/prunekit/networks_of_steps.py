"""Recurrent networks of many kinds, and what they make of a stream that comes in parts."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from prunekit.exports import save_compact
from prunekit.models.networks import RecognizerNetwork
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.step_files import save_step

STEPS = 12
EXPORTED = ["onnx", "pt2"]
WAYS = ["weights", *EXPORTED]
CELLS: list[Any] = [nn.LSTM, nn.GRU, nn.RNN, lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k)]


def saved(folder: Path, network: nn.Module, example: Any = None) -> Path:
    """The folder, with a network and its step in it."""
    save_compact(folder, network)
    save_step(folder, network, example)
    return folder


class Case(NamedTuple):
    """A network, sequences ``(N, 12, inputs)`` for it, and how many steps come at a time."""

    network: RecognizerNetwork
    x: Tensor
    chunks: list[int]


@st.composite
def cases(draw: Any) -> Case:
    """Cells x layers of equal or of other widths x biases x readouts x batches x parts."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    make, inputs = draw(st.sampled_from(CELLS)), draw(st.integers(1, 6))
    widths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    how = {"batch_first": True, "bias": draw(st.booleans())}
    if draw(st.booleans()):
        recurrent = make(inputs, widths[0], num_layers=len(widths), **how)
        widths = widths[:1]
    else:
        heard = [inputs, *widths]
        recurrent = RecurrentStack([make(*sizes, **how) for sizes in zip(heard, widths, strict=False)])
    head = nn.Sequential(nn.Linear(widths[-1], 5), nn.ReLU(), nn.Linear(5, 3))
    network = RecognizerNetwork(recurrent, head, draw(st.sampled_from(["last", "mean"])))
    cuts = sorted(draw(st.sets(st.integers(1, STEPS - 1), max_size=STEPS - 1)))
    chunks = [end - start for start, end in zip([0, *cuts], [*cuts, STEPS], strict=True)]
    return Case(network.eval(), torch.randn(draw(st.integers(1, 3)), STEPS, inputs), chunks)


class Own(nn.Module):
    """Somebody's: reads ``(N, T, 4)``, in a layer that wants steps first, and says something of each step."""

    def __init__(self, cell: Any = nn.GRU, each: bool = True, **how: Any) -> None:
        super().__init__()
        self.into, self.memory = nn.Linear(4, 6), cell(6, 8, **how)
        self.say, self.each = nn.Linear(getattr(self.memory, "proj_size", 0) or 8, 2), each

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(self.memory.num_layers, x.shape[0], self.memory.hidden_size)  # as many write, in vain
        start = (start, start) if isinstance(self.memory, nn.LSTM) else start
        h, _ = self.memory(self.into(x).tanh().transpose(0, 1), start if not self.memory.bidirectional else None)
        return self.say(h.transpose(0, 1) if self.each else h[-1])


class Odd(nn.Module):
    """Somebody's that does what a stream does not allow, by name."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.memory, self.say = what, nn.GRU(4, 8, batch_first=True), nn.Linear(8, 2)
        self.start = nn.Parameter(torch.ones(1, 1, 8))
        self.blur = nn.Conv1d(4, 4, 3, padding=1)
        self.cell = nn.GRUCell(4, 8) if what == "cell" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "blur":
            x = self.blur(x.transpose(1, 2)).transpose(1, 2)
        if self.what == "packed":
            lengths = [x.shape[1]] * len(x)
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.say(self.memory(packed)[1][-1])
        x = x.reshape(len(x), x.shape[1], 4) if self.what == "len" else x
        h, last = self.memory(x, self.start.expand(1, len(x), 8) if self.what == "start" else None)
        if self.what == "twice":
            h, _ = self.memory(x, last)
        if self.what == "few":
            h = self.memory(x[:, :3])[0]
        return self.say(h.mean(1) if self.what == "mean" else h[:, -1])
