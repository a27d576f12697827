"""Transfer entropy between series of codes: counts of transitions -> bits, for all units of a layer at once.

Source: Schreiber, Measuring Information Transfer, Physical Review Letters 85, 2000; with history length 1 and
delay 1. The correction is Miller's and Madow's, of each of the four entropies that transfer entropy is made of.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from prunekit.units.codes import check_bins, count_rows, unit_blocks


def count_transitions(x: Tensor, y: Tensor, bins_x: int, bins_y: int) -> Tensor:
    """How often ``x_{t+1}``, ``x_t`` and ``y_t`` have each combination of codes; never across the border of a clip.

    Counts of two sets of clips add up to those of both together.

    Args:
        x: ``(clips, T, units)`` uint8 codes below ``bins_x``.
        y: ``(clips, T)`` uint8 codes below ``bins_y``.
        bins_x: at most 16.
        bins_y: at most 16.

    Returns:
        ``(units, bins_x, bins_x, bins_y)`` int64, on the device of ``x``; the axes are x_{t+1}, x_t, y_t.

    Raises:
        TypeError: if codes are not uint8.
        ValueError: if shapes do not match, T < 2, bins are not 2 to 16, or a code is no bin.

    Example:
        >>> x = torch.tensor([[[0], [1], [1]]], dtype=torch.uint8)
        >>> count_transitions(x, torch.zeros(1, 3, dtype=torch.uint8), 2, 2)[0, 1, :, 0]
        tensor([1, 1])
    """
    check_bins(bins_x)
    check_bins(bins_y)
    for name, codes, bins in (("x", x, bins_x), ("y", y, bins_y)):
        if codes.dtype != torch.uint8:
            raise TypeError(f"{name} holds uint8 codes, got {codes.dtype}")
        if codes.numel() and int(codes.max()) >= bins:
            raise ValueError(f"{name} holds the code {int(codes.max())}, and {bins} bins are 0 to {bins - 1}")
    if x.dim() != 3 or x.shape[:2] != y.shape:
        raise ValueError(f"x (clips, T, units) and y (clips, T), got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.shape[1] < 2:
        raise ValueError(f"a transition takes two steps, got T={x.shape[1]}")
    cells = bins_x * bins_x * bins_y
    past = y[:, :-1].to(torch.int16)
    counts = []
    for part in unit_blocks(x):
        cell = part[..., 1:].to(torch.int16).mul_(bins_x).add_(part[..., :-1]).mul_(bins_y).add_(past)
        counts.append(count_rows(cell.flatten(1), cells))
    return torch.cat(counts).view(-1, bins_x, bins_x, bins_y)


def transfer_entropy(counts: Tensor) -> Tensor:
    """Transfer entropy Y -> X in bits, from counts.

    ``TE = sum p(x', x, y) log2 [ p(x' | x, y) / p(x' | x) ]``, the plug-in estimate in float64. Written with counts,
    the logarithm's argument is ``c(x',x,y) c(x) / (c(x,y) c(x',x))``: a quotient of integers, exactly 1 where Y tells
    nothing, so that a constant unit has exactly 0.

    Args:
        counts: ``(units, bins_x, bins_x, bins_y)`` int64, of at most 3e9 transitions a unit.

    Returns:
        ``(units,)`` float64, never negative but for rounding; 0 without transitions.

    Example:
        >>> copy = torch.tensor([[[[2, 0], [2, 0]], [[0, 2], [0, 2]]]])
        >>> transfer_entropy(copy)
        tensor([1.], dtype=torch.float64)
    """
    xy, xx, x = counts.sum(1, keepdim=True), counts.sum(3, keepdim=True), counts.sum((1, 3), keepdim=True)
    seen = counts > 0
    ratio = torch.where(seen, counts * x, 1).double() / torch.where(seen, xy * xx, 1).double()
    n = counts.sum((1, 2, 3)).clamp(min=1)
    return (counts * ratio.log2()).sum((1, 2, 3)) / n


def miller_madow(counts: Tensor) -> Tensor:
    """What to add to :func:`transfer_entropy` against its bias: bits, ``(units,)`` float64; mostly negative.

    ``(K(x',x) - K(x) - K(x',x,y) + K(x,y)) / (2 n ln 2)`` with K the number of combinations that occur.

    Example:
        >>> miller_madow(torch.ones(1, 2, 2, 2, dtype=torch.int64))
        tensor([-0.1803], dtype=torch.float64)
    """
    occur = counts.sum(3).count_nonzero((1, 2)) - counts.sum((1, 3)).count_nonzero(1)
    occur = occur - counts.count_nonzero((1, 2, 3)) + counts.sum(1).count_nonzero((1, 2))
    return occur / (counts.sum((1, 2, 3)).clamp(min=1).double() * (2 * math.log(2)))


class Surrogates(NamedTuple):
    """What transfer entropy is without a tie between a clip's x and its y.

    Attributes:
        transfer_entropy: ``(units,)`` bits, as found.
        mean: ``(units,)`` bits, over the surrogates.
        p_value: ``(units,)``, the share of surrogates, itself counted as one, that reach the transfer entropy.
    """

    transfer_entropy: Tensor
    mean: Tensor
    p_value: Tensor


def surrogates(
    x: Tensor,
    y: Tensor,
    bins_x: int,
    bins_y: int,
    number: int,
    seed: int,
    rows: Tensor | None = None,
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Surrogates:
    """Transfer entropy with whole rows of y dealt out anew to the clips.

    What all clips share, such as a trend over time, stays in the surrogates; shuffling single steps would destroy it
    and take it for information.

    Args:
        x: as in :func:`count_transitions`; under DDP of some of the clips.
        y: as in :func:`count_transitions`, of all clips.
        bins_x: bins of x.
        bins_y: bins of y.
        number: how many surrogates.
        seed: of the dealing.
        rows: which of all clips ``x`` holds; None for all.
        sum_over_ranks: adds counts up over all ranks.
    """

    def measure(y: Tensor) -> Tensor:
        own = y if rows is None else y[rows]
        return transfer_entropy(sum_over_ranks(count_transitions(x, own, bins_x, bins_y)))

    found = measure(y)
    generator = torch.Generator().manual_seed(seed)
    total, reach = torch.zeros_like(found), torch.ones_like(found)
    for _ in range(number):
        value = measure(y[torch.randperm(len(y), generator=generator).to(y.device)])
        total += value
        reach += value >= found
    return Surrogates(found, total / number, reach / (number + 1))
