"""What all commands share: how they begin, and how they tell an error."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from prunekit.app.errors import chain
from prunekit.app.ranks import let_others_be_missed
from prunekit.app.stops import leave, stop_told
from prunekit.app.writers import writers_silent
from prunekit.errors import ArgumentError
from prunekit.rank import is_rank_zero

FULL = (errno.ENOSPC, errno.EDQUOT)


def quiet_lightning() -> None:
    """Keep Lightning's remarks on devices and its tips out of a run's few lines; its warnings stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Raised by Lightning's own use of a torch class that torch 2.9 deprecated; nothing here can be changed about it.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # A hint wherever Slurm is installed, whether or not the run is meant for it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")


def describe(error: ArgumentError | OSError) -> str:
    """One message for what a user can mend: a value, or a disk."""
    if isinstance(error, ArgumentError):
        return str(error)
    named = next((each for each in chain(error) if isinstance(each, OSError) and each.filename), error)
    mend = "make room there" if named.errno in FULL else "mend it"
    return f"cannot read or write: {named}. What was written before is whole; {mend} and run the same command again"


@contextmanager
def errors_told() -> Iterator[None]:
    """End the process with 2 and one message on an error that a user can mend, and as :func:`stop_told` does.

    ``PRUNEKIT_TRACEBACK=1`` shows where it was raised.
    """
    try:
        with stop_told(), writers_silent():
            yield
    except Exception as error:
        let_others_be_missed()
        if os.environ.get("PRUNEKIT_TRACEBACK") or not isinstance(error, ArgumentError | OSError):
            raise
        if is_rank_zero():
            print(f"error: {describe(error)}", file=sys.stderr)
        leave(2)
