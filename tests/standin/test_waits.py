"""Nothing waits for nothing: what is moved, fetched and sent no more often than it has to be."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from prunekit.callbacks.ranks import give_parameters
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.data_modules.batches import TensorBatches
from tests.callbacks.lightning import trainer
from tests.callbacks.units import CRITERIA, NAMES, Reader, Sequences
from tests.standin import watching

pytestmark = pytest.mark.standin


def test_a_curve_moves_the_network_as_often_for_many_points_as_for_few(device, tmp_path, monkeypatch):
    moves = []
    to = pl.LightningModule.to

    def counted(self, target, *more, **named):
        moves[-1] += self.device != target
        return to(self, target, *more, **named)

    monkeypatch.setattr(pl.LightningModule, "to", counted)
    for rates in ([0.5], [0.0, 0.25, 0.5, 0.75, 1.0]):
        moves.append(0)
        curve = UnitCurve(CRITERIA, rates, **NAMES)
        fitted = trainer(tmp_path / str(len(rates)), [curve], 1, accelerator="standin", devices=1)
        fitted.fit(Reader(), Sequences())
        assert len(curve.rows) == 4 * len(rates)
    assert moves[0] == moves[1] > 0


class Lazy:
    """Samples that are made on the host when they are asked for, as clips are decoded."""

    def __init__(self, x, device):
        self.x, self.device, self.asked = x, device, []
        self.shape = x.shape

    def __getitem__(self, index):
        self.asked.append(index.device.type)
        return self.x[index].to(self.device)

    def subset(self, index):
        return Lazy(self.x[index], self.device)

    def to(self, device):
        return Lazy(self.x, device)

    def fingerprint(self):
        return b""


def test_the_order_of_lazy_samples_is_not_fetched_from_the_device(device):
    x, y = torch.arange(10.0), torch.arange(10)
    lazy = Lazy(x, device)
    with watching() as seen:
        batches = list(TensorBatches(lazy, y.to(device), 4, seed=0))
    assert lazy.asked == ["cpu"] * 3
    assert not seen.waits()
    wanted = list(TensorBatches(x, y, 4, seed=0))
    for (ours, classes), (theirs, their_classes) in zip(batches, wanted, strict=True):
        assert torch.equal(ours.cpu(), theirs)
        assert torch.equal(classes.cpu(), their_classes)


@pytest.mark.parametrize("after_fit", [False, True])
def test_ranks_are_sent_parameters_on_their_device_and_nothing_is_pickled(after_fit, device, monkeypatch):
    """NCCL knows of GPUs alone, and after a fit the network is on the CPU."""
    layer, sent = nn.Linear(2, 1).to("cpu" if after_fit else device), []
    ranks = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=device))
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: sent.append(tensor.fill_(3.0)))
    with watching() as seen:
        give_parameters(ranks, layer, ["weight"])
    assert [tensor.device for tensor in sent] == [device]
    assert after_fit or not seen.lines
    assert layer.weight.tolist() == [[3.0, 3.0]]
