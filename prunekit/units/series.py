"""What a layer's units and the network's success did over time, in one forward pass over clips."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunekit.units.gates import check_gates, gate_activations, on_one_scale
from prunekit.units.moments import OutputMoments
from prunekit.units.transfer_entropy import encode_outputs

TARGETS = ("probability", "hit", "accuracy")


def _alone(local: Tensor) -> Tensor:
    return local


@dataclass(frozen=True)
class UnitSeries:
    """Time series over training clips: of units' outputs, or of gates' activations, four times as many.

    Gates come in the order of the LSTM's rows; levels are of activations on the scale of outputs, magnitudes and means
    of activations as they are. Under DDP a rank has the outputs of its own clips and the targets of all.

    Attributes:
        levels: ``(clips here, T, units)`` uint8, the units' outputs as :func:`encode_outputs` gives them.
        magnitude: ``(T, units)`` float64, the mean of ``|h|`` over all clips.
        mean: ``(units,)`` float64, the mean over all clips and steps.
        probability: ``(clips, T)`` float32, softmax of the true class when the head is applied at each step.
        hit: ``(clips, T)`` bool, whether that class has the largest.
        rows: ``(clips here,)`` int64, which of all clips these are.
        moments: of the units' outputs over all clips; None if they were not asked for.
        read_by: ``(m, units)`` float, the rows of the layer that reads the outputs; None if nobody has named it.
        sum_over_ranks: adds a tensor up over all ranks.
    """

    levels: Tensor
    magnitude: Tensor
    mean: Tensor
    probability: Tensor
    hit: Tensor
    rows: Tensor
    moments: OutputMoments | None = None
    read_by: Tensor | None = None
    sum_over_ranks: Callable[[Tensor], Tensor] = field(default=_alone, repr=False)

    def target(self, name: str) -> Tensor:
        """The series y of all clips, ``(clips, T)`` float in [0, 1].

        Args:
            name: ``probability``; ``hit``, 0 or 1; or ``accuracy``, the mean hit at t, the same for all clips.
        """
        if name == "probability":
            return self.probability
        hit = self.hit.double()
        return hit if name == "hit" else hit.mean(0, keepdim=True).expand_as(hit)


class Recorder:
    """Collects the series of an LSTM's last layer while clips pass through a model.

    Args:
        lstm: one direction, without projection.
        head: outputs ``(..., units)`` -> logits ``(..., classes)``.
        moments: whether to take the outputs' moments too.
        gates: whether the series are those of the gates instead of the units.

    Raises:
        ValueError: if the LSTM has two directions or a projection.
    """

    def __init__(
        self, lstm: nn.LSTM, head: Callable[[Tensor], Tensor], moments: bool = False, gates: bool = False
    ) -> None:
        if lstm.bidirectional or lstm.proj_size:
            raise ValueError("an LSTM of two directions or with a projection, whose outputs are not its units'")
        self._lstm, self._head = lstm, head
        self._levels: list[Tensor] = []
        if gates:
            check_gates(lstm)
        self._gates = gates
        self._magnitude: Tensor | float = 0.0
        self._total: Tensor | float = 0.0
        self._success: list[tuple[Tensor, Tensor]] = []
        self._wants_moments, self._moments = moments, list[OutputMoments]()

    @torch.no_grad()
    def run(self, model: Callable[[Tensor], Any], batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Pass batches of (inputs, int64 classes) through ``model`` and take down what the LSTM gives.

        Raises:
            ValueError: if the model does not call the LSTM once a batch with sequences and states of 0 to start
                with, or an output is NaN.
        """
        seen: list[Tensor] = []

        def take_down(lstm: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], outputs: Any) -> None:
            start = named.get("hx", inputs[1] if len(inputs) > 1 else None)
            if start is not None and any(state.any() for state in start):
                raise ValueError("a model whose LSTM starts with states other than 0")
            seen.extend([outputs[0], inputs[0] if inputs else named["input"]])

        hook = self._lstm.register_forward_hook(take_down, with_kwargs=True)
        try:
            for x, y in batches:
                seen.clear()
                model(x)
                if len(seen) != 2 or not isinstance(seen[0], Tensor) or seen[0].dim() != 3:
                    raise ValueError("a model that does not call its LSTM once, with a batch of unpacked sequences")
                h, inputs = (each if self._lstm.batch_first else each.transpose(0, 1) for each in seen)
                self._take(h, y, gate_activations(self._lstm, inputs, h) if self._gates else h)
        finally:
            hook.remove()

    def _take(self, h: Tensor, y: Tensor, watched: Tensor) -> None:
        logits = self._head(h)
        self._levels.append(encode_outputs(on_one_scale(watched) if self._gates else watched).cpu())
        self._magnitude = self._magnitude + watched.abs().sum(0).double().cpu()
        self._total = self._total + watched.sum((0, 1), dtype=torch.float64).cpu()
        truth = y[:, None, None].expand(-1, h.shape[1], 1)
        probability = logits.softmax(-1).gather(2, truth)[..., 0]
        self._success.append((probability.float().cpu(), (logits.argmax(2) == y[:, None]).cpu()))
        if self._wants_moments:
            new = OutputMoments.of(h)
            self._moments = [self._moments[0] + new] if self._moments else [new]

    def series(
        self, rows: Tensor | None = None, clips: int | None = None, sum_over_ranks: Callable[[Tensor], Tensor] = _alone
    ) -> UnitSeries:
        """What was recorded.

        Args:
            rows: which of all clips passed here, in order; None for all.
            clips: how many there are over all ranks.
            sum_over_ranks: adds a tensor up over all ranks.

        Raises:
            ValueError: if nothing was recorded.
        """
        if not self._levels:
            raise ValueError("no training clip to score units on")
        levels = torch.cat(self._levels)
        rows = torch.arange(len(levels)) if rows is None else rows
        clips = len(levels) if clips is None else clips
        probability, hit = (torch.cat(parts) for parts in zip(*self._success, strict=True))
        whole = torch.zeros(2, clips, levels.shape[1], dtype=torch.float32)
        whole[:, rows] = torch.stack([probability, hit.float()])
        whole = sum_over_ranks(whole)
        magnitude = sum_over_ranks(torch.as_tensor(self._magnitude)) / clips
        mean = sum_over_ranks(torch.as_tensor(self._total)) / (clips * levels.shape[1])
        moments = self._moments[0].map(lambda local: sum_over_ranks(local).cpu()) if self._moments else None
        return UnitSeries(levels, magnitude, mean, whole[0], whole[1] > 0, rows, moments, sum_over_ranks=sum_over_ranks)
