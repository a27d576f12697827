"""What a command does when a signal stops it: it says so, and in a job of Slurm it asks to be run again."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from prunekit import stopping
from prunekit.app import ranks
from prunekit.app.errors import chain
from prunekit.rank import is_rank_zero
from prunekit.stopping import Stopped

_told: set[signal.Signals] = set()


@contextmanager
def stop_told() -> Iterator[None]:
    """Obey signals within; end a process that one stopped with 128 and its number, and a message of rank 0."""
    _told.clear()
    ranks.watch_launcher()
    stopping.on_signal("tell", lambda number: tell(number) if ranks.several() else None)  # who may be stuck
    try:
        with stopping.obeyed():
            yield
    except BaseException as error:
        stop = next((each for each in chain(error) if isinstance(each, Stopped)), None)
        if stop is None:
            raise
        tell(stop.signal, stop.start)  # a library's own clean-up may have raised something in its place
        leave(128 + stop.signal)


def tell(number: signal.Signals, start: str | None = None) -> None:
    """Say once, in rank 0, that a signal stopped the command, and how it goes on.

    Args:
        number: the signal.
        start: the checkpoint that it goes on from, if known.
    """
    if not is_rank_zero() or number in _told:
        return
    _told.add(number)
    where = start or "its newest checkpoint and what else it has finished, or from the start if there is nothing yet"
    who = "the same command"
    if number.name == stopping.WARNING and (job := slurm_job()):
        failed = requeue(job)
        who = (
            f"it could not be queued again ({failed}); the same command" if failed else f"job {job} is queued again and"
        )
    several = "; ranks are not at the same step, so nothing was saved" if ranks.several() else ""
    print(f"stopped by {number.name}{several}; {who} goes on from {where}", file=sys.stderr, flush=True)


def leave(status: int) -> NoReturn:
    """End the process; one of several ranks at once, since what it waits for at its end may be gone already."""
    if ranks.several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def slurm_job() -> str | None:
    """What Slurm calls the job that this process is in, a single one of an array; None outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return job if re.fullmatch(r"\d+(_\d+)?", job) else None


def requeue(job: str) -> str | None:
    """Have Slurm put the job back into its queue; why not, if it does not."""
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=30, check=False, encoding="utf-8"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return " ".join(done.stderr.split()) or f"scontrol ended with {done.returncode}" if done.returncode else None
