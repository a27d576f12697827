"""The one callback that prunes: when an event is due, what it does, and what is saved of it."""

import logging
import time
from typing import Any, ClassVar

import pytorch_lightning as pl

from prunekit import stopping
from prunekit.cache import Cache
from prunekit.calibration import Predict
from prunekit.callbacks.averaging import check_averaging
from prunekit.callbacks.events import PruningEvent, PruningObserver
from prunekit.callbacks.mask_holder import MaskHolder, current_mask, hold
from prunekit.callbacks.measure import Data, placed
from prunekit.callbacks.ranks import give_parameters, same_on_ranks
from prunekit.callbacks.scoring import leave_scores, look_at_first, score
from prunekit.criteria.criterion import Criterion
from prunekit.errors import check_choice, check_rate, owned_by
from prunekit.groups import Grouping
from prunekit.masks import Mask
from prunekit.pruning import Pruned, check_fit, check_parts, remove, require_finite
from prunekit.repair import Repair
from prunekit.schedule import Schedule, gradual_rate
from prunekit.selection import COUNTED, SCOPES, select

log = logging.getLogger("prunekit")


class Pruning(MaskHolder):
    """Prunes groups of any LightningModule at set epochs and holds them pruned.

    The first event is due when ``start_epoch`` epochs are done, each further one ``retrain_epochs`` later.
    The mask and the number of rounds done are the callback's state, so a run resumes from any checkpoint.

    Args:
        grouping: what goes together.
        criterion: which groups go first; it looks at training data only.
        rate: share to remove, in [0, 1]; what it counts is ``of``.
        order: ``ascending`` removes the lowest scores first, ``descending`` the highest.
        of: what the rate counts, ``groups`` or the ``weights`` in them.
        scope: among what groups are ranked, ``all`` together or those ``within`` one layer or neuron.
        floor: whether every layer or neuron keeps at least one group.
        repair: what makes up for what goes; None for nothing.
        each_round: whether every round removes ``rate`` of the groups that it finds; if not, ``rate`` is what is gone
            in the end, and each round removes the same share of what is left.
        rounds: number of events; each groups and scores anew.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.
        predict: how the module takes a batch, and the batch's classes, where the criterion or the repair look at data:
            ``(module, batch) -> (logits, classes)``; None for ``module(x)`` of ``(x, classes)``.
        data: gives the batches of a part, ``(trainer, "train") -> batches``; None for those that the trainer has.
        cache: where runs keep scores for each other; None for nowhere.
        name: in events, results and logs; by default the class's.

    Attributes:
        mask: of the grouping's parameters, after this callback's last event.

    Raises:
        ArgumentError: if a value is not accepted; at the start of ``fit`` if the module does not fit.

    Example:
        >>> from prunekit.criteria.magnitude import Magnitude
        >>> from prunekit.groups import Weights
        >>> Pruning(Weights(["layers.hidden1.weight"]), Magnitude(), 0.5, rounds=2, retrain_epochs=3).schedule.end
        6
    """

    default_name: ClassVar[str] = "pruning"
    renamed: ClassVar[dict[str, str]] = {}  # what a preset calls an argument of its parts

    def __init__(
        self,
        grouping: Grouping,
        criterion: Criterion,
        rate: float,
        order: str = "ascending",
        of: str = "groups",
        scope: str = "all",
        floor: bool = False,
        repair: Repair | None = None,
        each_round: bool = False,
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
        predict: Predict | None = None,
        data: Data | None = None,
        cache: Cache | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.grouping, self.criterion, self.repair = grouping, criterion, repair
        self.rate = check_rate("rate", rate)
        check_choice("of", of, COUNTED)
        check_choice("scope", scope, SCOPES)
        check_parts(grouping, criterion, order, repair)
        self.order, self.of, self.scope, self.floor, self.each_round = order, of, scope, floor, each_round
        self.schedule = Schedule(start_epoch, rounds, retrain_epochs)
        self.name = name or self.default_name
        self._predict, self._data, self._cache = predict, data, cache
        # Made once: Lightning asks for it at every hook of every step. It must be the same in another process.
        plain = {key: value for key, value in vars(grouping).items() if isinstance(value, str | list | tuple)}
        parts = {"word": grouping.word, **plain}
        self._state_key = self._generate_state_key(name=self.name, start_epoch=start_epoch, grouping=parts)
        self.removed = self.count = 0
        self.rounds_done = 0
        self.seconds = 0.0

    def taken(self, pruned: Pruned) -> None:
        """Called with what an event has done, before observers are told; for presets that keep more than the mask."""

    def report(self) -> dict[str, Any]:
        """What results say of this callback: the setting, and how many groups there were and went."""
        if not self.mask:
            return {}
        setting = {"criterion": self.criterion.name, "order": self.order, "rate": self.rate}
        repair = self.repair.name if self.repair is not None else "none"
        return {**setting, "repair": repair, f"{self.grouping.word}s": {"count": self.count, "removed": self.removed}}

    def achieved(self) -> dict[str, float]:
        """Achieved sparsities of things that are not single parameters."""
        label = self.grouping.label()
        return {label: self.removed / self.count} if label is not None and self.mask else {}

    @property
    def state_key(self) -> str:
        """Tells two callbacks of one class apart in a checkpoint."""
        return self._state_key

    def state_dict(self) -> dict[str, Any]:
        """The mask, what is held, and the rounds done, as plain tensors and numbers."""
        counts = {
            "rounds_done": self.rounds_done,
            "removed": self.removed,
            "count": self.count,
            "seconds": self.seconds,
        }
        return {"mask": dict(self.mask), "held": self.mask.held, **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's mask; it is held from the first step on."""
        self.mask, self.rounds_done = Mask(state_dict["mask"], state_dict["held"]), state_dict["rounds_done"]
        self.removed, self.count = state_dict["removed"], state_dict["count"]
        self.seconds = state_dict.get("seconds", 0.0)  # which early checkpoints lack

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a module that does not fit."""
        with owned_by(self, self.renamed):
            check_fit(module, self.grouping, self.criterion, self.order, self.repair)

    def rehearse(self, module: pl.LightningModule) -> None:
        """Refuse training data that the criterion or the repair cannot look at; the first batch tells."""
        with owned_by(self, self.renamed):
            criteria = {self.criterion.name: self.criterion}
            look_at_first(module, self.grouping, criteria, self.repair, self._predict, self._data)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that does not fit, and a trainer that stops before the schedule ends."""
        self.check(pl_module)
        if stage == "fit":
            with owned_by(self, self.renamed):
                self.schedule.check_epochs(trainer.max_epochs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hold a resumed mask; prune if an event is due.

        A checkpoint written on an epoch's last batch resumes without the next ``on_train_epoch_start``.
        """
        batches = trainer.num_training_batches
        if batches != float("inf"):
            with owned_by(self, self.renamed):
                self.schedule.check_steps(trainer.max_steps, batches / trainer.accumulate_grad_batches)
            last = max(callback.schedule.last for callback in pruning_callbacks(trainer))
            check_averaging(trainer.callbacks, last, trainer.max_epochs or 0, int(batches))  # type: ignore[attr-defined]
        hold(trainer, pl_module)
        if not self.rounds_done and trainer.current_epoch < self.schedule.start:
            self.rehearse(pl_module)
        self._prune_if_due(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune if an event is due."""
        self._prune_if_due(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prune if an event is due that no training follows; say so if training has ended before one was."""
        self._prune_if_due(trainer, pl_module)
        rounds, due = self.schedule.rounds, self.schedule.due(self.rounds_done)
        if self.rounds_done < rounds:
            log.warning(
                "%s: training has ended after %d epochs, and %d of %d rounds are pruned: the next was due after %d",
                self.name, trainer.current_epoch, self.rounds_done, rounds, due,
            )  # fmt: skip

    def _prune_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        due = self.schedule.due(self.rounds_done)
        if self.rounds_done == self.schedule.rounds or trainer.current_epoch < due:
            return
        observers = [c for c in trainer.callbacks if isinstance(c, PruningObserver)]  # type: ignore[attr-defined]
        for observer in observers:
            observer.before_pruning(trainer, module)
        names = self.grouping.parameters(module)
        before = Mask.full(module, names) & current_mask(trainer)
        require_finite(module, names)
        started = time.perf_counter()
        with owned_by(self, self.renamed), stopping.released():
            pruned = self._prune(trainer, module, before.only(names))
        self.seconds += time.perf_counter() - started
        self.mask, self.removed, self.count = pruned.mask, int(pruned.goes.sum()), len(pruned.goes)
        self.rounds_done += 1
        self.taken(pruned)
        hold(trainer, module)
        for name, kept in self.mask.items():
            if not kept.any() and bool(before[name].any()):
                log.warning("%s: nothing is left of %s: no output tells samples apart any more", self.name, name)
        event = PruningEvent(self.name, self.rounds_done, trainer.current_epoch, before, before & self.mask)
        for observer in observers:
            observer.after_pruning(trainer, module, event)

    def _prune(self, trainer: pl.Trainer, module: pl.LightningModule, before: Mask) -> Pruned:
        groups = self.grouping(module, before)
        groups.check(before)
        # A retrained network is this run's alone.
        cache = self._cache if self.rounds_done == 0 else None
        criteria = {self.criterion.name: self.criterion}
        how = {"predict": self._predict, "data": self._data}
        scores, seen = score(module, self.grouping, groups, criteria, self.repair, cache, **how)  # type: ignore[arg-type]
        found = scores[self.criterion.name]
        rate = self.rate if self.each_round else gradual_rate(self.rate, self.rounds_done + 1, self.schedule.rounds)
        goes = select(
            found.values, groups.sizes, rate, within=groups.within, gone=groups.gone,
            order=self.order, of=self.of, scope=self.scope, floor=self.floor,
        )  # fmt: skip
        with placed(module, trainer.strategy.root_device):
            mask = remove(module, self.grouping, groups, goes, before, self.repair, seen)
        if self.repair is not None:
            give_parameters(trainer, module, self.repair.changes(module, self.grouping))
        if self.grouping.label() is not None:
            leave_scores(trainer, "scores.safetensors", scores)
        return Pruned(same_on_ranks(trainer, mask), groups, found, goes)


def pruning_callbacks(trainer: pl.Trainer) -> list[Pruning]:
    """The trainer's pruning callbacks, in the order in which they prune."""
    return [c for c in trainer.callbacks if isinstance(c, Pruning)]  # type: ignore[attr-defined]
