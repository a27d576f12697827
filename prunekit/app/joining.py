"""The ranks of a run meet at its start, where something like ``torchrun`` or Slurm has started them all at once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunekit.app.build import build_trainer
from prunekit.app.config import Config
from prunekit.app.ranks import started_by_rank_zero, starts_ranks

SIZES = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JSM_NAMESPACE_SIZE")  # how many processes there are


def join(config: Config, folder: Path) -> Callable[[Any], Any] | None:
    """Meet the other ranks: what one of them decides by the files that it finds, the others must not decide by theirs.

    Ranks that Lightning starts are not there yet: they begin when rank 0 is in its first fit, and find what it found.

    Args:
        config: the resolved config.
        folder: the run's.

    Returns:
        What gives all ranks a value of rank 0; None where there are no others to meet.
    """
    if started_by_rank_zero() or not any(int(os.environ.get(name) or 1) > 1 for name in SIZES):
        return None
    settings = {**config["trainer"], "enable_progress_bar": False}
    trainer = build_trainer({**config, "trainer": settings, "logger": None}, folder, [], 1)
    if trainer.world_size == 1 or starts_ranks(trainer):
        return None
    trainer.strategy.setup_environment()
    return trainer.strategy.broadcast
