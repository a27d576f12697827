"""One call from a network and unlabelled batches to a smaller network of the same class that does the same."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from prunekit.calibration import HOLD_OUT, Calibration, Predict, Success, Valid, evaluating
from prunekit.criteria.criterion import Criterion
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.cutting import Connected, connections, cut_out, cuttable, label
from prunekit.errors import ArgumentError, check_count, check_rate
from prunekit.precision import ieee
from prunekit.pruning import prune
from prunekit.repair import Repair
from prunekit.shrunk import Shrunk, measure, relative_difference
from prunekit.teaching import teach
from prunekit.units.layers import copied
from prunekit.units.network_units import hidden_linear
from prunekit.units.parts import recurrent_layers
from prunekit.units.repair import ClosedLoop
from prunekit.units.watching import floating

M = TypeVar("M", bound=nn.Module)
HALVINGS = 6
SMALL, GAP = 0.02, 1.5  # differences below, and so many times as large as of what was fitted to, are nothing to warn of
log = logging.getLogger("prunekit")


def shrink(
    model: M,
    batches: Iterable[Any],
    rate: float | Mapping[str, float] | None = None,
    *,
    tolerance: float | None = None,
    layers: Sequence[str] | None = None,
    criterion: Criterion | None = None,
    repair: Repair | None = None,
    predict: Predict | None = None,
    valid: Valid | None = None,
    success: Success | None = None,
    scope: str = "within",
    teacher_epochs: int = 0,
    hold_out: int = HOLD_OUT,
    show: bool = True,
) -> Shrunk[M]:
    """Make a network smaller: units go, what stays is refitted without labels, and what is gone is cut out.

    Units of all recurrent layers, directions and cells go, and neurons of linear layers in ``nn.Sequential``,
    the same share of each. What reads a layer is found out by running the first batch. A layer is left as it is where
    its units reach something else or where it cannot be cut, and the table says why; other kinds of layers are always
    left.

    Args:
        model: any; it is not changed.
        batches: what it is called with, labels not needed; on its device, and held in memory: eight or more. Some are
            held out of the refitting, so sequences of one kind, such as one speaker's, belong into one batch.
        rate: the share of units that goes, in [0, 1); or one for each of some layers, by name (``lstm``, of several
            layers also ``lstm.1`` and ``lstm.1 (reverse)``): the others keep their units.
        tolerance: instead of a rate: as many go as leave ``difference`` at most this.
        layers: names of those whose units go; None for all.
        criterion: which units go; None for :class:`~prunekit.criteria.reconstruction.Reconstruction`.
        repair: None for :class:`~prunekit.units.repair.ClosedLoop`.
        predict: how the model takes a batch, ``(module, batch) -> (outputs, None)``; by default it is called with the
            batch, of a tuple or list with the first element alone. Outputs are what has to stay as it is.
        valid: of a batch of padded sequences which steps are no padding, ``(N, T)`` bool; packed ones tell it.
        success: for a criterion that asks for it, such as transfer entropy: how well the model does at each step,
            ``(module, batch) -> (N, T)`` in [0, 1].
        scope: ``within``: each layer and direction loses the share; ``all``: they are ranked together.
        teacher_epochs: epochs over the same batches in which the smaller network is trained towards the outputs of the
            one before, see :func:`~prunekit.teaching.teach`.
        hold_out: of so many batches one is held out: it chooses, and ``difference`` is of those alone. 0 fits to all,
            where they are few; ``difference`` is then of what was fitted to.
        show: whether to print the table, and of a tolerance each rate that is tried.

    Raises:
        ArgumentError: if neither or both of rate and tolerance are given, there is no batch, or no layer can be cut.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> small = shrink(net, [torch.randn(32, 4) for _ in range(8)], rate=0.5, show=False)
        >>> small.module[0].out_features, small.module(torch.randn(3, 4)).shape
        (4, torch.Size([3, 2]))
    """
    _require_module(model)
    if (rate is None) == (tolerance is None):
        raise ArgumentError("rate", f"{rate} and a tolerance of {tolerance}", "one of the two")
    for name, share in (rate if isinstance(rate, Mapping) else {} if rate is None else {"": rate}).items():
        if check_rate(f"rate[{name}]" if name else "rate", share) == 1:
            raise ArgumentError("rate", rate, "a share below 1: something has to stay")
    if tolerance is not None and (not isinstance(tolerance, int | float) or not 0 < tolerance < float("inf")):
        raise ArgumentError("tolerance", tolerance, "a number above 0, such as 0.05")
    check_count("teacher_epochs", teacher_epochs)
    if isinstance(layers, str) or (layers is not None and not layers):
        raise ArgumentError("layers", layers, "a list of names of layers, or None for all")
    if isinstance(batches, torch.Tensor | Mapping | str) or not isinstance(batches, Iterable):
        raise ArgumentError("batches", f"a {type(batches).__name__}", "a list of batches, or what can be gone through")
    if check_count("hold_out", hold_out) == 1:
        raise ArgumentError("hold_out", hold_out, "a whole number of 2 or more, or 0")
    # A loader may shuffle: what it gives is taken once.
    given = Calibration(list(batches), _checked(predict or call), valid=valid, hold_out=hold_out)
    with ieee(), evaluating(model), torch.no_grad():
        dense = copied(model)  # which may keep states of its own between calls
        _look(dense, given)
        names = [*recurrent_layers(dense), *hidden_linear(dense)] if layers is None else list(layers)
        connected = connections(dense, names, given, strict=layers is not None)
        connected = cuttable(dense, connected, given)
        _require_parts(connected)

        def attempt(share: float | Mapping[str, float]) -> Attempt[M]:
            nonlocal connected
            while True:
                made = copied(dense)
                prune(
                    made, connected.grouping(), criterion or Reconstruction(), share, given.batches,
                    repair=repair or ClosedLoop(), predict=given.predict, valid=valid, success=success,
                    hold_out=hold_out, scope=scope, floor=True,
                )  # fmt: skip
                small, left = cut_out(made, connected, given)
                fewer = connected.without(left)
                if len(fewer.parts) == len(connected.parts):
                    break
                connected = fewer  # what cannot be cut to this size must not have lost anything
                _require_parts(connected)
            if teacher_epochs:
                with torch.enable_grad():
                    teach(small, dense, given, teacher_epochs)
            return Attempt(small, share, relative_difference(dense, small, given.predict, given.judged()), left)

        best = attempt(rate) if rate is not None else _largest(attempt, tolerance or 0.0, show)
        _warn_of_gap(dense, best, given)
        found = measure(dense, best.module, best.rate, best.difference, best.left, given)
    if show:
        print(found)
    return found


def _require_module(model: object) -> None:
    """Refuse what is none, or is compiled.

    Raises:
        ArgumentError: with what to do.
    """
    if not isinstance(model, nn.Module):
        weights = isinstance(model, Mapping) and "; load these weights into one of your class first"
        raise ArgumentError("model", f"an object of class {type(model).__name__}", f"an nn.Module{weights or ''}")
    if hasattr(model, "_orig_mod"):
        raise ArgumentError("model", "a compiled module", "an nn.Module, before torch.compile")


def _require_parts(connected: Connected) -> None:
    """Refuse a network of which nothing can be cut.

    Raises:
        ArgumentError: with what is in the way.
    """
    if connected.parts:
        return
    whys: dict[str, list[str]] = {}
    for key, why in connected.left.items():
        whys.setdefault(why, []).append(label(key) or "the network")
    told = "; ".join(f"{', '.join(dict.fromkeys(where))}: {why}" for why, where in whys.items())
    none = "it has neither recurrent layers nor linear ones in an nn.Sequential"
    got = f"one of which no layer can be cut ({told or none})"
    accepted = "recurrent layers, or linear ones in nn.Sequential, whose units linear or recurrent layers alone read"
    raise ArgumentError("model", got, accepted)


def call(module: nn.Module, batch: Any) -> tuple[Any, None]:
    """What a network makes of a batch, of a tuple or list of its first element."""
    alone = isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence) and len(batch) > 0
    return module(batch[0] if alone else batch), None


def _checked(predict: Predict) -> Predict:
    """The same, refusing what is not ``(outputs, None)`` with numbers in the outputs."""

    def checked(module: nn.Module, batch: Any) -> tuple[Any, Any]:
        found = predict(module, batch)
        accepted = "a function (module, batch) -> (outputs, None)"
        if not isinstance(found, tuple) or len(found) != 2 or floating(found[1]):
            raise ArgumentError("predict", f"one that gives a {type(found).__name__}", accepted)
        if not floating(found[0]):
            raise ArgumentError("predict", "one whose outputs hold no floating-point tensor", accepted)
        return found

    return checked


def _look(dense: nn.Module, given: Calibration) -> None:
    """Refuse batches that the network cannot be called with, before anything is looked for in it."""
    count = 0
    for batch in given.batches:
        count += 1
        if count > 1:
            continue
        try:
            outputs = floating(given.predict(dense, batch)[0])
        except ArgumentError:
            raise
        except Exception as error:  # whatever somebody's code says
            got = f"one with which the model fails ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            how = "net(**batch)" if isinstance(batch, Mapping) else "net(*batch)"
            accepted = (
                "what the model is called with, of a tuple or list its first element, a dict as it is; where that is "
                f"otherwise give predict, such as predict=lambda net, batch: ({how}, None)"
            )
            raise ArgumentError("batches", got, accepted) from error
        if any(bool(each.isnan().any()) for each in outputs):
            raise ArgumentError("batches", "one of which the model makes NaN", "batches with finite outputs")
    if not count:
        raise ArgumentError("batches", "none", "batches that the model is called with")
    if given.hold_out and count < given.hold_out:
        said = "none here, so the difference is of what was fitted to" if count == 1 else "here one"
        log.warning("%d batches are few: one of %d is held out to judge by, %s", count, given.hold_out, said)


class Attempt(NamedTuple, Generic[M]):
    """A smaller network; by which rate, how far its outputs are from the given one's, and which layers were left."""

    module: M
    rate: float | Mapping[str, float]
    difference: float
    left: dict[str, str]


def _warn_of_gap(dense: nn.Module, best: Attempt[Any], given: Calibration) -> None:
    """Say so where held-out batches fare worse than those fitted to: others that are not here will as well."""
    if best.difference < SMALL or not given.holds_out():
        return
    fitted = relative_difference(dense, best.module, given.predict, given.fitted())
    if best.difference > GAP * fitted:
        log.warning(
            "outputs differ by %.1f %% on held-out batches, by %.1f %% on those fitted to: the smaller network "
            "fits what it was calibrated on; calibrate on more, and on more kinds",
            100 * best.difference, 100 * fitted,
        )  # fmt: skip


def _largest(attempt: Callable[[float], Attempt[M]], tolerance: float, show: bool) -> Attempt[M]:
    """The attempt of the largest rate whose difference is accepted, by halving; a rate of 0 if none is."""
    low, high, best = 0.0, 1.0, attempt(0.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = attempt(middle)
        if show:
            print(f"rate {middle:.3g}: outputs differ by {tried.difference:.2%}", flush=True)
        if tried.difference <= tolerance:
            low, best = middle, tried
        else:
            high = middle
    if not best.rate:
        log.warning("nothing can go within a tolerance of %s", tolerance)
    return best
