"""What is fitted and pruned in tests of models, data and loops that are not prunekit's, and held exactly."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.pruning import Pruning
from prunekit.errors import ArgumentError
from prunekit.masks import find_parameter
from tests.callbacks.lightning import TheirData, Theirs, trainer

IMAGES, CLASSES = TheirData().data.tensors
UNITS = 8


class Exact(PruningObserver):
    """Asserts after every batch that what is removed is exactly 0, or what it is held at, and what is kept is not."""

    def __init__(self):
        self.batches, self.events = 0, 0

    def after_pruning(self, trainer, module, event):
        self.events += 1
        self.on_train_batch_end(trainer, module)

    def on_train_batch_end(self, trainer, module, *_):
        mask = current_mask(trainer)
        for name, kept in mask.items():
            weight = find_parameter(module, name).detach()
            assert torch.equal(weight[~kept], mask.held.get(name, torch.zeros_like(weight)).to(weight)[~kept])
            assert (weight[kept] != 0).all() or "bias" in name
        self.batches += bool(mask)


def fit(folder, module, callbacks, *data, epochs=4, expected=9, **arguments):
    """Train with callbacks that prune when one epoch is done, and three more; the watch saw it."""
    watch = Exact()
    done = trainer(folder, [*callbacks, watch], epochs, **arguments)
    done.fit(module, *(data or [TheirData()]))
    assert watch.events >= sum(isinstance(callback, Pruning) for callback in callbacks)
    assert watch.batches >= expected
    return module


def removed_exactly(module, mask, rate):
    """The mask removes the share of all its entries to a single one, and these are what is 0."""
    total = sum(kept.numel() for kept in mask.values())
    zeros = sum(int((find_parameter(module, name) == 0).sum()) for name in mask)
    return zeros == mask.removed() == round(rate * total) and 0 < zeros < total


def loader(*tensors, **arguments):
    return DataLoader(TensorDataset(*(tensors or (IMAGES, CLASSES))), 30, **arguments)


class Dense(Theirs):
    """With parts that most have: dropout, batch norm, a convolution."""

    def __init__(self, optimizer=torch.optim.Adam, lr=0.01, **arguments):
        super().__init__(optimizer, lr=lr, **arguments)
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.3))


class Reader(Theirs):
    """Reads an image row by row."""

    def __init__(self, kind=nn.GRU, **layer):
        super().__init__(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
        self.memory, self.say = kind(6, UNITS, batch_first=True, **layer), nn.LazyLinear(3)
        self.drop = nn.Dropout(0.5)
        self(IMAGES[:1])

    def forward(self, x):
        return self.say(self.drop(self.memory(x)[0])[:, -1])


def silent_units(module):
    """Those whose output is exactly 0 at every step."""
    with torch.no_grad():
        return (module.memory(IMAGES)[0] == 0).all(0).all(0)


def assert_refused(make, module, message, folder, *data, **arguments):
    """Before a single step, in one line."""
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    with pytest.raises(ArgumentError, match=message) as caught:
        trainer(folder, [make()], 4, **arguments).fit(module, *(data or [TheirData()]))
    assert "\n" not in str(caught.value)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
