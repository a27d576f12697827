"""What the units of several layers did from step to step, beside how well the network did then."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunekit.calibration import Calibration
from prunekit.errors import ArgumentError
from prunekit.units.codes import count_levels, encode_outputs, encode_target, equal_width, quantile
from prunekit.units.series import Series
from prunekit.units.transfer_entropy import count_transitions
from prunekit.units.watching import Steps

SUCCESS = "a function (module, batch) -> success, (N, T) numbers in [0, 1]; of a LightningModule its method success"


@dataclass(frozen=True)
class PartSeries:
    """Outputs of one part's units, and which of them follow one another.

    Attributes:
        levels: ``(n, units)`` uint8, as of :func:`~prunekit.units.codes.encode_outputs`, a row a step.
        pairs: ``(m, 2)`` int64, rows of a step and of the next one of the same sequence.
        success: ``(m,)`` float32 in [0, 1], of the network at the first of the two steps.
    """

    levels: Tensor
    pairs: Tensor
    success: Tensor

    @classmethod
    def of(cls, steps: Steps, success: Tensor) -> "PartSeries":
        """What was watched in one call; steps at which the network says no success are left out of the pairs.

        Args:
            steps: of a recurrent part.
            success: ``(N, T)`` of the batch.

        Raises:
            ArgumentError: if success is no number in [0, 1].

        Example:
            >>> places = torch.tensor([[0, 0], [1, 0], [0, 1], [0, 2]])
            >>> h = torch.zeros(4, 1)
            >>> PartSeries.of(Steps(h, h, h, places), torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])).pairs.tolist()
            [[0, 2], [2, 3]]
        """
        sample, step = steps.places.T
        row = torch.full((int(sample.max()) + 1, int(step.max()) + 2), -1)
        row[sample, step] = torch.arange(len(sample))
        following = row[sample, step + 1]
        seen = (following >= 0) & (sample < success.shape[0]) & (step < success.shape[1])
        pairs = torch.stack([torch.arange(len(sample)), following], 1)[seen]
        return cls(encode_outputs(steps.outputs).cpu(), pairs, _shares(success[sample[seen], step[seen]]))

    def __add__(self, other: "PartSeries") -> "PartSeries":
        pairs = torch.cat([self.pairs, other.pairs + len(self.levels)])
        return PartSeries(torch.cat([self.levels, other.levels]), pairs, torch.cat([self.success, other.success]))


class NetworkSeries(Series):
    """Series of several parts, of sequences that may differ in length.

    Args:
        parts: what was seen of each here.
        calibration: says how ranks add up.
    """

    def __init__(self, parts: Sequence[PartSeries], calibration: Calibration) -> None:
        self._parts = parts
        self._calibration = calibration

    def _add_up(self, local: Tensor) -> Tensor:
        return self._calibration.sum_over_ranks(local.cpu()).cpu()

    def counts(self, bins: int) -> Tensor:
        """Levels brought together."""
        counted = [count_levels(equal_width(part.levels, bins), bins) for part in self._parts]
        return torch.cat([self._add_up(each) for each in counted])

    def transitions(self, target: str, bins: int, target_bins: int, edges: str) -> Tensor:
        """Counted over pairs of steps, each a sequence of two.

        Raises:
            ArgumentError: of ``target``, where it is the accuracy of all sequences at a step.
        """
        if target == "accuracy":
            accepted = "probability or hit, where sequences of several layers need not run side by side"
            raise ArgumentError("target", target, accepted)
        found = []
        for part in self._parts:
            levels, success = part.levels, part.success
            if edges == "quantile":
                codes = quantile(levels, bins, self._add_up(count_levels(levels)))
            else:
                codes = equal_width(levels, bins)
            y = encode_target((success >= 0.5).float() if target == "hit" else success, target_bins)
            counted = count_transitions(codes[part.pairs], y[:, None].expand(-1, 2), bins, target_bins)
            found.append(self._add_up(counted))
        return torch.cat(found)


def check_success(success: object) -> Tensor:
    """Success at each step of a batch, on the CPU in float32; steps that are padding may be anything.

    Raises:
        ArgumentError: if it is not ``(N, T)``.
    """
    if isinstance(success, Tensor) and success.dim() == 2:
        return success.detach().float().cpu()
    shape = f" of shape {tuple(success.shape)}" if isinstance(success, Tensor) else ""
    raise ArgumentError("success", f"one that gives a {type(success).__name__}{shape}", SUCCESS)


def _shares(success: Tensor) -> Tensor:
    """The same, if it is of numbers in [0, 1].

    Raises:
        ArgumentError: if it is not.
    """
    if bool(((success >= 0) & (success <= 1)).all()):  # NaN is neither
        return success
    got = f"one that gives numbers from {float(success.min()):.3g} to {float(success.max()):.3g}"
    accepted = "numbers in [0, 1]: a probability, a hit, of an error e such as exp(-e)"
    raise ArgumentError("success", got, accepted)
