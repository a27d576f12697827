"""ZIP files, as ``torch.save`` writes them, that end with a digest of what is before: a flipped bit is noticed.

A reader of ZIP files skips the comment at their end, where the digest is, so such a file is an ordinary one. ZIP's own
checksums are not checked by torch's reader, and a float with another bit is a float.
"""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import xxhash

MARK, DIGITS = b"prunekit-xxh3-128:", 32
SEAL = len(MARK) + DIGITS
LENGTH = SEAL.to_bytes(2, "little")  # of the comment, in the last two bytes of a ZIP file that has none


class _Digesting:
    """A file being written; its last two bytes are held back.

    Attributes:
        digest: of what was written.
        failed: the error that the file could not be written with. It is kept from torch's writer, which would go on to
            write the end of the file and raise another one of that, without a word on disks.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._last = file, b""
        self.digest = xxhash.xxh3_128()
        self.failed: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.failed is None:
            try:
                self._write(data)
            except OSError as error:
                self.failed = error
        return len(data)

    def _write(self, data: bytes) -> None:
        for part in (self._last, data[:-2]) if len(data) >= len(LENGTH) else ((self._last + data)[:-2],):
            self.digest.update(part)
            self._file.write(part)
        self._last = bytes(data[-2:]) if len(data) >= len(LENGTH) else (self._last + data)[-2:]

    def flush(self) -> None:
        """Nothing: who has opened the file does that, and learns of a full disk."""


def write_sealed(file: IO[bytes], write: Callable[[Any], object]) -> None:
    """Write a ZIP file and its seal.

    Args:
        file: open for writing.
        write: writes a ZIP file without a comment, from its first byte to its last; what it is handed has ``write``
            and ``flush``.

    Raises:
        OSError: if the file cannot be written.

    Example:
        >>> import io, torch
        >>> file = io.BytesIO()
        >>> write_sealed(file, lambda inner: torch.save({"x": 1}, inner))
        >>> torch.load(io.BytesIO(file.getvalue())), file.getvalue()[-SEAL:-DIGITS]
        ({'x': 1}, b'prunekit-xxh3-128:')
    """
    inner = _Digesting(file)
    write(inner)
    if inner.failed is not None:
        raise inner.failed
    file.write(LENGTH + MARK + inner.digest.hexdigest().encode())


def is_whole(path: Path) -> bool | None:
    """Whether a file's content is what was sealed; None if it has no seal."""
    with path.open("rb") as file:
        if path.stat().st_size <= SEAL + len(LENGTH):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            seal = bytes(view[-SEAL - len(LENGTH) :])
            if not seal.startswith(LENGTH + MARK):
                return None
            with view[: -len(seal)] as before:
                return xxhash.xxh3_128(before).hexdigest().encode() == seal[-DIGITS:]
