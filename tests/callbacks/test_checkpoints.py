"""A run that goes on from a checkpoint draws the random numbers that it would have drawn."""

import logging
import random

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.errors import ArgumentError
from tests.callbacks.lightning import TheirData, Theirs, trainer


class Drawing(Theirs):
    """Draws from all that can be drawn from: dropout, numpy and Python."""

    def __init__(self):
        super().__init__(lr=0.1, momentum=0.9)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return super().forward(self.dropout(x))

    def training_step(self, batch, batch_idx):
        scale = (1 + np.random.rand()) * (1 + random.random())  # noqa: NPY002
        return super().training_step((batch[0] * scale, batch[1]), batch_idx)


class Resumable(InMemoryDataModule):
    """The same ninety images, in batches that a checkpoint in mid-epoch goes on behind."""

    def load(self):
        x, y = TheirData().data.tensors
        return Arrays(x, y, x, y)


class Shuffled(TheirData):
    def train_dataloader(self):
        return DataLoader(self.data, 30, shuffle=True)


def fit(folder, data, epochs, start=None, **arguments):
    pl.seed_everything(0, verbose=False)
    callbacks = [L2Mask(["body.first.weight"], 0.5, start_epoch=2), Curves(), Checkpoints(keep=99, every_n_steps=2)]
    one = trainer(folder, callbacks, epochs, enable_checkpointing=True, **arguments)
    if start is not None:
        torch.rand(7), np.random.rand(7), random.random()  # noqa: NPY002  # another process has drawn others
    module = Drawing()
    one.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    return module.state_dict()


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder / "checkpoints", fit(folder, Resumable(30, 0.0, seed=0), 4)


@pytest.mark.parametrize("where", [(0, 2), (1, 3), (2, 6), (2, 8)])  # epochs and steps done; an event is after 2 epochs
def test_a_run_with_dropout_ends_with_the_same_weights_wherever_it_is_resumed(never_stopped, tmp_path, where):
    checkpoints, weights = never_stopped
    start = checkpoints / "epoch{:04d}-step{:08d}.ckpt".format(*where)
    assert start in list_checkpoints(checkpoints)
    assert equal(weights, fit(tmp_path, Resumable(30, 0.0, seed=0), 4, start))


def test_a_shuffled_dataloader_goes_on_in_the_order_it_would_have_had(tmp_path):
    whole = fit(tmp_path, Shuffled(), 3)
    start = tmp_path / "checkpoints" / "epoch0001-step00000003.ckpt"
    assert equal(whole, fit(tmp_path / "again", Shuffled(), 3, start))


def test_an_old_checkpoint_is_loaded_and_said_to_have_no_random_numbers(tmp_path, caplog):
    fit(tmp_path, Resumable(30, 0.0, seed=0), 2)
    start = list_checkpoints(tmp_path / "checkpoints")[0]
    content = torch.load(start, weights_only=True)
    del content["random"]
    torch.save(content, start)
    with caplog.at_level(logging.INFO, "prunekit"):
        fit(tmp_path / "again", Resumable(30, 0.0, seed=0), 2, start)
    assert "has no state of random numbers" in caplog.text


@pytest.mark.parametrize("name", ["every_n_epochs", "every_n_steps", "keep"])
def test_a_wrong_value_is_named_by_its_argument(name):
    with pytest.raises(ArgumentError, match=f"^{name}: got -1"):
        Checkpoints(**{name: -1})
