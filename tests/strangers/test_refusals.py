"""What a stranger brings and cannot be scored is refused before anything is trained, not when it is to be pruned."""

import pytest
from torch.utils.data import DataLoader

from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from tests.callbacks.lightning import trainer
from tests.callbacks.units import NAMES, UNITS, Reader, Sequences


class Twice(Reader):
    """Calls its LSTM twice, so that nobody can say which of the two outputs are the units'."""

    trained = 0

    def forward(self, x):
        self.net["memory"](x.transpose(0, 1))
        return super().forward(x)

    def on_train_batch_start(self, batch, batch_idx):
        self.trained += 1


class InDicts(Sequences):
    """The same sequences, in batches that are dicts."""

    def train_dataloader(self):
        x, y = self.data.tensors
        return DataLoader([{"x": one, "y": other} for one, other in zip(x, y, strict=True)], 30)


def test_a_model_that_cannot_be_looked_at_is_refused_before_training(tmp_path):
    module, pruning = Twice(lr=0.05), UnitMask(Entropy(), 0.5, **NAMES, start_epoch=2)
    message = r"^criterion: got 'entropy on a Twice: a model that does not call its layer once"
    with pytest.raises(ArgumentError, match=message):
        trainer(tmp_path, [pruning], 3).fit(module, Sequences())
    assert module.trained == 0


def test_batches_that_nobody_has_said_how_to_read_are_refused_before_training(tmp_path):
    class Named(Reader):
        def training_step(self, batch, batch_idx):
            return super().training_step((batch["x"], batch["y"]), batch_idx)

    pruning = UnitMask(TransferEntropy(), 0.5, **NAMES, start_epoch=1)
    with pytest.raises(ArgumentError, match=r"^predict: got 'none, while a batch is a dict'"):
        trainer(tmp_path, [pruning], 2).fit(Named(lr=0.05), InDicts())

    def predict(module, batch):
        return module(batch["x"]), batch["y"]

    told = UnitMask(TransferEntropy(), 0.5, **NAMES, start_epoch=1, predict=predict)
    trainer(tmp_path, [told], 2).fit(Named(lr=0.05), InDicts())
    assert told.removed == UNITS // 2


def test_a_plain_loader_is_scored_on(tmp_path):
    pruning = UnitMask(TransferEntropy(), 0.5, **NAMES, start_epoch=1)
    trainer(tmp_path, [pruning], 2).fit(Reader(lr=0.05), *[Sequences().train_dataloader()] * 2)
    assert pruning.removed == UNITS // 2
