"""Magnitude pruning: the weights of smallest norm go, over all named parameters together."""

from collections.abc import Sequence
from typing import Any

from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.magnitude import Magnitude
from prunekit.groups import Weights


class L2Mask(Pruning):
    """Removes the share ``rate`` of weights with the smallest L2 norm (of a single weight: its magnitude).

    Exactly ``round(rate * n)`` of the n weights of all ``parameters`` together are gone after the last round,
    ties by index. With several rounds each removes the same share of what is left, as in iterative magnitude
    pruning (Han et al., Learning both weights and connections, 2015).

    Args:
        parameters: names as in ``module.named_parameters()``; None for all weights of the module.
        rate: share of the weights removed in the end, in [0, 1].
        rounds: number of events.
        retrain_epochs: epochs trained after each event; may be 0 for a single round.
        start_epoch: epochs trained before the first event.
        name: in events, results and logs.

    Example:
        >>> L2Mask(["layers.hidden1.weight"], rate=0.5, start_epoch=15).schedule.end
        15
    """

    default_name = "l2_mask"

    def __init__(
        self,
        parameters: Sequence[str] | None,
        rate: float,
        rounds: int = 1,
        retrain_epochs: int = 0,
        start_epoch: int = 0,
        name: str | None = None,
    ) -> None:
        schedule = {"rounds": rounds, "retrain_epochs": retrain_epochs, "start_epoch": start_epoch}
        super().__init__(Weights(parameters), Magnitude(), rate, **schedule, name=name)  # type: ignore[arg-type]

    def report(self) -> dict[str, Any]:
        """Nothing: the achieved sparsities say it all."""
        return {}
