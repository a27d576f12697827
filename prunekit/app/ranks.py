"""A run's processes on several devices: when one of them is gone, the others end too.

One that waits in a collective for a process that is gone would wait for many minutes, on some backends for ever. So
each is watched by a thread of another: what a launcher has started watches that, and rank 0 watches what it started.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

import pytorch_lightning as pl
import torch

from prunekit import stopping
from prunekit.rank import is_rank_zero

RANK_ZERO = "PRUNEKIT_RANK_ZERO"  # the process that has started this one, by its number
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 5.0  # the main thread may wait for ranks that have stopped already
SECONDS_TO_NOTICE = 3.0
TORCHRUN = "TORCHELASTIC_RUN_ID"
_launchers: list[Any] = []
_children: list["Popen[Any]"] = []
_watching: set[str] = set()


def watch_parent(who: str, parent: int | None = None) -> None:
    """End this process when its parent is gone.

    Args:
        who: the parent, for the message.
        parent: its number; None for the parent that there is now.
    """
    parent = os.getppid() if parent is None else parent

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        stopping.end(1, f"{who} (process {parent}) is gone: process {os.getpid()}, which works for it, ends too")

    _watch(f"parent {parent}", look)


def watch_launcher() -> None:
    """Watch what has started this process as one of several ranks, if anything has."""
    if sys.platform == "win32":  # a process does not learn there that its parent is gone
        return
    if started_by_rank_zero():
        watch_parent("rank 0", int(os.environ[RANK_ZERO]))
    elif TORCHRUN in os.environ:
        watch_parent("torchrun")
    else:
        return
    stopping.hurry(SECONDS_TO_STOP)


def watch_children(trainer: pl.Trainer) -> None:
    """End this process and all that it has started when one of these is gone; hand them the signals that it gets.

    Args:
        trainer: starts other ranks, perhaps, when it is used. They are those of all later trainers too.
    """
    if starts_ranks(trainer):
        os.environ[RANK_ZERO] = str(os.getpid())
        _launchers.append(trainer.strategy.launcher)
        _watch("children", _look_at_children)


def _look_at_children() -> None:
    while not (found := next((each for each in _launchers if each.procs), None)):
        time.sleep(SECONDS_BETWEEN_LOOKS / 10)
    _children.extend(found.procs)
    found.procs.clear()  # or Lightning, which looks at this list, would kill this process before it could say why
    stopping.on_signal("ranks", send)
    stopping.hurry(SECONDS_TO_STOP)
    while not any(child.poll() for child in _children):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if stop := stopping.asked():
        time.sleep(2 * SECONDS_BETWEEN_LOOKS)  # for the main thread, which is about to end
    rank, gone = next((rank, child) for rank, child in enumerate(_children, start=1) if child.returncode)
    send(signal.SIGKILL)
    if stop:
        os._exit(128 + stop)
    words = f"rank {rank} (process {gone.pid}) {_ended(gone.returncode)}, and so the run ends"
    stopping.end(1, f"{words}; the same command goes on from its newest checkpoint")


def starts_ranks(trainer: pl.Trainer) -> bool:
    """Whether this process starts the other ranks when the trainer is used, as Lightning does by itself."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    external = environment is None or environment.creates_processes_externally
    return hasattr(trainer.strategy.launcher, "procs") and not external


def send(number: int) -> None:
    """Send a signal to the ranks that this process has started."""
    for child in _children:
        child.send_signal(number)


def several() -> bool:
    """Whether this process is one of several ranks by now."""
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return bool(_children) or started_by_rank_zero() or (joined and torch.distributed.get_world_size() > 1)


def let_others_be_missed() -> None:
    """Before an error is told: if it is that another rank is gone, a watching thread ends the process and says so."""
    if several():
        time.sleep(SECONDS_TO_NOTICE)


def started_by_rank_zero() -> bool:
    """Whether this is a rank that Lightning has started from rank 0."""
    return RANK_ZERO in os.environ and TORCHRUN not in os.environ and not is_rank_zero()


def _ended(status: int) -> str:
    """What an exit status says, in words.

    Example:
        >>> _ended(-9), _ended(143), _ended(2)
        ('was ended by SIGKILL', 'was stopped by SIGTERM', 'has ended with status 2')
    """
    number = -status if status < 0 else status - 128
    if number not in set(signal.Signals):
        return f"has ended with status {status}"
    return f"was {'ended' if status < 0 else 'stopped'} by {signal.Signals(number).name}"


def _watch(what: str, look: Callable[[], None]) -> None:
    if what not in _watching:
        _watching.add(what)
        threading.Thread(target=look, name=f"prunekit-watch-{what}", daemon=True).start()
