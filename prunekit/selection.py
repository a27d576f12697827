"""Which groups go: one function for weights, regions, units and gates, exact and with ties by number."""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from prunekit.errors import ArgumentError, check_choice, check_rate

ORDERS = ("ascending", "descending")
COUNTED = ("groups", "weights")
SCOPES = ("all", "within")


def exact_count(rate: float, n: int) -> int:
    """How many of ``n`` things a ``rate`` stands for: ``round(rate * n)``, ties to even.

    The rate is taken as the decimal that was written, so that 0.4 of 39,200 is 15,680 and not a hair more.

    Example:
        >>> exact_count(0.4, 39200), exact_count(0.5, 5)
        (15680, 2)
    """
    return round(Fraction(str(rate)) * n)


def select(
    scores: Tensor,
    sizes: Tensor,
    rate: float | Sequence[float],
    *,
    within: Tensor | None = None,
    gone: Tensor | None = None,
    order: str = "ascending",
    of: str = "groups",
    scope: str = "all",
    floor: bool = False,
) -> Tensor:
    """Choose the groups that are gone after a removal: those gone before, then the order's first; ties by number.

    ``of="groups"``: exactly ``round(rate * G)`` are gone, if not more were gone before. ``of="weights"``: groups go
    until the entries gone first reach ``rate`` times all entries; the overshoot is less than the last group. By scope
    ``within`` this holds for each layer or neuron by itself. With ``floor`` each of these keeps its last group in that
    order, even where the rate is then not reached.

    Args:
        scores: ``(G,)`` real, without NaN.
        sizes: ``(G,)`` int64, the groups' numbers of entries.
        rate: the share that is gone afterwards, in [0, 1]; or one for each number of ``within``, by scope ``within``.
        within: ``(G,)`` int64, which layer or neuron each group is of, from 0; None if all are of one.
        gone: ``(G,)`` bool, the groups gone before; None for none.
        order: ``ascending`` removes the lowest scores first, ``descending`` the highest.
        of: what the rate counts, ``groups`` or the ``weights`` in them.
        scope: among what groups are ranked, ``all`` of them together or those ``within`` one layer or neuron.
        floor: whether every layer or neuron that has groups keeps one.

    Returns:
        ``(G,)`` bool, True = gone, on the CPU.

    Raises:
        ArgumentError: if a rate is outside [0, 1], there are more or less of them than layers or neurons, or a word is
            none of those above.
        ValueError: if the shapes differ or a score is NaN.

    Example:
        >>> scores, sizes = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([5, 1, 4])
        >>> select(scores, sizes, 0.34).tolist(), select(scores, sizes, 0.2, of="weights").tolist()
        ([False, True, False], [False, True, True])
        >>> select(scores, sizes, 0.34, order="descending", gone=torch.tensor([False, True, False])).tolist()
        [False, True, False]
    """
    rates = list(rate) if isinstance(rate, Sequence) else [rate]
    for each in rates:
        check_rate("rate", each)
    for name, value, choices in (("order", order, ORDERS), ("of", of, COUNTED), ("scope", scope, SCOPES)):
        check_choice(name, value, choices)
    scores = scores.detach().cpu()
    within = torch.zeros(len(scores), dtype=torch.int64) if within is None else within
    gone = torch.zeros(len(scores), dtype=torch.bool) if gone is None else gone
    if scores.dim() != 1 or not scores.shape == sizes.shape == within.shape == gone.shape:
        shapes = [tuple(each.shape) for each in (scores, sizes, within, gone)]
        raise ValueError(f"scores, sizes, within and gone are (G,) each, got {shapes}")
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().sum())} of {len(scores)} scores are NaN")
    ranked = torch.sort(scores, stable=True, descending=order == "descending").indices
    stays = _last_of_each(ranked, within, gone) if floor else torch.zeros_like(gone)
    if floor or gone.any():  # what is gone comes before any score, infinite ones included; what has to stay after all
        turn = torch.where(stays, 1, torch.where(gone, -1, 0))
        ranked = ranked[torch.sort(turn[ranked], stable=True).indices]
    place = within if scope == "within" else torch.zeros_like(within)
    if scope == "within":
        ranked = ranked[torch.sort(place[ranked], stable=True).indices]
    # All is in whole numbers, so that no rate is off by a rounding.
    counts = sizes if of == "weights" else torch.ones_like(sizes)
    totals = torch.zeros(int(place.max()) + 1 if len(place) else 1, dtype=torch.int64).index_add(0, place, counts)
    if not isinstance(rate, Sequence):
        rates *= len(totals)
    elif scope == "all" or len(rates) != len(totals):
        raise ArgumentError(
            "rate", rate, f"with scope within as many as there are places, {len(totals)}; else one rate"
        )
    goals = [
        math.ceil(Fraction(str(each)) * total) if of == "weights" else exact_count(each, total)
        for each, total in zip(rates, totals.tolist(), strict=True)
    ]
    counts, place = counts[ranked], place[ranked]
    before = counts.cumsum(0) - counts - (totals.cumsum(0) - totals)[place]
    goes = torch.zeros_like(gone)
    goes[ranked] = before < torch.tensor(goals)[place]
    return (goes & ~stays) | gone


def _last_of_each(ranked: Tensor, within: Tensor, gone: Tensor) -> Tensor:
    """Each layer's or neuron's last group in the ranking, of those that are not gone, ``(G,)`` bool."""
    rank = torch.empty_like(ranked)
    rank[ranked] = torch.arange(len(ranked))
    rank = rank.masked_fill(gone, -1)
    size = int(within.max()) + 1 if len(within) else 0
    last = torch.full((size,), -1).scatter_reduce(0, within, rank, "amax")
    return (rank == last[within]) & ~gone
