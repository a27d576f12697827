"""Outputs and targets as codes, which are numbers of intervals, and how often each occurs."""

import math
from collections.abc import Iterator

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
    return torch.cat([count_rows(part.flatten(1), bins) for part in unit_blocks(codes)])


def entropy(counts: Tensor) -> Tensor:
    """Entropy in bits of codes, from counts ``(units, bins)`` int64: ``-sum p log2 p``, ``(units,)`` float64.

    Example:
        >>> entropy(torch.tensor([[1, 1, 1, 1], [4, 0, 0, 0]]))
        tensor([2., 0.], dtype=torch.float64)
    """
    p = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    bits: Tensor = -torch.special.xlogy(p, p).sum(1) / math.log(2)
    return bits + 0.0


def unit_blocks(codes: Tensor) -> Iterator[Tensor]:
    """Codes ``(..., units)`` -> blocks ``(some units, ...)`` that lie in memory unit by unit."""
    samples = max(1, codes[..., 0].numel())
    for some in torch.split(codes, UNITS_TURNED, dim=-1):
        yield from torch.split(some.movedim(-1, 0).contiguous(), max(1, BLOCK // samples))


def count_rows(codes: Tensor, bins: int) -> Tensor:
    """Count each row of codes ``(rows, n)`` for itself: ``(rows, bins)`` int64."""
    rows = codes.shape[0]
    kind = torch.int16 if rows * bins <= torch.iinfo(torch.int16).max else torch.int32
    offset = torch.arange(rows, device=codes.device, dtype=kind)[:, None] * bins
    return torch.bincount((codes.to(kind) + offset).flatten(), minlength=rows * bins).view(rows, bins)


def check_bins(bins: int) -> None:
    """Refuse a number of bins that is not 2 to 16.

    Raises:
        ValueError: if it is not.
    """
    if not 2 <= bins <= MOST_BINS:
        raise ValueError(f"{bins} bins; 2 to {MOST_BINS} are accepted")
