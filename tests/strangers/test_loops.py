"""Loggers, callbacks and optimizers that are not prunekit's beside a pruning."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import nn

from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.l1_norm import L1Norm
from prunekit.masks import all_weights, find_parameter
from prunekit.units.grouping import Units
from tests.callbacks.lightning import TheirData, trainer
from tests.strangers.exact import Dense, fit, removed_exactly


class AnyLogger(Logger):
    """Takes hyperparameters with any other arguments, as that of Weights & Biases does."""

    def __init__(self, **kwargs):
        super().__init__()
        self.kwargs, self.metrics = kwargs, []

    name, version = "any", 0

    def log_hyperparams(self, params, **kwargs):
        """Nothing to keep."""

    def log_metrics(self, metrics, step=None):
        self.metrics.append(metrics)


class Logging(Dense):
    def training_step(self, batch, batch_idx):
        self.log("loss", loss := super().training_step(batch, batch_idx))
        return loss


def wandb_logger(folder):
    pytest.importorskip("wandb", reason="wandb is not installed")
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(save_dir=folder, offline=True)


@pytest.mark.parametrize(
    "make", [CSVLogger, lambda folder: AnyLogger(project="p", tags=["a"]), wandb_logger], ids=["csv", "any", "wandb"]
)
def test_loggers(make, l2, tmp_path):
    units = Pruning(Units("body.first"), L1Norm(), 0.25, start_epoch=1)
    logger = make(tmp_path)
    fit(tmp_path, Logging(), [l2, units], logger=logger)
    assert l2.mask.removed() == round(0.3 * sum(kept.numel() for kept in l2.mask.values()))
    # Beside the logger's files, where these are a run's own.
    folder = tmp_path / "lightning_logs" / "version_0" if isinstance(logger, CSVLogger) else tmp_path
    assert list(tmp_path.rglob("scores.safetensors")) == [folder / "scores.safetensors"]
    if isinstance(logger, AnyLogger):
        assert len(logger.metrics) == 12


def test_two_callbacks_of_one_class(tmp_path):
    names = ["body.first.weight", "body.last.weight"]
    masks = [L2Mask([name], 0.25, start_epoch=1) for name in names]
    module = fit(tmp_path, Dense(), masks)
    assert all(removed_exactly(module, mask.mask, 0.25) for mask in masks)


def test_accumulated_and_clipped_gradients(l2, tmp_path):
    arguments = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}
    module = fit(tmp_path, Dense(torch.optim.SGD, momentum=0.9), [l2], **arguments)
    assert removed_exactly(module, l2.mask, 0.3)


class TwoOptimizers(Dense):
    """Steps two optimizers by itself, one of them every other batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self):
        parts = [[*self.stem.parameters()], [*self.body.parameters()]]
        return [
            torch.optim.SGD(parts[0], lr=0.01, momentum=0.9, weight_decay=0.1),
            torch.optim.Adam(parts[1], lr=0.01, weight_decay=0.1),
        ]

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        for number, optimizer in enumerate(self.optimizers()):
            if number == 0 or batch_idx % 2:
                optimizer.zero_grad()
        self.manual_backward(loss)
        for number, optimizer in enumerate(self.optimizers()):
            if number == 0 or batch_idx % 2:
                optimizer.step()


def test_two_optimizers(l2, tmp_path):
    module = TwoOptimizers()
    before = {name: find_parameter(module, name).clone() for name in all_weights(module)}
    fit(tmp_path, module, [l2])
    assert removed_exactly(module, l2.mask, 0.3)
    for name, weight in before.items():
        assert (find_parameter(module, name) != weight)[l2.mask[name]].float().mean() > 0.9, name


def test_a_seed_of_a_stranger_is_left_alone(l2, tmp_path):
    """Pruning by weights draws no random number, so that what comes after is what it would have been."""
    states = []
    for callbacks in ([], [l2]):
        pl.seed_everything(1, verbose=False)
        trainer(tmp_path, callbacks, 2).fit(Dense(), TheirData())
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
