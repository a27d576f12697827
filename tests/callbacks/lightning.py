"""A LightningModule and data that are not prunekit's, and a trainer for them."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Foreign(pl.LightningModule):
    """What another user's classifiers have in common."""

    def __init__(self, optimizer, **arguments):
        super().__init__()
        torch.manual_seed(0)
        self._optimizer = lambda parameters: optimizer(parameters, **arguments)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        """Lightning wants one where there is validation data; accuracies come from callbacks.curves."""

    def configure_optimizers(self):
        return self._optimizer(self.parameters())


class Theirs(Foreign):
    """Another user's classifier, with other names and a convolution."""

    def __init__(self, optimizer=torch.optim.SGD, **arguments):
        super().__init__(optimizer, **arguments)
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.body = nn.ModuleDict({"first": nn.Linear(2 * 6 * 6, 16), "last": nn.Linear(16, 3)})

    def forward(self, x):
        return self.body["last"](torch.relu(self.body["first"](self.stem(x[:, None]).flatten(1))))


class TheirData(pl.LightningDataModule):
    """Ninety images of three classes, through an ordinary DataLoader."""

    def __init__(self, batch_size=30):
        super().__init__()
        self.batch_size = batch_size
        y = torch.arange(90) % 3
        self.data = TensorDataset(self.inputs(y, torch.Generator().manual_seed(0)), y)

    def inputs(self, y, generator):
        return torch.randn(90, 6, 6, generator=generator) + y[:, None, None]

    def train_dataloader(self):
        return DataLoader(self.data, self.batch_size)

    def val_dataloader(self):
        return DataLoader(self.data, 45)

    def test_dataloader(self):
        return DataLoader(self.data, 7)


def trainer(tmp_path, callbacks, epochs, **arguments):
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path,
            "callbacks": callbacks,
            "max_epochs": epochs,
            **arguments,
        }
    )
