"""Retraining towards what the network said before it was pruned, on training batches whose labels are not looked at."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from prunekit.calibration import Predict, evaluating, predict_batch
from prunekit.callbacks.events import PruningObserver
from prunekit.teaching import relative_error
from prunekit.units.layers import copied


class Teacher(PruningObserver):
    """From the first pruning on, the loss is how far outputs are from the dense network's: no labels.

    A network of its own can be given to teach, from the first step on: so a small new one learns from a dense one.

    The loss of a batch is ``sum (a - b)^2 / sum a^2``, a the outputs of the teacher, which is the network before its
    first pruning, and b those of the network in training; it takes the place of the module's ``training_step``, which
    is used again in another fit. Masks are held as with labels. The dense weights are this callback's state, so a run
    resumes from any checkpoint; a teacher that was given has to be given again.

    Args:
        predict: how the module takes a batch, ``(module, batch) -> (outputs, anything)``; None for ``module(x)`` of
            ``(x, ...)``.
        teacher: whose outputs are wanted; it stays as it is. None for the network itself, before its first pruning.

    Raises:
        ArgumentError: while training, if a batch is of another form.

    Example:
        >>> Teacher().state_dict()
        {'dense': None}
    """

    def __init__(self, predict: Predict | None = None, teacher: pl.LightningModule | None = None) -> None:
        self._predict = predict or predict_batch
        self._given = teacher
        self._dense: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The dense network's weights, once something is pruned."""
        return {"dense": self._dense}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's; they are taught from the first step on."""
        self._dense = state_dict["dense"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the teacher that was given, or go on in a run that goes on."""
        if self._given is not None:
            self._teach(pl_module, _detached_copy(self._given).to(pl_module.device))
        elif self._dense is not None:
            self._teach(pl_module, self._as_it_was(pl_module))

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the network as it is, the first time."""
        if self._dense is None and self._given is None:
            self._dense = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
            self._teach(module, self._as_it_was(module))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the module its own ``training_step`` back."""
        vars(pl_module).pop("training_step", None)

    def report(self) -> dict[str, Any]:
        """That it taught."""
        return {"taught": self._dense is not None or self._given is not None}

    def _as_it_was(self, module: pl.LightningModule) -> pl.LightningModule:
        assert self._dense is not None
        teacher = _detached_copy(module)
        teacher.load_state_dict(self._dense)
        return teacher

    def _teach(self, student: pl.LightningModule, teacher: pl.LightningModule) -> None:
        teacher.requires_grad_(False).eval()

        def training_step(batch: Any, *_: Any, **__: Any) -> Tensor:
            with torch.no_grad(), evaluating(teacher):
                wanted = self._predict(teacher, batch)[0]
            apart, size = relative_error(wanted, self._predict(student, batch)[0])
            return apart / size.clamp(min=torch.finfo(size.dtype).tiny)

        vars(student)["training_step"] = training_step


def _detached_copy(module: pl.LightningModule) -> pl.LightningModule:
    """A copy without the trainer, which a module knows and which knows all else."""
    trainer, module._trainer = module._trainer, None
    try:
        made: nn.Module = copied(module)
    finally:
        module._trainer = trainer
    assert isinstance(made, pl.LightningModule)
    vars(made).pop("training_step", None)
    return made
