"""Checkpoints that are whole or absent, the newest few of them."""

import logging
import re
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.utils._pytree import tree_leaves

from prunekit import stopping
from prunekit.errors import check_count
from prunekit.files import write_whole
from prunekit.random_state import random_state, set_random_state
from prunekit.sealed import write_sealed

NAME = "epoch{epoch:04d}-step{step:08d}.ckpt"
PATTERN = re.compile(r"epoch(\d+)-step(\d+)\.ckpt")
log = logging.getLogger("prunekit")


class Checkpoints(Checkpoint):
    """Saves the run in ``checkpoints/`` and keeps the newest.

    Smaller than Lightning's ``ModelCheckpoint``, whose state holds absolute paths and a history of its own: here
    the folder alone says which checkpoints there are, so a run can be moved and a damaged file left out.

    Every checkpoint holds the states of each rank's random numbers, so that with dropout too a run goes on as if it
    had never stopped.

    A signal that asks the process to stop waits for the end of the optimizer step: a checkpoint is saved there, if the
    epoch's batches can be gone on with in its middle. Ranks are not at the same step when signals reach them, so with
    several of them nothing is waited for or saved, and the newest checkpoint is gone on from.

    Args:
        every_n_epochs: save at the end of every n-th epoch.
        every_n_steps: save after every n-th optimizer step as well; 0 for no such checkpoints.
        keep: how many to keep.
        stamp: plain values that say which run wrote them, stored under ``prunekit``, with the ``seconds`` that training
            has taken so far, in this process and those before.
    """

    def __init__(
        self, every_n_epochs: int = 1, every_n_steps: int = 0, keep: int = 2, stamp: dict[str, Any] | None = None
    ) -> None:
        self.every_n_epochs = check_count("every_n_epochs", every_n_epochs, least=1)
        self.every_n_steps = check_count("every_n_steps", every_n_steps)
        self.keep = check_count("keep", keep, least=1)
        self.stamp = {} if stamp is None else stamp
        self._seen = 0
        self._held = self._stepped = False
        self._random: dict[str, Any] | None = None
        self._before, self._started = 0.0, time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of an epoch, and stop there if a signal asks for it."""
        epochs = trainer.current_epoch + 1
        due, asked = epochs % self.every_n_epochs == 0 or epochs == trainer.max_epochs, self._asked()
        if due or asked or self._is_due_step(trainer):
            self._save(trainer, epochs)
        self._seen = trainer.global_step
        if asked:
            self._stop(trainer)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Note that it is taken: while gradients are accumulated for the next one no checkpoint holds them."""
        self._stepped = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch, if asked for; what is due on its last batch is saved at its end, measured and all."""
        asked, stepped, self._stepped = self._asked(), self._stepped, False
        if not (self.every_n_steps or asked) or trainer.is_last_batch:
            return
        resumes = asked and _resumes_within_epochs(trainer)
        if self._is_due_step(trainer) or (resumes and stepped):
            self._save(trainer, trainer.current_epoch)
        self._seen = trainer.global_step
        if asked and (stepped or not resumes):
            self._stop(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count steps; go on with the random numbers of a checkpoint in mid-epoch.

        Its epoch's batches are set up by now, for which a ``DataLoader`` has drawn once more.
        """
        self._seen = trainer.global_step
        if self._random is not None and self._random["mid_epoch"]:
            self._restore(trainer)
        self._hold(trainer.world_size == 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop now if a signal came after the last epoch was saved."""
        if self._asked():
            self._stop(trainer)
        self._hold(False)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Wait for nothing any more: whatever it is, it ends the fit."""
        self._hold(False)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with a checkpoint's random numbers, before pruning events and the next epoch's shuffling draw some."""
        self._restore(trainer)
        self._started = time.perf_counter()

    def _is_due_step(self, trainer: pl.Trainer) -> bool:
        # A step not seen before: while gradients are accumulated for the next one, which no checkpoint holds, the
        # number of steps stays.
        step = trainer.global_step
        return self.every_n_steps > 0 and step != self._seen and step % self.every_n_steps == 0

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say which run wrote it, and which random numbers come next."""
        seconds = self._before + time.perf_counter() - self._started
        checkpoint["prunekit"] = {**self.stamp, "seconds": seconds}
        states = [random_state(trainer.strategy.root_device)] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["random"] = {"mid_epoch": not trainer.is_last_batch, "ranks": states}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until everything is restored, and the seconds that it took to come so far."""
        self._before = float(checkpoint.get("prunekit", {}).get("seconds") or 0.0)
        self._random = checkpoint.get("random")
        if self._random is None or len(self._random["ranks"]) != trainer.world_size:
            self._random = None
            log.info("the checkpoint has no state of random numbers for this run: what is drawn now is another run's")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget the states, which the next fit does not go on from."""
        self._random = None

    def _hold(self, back: bool) -> None:
        if back != self._held:  # of several such callbacks one that was never in a fit has no say
            self._held = back
            stopping.hold(back)

    def _asked(self) -> bool:
        return self._held and stopping.asked() is not None

    def _stop(self, trainer: pl.Trainer) -> None:
        self._hold(False)
        newest = list_checkpoints(Path(trainer.default_root_dir) / "checkpoints")[-1:]
        stopping.stop(str(newest[0]) if newest else None)

    def _restore(self, trainer: pl.Trainer) -> None:
        if self._random is not None:
            set_random_state(self._random["ranks"][trainer.global_rank], trainer.strategy.root_device)

    def _save(self, trainer: pl.Trainer, epochs: int) -> None:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        trainer.save_checkpoint(folder / NAME.format(epoch=epochs, step=trainer.global_step))
        if trainer.is_global_zero:
            for old in list_checkpoints(folder)[: -self.keep]:
                old.unlink()


def _resumes_within_epochs(trainer: pl.Trainer) -> bool:
    """Whether all training batches come from loaders that a checkpoint in mid-epoch tells where to go on."""
    return all(hasattr(loader, "load_state_dict") for loader in tree_leaves(trainer.train_dataloader))


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's own, but a file is complete or absent on any file system.

    Lightning writes to the temporary folder and moves from there, which copies when that is another file system.

    Args:
        read: the content of a checkpoint that was read before; the first load gives it instead of reading it again.
    """

    def __init__(self, read: dict[str, Any] | None = None) -> None:
        self._read = read

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside, sealed with a digest, bring to disk, rename."""
        write_whole(Path(path), lambda file: write_sealed(file, lambda inner: torch.save(checkpoint, inner)))

    def load_checkpoint(self, path: Any, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """What was read before, once; else from the file."""
        given, self._read = self._read, None
        return super().load_checkpoint(path, *arguments, **keywords) if given is None else given


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first.

    Example:
        >>> list_checkpoints(Path("no such folder"))
        []
    """
    found = [(match, path) for path in folder.glob("*.ckpt") if (match := PATTERN.fullmatch(path.name))]
    return [path for _, path in sorted(found, key=lambda pair: [int(number) for number in pair[0].groups()])]
