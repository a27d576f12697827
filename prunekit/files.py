"""Files that are complete or absent."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from prunekit.digests import digest
from prunekit.errors import ArgumentError


def write_whole(path: Path, write: Callable[[IO[bytes]], object], durable: bool = True) -> None:
    """Write a file aside, bring it to disk, then rename it into place.

    A reader sees the old file or the new one, never a part, whatever ends the process; on an error nothing is
    left behind. The temporary file lies beside the target because a rename is atomic only within a file system.

    Args:
        path: the target; its folder is made if it is missing.
        write: called with the open binary file.
        durable: whether to wait until the disk has it, so that it outlives the machine and not the process only; what
            can be made again, such as a picture, need not take that long.

    Raises:
        OSError: if the folder is not writable or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a"), lambda file: file.write(b"all"))
        ...     Path(folder, "a").read_bytes()
        b'all'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        with aside.open("xb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
        if durable:
            bring_to_disk(path.parent)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error  # say which file
        raise


def bring_to_disk(folder: Path) -> None:
    """Wait until the disk has the names in ``folder``: what was renamed is not there before, whatever it holds.

    Where a file system cannot do that for folders, nothing is done.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: Any, durable: bool = True) -> None:
    """Write ``content`` as indented JSON, whole or not at all; NaN is refused."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()), durable)


def write_record(path: Path, content: Mapping[str, Any], durable: bool = True) -> None:
    """Write ``content`` as JSON with a digest of itself, for :func:`read_record`."""
    write_json(path, {**content, "digest": digest(content)}, durable)


def read_record(path: Path, argument: str = "file") -> dict[str, Any] | None:
    """What :func:`write_record` wrote; None if there is no file. A file without a digest is taken as it is.

    Args:
        path: the file.
        argument: whose value says where it lies, for messages.

    Raises:
        ArgumentError: if the file is damaged.
    """
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__}")
        if found.pop("digest", None) not in (None, digest(found)):
            raise ValueError("its content is not what was written")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(
            argument, f"{path} is damaged ({error})", "a whole file; delete it and run the same command again"
        ) from error
    return found
