"""The schedule that every pruning callback shares: when an event is due, and how its mask is held and saved."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn

from prunekit.errors import ConfigError, check_count, check_rate
from prunekit.masks import HeldMask, Mask, find_parameter


@dataclass(frozen=True)
class PruningEvent:
    """One pruning of one callback.

    Attributes:
        name: the callback's, such as ``l2_mask``.
        round: from 1.
        epoch: epochs completed when it happened.
        before: the model's mask before, over all pruning callbacks.
        after: the model's mask after it.
    """

    name: str
    round: int
    epoch: int
    before: Mask
    after: Mask


class PruningObserver(pl.Callback):
    """A callback that is told of pruning events."""

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module that this callback cannot work on."""

    def report(self) -> dict[str, Any]:
        """What results say of this callback."""
        return {}

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Called when an event is due and nothing has changed yet."""

    def after_pruning(self, trainer: pl.Trainer, module: pl.LightningModule, event: PruningEvent) -> None:
        """Called when the mask is on the model."""


class PruningCallback(pl.Callback, ABC):
    """Prunes named parameters of any LightningModule at set epochs and holds them pruned.

    The first event is due when ``start_epoch`` epochs are done, each further one ``retrain_epochs`` later.
    The mask and the number of rounds done are the callback's state, so a run resumes from any checkpoint.

    Args:
        parameters: names as in ``module.named_parameters()``.
        rate: share to remove, in [0, 1]; what it counts is the subclass's.
        rounds: number of events.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.

    Attributes:
        mask: of the parameters, after this callback's last event.
        values: what removed entries of all callbacks are held at after it, where that is not 0.
        event_number: which of all callbacks' events its last one was, from 1.

    Raises:
        ConfigError: if a value is not accepted; at the start of ``fit`` if a name is not the module's.
    """

    name: ClassVar[str]

    def __init__(
        self, parameters: Sequence[str], rate: float, rounds: int, retrain_epochs: int, start_epoch: int
    ) -> None:
        self.parameters = list(parameters)
        self.rate = check_rate(self.key("rate"), rate)
        self.rounds = check_count(self.key("rounds"), rounds, least=1)
        self.retrain_epochs = check_count(self.key("retrain_epochs"), retrain_epochs)
        self.start_epoch = check_count(self.key("start_epoch"), start_epoch)
        if rounds > 1 and retrain_epochs == 0:
            accepted = f"1 or more between {rounds} rounds; for no retraining set {self.key('rounds')}=1"
            raise ConfigError(self.key("retrain_epochs"), retrain_epochs, accepted)
        # Made once: Lightning asks for it at every hook of every step.
        self._state_key = self._generate_state_key(parameters=self.parameters, start_epoch=self.start_epoch)
        self.mask = Mask({})
        self.values: dict[str, Tensor] = {}
        self.event_number = 0
        self.rounds_done = 0
        self.seconds = 0.0
        self.held: HeldMask | None = None

    @classmethod
    def key(cls, argument: str) -> str:
        """The config key of an argument, for messages."""
        return f"callbacks.{cls.name}.{argument}"

    @abstractmethod
    def select(self, module: pl.LightningModule, mask: Mask) -> Mask:
        """The mask of ``self.parameters`` after the next round, given the model's mask so far."""

    def adjust(self, trainer: pl.Trainer, module: pl.LightningModule, before: Mask, after: Mask) -> None:
        """Change what stays to make up for what goes, while nothing has gone yet; by default nothing is changed."""

    def hold_at(self, values: dict[str, Tensor], before: Mask, after: Mask) -> dict[str, Tensor]:
        """What removed entries are held at after an event, given what they were held at; by default no more than that.

        Args:
            values: parameter name -> tensor of its shape, 0 where an entry is kept or held at 0.
            before: as :meth:`adjust` has it.
            after: likewise.
        """
        return values

    def report(self) -> dict[str, Any]:
        """What results say of this callback."""
        return {}

    def achieved(self) -> dict[str, float]:
        """Achieved sparsities of things that are not single parameters."""
        return {}

    @property
    def end_epoch(self) -> int:
        """Epochs of the run when this callback's retraining is over."""
        return self.start_epoch + self.rounds * self.retrain_epochs

    @property
    def last_event(self) -> int:
        """Epochs done when the last event happens."""
        return self.start_epoch + (self.rounds - 1) * self.retrain_epochs

    @property
    def state_key(self) -> str:
        """Tells two callbacks of one class apart in a checkpoint."""
        return self._state_key

    def state_dict(self) -> dict[str, Any]:
        """The mask, the values and the rounds done, as plain tensors and numbers."""
        plain = {"values": self.values, "event_number": self.event_number, "rounds_done": self.rounds_done}
        return {"mask": dict(self.mask), **plain}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's mask; it is held from the first step on."""
        self.mask, self.rounds_done = Mask(state_dict["mask"]), state_dict["rounds_done"]
        # Absent in checkpoints from before there were values.
        self.values = state_dict.get("values", {})
        self.event_number = state_dict.get("event_number", self.rounds_done)

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module that lacks a named parameter."""
        for name in self.parameters:
            check_parameter(self.key("parameters"), module, name)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that does not fit, and a trainer that stops before the schedule ends."""
        self.check(pl_module)
        if stage == "fit" and trainer.max_epochs is not None and 0 <= trainer.max_epochs < self.end_epoch:
            needed = f"{self.end_epoch} or more, for {self.rounds} rounds from epoch {self.start_epoch}"
            raise ConfigError("trainer.max_epochs", trainer.max_epochs, needed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hold a resumed mask; prune if an event is due.

        A checkpoint written on an epoch's last batch resumes without the next ``on_train_epoch_start``.
        """
        batches, epochs = int(trainer.num_training_batches), trainer.max_epochs or 0
        check_averaging(trainer.callbacks, epochs, batches)  # type: ignore[attr-defined]
        hold(trainer, pl_module)
        self._prune_if_due(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune if an event is due."""
        self._prune_if_due(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune if an event is due that no training follows."""
        self._prune_if_due(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the module; its zeros stay."""
        if self.held is not None:
            self.held.release()

    def _prune_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        due = self.start_epoch + self.rounds_done * self.retrain_epochs
        if self.rounds_done == self.rounds or trainer.current_epoch < due:
            return
        observers = [c for c in trainer.callbacks if isinstance(c, PruningObserver)]  # type: ignore[attr-defined]
        for observer in observers:
            observer.before_pruning(trainer, module)
        before = Mask.full(module, self.parameters) & current_mask(trainer)
        for name in self.parameters:
            parameter = find_parameter(module, name).detach()
            if parameter.numel() and not torch.stack(torch.aminmax(parameter)).isfinite().all():
                got = f"settings under which {name} is not finite after {trainer.current_epoch} epochs"
                raise ConfigError("model.optimizer", got, "settings under which training does not diverge")
        started = time.perf_counter()
        selected = self.select(module, before)
        self._require_subset(selected, before)
        self.adjust(trainer, module, before, selected)
        self.seconds += time.perf_counter() - started
        values = self.hold_at(current_values(trainer), before, selected)
        self.values = trainer.strategy.broadcast(values) if trainer.world_size > 1 else values
        self.event_number = 1 + sum(callback.rounds_done for callback in pruning_callbacks(trainer))
        self.mask = selected
        _require_equal_on_ranks(trainer, self.mask)
        self.rounds_done += 1
        hold(trainer, module)
        event = PruningEvent(self.name, self.rounds_done, trainer.current_epoch, before, before & self.mask)
        for observer in observers:
            observer.after_pruning(trainer, module, event)

    def _require_subset(self, selected: Mask, before: Mask) -> None:
        """Notice a subclass that brings removed entries back or masks what it was not asked to."""
        if set(selected) != set(self.parameters):
            raise ValueError(f"{type(self).__name__}.select gave a mask of {list(selected)}, not of {self.parameters}")
        for name in selected:
            if selected[name].shape != before[name].shape or (selected[name] & ~before[name]).any():
                raise ValueError(f"{type(self).__name__}.select: the mask of {name} is no subset of the one before")


def check_averaging(callbacks: Sequence[pl.Callback], epochs: int, batches: int = 1) -> None:
    """Refuse weight averaging that begins before the last pruning event: it would bring removed weights back.

    Args:
        callbacks: all of a trainer's.
        epochs: of the whole fit.
        batches: an epoch's at least, for averaging that counts steps.

    Raises:
        ConfigError: if a callback averages weights of an epoch that starts before the last event is over.
    """
    pruners = [callback for callback in callbacks if isinstance(callback, PruningCallback)]
    last = max((pruner.last_event for pruner in pruners), default=-1)
    for callback in callbacks:
        early = False
        if isinstance(callback, StochasticWeightAveraging):
            start = callback._swa_epoch_start
            early = (int(start * epochs) if isinstance(start, float) else start) - 1 <= last
        elif isinstance(callback, WeightAveraging):
            early = any(callback.should_update(epoch_idx=epoch) for epoch in range(last + 1))
            early |= any(callback.should_update(step_idx=step) for step in range(last * batches + 1))
        if early and pruners:
            got = f"{type(callback).__name__}, which averages weights from before the last pruning event"
            raise ConfigError("callbacks", got, f"averaging that starts after epoch {last}, given as a whole epoch")


def hold(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Hold ``module`` to what all pruning callbacks keep together, once: the first of them has the hold."""
    first = pruning_callbacks(trainer)[0]
    if first.held is not None:
        first.held.release()
    first.held = HeldMask(current_mask(trainer), module, trainer.optimizers, current_values(trainer))


def check_parameter(key: str, module: pl.LightningModule, name: str) -> None:
    """Refuse a parameter name that ``module`` lacks.

    Raises:
        ConfigError: with the nearest names.
    """
    try:
        find_parameter(module, name)
    except KeyError as error:
        raise ConfigError(key, name, f"a name from module.named_parameters(); {error.args[0]}") from None


def pruning_callbacks(trainer: pl.Trainer) -> list[PruningCallback]:
    """The trainer's pruning callbacks, in the order in which they prune."""
    return [c for c in trainer.callbacks if isinstance(c, PruningCallback)]  # type: ignore[attr-defined]


def current_mask(trainer: pl.Trainer) -> Mask:
    """What all pruning callbacks of a trainer keep together."""
    return reduce(and_, (callback.mask for callback in pruning_callbacks(trainer)), Mask({}))


@torch.no_grad()
def equal_on_ranks(trainer: pl.Trainer, parameters: Iterable[nn.Parameter]) -> None:
    """Give all ranks rank 0's values: what each has computed may differ in the last bits on unequal machines."""
    if trainer.world_size > 1:
        for parameter in parameters:
            parameter.copy_(trainer.strategy.broadcast(parameter.detach()))


def current_values(trainer: pl.Trainer) -> dict[str, Tensor]:
    """What removed entries are held at where that is not 0, by parameter: the callback that pruned last knows."""
    latest = max(pruning_callbacks(trainer), key=lambda callback: callback.event_number, default=None)
    return latest.values if latest else {}


def _require_equal_on_ranks(trainer: pl.Trainer, mask: Mask) -> None:
    digest = mask.digest()
    if trainer.strategy.broadcast(digest) != digest:
        raise RuntimeError(f"rank {trainer.global_rank} chose another mask than rank 0: their weights differ")
