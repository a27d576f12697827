"""How much a first-order change of a group's weights would change the loss."""

from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.groups import Groups


class Saliency(Criterion):
    """The mean over a group's weights, and over training samples i, of ``abs(w * dL_i/dw)``.

    See :func:`prunekit.regions.saliency.weight_saliency`. Wants labels.
    """

    name = "saliency"
    needs = frozenset({"saliency"})

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """From the gradients seen."""
        assert seen.saliency is not None
        return Scores(groups.reduce(seen.saliency))
