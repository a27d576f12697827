"""A model that is not prunekit's: pruned, compensated, cut to size and exported.

The model reads a picture of a digit row by row with an LSTM. It has never heard of prunekit; prunekit needs only the
names of its LSTM and of the part that makes logits of the LSTM's outputs.

    python docs/own_model.py                 # MNIST in $PRUNEKIT_DATA_DIR/MNIST/raw, or downloaded into cache/
"""

import argparse
import os
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunekit.callbacks.curves import Curves
from prunekit.callbacks.measure import TEST, accuracy
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.data_modules.mnist import Mnist
from prunekit.exports import load_compact, save_compact
from prunekit.portable import has_onnx, run_onnx, write_onnx
from prunekit.units.compaction import compact, difference
from prunekit.units.links import recurrent_link


class RowReader(pl.LightningModule):
    """Somebody's classifier: 28 rows of 28 pixels, one a step."""

    def __init__(self, units: int = 128) -> None:
        super().__init__()
        self.reader = nn.LSTM(28, units, batch_first=True)
        self.verdict = nn.Sequential(nn.Dropout(0.1), nn.Linear(units, 10))

    def forward(self, pictures: Tensor) -> Tensor:
        outputs, _ = self.reader(pictures)
        logits: Tensor = self.verdict(outputs[:, -1])
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        pictures, digits = batch
        return cross_entropy(self(pictures), digits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.002)


def main(
    folder: Path, data_dir: str, cache_dir: str, rate: float = 0.5, batches: int | None = None
) -> dict[str, float]:
    """Train for two epochs, prune, export; say what came out."""
    pl.seed_everything(0, verbose=False)
    data = Mnist(data_dir, cache_dir, batch_size=100, validation=0.0, seed=0)
    model = RowReader()
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    settings |= {"limit_train_batches": batches, "limit_val_batches": 0, "default_root_dir": folder}

    trainer = pl.Trainer(max_epochs=2, **settings)
    trainer.fit(model, data)
    dense = accuracy(trainer, model, TEST)

    # Half of the units go at the start of this fit; what is left is trained for an epoch.
    prune = UnitMask(
        Reconstruction(), rate, "ascending", lstm="reader", head="verdict", compensation="linear", retrain_epochs=1
    )
    curves = Curves()
    trainer = pl.Trainer(max_epochs=1, callbacks=[prune, curves], **settings)
    trainer.fit(model, data)
    (event,) = curves.events
    retrained = accuracy(trainer, model, TEST)

    model.eval()
    small = compact(model, [recurrent_link(model, "reader", "verdict")]).module
    save_compact(folder, small, {"dense accuracy": dense, "accuracy": retrained})
    loaded = load_compact(folder, into=RowReader())
    pictures = data.arrays.test_x[:64]
    found = {"dense": dense, "pruned": event["test_acc"], "retrained": retrained, "units": small.reader.hidden_size}
    with torch.no_grad():
        logits = model(pictures)
        found["difference"] = difference(logits, loaded(pictures))
        if has_onnx():
            write_onnx(folder / "compact.onnx", small, pictures[:2])
            found["difference of ONNX"] = difference(logits, run_onnx(folder / "compact.onnx", threads=1)(pictures))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Prune, compensate, compact and export a model that is not prunekit's."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/own_model"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    where = os.environ.get("PRUNEKIT_DATA_DIR", "data"), os.environ.get("PRUNEKIT_CACHE_DIR", "cache")
    for name, value in main(given.out, *where).items():
        print(f"{name}: {value:.4g}")
    print(f"export: {given.out}")
