"""A network with its weights before a repair and with those that it has now, run on the same batches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from prunekit.calibration import Calibration
from prunekit.gpu import float64
from prunekit.units.parts import Key
from prunekit.units.watching import Steps, floating, tensors, watching


class _Enough(Exception):  # noqa: N818 - nothing is wrong
    """Raised to end a pass through a network when all that is wanted of it has been seen."""


class BeforeAndNow:
    """A network before and as it is now: one module, whose weights are changed to and fro.

    Args:
        module: as it is before.
        names: of the parameters that may change.
        calibration: batches that can be passed over again and again.
    """

    def __init__(self, module: nn.Module, names: set[str], calibration: Calibration) -> None:
        self.module, self._calibration = module, calibration
        self._own = {name: module.get_parameter(name) for name in names}
        self._before = self.weights()
        self._prints: list[list[float]] = []  # of the batches, so that others are noticed

    def weights(self) -> dict[str, Tensor]:
        """A copy of what may change."""
        return {name: parameter.clone() for name, parameter in self._own.items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up such a copy."""
        for name, parameter in self._own.items():
            parameter.copy_(weights[name])

    def batches(self) -> Iterator[tuple[Any, bool]]:
        """All batches, and whether each is held out."""
        for number, (batch, held) in enumerate(self._calibration.parted()):
            if number == len(self._prints):
                self._prints.append(_print(batch))
            if self._prints[number] != _print(batch):
                raise ValueError("batches that are not the same, in the same order, each time they are gone through")
            yield batch, held

    @contextmanager
    def before(self) -> Iterator[None]:
        """As it was, meanwhile."""
        now = self.weights()
        self.load(self._before)
        try:
            yield
        finally:
            self.load(now)

    def see(self, batch: Any, layer: str, calls: int | None) -> dict[Key, list[Steps]]:
        """What a layer does with a batch; the rest is spared if it is known how often the layer is called."""
        left = calls

        def stop(*_: Any) -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left == 0:
                    raise _Enough

        with watching(self.module, [layer], self._calibration.valid_steps(batch)) as seen:
            hook = self.module.get_submodule(layer).register_forward_hook(stop)
            try:
                self._calibration.predict(self.module, batch)
            except _Enough:
                pass
            finally:
                hook.remove()
        return seen

    def add_up(self, local: Tensor) -> Tensor:
        """The sum over all ranks."""
        return self._calibration.sum_over_ranks(local)

    def error(self) -> float:
        """Of the outputs on held-out batches: sum of squared differences over the sum of squares before."""
        total = torch.zeros(2, dtype=torch.float64)
        for batch in self._calibration.judged():
            with self.before():
                wanted = floats(self._calibration.predict(self.module, batch)[0])
            for one, other in zip(wanted, floats(self._calibration.predict(self.module, batch)[0]), strict=True):
                total += torch.stack([(one - other).square().sum(), one.square().sum()]).cpu()
        apart, size = self.add_up(total)
        return float(apart / size.clamp(min=torch.finfo(torch.float64).tiny))


def _print(batch: Any) -> list[float]:
    return [float(float64(each).nan_to_num().sum()) for each in tensors(batch) if not each.is_complex()]


def floats(outputs: Any) -> list[Tensor]:
    """The floating tensors among a network's outputs, in float64.

    Example:
        >>> [tuple(each.shape) for each in floats((torch.zeros(2), {"loss": torch.ones(()), "class": torch.tensor(1)}))]
        [(2,), ()]
    """
    return [float64(leaf) for leaf in floating(outputs)]
