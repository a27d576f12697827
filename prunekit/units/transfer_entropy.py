"""Transfer entropy between time series cut into bins: codes -> counts -> bits, for all units of a layer at once.

Source: Schreiber, Measuring Information Transfer, Physical Review Letters 85, 2000; with history length 1 and
delay 1. The correction is Miller's and Madow's, of each of the four entropies that transfer entropy is made of.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LEVELS = 256  # of an output's code: steps of 1/128 from -1 to 1, whose edges are exact in every float format
MOST_BINS = 16
UNITS_TURNED = 256  # units whose codes are brought together at a time
BLOCK = 2**18  # transitions counted at a time: they and their bins stay in the processor's cache


def encode_outputs(h: Tensor) -> Tensor:
    """LSTM outputs as the number of the interval of width 1/128 they lie in.

    Level k holds ``-1 + k/128 <= h < -1 + (k+1)/128``; what lies outside [-1, 1) goes to the outermost levels. Computed
    as ``floor(128 h) + 128``, in which nothing is rounded: 128 is a power of two. With ``floor(128 (h + 1))`` the sum
    would be, and outputs just below an edge would count as above it.

    Args:
        h: any shape, floating.

    Returns:
        uint8 of the same shape and device.

    Raises:
        ValueError: if a value is NaN.

    Example:
        >>> encode_outputs(torch.tensor([-1.0, -0.0, 1e-9, -1e-9, 1.0])).tolist()
        [0, 128, 128, 127, 255]
    """
    codes = torch.empty(h.shape, dtype=torch.uint8, device=h.device)
    flat, out = h.reshape(-1), codes.view(-1)
    half = LEVELS // 2
    total = torch.zeros((), device=h.device)  # in float32: the sum of many float16 is infinite
    for part, target in zip(torch.split(flat, BLOCK), torch.split(out, BLOCK), strict=True):
        level = part.mul(half).floor_().clamp_(-half, half - 1)
        total += level.sum(dtype=total.dtype)  # a NaN, which no integer can be, shows in it
        # As a byte with a sign, the level from -128 on; turning that bit over adds 128.
        target.copy_(level.to(torch.int8).view(torch.uint8)).bitwise_xor_(half)
    if total.isnan():
        raise ValueError(f"{int(flat.isnan().sum())} of {flat.numel()} outputs are NaN")
    return codes


def equal_width(levels: Tensor, bins: int) -> Tensor:
    """Levels -> bins of equal width, uint8; ``bins`` is 2, 4, 8 or 16, so that a bin's edges are levels' edges.

    Example:
        >>> equal_width(torch.tensor([0, 127, 128, 255], dtype=torch.uint8), 4).tolist()
        [0, 1, 2, 3]
    """
    if bins not in (2, 4, 8, 16):
        raise ValueError(f"{bins} bins of equal width; 2, 4, 8 and 16 are accepted")
    return levels.bitwise_right_shift(int(math.log2(LEVELS // bins)))


def quantile(levels: Tensor, bins: int, counts: Tensor | None = None) -> Tensor:
    """Levels -> bins that hold about equally many of a unit's own outputs, uint8.

    A level's bin is the number of k in 1..bins-1 for which at least k/bins of the unit's outputs lie below the level:
    equal outputs share a bin, and a constant unit has one bin.

    Args:
        levels: ``(..., units)`` uint8.
        bins: 2 to 16.
        counts: ``(units, 256)`` int64, of all outputs if these are not all.

    Example:
        >>> quantile(torch.tensor([[3], [5], [5], [9]], dtype=torch.uint8), 2).flatten().tolist()
        [0, 0, 0, 1]
    """
    check_bins(bins)
    units = levels.shape[-1]
    counts = count_levels(levels) if counts is None else counts
    below = counts.cumsum(1) - counts
    marks = torch.arange(1, bins, device=levels.device) * counts.sum(1, keepdim=True)
    bin_of_level = (below[:, :, None] * bins >= marks[:, None, :]).sum(2).to(torch.uint8)
    unit = torch.arange(units, device=levels.device)
    return bin_of_level[unit, levels.reshape(-1, units).long()].view(levels.shape)


def encode_target(y: Tensor, bins: int) -> Tensor:
    """A target in [0, 1] as bins of equal width, uint8, decided by comparison with the edges k/bins.

    Example:
        >>> encode_target(torch.tensor([0.0, 0.49, 0.5, 1.0]), 2).tolist()
        [0, 0, 1, 1]
    """
    check_bins(bins)
    if y.isnan().any():
        raise ValueError(f"{int(y.isnan().sum())} of {y.numel()} targets are NaN")
    edges = torch.arange(1, bins, device=y.device, dtype=y.dtype) / bins
    return torch.bucketize(y.contiguous(), edges, right=True).to(torch.uint8)


def count_levels(codes: Tensor, bins: int = LEVELS) -> Tensor:
    """How often each unit has each code: ``(..., units)`` uint8 -> ``(units, bins)`` int64.

    Example:
        >>> count_levels(torch.tensor([[0], [1], [1]], dtype=torch.uint8), 2)
        tensor([[1, 2]])
    """
    return torch.cat([_bincount(part.flatten(1), bins) for part in _unit_blocks(codes)])


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
    for part in _unit_blocks(x):
        cell = part[..., 1:].to(torch.int16).mul_(bins_x).add_(part[..., :-1]).mul_(bins_y).add_(past)
        counts.append(_bincount(cell.flatten(1), cells))
    return torch.cat(counts).view(-1, bins_x, bins_x, bins_y)


def _unit_blocks(codes: Tensor) -> Iterator[Tensor]:
    """Codes ``(..., units)`` -> blocks ``(some units, ...)`` that lie in memory unit by unit."""
    samples = max(1, codes[..., 0].numel())
    for some in torch.split(codes, UNITS_TURNED, dim=-1):
        yield from torch.split(some.movedim(-1, 0).contiguous(), max(1, BLOCK // samples))


def _bincount(codes: Tensor, bins: int) -> Tensor:
    """Count each row of codes ``(rows, n)`` for itself: ``(rows, bins)`` int64."""
    rows = codes.shape[0]
    kind = torch.int16 if rows * bins <= torch.iinfo(torch.int16).max else torch.int32
    offset = torch.arange(rows, device=codes.device, dtype=kind)[:, None] * bins
    return torch.bincount((codes.to(kind) + offset).flatten(), minlength=rows * bins).view(rows, bins)


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


def entropy(counts: Tensor) -> Tensor:
    """Entropy in bits of codes, from counts ``(units, bins)`` int64: ``-sum p log2 p``, ``(units,)`` float64.

    Example:
        >>> entropy(torch.tensor([[1, 1, 1, 1], [4, 0, 0, 0]]))
        tensor([2., 0.], dtype=torch.float64)
    """
    p = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    bits: Tensor = -torch.special.xlogy(p, p).sum(1) / math.log(2)
    return bits + 0.0


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


def check_bins(bins: int) -> None:
    """Refuse a number of bins that is not 2 to 16.

    Raises:
        ValueError: if it is not.
    """
    if not 2 <= bins <= MOST_BINS:
        raise ValueError(f"{bins} bins; 2 to {MOST_BINS} are accepted")
