"""An LSTM classifier and sequences that are not prunekit's, to remove units of."""

import pytorch_lightning as pl
import torch
from torch import nn

from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.random import Random
from prunekit.criteria.transfer_entropy import TransferEntropy
from tests.callbacks.lightning import Foreign, TheirData, trainer

UNITS = 12
NAMES = {"lstm": "net.memory", "head": "net.say"}
CRITERIA = {"transfer_entropy": TransferEntropy(), "random": Random(0)}
RATES = [0.0, 0.5, 0.75, 1.0]


class Reader(Foreign):
    """Another user's LSTM classifier, with other names, two layers and time first."""

    def __init__(self, optimizer=torch.optim.Adam, **arguments):
        super().__init__(optimizer, **arguments)
        self.net = nn.ModuleDict({"memory": nn.LSTM(3, UNITS, 2), "say": nn.Linear(UNITS, 3)})

    def forward(self, x):
        return self.net["say"](self.net["memory"](x.transpose(0, 1))[0][-1])


class Sequences(TheirData):
    """Ninety sequences of three classes."""

    def inputs(self, y, generator):
        x = torch.randn(90, 6, 3, generator=generator)
        x[torch.arange(90), :, y] += 1.0
        return x


def kept(callback: UnitMask, module):
    """The units or gates that a callback has left, bool."""
    return ~callback.grouping(module, callback.mask).gone


def without_first(scores, k, order):
    """All but the first ``k`` in the order of their scores, ties by number, bool."""
    sign = {"ascending": 1, "descending": -1}[order]
    ranked = sorted(range(len(scores)), key=lambda number: sign * float(scores[number]))
    return torch.tensor([number not in ranked[:k] for number in range(len(scores))])


class SaveAfter(pl.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch + 1 == self.epochs:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/a.ckpt")


def states(module):
    h = []
    hook = module.net["memory"].register_forward_hook(lambda m, i, o: h.append(o[0]))
    with torch.no_grad():
        module(Sequences().data.tensors[0])
    hook.remove()
    return h[0]


def fit(tmp_path, callbacks, epochs, module=None, ckpt_path=None):
    module = module or Reader(lr=0.05)
    done = trainer(tmp_path, callbacks, epochs)
    done.fit(module, Sequences(), ckpt_path=ckpt_path, weights_only=True)
    return module, done
