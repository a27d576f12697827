"""A script that two DDP processes run: each says what it saw. Arguments: its folder, and how many devices."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from prunekit.callbacks.curves import Curves
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.measure import accuracy
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.data_modules.digits import Digits
from prunekit.models.mlp import Mlp
from prunekit.regions.segmentation import Watershed

FIRST = "layers.hidden1.weight"


class Witness(pl.Callback):
    """Counts what this rank trains on and writes what it holds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.samples, self.batches = folder, 0, []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.samples += len(batch[1])
        self.batches.append(len(batch[1]))
        mask = current_mask(trainer)
        if mask:
            assert (module.layers.hidden1.weight[~mask[FIRST]] == 0).all()

    def on_train_end(self, trainer, module):
        weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()
        own = sum(len(y) for _, y in trainer.datamodule.test_dataloader())
        right = accuracy(trainer, module, "test")
        with torch.no_grad():
            x, y = trainer.datamodule.arrays[2:4]
            alone = int((module(x).argmax(1) == y).sum()) / len(y)
        saw = {
            "mask": current_mask(trainer).digest(), "weights": weights, "steps": trainer.global_step,
            "samples": self.samples, "sizes": sorted(set(self.batches)), "tested": own, "accuracy": right,
            "accuracy alone": alone, "world": trainer.world_size, "buffers": len(list(module.buffers())),
        }  # fmt: skip
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(saw))


def main() -> None:
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    callbacks = [
        L2Mask([FIRST], 0.5, start_epoch=5),
        RegionMeanMask(
            FIRST, [28, 28], 0.4, segmentation=Watershed(), index="saliency", floor=True, rounds=2, retrain_epochs=2,
            start_epoch=5,
        ),
        Curves(),
        Witness(folder),
    ]  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=9, logger=False,
        callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, use_distributed_sampler=False, default_root_dir=folder, log_every_n_steps=1,
        gradient_clip_val=5.0,
    )  # fmt: skip
    trainer.fit(
        Mlp([784, 100, 50, 10], partial(torch.optim.SGD, lr=0.1, momentum=0.9)), datamodule=Digits(10, 0.0, seed=0)
    )


if __name__ == "__main__":
    main()
