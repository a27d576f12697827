"""A model and a loop without Lightning: pruned exactly, held while training, or refused."""

import math

import pytest
import torch
from torch import nn

from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.magnitude import Magnitude
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.groups import Weights
from prunekit.held_mask import HeldMask
from prunekit.masks import all_weights, find_parameter
from prunekit.pruning import prune
from prunekit.units.grouping import Gates, Units
from prunekit.units.repair import Linear
from tests.strangers.exact import CLASSES, IMAGES, UNITS, loader, silent_units


class Sequential(nn.Module):
    """No LightningModule."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.memory, self.say = nn.GRU(6, UNITS, batch_first=True), nn.Linear(UNITS, 3)

    def forward(self, x):
        return self.say(self.memory(x)[0][:, -1])


def steps(module, optimizer, count=10):
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(IMAGES), CLASSES).backward()
        optimizer.step()


def test_a_model_and_a_loop_without_lightning():
    module = Sequential()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    steps(module, optimizer)
    pruned = prune(module, Units("memory", "say"), TransferEntropy(), 0.5, loader(), repair=Linear())
    assert int(silent_units(module).sum()) == 4
    assert torch.equal(silent_units(module), pruned.goes)
    held = HeldMask(pruned.mask, module, [optimizer])
    steps(module, optimizer)
    assert torch.equal(silent_units(module), pruned.goes)
    further = prune(module, Weights(), Magnitude(), 0.6, mask=pruned.mask)
    held.release()
    held = HeldMask(pruned.mask & further.mask, module, [optimizer])
    steps(module, optimizer)
    weights = all_weights(module)
    zeros = sum(int((find_parameter(module, name) == 0).sum()) for name in weights)
    assert zeros == math.floor(0.5 + 0.6 * sum(find_parameter(module, name).numel() for name in weights))
    assert torch.equal(silent_units(module) & pruned.goes, pruned.goes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Units("memory"), Entropy(), 0.5), r"^batches: got None; accepted: batches of training data: outputs have to"),
        ((Units("memory", "say"), TransferEntropy(), 0.5, [IMAGES]), "success at each step wants one class for each"),
        ((Units("memory"), Entropy(), 1.5, [IMAGES]), r"^rate: got 1\.5"),
        ((Units("other"), Entropy(), 0.5, [IMAGES]), r"^layer: got 'other'; accepted: .*recurrent ones: memory"),
        ((Gates("memory"), L1Norm(), 0.5), r"^layer: got 'memory, .*accepted: for gates an LSTM"),
    ],
)
def test_what_does_not_fit_a_model_without_lightning_is_refused(arguments, message):
    module = Sequential()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        prune(module, *arguments)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training
