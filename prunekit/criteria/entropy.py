"""How varied the output of a unit or the activation of a gate is."""

from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.errors import check_choice
from prunekit.groups import Groups
from prunekit.units.codes import entropy


class Entropy(Criterion):
    """The entropy of a unit's outputs over all steps of all training clips, in bits.

    Args:
        bins: of equal width over [-1, 1]: 2, 4, 8 or 16.

    Raises:
        ArgumentError: if it is none of these.
    """

    name = "entropy"
    needs = frozenset({"outputs"})

    def __init__(self, bins: int = 16) -> None:
        check_choice("bins", bins, (2, 4, 8, 16))
        self.bins = bins

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """Bits."""
        assert seen.outputs is not None
        return Scores(entropy(seen.outputs.counts(self.bins)))
