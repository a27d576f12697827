"""Retraining towards the dense network's outputs: no labels, masks held, resumed to the bit."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from prunekit.callbacks.teacher import Teacher
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.l1_norm import L1Norm
from tests.callbacks.lightning import trainer
from tests.callbacks.units import NAMES, Reader, SaveAfter, Sequences


class Spoil(pl.Callback):
    """Makes labels such that whatever looks at them fails."""

    def __init__(self, data):
        self.data = data

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            self.data.data.tensors[1].fill_(-7)


class Narrow(Reader):
    """Of fewer units."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.net = nn.ModuleDict({"memory": nn.LSTM(3, 4), "say": nn.Linear(4, 3)})


def mask(**more):
    return UnitMask(L1Norm(), 0.75, "ascending", **NAMES, start_epoch=2, retrain_epochs=4, **more)


def fit(folder, callbacks, epochs=6, ckpt_path=None, data=None):
    module = Reader(lr=0.02)
    trainer(folder, callbacks, epochs).fit(module, data or Sequences(), ckpt_path=ckpt_path, weights_only=True)
    return module


def outputs(module):
    with torch.no_grad():
        return module.eval()(Sequences().data.tensors[0])


def test_it_comes_nearer_to_what_the_network_said_and_holds_the_mask(tmp_path):
    dense = fit(tmp_path / "dense", [], 2)
    pruner = mask()
    taught = fit(tmp_path / "taught", [pruner, Teacher()])
    cut = fit(tmp_path / "cut", [UnitMask(L1Norm(), 0.75, "ascending", **NAMES, start_epoch=2)], 2)
    apart = [float((outputs(each) - outputs(dense)).norm()) for each in (cut, taught)]
    assert apart[1] < 0.7 * apart[0]
    for name, kept in pruner.mask.items():
        assert (taught.get_parameter(name)[~kept] == 0).all()
    assert "training_step" not in vars(taught)


def test_labels_are_not_looked_at(tmp_path):
    """Labels that no class has, which cross-entropy refuses."""
    data, again = Sequences(), Sequences()
    one = fit(tmp_path / "one", [mask(), Teacher(), Spoil(data)], data=data)
    other = fit(tmp_path / "other", [mask(), Teacher()])
    assert (data.data.tensors[1] == -7).all()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(IndexError, match="Target -7 is out of bounds"):
        fit(tmp_path / "labels", [mask(), Spoil(again)], data=again)


@pytest.mark.parametrize("epochs", [3, 4])
def test_a_run_resumes_to_the_same_weights(epochs, tmp_path):
    whole = fit(tmp_path / "whole", [mask(), Teacher(), SaveAfter(epochs)])
    resumed = fit(tmp_path / "resumed", [mask(), Teacher()], ckpt_path=tmp_path / "whole/a.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    alone = fit(tmp_path / "alone", [mask()])
    assert not all(torch.equal(a, b) for a, b in zip(whole.parameters(), alone.parameters(), strict=True))


def test_a_teacher_that_is_given_teaches_a_network_of_another_size_from_the_first_step(tmp_path):
    """Without labels; it stays as it is, and a run resumes to the same weights."""
    teacher = fit(tmp_path / "teacher", [], 4)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.manual_seed(1)
    small, plain, resumed = (Narrow(lr=0.02) for _ in range(3))
    resumed.load_state_dict(small.state_dict())
    data = Sequences()
    for module, name, callbacks in (
        (small, "small", [Teacher(teacher=teacher), SaveAfter(25), Spoil(data)]), (plain, "plain", []),
    ):  # fmt: skip
        trainer(tmp_path / name, callbacks, 30).fit(module, data if callbacks else Sequences())
    assert (data.data.tensors[1] == -7).all()
    apart = [float((outputs(each) - outputs(teacher)).norm()) for each in (small, plain)]
    assert apart[0] < 0.5 * apart[1]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert "training_step" not in vars(small)
    again = trainer(tmp_path / "resumed", [Teacher(teacher=teacher)], 30)
    again.fit(resumed, Sequences(), ckpt_path=tmp_path / "small/a.ckpt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), resumed.parameters(), strict=True))
