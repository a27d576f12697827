"""How much a unit's next output is told by how well the network does now."""

from typing import Literal

from torch import nn

from prunekit.calibration import Seen
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.errors import ArgumentError, check_choice, check_count
from prunekit.groups import Groups
from prunekit.units.codes import encode_target
from prunekit.units.series import TARGETS, Series, UnitSeries
from prunekit.units.transfer_entropy import miller_madow, surrogates, transfer_entropy


class TransferEntropy(Criterion):
    """Transfer entropy from the network's success to a unit's output, in bits.

    x is the unit's output h over a clip, y the network's success on the clip's true class at the same step. With
    :class:`~prunekit.units.network_units.NetworkUnits` y is what the model itself calls success at each step of each
    sequence, a number in [0, 1], whatever its task; a ``hit`` is then a success of at least one half.

    Args:
        target: y: the ``probability`` of the true class, ``hit`` (0 or 1), or the ``accuracy`` of all clips at t.
        bins: of x: 2, 4, 8 or 16.
        target_bins: of y, of equal width: 2 to 16.
        edges: of the bins of x: of ``equal_width`` over [-1, 1], or each unit's own ``quantile``.
        correction: ``none``; ``miller_madow``; or ``surrogate``: less the mean over surrogates, with p-values.
        surrogates: how many of them.
        seed: of the surrogates.

    Raises:
        ArgumentError: if a value is not accepted.
    """

    name = "transfer_entropy"
    needs = frozenset({"outputs", "success"})

    def __init__(
        self,
        target: Literal["probability", "hit", "accuracy"] = "probability",
        bins: int = 2,
        target_bins: int = 2,
        edges: Literal["equal_width", "quantile"] = "equal_width",
        correction: Literal["none", "miller_madow", "surrogate"] = "none",
        surrogates: int = 100,
        seed: int = 0,
    ) -> None:
        check_choice("target", target, TARGETS)
        check_choice("edges", edges, ("equal_width", "quantile"))
        check_choice("correction", correction, ("none", "miller_madow", "surrogate"))
        check_choice("bins", bins, (2, 4, 8, 16))
        if check_count("target_bins", target_bins, least=2) > 16:
            raise ArgumentError("target_bins", target_bins, "a whole number from 2 to 16")
        self.target, self.bins, self.target_bins = target, bins, target_bins
        self.edges, self.correction = edges, correction
        self.surrogates = check_count("surrogates", surrogates, least=1)
        self.seed = check_count("seed", seed)

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """Bits, and p-values with ``correction=surrogate``."""
        series, bins = seen.outputs, (self.bins, self.target_bins)
        assert isinstance(series, Series)
        if self.correction == "surrogate":
            if not isinstance(series, UnitSeries):
                accepted = "none or miller_madow: surrogates want sequences of one length, of one layer"
                raise ArgumentError("correction", self.correction, accepted)
            x, y = series.codes(self.bins, self.edges), encode_target(series.target(self.target), self.target_bins)
            found = surrogates(x, y, *bins, self.surrogates, self.seed, series.rows, series.sum_over_ranks)
            return Scores(found.transfer_entropy - found.mean, found.p_value)
        counts = series.transitions(self.target, *bins, self.edges)
        bits = transfer_entropy(counts)
        return Scores(bits + miller_madow(counts) if self.correction == "miller_madow" else bits)
