"""Group lasso: whole groups of weights are drawn to 0 while training, so that layers become narrow by themselves."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from prunekit.errors import ArgumentError, owned_by
from prunekit.groups import Grouping
from prunekit.masks import Mask, find_parameter


class GroupLasso(pl.Callback):
    """Adds ``strength * sum_g sqrt(n_g) |w_g|`` to the loss, by its proximal step after each step of the optimizer.

    A group's weights ``w_g``, ``n_g`` of them, shrink together by ``max(0, 1 - lr * strength * sqrt(n_g) / |w_g|)``,
    where lr is the learning rate of the first parameter group: below that norm they are exactly 0. Groups at 0 come
    back if their gradient is large enough. With units as groups this is how LSTMs become narrow while they train
    (intrinsic sparse structures, arXiv 1709.05027); :func:`~prunekit.units.compaction.compact` cuts out what is 0.

    Args:
        grouping: what goes together, such as ``Units("lstm")``.
        strength: of the penalty, 0 or more.

    Raises:
        ArgumentError: if the strength is not accepted; at the start of ``fit`` if the grouping does not fit the module.

    Example:
        >>> from prunekit.units.grouping import Units
        >>> GroupLasso(Units("lstm"), strength=0.001).strength
        0.001
    """

    def __init__(self, grouping: Grouping, strength: float) -> None:
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength < float("inf"):
            raise ArgumentError("strength", strength, "a number from 0 on, such as 0.001")
        if not isinstance(grouping, Grouping):
            raise ArgumentError("grouping", grouping, "an object of a class of Groupings, as prunekit.Units('lstm') is")
        self.grouping, self.strength = grouping, strength
        self._numbers: dict[str, Tensor] = {}
        self._roots = torch.zeros(0)
        self._seen = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that does not fit."""
        with owned_by(self):
            self.grouping.check(pl_module, frozenset())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Number the groups, on the device of their weights."""
        full = Mask.full(pl_module, self.grouping.parameters(pl_module))
        groups = self.grouping(pl_module, full)
        groups.check(full)
        last = len(groups)  # what is in no group is in one more, which nothing happens to
        self._numbers = {
            name: torch.where(number < 0, last, number).to(pl_module.device) for name, number in groups.numbers.items()
        }
        self._roots = torch.cat([groups.sizes.sqrt(), torch.zeros(1)]).to(pl_module.device)
        self._seen = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """The proximal step, where the optimizer has made one."""
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        shrink = proximal_scale(self._norms(pl_module), self._roots, rate * self.strength)
        for name, number in self._numbers.items():
            find_parameter(pl_module, name).mul_(shrink[number])

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log how many groups are 0."""
        gone = (self._norms(pl_module)[:-1] == 0).sum()
        pl_module.log(f"group_lasso/{self.grouping.word}s_at_0", gone.float(), rank_zero_only=True)

    def _norms(self, module: pl.LightningModule) -> Tensor:
        total = torch.zeros_like(self._roots)
        for name, number in self._numbers.items():
            squares = find_parameter(module, name).detach().square().to(total)
            total.index_add_(0, number.expand_as(squares).reshape(-1), squares.reshape(-1))
        return total.sqrt()


def proximal_scale(norms: Tensor, roots: Tensor, strength: float) -> Tensor:
    """What the groups' weights are multiplied by: ``max(0, 1 - strength * sqrt(n_g) / |w_g|)``, of shape ``(G,)``.

    Args:
        norms: ``|w_g|``, ``(G,)``.
        roots: ``sqrt(n_g)``, ``(G,)``.
        strength: the penalty's, times the learning rate.

    Example:
        >>> proximal_scale(torch.tensor([4.0, 1.0, 0.0]), torch.tensor([2.0, 2.0, 2.0]), 1.0).tolist()
        [0.5, 0.0, 1.0]
    """
    least = torch.finfo(norms.dtype).tiny
    scale = (1 - strength * roots / norms.clamp(min=least)).clamp(min=0.0)
    return torch.where(norms > 0, scale, torch.ones_like(scale))
