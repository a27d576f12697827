"""How many CPU threads a run takes: what the user says, else what suits its network and the jobs beside it."""

import logging
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from torch import nn

from prunekit.app.jobs import read_jobs
from prunekit.threads import default_threads, is_small, size_of, use_threads

VARIABLE = "OMP_NUM_THREADS"
log = logging.getLogger("prunekit")

_share: int | None = None


def take_share(threads: int | None) -> None:
    """In a process of a launcher: how many threads it may take of the machine's; None for what the environment says."""
    global _share  # noqa: PLW0603 - of this process
    _share = threads


def share_of(jobs: int) -> int | None:
    """What each of so many jobs at once may take; None where the user's environment says so.

    Example:
        >>> share_of(10**6) in (1, None)
        True
    """
    return None if VARIABLE in os.environ else max(1, default_threads() // jobs)


def choose_threads(module: nn.Module, asked: int | None) -> None:
    """Set torch's threads for a run on the CPU, and say how many.

    Args:
        module: the run's network.
        asked: the config's ``threads``.
    """
    share = _share if _share is not None else _share_of_queue()
    number, why = default_threads() if share is None else min(share, default_threads()), "torch's own choice"
    elsewhere = number
    if asked is not None:
        number, elsewhere, why = asked, asked, "threads"
    elif share is None and VARIABLE in os.environ:
        why = VARIABLE
    elif is_small(module):
        number, why = 1, f"more slow a network of {size_of(module):,} parameters down; threads=N or {VARIABLE}=N wins"
    elif share is not None:
        why = "its share beside other jobs"
    use_threads(number, elsewhere)
    log.info("CPU threads: %d (%s)", number, why)


def _share_of_queue() -> int | None:
    """Where each job is a process of its own that the launcher ``queue`` has started."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if not str(hydra.launcher.get("_target_")).endswith(".LocalLauncher"):
        return None
    planned = len(read_jobs(Path(hydra.runtime.cwd) / hydra.sweep.dir)) or 1
    return share_of(min(hydra.sweeper.get("max_batch_size") or planned, planned))
