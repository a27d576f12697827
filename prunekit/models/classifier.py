"""What the classifiers share: how they are evaluated where Lightning asks for it."""

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.functional import cross_entropy


class Classifier(pl.LightningModule):
    """A module whose call gives logits ``(N, classes)``; batches are (inputs, int64 classes)."""

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Log ``val/loss`` and ``val/acc``, for callbacks that monitor them."""
        self._log_evaluation("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Log ``test/loss`` and ``test/acc``."""
        self._log_evaluation("test", batch)

    def _log_evaluation(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self(x)
        self.log(f"{name}/loss", cross_entropy(logits, y), batch_size=len(y), sync_dist=True)
        hits = (logits.argmax(1) == y).float().mean()
        self.log(f"{name}/acc", hits, batch_size=len(y), sync_dist=True, prog_bar=True)
