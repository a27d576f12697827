"""TensorBoard writes in a thread of its own, which has nobody to tell of a full disk but the next to log something."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WRITERS = "tensorboard.summary.writer"


@contextmanager
def writers_silent() -> Iterator[None]:
    """Keep the traceback of a writing thread off the screen, and say in its error which file it could not write.

    The error itself is not lost: the thread leaves it to be raised where something is logged next, which ends the run.
    To go on without events would help nobody, as the next checkpoint finds the same disk; and a run that has not
    logged all of its curves should not look like one that has. Gone on with, it writes them all.
    """
    usual = threading.excepthook

    def told(of: threading.ExceptHookArgs) -> None:
        if not type(of.thread).__module__.startswith(WRITERS):
            usual(of)
        elif isinstance(of.exc_value, OSError) and of.exc_value.filename is None:
            record_writer = getattr(of.thread, "_record_writer", None)
            name = getattr(getattr(record_writer, "_writer", None), "filename", None)
            of.exc_value.filename = "TensorBoard's events" if name is None else os.fsdecode(name)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = usual
