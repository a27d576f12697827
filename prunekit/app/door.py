"""What all commands share: how they begin, and how they tell an error."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities.exceptions import SIGTERMException

from prunekit.errors import ArgumentError
from prunekit.rank import is_rank_zero


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
    return f"cannot read or write: {error}. What was written before is whole; mend it and run the same command again"


@contextmanager
def stop_told() -> Iterator[None]:
    """End a process that SIGTERM stopped with 143 and a message: Lightning would end it as if all were well."""
    try:
        yield
    except SIGTERMException:
        if is_rank_zero():
            words = (
                "stopped by SIGTERM; the same command goes on from the newest checkpoint, or from the start if none was"
            )
            print(words + " written", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)


@contextmanager
def errors_told() -> Iterator[None]:
    """End the process with 2 and one message on an error that a user can mend, and as :func:`stop_told` does.

    ``PRUNEKIT_TRACEBACK=1`` shows where it was raised.
    """
    try:
        with stop_told():
            yield
    except (ArgumentError, OSError) as error:
        if os.environ.get("PRUNEKIT_TRACEBACK"):
            raise
        if is_rank_zero():
            print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(2)
