"""Files that somebody downloaded, read with a bound on what they may hold."""

from pathlib import Path

from prunekit.errors import ArgumentError


def read_bounded(path: Path, most: int, wanted: str, argument: str = "data_dir") -> bytes:
    """The content of a file.

    Args:
        path: of the file.
        most: bytes that it may have.
        wanted: what the user should have there, for messages.
        argument: whose value says where it lies.

    Raises:
        ArgumentError: if it cannot be read or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ArgumentError(argument, f"{path} ({error.strerror})", wanted) from error
    if len(content) > most:
        raise ArgumentError(argument, f"{path}, of more than {most:,} bytes", wanted)
    return content
