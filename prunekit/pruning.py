"""Pruning a module: groups, scores, selection, repair, mask. The same steps that the Lightning callback takes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunekit.calibration import HOLD_OUT, NEEDS, Calibration, Predict, Seen, Success, Valid, evaluating, predict_batch
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.errors import ArgumentError, check_rate
from prunekit.groups import Grouping, Groups
from prunekit.masks import Mask, find_parameter
from prunekit.repair import Repair
from prunekit.selection import select

EXAMPLES = {
    "grouping": "prunekit.Units('lstm')",
    "criterion": "prunekit.criteria.l1_norm.L1Norm()",
    "repair": "prunekit.ClosedLoop()",
}


class Pruned(NamedTuple):
    """What a pruning has done.

    Attributes:
        mask: of the grouping's parameters; it is on the module.
        groups: as they were before.
        scores: of the groups.
        goes: ``(G,)`` bool, the groups that are gone now.
    """

    mask: Mask
    groups: Groups
    scores: Scores
    goes: Tensor


def prune(
    module: nn.Module,
    grouping: Grouping,
    criterion: Criterion,
    rate: float | Mapping[str, float],
    batches: Iterable[Any] | None = None,
    *,
    repair: Repair | None = None,
    predict: Predict = predict_batch,
    valid: Valid | None = None,
    success: Success | None = None,
    hold_out: int = HOLD_OUT,
    order: str = "ascending",
    of: str = "groups",
    scope: str = "all",
    floor: bool = False,
    mask: Mask | None = None,
) -> Pruned:
    """Prune a module in place, whatever it is trained by; nothing is trained here.

    Args:
        module: any; its weights change.
        grouping: what goes together.
        criterion: which groups go first.
        rate: the share that is gone afterwards, in [0, 1]; what it counts is ``of``. Or one for each of some layers, by
            name (``lstm``, of several layers also ``lstm.1`` and ``lstm.1 (reverse)``, of weights parameters' names):
            of others nothing goes.
        batches: of training data, on the module's device; wanted where criterion or repair look at what groups do. A
            repair in closed loop passes over them again and again, and holds them in memory.
        repair: what makes up for what goes; None for nothing.
        predict: how the module takes a batch, and the batch's classes: ``(module, batch) -> (outputs, classes)``.
        valid: of a batch of padded sequences which steps are no padding, ``(N, T)`` bool; heeded where any layer is
            looked at, as by :class:`~prunekit.units.network_units.NetworkUnits`.
        success: how well the module does at each step, ``(module, batch) -> (N, T)`` in [0, 1], where a criterion asks
            for it of :class:`~prunekit.units.network_units.NetworkUnits`.
        hold_out: of so many batches one is held out of what a repair in closed loop fits to; 0: none.
        order: ``ascending`` removes the lowest scores first, ``descending`` the highest.
        of: as in :func:`~prunekit.selection.select`, as ``scope`` and ``floor`` are.
        scope: likewise.
        floor: likewise.
        mask: what an earlier pruning kept; None for everything.

    Returns:
        The mask and what led to it. Where training goes on, :class:`~prunekit.masks.HeldMask` holds the module to it.

    Raises:
        ArgumentError: if a value is not accepted or does not fit the module.

    Example:
        >>> from prunekit.criteria.entropy import Entropy
        >>> from prunekit.units.grouping import Units
        >>> net = nn.ModuleDict({"gru": nn.GRU(3, 8, batch_first=True)})
        >>> predict = lambda module, x: (module["gru"](x), None)
        >>> pruned = prune(net, Units("gru"), Entropy(), 0.5, [torch.randn(4, 10, 3)], predict=predict)
        >>> int(pruned.goes.sum()), bool((net["gru"](torch.randn(1, 10, 3))[0][..., pruned.goes] == 0).all())
        (4, True)
    """
    check_fit(module, grouping, criterion, order, repair)
    shares = rates_of_places(grouping.places(module), rate) if isinstance(rate, Mapping) else rate
    needs, names = all_needs([criterion], repair), grouping.parameters(module)
    if needs and batches is None:
        raise ArgumentError("batches", None, f"batches of training data: {', '.join(sorted(needs))} have to be seen")
    require_finite(module, names)
    before = Mask.full(module, names) & (mask or Mask({})).only(names)
    groups = grouping(module, before)
    groups.check(before)
    seen = Seen()
    if needs and batches is not None:
        if "calibration" in needs and not isinstance(batches, list | tuple):
            batches = list(batches)  # a loader may shuffle, an iterator be gone through once
        with evaluating(module):
            seen = grouping.observe(
                module, needs, Calibration(batches, predict, valid=valid, success=success, hold_out=hold_out)
            )
    scores = criterion.checked(module, groups, seen)
    goes = select(
        scores.values, groups.sizes, shares, within=groups.within, gone=groups.gone,
        order=order, of=of, scope="within" if isinstance(rate, Mapping) else scope, floor=floor,
    )  # fmt: skip
    made = remove(module, grouping, groups, goes, before, repair, seen)
    made.apply(module)
    return Pruned(made, groups, scores, goes)


def rates_of_places(places: Sequence[Sequence[str]], rates: Mapping[str, float]) -> list[float]:
    """The rate of each place by its most special name, 0 where none is given.

    Raises:
        ArgumentError: of ``rate``, if a name is of no place, or there is none.

    Example:
        >>> rates_of_places([["lstm", "lstm.0"], ["lstm", "lstm.1"], ["head"]], {"lstm": 0.5, "lstm.1": 0.75})
        [0.5, 0.75, 0.0]
    """
    known = list(dict.fromkeys(name for names in places for name in names))
    unknown = [name for name in rates if name not in known]
    if unknown or not rates:
        raise ArgumentError(
            "rate",
            unknown[0] if unknown else dict(rates),
            f"rates by names among {', '.join(known)}, which can lose units",
        )
    for name, rate in rates.items():
        check_rate(f"rate[{name}]", rate)
    return [float(next((rates[name] for name in reversed(names) if name in rates), 0.0)) for names in places]


def remove(
    module: nn.Module,
    grouping: Grouping,
    groups: Groups,
    goes: Tensor,
    before: Mask,
    repair: Repair | None = None,
    seen: Seen | None = None,
) -> Mask:
    """Repair a module for the groups that go, and give the mask without them, which is not applied yet.

    Args:
        module: changed by the repair in what stays.
        grouping: what made the groups.
        groups: of the module as it is.
        goes: ``(G,)`` bool, the groups that are gone afterwards.
        before: of the grouping's parameters, what is kept so far.
        repair: what makes up for what goes; None for nothing.
        seen: what the repair needs.
    """
    constants = repair(module, grouping, groups, goes, seen or Seen()) if repair is not None else None
    return groups.remove(goes, before, constants)


def all_needs(criteria: Iterable[Criterion], repair: Repair | None) -> frozenset[str]:
    """What has to be seen for several criteria and a repair."""
    return frozenset().union(*(each.needs for each in criteria), repair.needs if repair is not None else ())


def check_fit(
    module: nn.Module, grouping: Grouping, criterion: Criterion, order: str, repair: Repair | None = None
) -> None:
    """Refuse parts that do not go together, or a module that they do not fit.

    Raises:
        ArgumentError: with the argument that is in the way.
    """
    check_parts(grouping, criterion, order, repair)
    grouping.check(module, all_needs([criterion], repair))


def check_parts(grouping: Grouping, criterion: Criterion, order: str, repair: Repair | None = None) -> None:
    """The same, before there is a module."""
    kinds = {"grouping": (grouping, Grouping), "criterion": (criterion, Criterion), "repair": (repair, Repair | None)}
    for argument, (part, kind) in kinds.items():
        if not isinstance(part, kind):
            name = getattr(kind, "__name__", "Repair")
            shown = part.__name__ if isinstance(part, type) else part
            raise ArgumentError(argument, shown, f"an object of a class of {name}, such as {EXAMPLES[argument]}")
    if criterion.words is not None and grouping.word not in criterion.words:
        raise ArgumentError("criterion", criterion.name, f"one that scores each {grouping.word}")
    if order not in criterion.orders:
        raise ArgumentError("order", order, f"{' or '.join(criterion.orders)} for {criterion.name}")
    for part, argument in ((criterion, "criterion"), (repair, "repair")):
        if part is not None and not part.needs <= NEEDS:
            got = f"{part.name}, which needs {', '.join(sorted(part.needs - NEEDS))}"
            raise ArgumentError(argument, got, f"needs among {', '.join(sorted(NEEDS))}")
    if repair is not None and grouping.word not in repair.words:
        raise ArgumentError(
            "repair", repair.name, f"one for each {grouping.word}, not for each {' or '.join(repair.words)}"
        )


def require_finite(module: nn.Module, names: Iterable[str]) -> None:
    """Refuse weights that training has made infinite or NaN.

    Raises:
        ArgumentError: with the first such parameter.
    """
    for name in names:
        parameter = find_parameter(module, name).detach()
        if parameter.numel() and not torch.stack(torch.aminmax(parameter)).isfinite().all():
            raise ArgumentError(
                "module", f"{name}, which is not finite", "settings under which training does not diverge"
            )
