"""What is looked at before groups are scored or repaired: batches that pass through the module, and what was seen."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from prunekit.errors import ArgumentError

if TYPE_CHECKING:
    from prunekit.units.moments import OutputMoments
    from prunekit.units.series import Levels

Predict = Callable[[nn.Module, Any], tuple[Tensor, Tensor | None]]
HOLD_OUT = 4  # of so many batches one
Valid = Callable[[Any], Tensor]  # of a batch of padded sequences which steps are valid, (N, T) bool

Success = Callable[[nn.Module, Any], Tensor]


def alone(local: Tensor) -> Tensor:
    """The sum over all ranks where there is one."""
    return local


def predict_batch(module: nn.Module, batch: Any) -> tuple[Tensor, Tensor | None]:
    """What a module makes of a batch ``x`` or ``(x, y, ...)``, ``module(x)``, and the batch's classes if it has any.

    Raises:
        ArgumentError: if the batch is neither.
    """
    if isinstance(batch, Tensor):
        return module(batch), None
    if not isinstance(batch, tuple | list) or not batch:
        got = f"none, while a batch is a {type(batch).__name__}"
        raise ArgumentError("predict", got, "a function (module, batch) -> (outputs, classes) for such batches")
    return module(batch[0]), batch[1] if len(batch) > 1 else None


@dataclass(frozen=True)
class Calibration:
    """Batches, and how a module takes them.

    Attributes:
        batches: of training data, on the module's device; they can be gone through again and again.
        predict: module, batch -> outputs and classes ``(n,)``; None for classes where nobody asks for them.
        rows: under DDP, which of all samples pass here, in order.
        samples: how many there are over all ranks; None to count them.
        sum_over_ranks: adds a tensor up over all ranks.
        valid: of a batch of padded sequences which steps are no padding, ``(N, T)`` bool; None where all are, or where
            sequences are packed.
        success: module, batch -> how well the module does at each step of each sequence, ``(N, T)`` in [0, 1]; None
            where nobody asks, or where classes tell it.
        hold_out: of so many batches the last is held out of what is fitted; of fewer the last one, of one none. 0 holds
            none out.
    """

    batches: Iterable[Any]
    predict: Predict = predict_batch
    rows: Tensor | None = None
    samples: int | None = None
    sum_over_ranks: Callable[[Tensor], Tensor] = alone
    valid: Valid | None = None
    success: Success | None = None
    hold_out: int = HOLD_OUT

    def valid_steps(self, batch: Any) -> Tensor | None:
        """Which steps of a batch are no padding, ``(N, T)`` bool; None where all are.

        Example:
            >>> Calibration("a").valid_steps("a"), Calibration("a", valid=lambda _: Tensor([[1.0]])).valid_steps("a")
            (None, tensor([[1.]]))
        """
        return None if self.valid is None else self.valid(batch)

    def parted(self) -> Iterator[tuple[Any, bool]]:
        """All batches, and whether each is held out to judge by.

        Example:
            >>> [held for _, held in Calibration("abcdefgh").parted()]
            [False, False, False, True, False, False, False, True]
            >>> [held for _, held in Calibration("ab").parted()], [held for _, held in Calibration("a").parted()]
            ([False, True], [False])
        """
        last: tuple[Any, bool] | None = None
        number = -1
        for number, batch in enumerate(self.batches):
            if last is not None:
                yield last
            last = batch, self.hold_out > 0 and (number + 1) % self.hold_out == 0
        if last is not None:
            yield last[0], last[1] or 0 < number < self.hold_out - 1

    def fitted(self) -> Iterator[Any]:
        """The batches that are not held out."""
        return (batch for batch, held in self.parted() if not held)

    def holds_out(self) -> bool:
        """Whether any batch is held out."""
        return any(held for _, held in self.parted())

    def judged(self) -> Iterator[Any]:
        """The batches that are held out; all of them if none is."""
        any_held = False
        for batch, held in self.parted():
            any_held = any_held or held
            if held:
                yield batch
        if not any_held:
            yield from self.batches


@dataclass(frozen=True)
class Seen:
    """What was seen; a criterion or repair is handed what it declares to need, and no more.

    What is said of each part is in the order of the grouping's parts: layers and directions whose units they are.

    Attributes:
        outputs: what units or gates did over time; where ``success`` is needed, with how well the network did then.
        moments: of each part's outputs, for least squares.
        readers: for each part, ``(m, units)`` each: the weights that read its units, their own recurrent ones first.
        means: ``(G,)`` float64, what each gate was on average.
        saliency: parameter name -> float64 of its shape, mean of ``abs(w * dL_i/dw)`` over samples.
        calibration: the batches themselves.
    """

    outputs: "Levels | None" = None
    moments: "Sequence[OutputMoments] | None" = None
    readers: Sequence[Sequence[Tensor]] | None = None
    means: Tensor | None = None
    saliency: Mapping[str, Tensor] | None = None
    calibration: Calibration | None = None


NEEDS = frozenset({field.name for field in fields(Seen)} | {"success"})  # what may be asked for


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode meanwhile; then each part in its own again, since a frozen one may be in evaluation mode."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """Recurrent layers in training mode, without which cuDNN computes no gradient, and without their dropout."""
    layers = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    dropouts = [layer.dropout for layer in layers]
    for layer in layers:
        layer.train()
        layer.dropout = 0.0
    try:
        yield
    finally:
        for layer, dropout in zip(layers, dropouts, strict=True):
            layer.dropout = dropout
