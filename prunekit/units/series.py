"""What a layer's units and the network's success did over time, in one forward pass over clips."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration, alone
from prunekit.gpu import float64
from prunekit.units.codes import count_levels, encode_outputs, encode_target, equal_width, quantile
from prunekit.units.gates import gate_activations, on_one_scale
from prunekit.units.moments import OutputMoments
from prunekit.units.transfer_entropy import count_transitions

TARGETS = ("probability", "hit", "accuracy")
MOST_COMPARED, ROWS_COMPARED = 64, 4  # sequences, and what is read of them
SAME = 0.03  # relative; half precision is in it


class Levels(ABC):
    """Which levels, as of :func:`encode_outputs`, outputs were at, and how often."""

    @abstractmethod
    def counts(self, bins: int) -> Tensor:
        """How often each unit was in each of some bins of equal width, ``(G, bins)`` int64, over all ranks.

        Args:
            bins: 2, 4, 8 or 16.
        """


class Series(Levels):
    """Levels of outputs step by step, beside how well the network did."""

    @abstractmethod
    def transitions(self, target: str, bins: int, target_bins: int, edges: str) -> Tensor:
        """How often each unit went from one bin to another while the target was in a third, over all ranks.

        Args:
            target: of :data:`TARGETS`.
            bins: of outputs: 2, 4, 8 or 16.
            target_bins: of the target, of equal width: 2 to 16.
            edges: of the outputs' bins: ``equal_width``, or each unit's own ``quantile``.

        Returns:
            ``(G, bins, bins, target_bins)`` int64, as :func:`prunekit.units.transfer_entropy.count_transitions` has it.
        """


@dataclass(frozen=True)
class UnitSeries(Series):
    """Time series over training clips: of units' outputs, or of gates' activations, four times as many.

    Gates come in the order of the LSTM's rows; levels are of activations on the scale of outputs, magnitudes of
    activations as they are. Under DDP a rank has the outputs of its own clips and the targets of all.

    Attributes:
        levels: ``(clips here, T, units)`` uint8, the units' outputs as :func:`encode_outputs` gives them.
        magnitude: ``(T, units)`` float64, the mean of ``|h|`` over all clips.
        rows: ``(clips here,)`` int64, which of all clips these are.
        probability: ``(clips, T)`` float32, softmax of the true class when the head is applied at each step; None, as
            the next, if no head was given.
        hit: ``(clips, T)`` bool, whether that class has the largest.
        sum_over_ranks: adds a tensor up over all ranks.
    """

    levels: Tensor
    magnitude: Tensor
    rows: Tensor
    probability: Tensor | None = None
    hit: Tensor | None = None
    sum_over_ranks: Callable[[Tensor], Tensor] = field(default=alone, repr=False)

    def counts(self, bins: int) -> Tensor:
        """Counted in the series."""
        return self.sum_over_ranks(count_levels(equal_width(self.levels, bins), bins))

    def codes(self, bins: int, edges: str) -> Tensor:
        """The bins of the outputs here, of the shape of ``levels``."""
        if edges == "quantile":
            return quantile(self.levels, bins, self.sum_over_ranks(count_levels(self.levels)))
        return equal_width(self.levels, bins)

    def transitions(self, target: str, bins: int, target_bins: int, edges: str) -> Tensor:
        """Counted over all clips."""
        x, y = self.codes(bins, edges), encode_target(self.target(target), target_bins)
        return self.sum_over_ranks(count_transitions(x, y[self.rows], bins, target_bins))

    def target(self, name: str) -> Tensor:
        """The series y of all clips, ``(clips, T)`` float in [0, 1].

        Args:
            name: ``probability``; ``hit``, 0 or 1; or ``accuracy``, the mean hit at t, the same for all clips.

        Raises:
            ValueError: if success was not looked at.
        """
        if self.probability is None or self.hit is None:
            raise ValueError("success at each step wants a head and classes")
        if name == "probability":
            return self.probability
        hit = self.hit.double()
        return hit if name == "hit" else hit.mean(0, keepdim=True).expand_as(hit)


class Recorder:
    """Collects the series of a recurrent layer's last layer while clips pass through a module.

    Args:
        layer: one direction, without projection.
        head: outputs ``(..., units)`` -> logits ``(..., classes)``; None if success is not wanted.
        moments: whether to take the outputs' moments too.
        gates: whether the series are those of the gates instead of the units.
        reader: what is said to read the layer's outputs; held against what it reads. None if nobody asks.

    Raises:
        ValueError: if the layer has two directions or a projection.
    """

    def __init__(
        self,
        layer: nn.RNNBase,
        head: Callable[[Tensor], Tensor] | None = None,
        moments: bool = False,
        gates: bool = False,
        reader: nn.Module | None = None,
    ) -> None:
        if layer.bidirectional or layer.proj_size:
            raise ValueError("a layer of two directions or with a projection, whose outputs are not its units'")
        self._layer, self._head, self._gates, self._reader = layer, head, gates, reader
        self._levels: list[Tensor] = []
        self._magnitude: Tensor | float = 0.0
        self._total: Tensor | float = 0.0
        self._success: list[tuple[Tensor, Tensor]] = []
        self._wants_moments, self._moments = moments, list[OutputMoments]()

    @torch.no_grad()
    def run(self, module: nn.Module, calibration: Calibration) -> None:
        """Pass batches through ``module`` and take down what the layer gives.

        Raises:
            ValueError: if the module does not call the layer once a batch with sequences and states of 0 to start
                with, an output is NaN, or the reader reads something else.
        """
        seen: list[Tensor] = []
        read: list[Tensor] = []

        def take_down(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], outputs: Any) -> None:
            start = named.get("hx", inputs[1] if len(inputs) > 1 else None)
            if start is not None and any(state.any() for state in start):
                raise ValueError("a model whose recurrent layer starts with states other than 0")
            seen.extend([outputs[0], inputs[0] if inputs else named["input"]])

        hooks = [self._layer.register_forward_hook(take_down, with_kwargs=True)]
        if self._reader is not None:
            hooks.append(self._reader.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])))
        try:
            for batch in calibration.batches:
                seen.clear()
                _, y = calibration.predict(module, batch)
                if len(seen) != 2 or not isinstance(seen[0], Tensor) or seen[0].dim() != 3:
                    raise ValueError("a model that does not call its layer once, with a batch of unpacked sequences")
                h, inputs = (each if self._layer.batch_first else each.transpose(0, 1) for each in seen)
                if self._reader is not None and not (read and is_sum_over_steps(h, read[0])):
                    raise ValueError("a model in which what reads the layer does not read its outputs or sums of them")
                self._reader = None  # one batch tells
                self._take(h, y, gate_activations(self._layer, inputs, h) if self._gates else h)
        finally:
            for hook in hooks:
                hook.remove()

    def _take(self, h: Tensor, y: Tensor | None, watched: Tensor) -> None:
        self._levels.append(encode_outputs(on_one_scale(watched) if self._gates else watched).cpu())
        self._magnitude = self._magnitude + watched.abs().sum(0).cpu().double()
        self._total = self._total + float64(watched).sum((0, 1)).cpu()
        if self._head is not None:
            if y is None or y.shape != h.shape[:1]:
                raise ValueError("success at each step wants one class for each sequence of a batch")
            logits = self._head(h)
            truth = y[:, None, None].expand(-1, h.shape[1], 1)
            probability = logits.softmax(-1).gather(2, truth)[..., 0]
            self._success.append((probability.float().cpu(), (logits.argmax(2) == y[:, None]).cpu()))
        if self._wants_moments:
            new = OutputMoments.of(h)
            self._moments = [self._moments[0] + new] if self._moments else [new]

    def series(self, calibration: Calibration) -> tuple[UnitSeries, OutputMoments | None, Tensor]:
        """What was recorded over all ranks: the series, the moments if they were wanted, each unit's or gate's mean.

        Raises:
            ValueError: if nothing was recorded.
        """
        if not self._levels:
            raise ValueError("no training clip to score units on")
        sum_over_ranks = calibration.sum_over_ranks
        levels = torch.cat(self._levels)
        rows = torch.arange(len(levels)) if calibration.rows is None else calibration.rows
        clips = len(levels) if calibration.samples is None else calibration.samples
        probability = hit = None
        if self._success:
            here = [torch.cat(parts) for parts in zip(*self._success, strict=True)]
            whole = torch.zeros(2, clips, levels.shape[1], dtype=torch.float32)
            whole[:, rows] = torch.stack([here[0], here[1].float()])
            whole = sum_over_ranks(whole)
            probability, hit = whole[0], whole[1] > 0
        magnitude = sum_over_ranks(torch.as_tensor(self._magnitude)) / clips
        mean = sum_over_ranks(torch.as_tensor(self._total)) / (clips * levels.shape[1])
        moments = self._moments[0].map(lambda local: sum_over_ranks(local).cpu()) if self._moments else None
        return UnitSeries(levels, magnitude, rows, probability, hit, sum_over_ranks), moments, mean


def is_sum_over_steps(outputs: Tensor, read: Tensor) -> bool:
    """Whether what is read are weighted sums of a sequence's outputs over steps, the same weights for all units.

    The last step, any step and means are; what went through a nonlinear function is not. What holds of them holds
    of a linear map of units, and of nothing else. With fewer units than steps it cannot be told, and is taken for true.

    Args:
        outputs: ``(sequences, T, units)``.
        read: ``(..., units)``; a few rows are looked at.

    Example:
        >>> h = torch.randn(3, 4, 50)
        >>> is_sum_over_steps(h, h.mean(1)), is_sum_over_steps(h, h[:, -1].relu())
        (True, False)
    """
    if read.shape[-1] != outputs.shape[-1]:
        return False
    steps = outputs[:MOST_COMPARED].detach().cpu().double().transpose(1, 2)  # (sequences, units, T)
    rows = read.detach().cpu().double().reshape(-1, read.shape[-1])[:ROWS_COMPARED].T.expand(len(steps), -1, -1)
    weights = torch.linalg.lstsq(steps, rows).solution
    apart = (steps @ weights - rows).norm(dim=1).amin(0)  # of the sequence that it is nearest to
    return bool((apart <= SAME * rows[0].norm(dim=0)).all())
