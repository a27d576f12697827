"""Recurrent networks that nobody has made for prunekit: every kind, depth and direction, read in every way."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN, "relu": nn.RNN}
CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell, "relu": nn.RNNCell}
READOUTS = ("last", "mean", "max", "finals", "attention", "each step", "two", "flat")
STEPS, CLASSES = 5, 3


@dataclass(frozen=True)
class Plan:
    """What such a network is like."""

    kind: str = "lstm"
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    batch_first: bool = True
    packed: bool = False
    stateful: bool = False  # the second half of a sequence goes on with the states of the first
    looped: bool = False  # a cell that is called step by step, behind the recurrent layer
    readout: str = "last"


class Stranger(nn.Module):
    """Sequences ``(N, T, 3)`` to logits."""

    def __init__(self, plan: Plan, units: int = 6) -> None:
        super().__init__()
        self.plan = plan
        how: dict[str, Any] = {"nonlinearity": "relu"} if plan.kind == "relu" else {}
        self.memory = KINDS[plan.kind](
            3, units, plan.layers, bidirectional=plan.bidirectional, bias=plan.bias, batch_first=plan.batch_first, **how
        )
        width = units * (2 if plan.bidirectional else 1)
        if plan.looped:
            self.cell = CELLS[plan.kind](width, 5, bias=plan.bias, **how)
            width = 5
        if plan.readout == "attention":
            self.attention = nn.Linear(width, 1)
        wide = {"two": 2 * width, "flat": STEPS * width}.get(plan.readout, width)
        self.say = nn.Sequential(nn.Linear(wide, 4), nn.ReLU(), nn.Linear(4, CLASSES))
        with torch.no_grad():  # of a size at which mistakes show
            for parameter in self.parameters():
                parameter.mul_(2.0)

    def forward(self, x: Tensor) -> Tensor:
        h, finals = self._remember(x)
        if self.plan.looped:
            state, steps = None, []
            for t in range(h.shape[1]):
                state = self.cell(h[:, t], state)
                steps.append(state[0] if isinstance(state, tuple) else state)
            h, finals = torch.stack(steps, 1), steps[-1]
        readout = self.plan.readout
        if readout == "finals":
            return self.say(finals)
        if readout == "attention":
            return self.say((self.attention(h).softmax(1) * h).sum(1))
        if readout == "each step":
            return self.say(h)
        if readout == "two":
            return self.say(torch.cat([h.mean(1), h[:, -1]], 1))
        if readout == "flat":
            return self.say(h.flatten(1))
        return self.say({"last": lambda: h[:, -1], "mean": lambda: h.mean(1), "max": lambda: h.amax(1)}[readout]())

    def _remember(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.plan.packed:
            lengths = torch.arange(len(x)) % STEPS + 1
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            packed_h, states = self.memory(packed)
            h = pad_packed_sequence(packed_h, batch_first=True, total_length=STEPS)[0]
        elif self.plan.stateful:
            parts, states = [], None
            for half in (x[:, :2], x[:, 2:]):
                part, states = self._turned(half, states)
                parts.append(part)
            h = torch.cat(parts, 1)
        else:
            h, states = self._turned(x, None)
        last = states[0] if isinstance(states, tuple) and not isinstance(states[0], tuple) else states
        last = states[0] if isinstance(states, tuple) and self.plan.kind == "lstm" else last
        return h, torch.cat([last[-2], last[-1]], 1) if self.plan.bidirectional else last[-1]

    def _turned(self, x: Tensor, states: Any) -> tuple[Tensor, Any]:
        h, states = self.memory(x if self.plan.batch_first else x.transpose(0, 1), states)
        return h if self.plan.batch_first else h.transpose(0, 1), states


def sequences(count: int = 8, width: int = 4, steps: int = 6) -> list[Tensor]:
    """Batches of 16 random sequences."""
    return [torch.randn(16, steps, width) for _ in range(count)]
