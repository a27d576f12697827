"""How much a first-order change of a group's weights would change the energy of a network's outputs; no labels."""

import torch
from torch import nn

from prunekit.calibration import Seen, differentiable, evaluating
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.errors import ArgumentError
from prunekit.groups import Groups
from prunekit.masks import find_parameter
from prunekit.units.watching import floating


class OutputEnergy(Criterion):
    """What scaling a group's weights to 0 would do to first order: the mean over batches of ``abs(sum_w w dE/dw)``.

    E is half the sum of squares of all outputs of a batch, which takes the place of the loss that labels would give.
    Batches of one size weigh the same.

    Raises:
        ArgumentError: if outputs do not depend on the groups' weights by what can be differentiated.

    Example:
        >>> from prunekit import NetworkUnits, prune
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 1, bias=False))
        >>> net[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> net[2].weight.data = torch.tensor([[3.0, 1.0]])
        >>> batch = torch.tensor([[1.0, 1.0]])  # h = (1, 1), output 4: dE/dh = 4 (3, 1)
        >>> prune(net, NetworkUnits(["0"]), OutputEnergy(), 0.5, [batch]).scores.values.tolist()
        [12.0, 4.0]
    """

    name = "output_energy"
    needs = frozenset({"calibration"})

    def scores(self, module: nn.Module, groups: Groups, seen: Seen) -> Scores:
        """From a pass forward and one back for each batch."""
        given = seen.calibration
        assert given is not None
        own = {name: find_parameter(module, name) for name in groups.numbers}
        wanted = {name: parameter.requires_grad for name, parameter in own.items()}
        total = torch.zeros(len(groups), dtype=torch.float64)
        count = torch.zeros(1, dtype=torch.float64)
        try:
            for parameter in own.values():
                parameter.requires_grad_(True)
            for batch in given.batches:
                with torch.enable_grad(), evaluating(module), differentiable(module):
                    outputs = floating(given.predict(module, batch)[0])
                    energy = sum((each.float().square().sum() / 2 for each in outputs), torch.zeros(()))
                    if not energy.requires_grad:
                        accepted = "one that needs no gradient, or outputs that can be differentiated"
                        raise ArgumentError("criterion", f"{self.name}, while the outputs have no gradient", accepted)
                    slopes = torch.autograd.grad(energy, list(own.values()), allow_unused=True)
                pulls = {
                    name: (parameter.detach() * slope)
                    for (name, parameter), slope in zip(own.items(), slopes, strict=True)
                    if slope is not None
                }
                if pulls:
                    total += groups.reduce(pulls, "sum").abs()
                count += 1
        finally:
            for name, parameter in own.items():
                parameter.requires_grad_(wanted[name])
        total, count = (given.sum_over_ranks(each).cpu() for each in (total, count))
        return Scores(total / count.clamp(min=1))
