"""When pruning happens in a training, and how much of it each time."""

import math
from dataclasses import dataclass

from prunekit.errors import ArgumentError, check_count


@dataclass(frozen=True)
class Schedule:
    """Rounds of pruning with training between them.

    Args:
        start: epochs trained before the first round.
        rounds: how many there are.
        retrain: epochs trained after each; may be 0 for a single round.

    Raises:
        ArgumentError: if a number is not accepted; it names the callbacks' arguments.

    Example:
        >>> schedule = Schedule(start=15, rounds=2, retrain=3)
        >>> [schedule.due(done) for done in range(2)], schedule.last, schedule.end
        ([15, 18], 18, 21)
    """

    start: int = 0
    rounds: int = 1
    retrain: int = 0

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds, least=1)
        check_count("retrain_epochs", self.retrain)
        check_count("start_epoch", self.start)
        if self.rounds > 1 and self.retrain == 0:
            accepted = f"1 or more between {self.rounds} rounds; for no retraining set rounds=1"
            raise ArgumentError("retrain_epochs", self.retrain, accepted)

    @property
    def end(self) -> int:
        """Epochs done when the last round's training is over."""
        return self.due(self.rounds)

    @property
    def last(self) -> int:
        """Epochs done when the last round is due."""
        return self.due(self.rounds - 1)

    def due(self, done: int) -> int:
        """Epochs done when the round after ``done`` of them is due."""
        return self.start + done * self.retrain

    def check_epochs(self, most: int | None) -> None:
        """Refuse a training that ends before the schedule does.

        Args:
            most: epochs that it has; None or -1 for no end.

        Raises:
            ArgumentError: of ``start_epoch``.
        """
        if most is not None and 0 <= most < self.end:
            needed = f"{self.end} or more, for {self.rounds} rounds from epoch {self.start}"
            raise ArgumentError(
                "start_epoch", f"{self.start}, and max_epochs={most}", f"trainer.max_epochs of {needed}"
            )

    def check_steps(self, most: int, an_epoch: float) -> None:
        """Refuse a training that stops before the last round is due.

        Args:
            most: steps that it has; -1 for no end.
            an_epoch: steps of an epoch.

        Raises:
            ArgumentError: of ``start_epoch``.
        """
        if 0 <= most < self.last * an_epoch:
            got = f"{self.start}, and max_steps={most} of {an_epoch:g} steps an epoch"
            raise ArgumentError("start_epoch", got, "an epoch that the training reaches, or more steps")


def gradual_rate(rate: float, done: int, rounds: int) -> float:
    """The share removed after ``done`` of ``rounds`` rounds that remove the same share of what is left each.

    ``1 - (1 - rate) ** (done / rounds)``, exactly ``rate`` after the last round.

    Example:
        >>> [round(gradual_rate(0.75, done, 2), 3) for done in (0, 1, 2)]
        [0.0, 0.5, 0.75]
    """
    return rate if done >= rounds else 1 - math.pow(1 - rate, done / rounds)
