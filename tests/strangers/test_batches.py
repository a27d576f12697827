"""Data that are not prunekit's, loaders, streams and dicts: a model is pruned exactly, or refused before training."""

from collections.abc import Iterator

from torch.utils.data import DataLoader, Dataset, IterableDataset

from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.transfer_entropy import TransferEntropy
from tests.callbacks.lightning import TheirData, trainer
from tests.strangers.exact import (
    CLASSES,
    IMAGES,
    Dense,
    Reader,
    assert_refused,
    fit,
    loader,
    removed_exactly,
    silent_units,
)


def test_a_plain_dataloader(l2, tmp_path):
    assert removed_exactly(fit(tmp_path, Dense(), [l2], loader(shuffle=True), loader()), l2.mask, 0.3)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator:
        return zip(IMAGES, CLASSES, strict=True)


def streams():
    return [DataLoader(Stream(), 30)] * 2  # Lightning warns of a validation_step without data


def test_a_stream_of_unknown_length(l2, tmp_path):
    assert removed_exactly(fit(tmp_path, Dense(), [l2], *streams()), l2.mask, 0.3)


def test_a_stream_and_a_number_of_steps(l2, tmp_path, caplog):
    arguments = {"epochs": -1, "max_steps": 8, "expected": 5}
    assert removed_exactly(fit(tmp_path, Dense(), [l2], *streams(), **arguments), l2.mask, 0.3)
    late = L2Mask(None, 0.3, start_epoch=9)
    trainer(tmp_path, [late], -1, max_steps=4).fit(Dense(), *streams())
    assert "and 0 of 1 rounds are pruned: the next was due after 9" in caplog.text


class Dicts(Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return {"pixels": IMAGES[index], "label": CLASSES[index]}


class OfDicts(Reader):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch["pixels"], batch["label"]), batch_idx)


class DictData(TheirData):
    def train_dataloader(self):
        return DataLoader(Dicts(), 30)

    val_dataloader = train_dataloader


def predict_dict(module, batch):
    return module(batch["pixels"]), batch["label"]


def test_batches_that_are_dicts(l2, tmp_path):
    assert removed_exactly(fit(tmp_path, OfDicts(), [l2], DictData()), l2.mask, 0.3)


def test_batches_that_are_dicts_looked_at_by_a_criterion(tmp_path):
    one, other = (
        UnitMask(TransferEntropy(), 0.25, lstm="memory", head="say", start_epoch=1, predict=how)
        for how in (predict_dict, None)
    )
    module = fit(tmp_path / "dicts", OfDicts(), [one], DictData())
    assert int(silent_units(module).sum()) == 2
    fit(tmp_path / "tuples", Reader(), [other])
    assert one.mask == other.mask


def test_batches_that_are_dicts_are_refused_where_nothing_says_how_to_take_them(tmp_path):
    message = "^predict: got 'none, while a batch is a dict'; accepted: a function"
    pruning = UnitMask(Entropy(), 0.25, lstm="memory", head="say")
    assert_refused(lambda: pruning, OfDicts(), message, tmp_path, DictData())
