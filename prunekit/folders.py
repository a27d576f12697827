"""Folders: a run's is guarded by a lock and filled with whole files, others appear whole."""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prunekit.errors import ArgumentError
from prunekit.files import bring_to_disk
from prunekit.rank import is_rank_zero, locked_on_rank_zero

LOCK = ".lock"
log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, argument: str, wait: bool, share: Callable[[Any], Any] | None = None) -> Iterator[None]:
    """Make ``folder`` and hold its lock, in the process that writes.

    Args:
        folder: made if it is missing.
        argument: whose value the folder is, for messages.
        wait: whether to wait for another process or to refuse at once. The system frees a dead process's lock.
            A folder that was made and in which nothing was written goes again with an ``ArgumentError`` or a stop.
        share: gives all ranks what rank 0 hands it, where all of them are there: the others then wait until rank 0
            has the lock, however long that takes.

    Raises:
        ArgumentError: if the folder is in use or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder, "run"), "run_dir", wait=False):
        ...     Path(folder, "run").is_dir()
        True
    """
    if share is None and not is_rank_zero():
        yield
        return
    lock = FileLock(folder / LOCK)
    new = new_folders(folder) if is_rank_zero() else []
    if is_rank_zero():
        _take(lock, folder, argument, wait=wait and share is None, refuse=not wait)
    try:
        with nullcontext() if share is None else locked_on_rank_zero(lock, share):
            yield
    except (ArgumentError, KeyboardInterrupt, SystemExit):
        if new and {path.name for path in folder.iterdir()} == {LOCK}:  # refused or stopped before anything was written
            (folder / LOCK).unlink()
            remove_empty(new)
        raise
    finally:
        lock.release(force=True)


def _take(lock: FileLock, folder: Path, argument: str, wait: bool, refuse: bool) -> None:
    """Take the lock if it is free; else wait for it, or refuse."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if refuse:
                accepted = "a folder that no other process works in; wait for it or choose another"
                raise ArgumentError(argument, f"{folder}, in use by another process", accepted) from None
            log.info("waiting for another process that works in %s", folder)
            if wait:
                lock.acquire()
    except OSError as error:
        raise ArgumentError(argument, f"{folder} ({error})", "a folder that can be written") from error


@contextmanager
def replaced(out: Path, marker: str, what: str) -> Iterator[Path]:
    """A new folder, which takes the place of ``out`` when it has been filled; on an error the old one stays.

    What processes that were killed have left of this is deleted by the next.

    Args:
        out: where it will lie.
        marker: a file by which such a folder is known: one that has it is replaced.
        what: such a folder in a word, for messages.

    Raises:
        ArgumentError: if ``out`` is there and something else, or no folder can be made there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with replaced(Path(home, "out"), "done", "list") as folder:
        ...         Path(folder, "done").touch()
        ...     [path.name for path in Path(home).rglob("*")]
        ['out', 'done']
    """
    out = out.resolve()
    if out.exists() and not (out / marker).exists():
        raise ArgumentError("out", f"{out}, which is there and no {what}", f"a new folder, or one that holds an {what}")
    aside = out.parent / f".{out.name}-{os.getpid()}"
    old = aside.with_name(f"{aside.name}-old")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(out)
        aside.mkdir()
    except OSError as error:
        raise ArgumentError("out", f"{out} ({error})", "a folder that can be written") from error
    lives = FileLock(aside / LOCK)
    lives.acquire()
    try:
        yield aside
        if out.exists():
            out.rename(old)
        aside.rename(out)
        (out / LOCK).unlink()
        bring_to_disk(out.parent)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        lives.release()
        for left in (aside, old):
            shutil.rmtree(left, ignore_errors=True)


def _clear_leftovers(out: Path) -> None:
    """Delete what killed processes have left beside ``out``: folders whose lock nobody holds any more."""
    form = re.compile(rf"(\.{re.escape(out.name)}-\d+)(-old)?")
    for name in sorted({match[1] for path in out.parent.iterdir() if (match := form.fullmatch(path.name))}):
        aside, old = out.with_name(name), out.with_name(f"{name}-old")
        with suppress(Timeout):
            if aside.exists():
                with FileLock(aside / LOCK).acquire(timeout=0):
                    shutil.rmtree(aside)
            if old.exists() and not out.exists():
                old.rename(out)
            shutil.rmtree(old, ignore_errors=True)


def new_folders(folder: Path) -> list[Path]:
    """Which folders making this one would make, from the inside out."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Delete folders, one after the other, up to the first in which there is something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def clear(folder: Path) -> None:
    """Delete everything in ``folder`` but its lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def clear_remains(folder: Path) -> None:
    """Delete what an attempt that was cut off left and no one needs: half-written files and TensorBoard events.

    A resumed run writes its whole history of events again.
    """
    if is_rank_zero():
        for path in [*folder.glob("events.out.tfevents.*"), *folder.rglob("*.part")]:
            path.unlink()
