"""Features of clips, computed once and kept: nothing finished is computed again, whatever ends a process."""

import hashlib
import json
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from prunekit.cache import Cache
from prunekit.data_modules.frames import ClipError, read_frames
from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.files import write_json

SECONDS_BETWEEN_MEMOS = 10.0
log = logging.getLogger("prunekit")


class Sampling(NamedTuple):
    """How frames are taken from a clip: how many, and their height and width in pixels."""

    frames: int
    size: tuple[int, int]


def feature_cache(cache_dir: Path, recipe: Mapping[str, Any]) -> Cache:
    """Where features ``(frames, n)`` float32 of clips are kept, each by the SHA-256 of its clip's content.

    Args:
        cache_dir: where caches lie.
        recipe: plain values that say how features are computed; another recipe is another folder.
    """
    return Cache(cache_dir / "features" / digest(dict(recipe)), recipe)


class ClipHashes:
    """What is known of files' contents: path, size and time of change -> SHA-256, so that a start reads no video.

    Several processes may share the file; each adds what it has found.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._file = cache_dir / "features" / "clips.json"
        self._found: dict[str, list[Any]] = {}
        self._saved = time.monotonic()
        self._known = self._read()

    def get(self, path: Path) -> str | None:
        """The SHA-256 of the file, if it is known and the file has not changed since."""
        size, changed, sha = self._known.get(str(path), (None, None, None))
        if size is None:
            return None
        now = path.stat()
        return str(sha) if [now.st_size, now.st_mtime_ns] == [size, changed] else None

    def add(self, path: Path, stat: os.stat_result, sha: str) -> None:
        """Remember a file's hash, and bring what was found to disk now and then."""
        self._known[str(path)] = self._found[str(path)] = [stat.st_size, stat.st_mtime_ns, sha]
        if time.monotonic() - self._saved > SECONDS_BETWEEN_MEMOS:
            self.flush()

    def flush(self) -> None:
        """Bring what was found to disk, beside what others have."""
        if self._found:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file.with_suffix(".lock")):
                write_json(self._file, {**self._read(), **self._found})
            self._found = {}
        self._saved = time.monotonic()

    def _read(self) -> dict[str, list[Any]]:
        try:
            content = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):  # only time is lost without it
            return {}
        return content if isinstance(content, dict) else {}


class ReadClip(NamedTuple):
    """A clip's content: its hash, its state on disk, and its frames (none if its features are there already)."""

    sha: str
    stat: os.stat_result
    frames: NDArray[np.uint8] | None


def read_clip(path: Path, sampling: Sampling, known: Callable[[str], bool] = lambda sha: False) -> ReadClip:
    """Read a clip from an open file, so that hash and frames are of the same content.

    Args:
        path: the video file.
        sampling: how frames are taken.
        known: given a hash, whether frames are not needed.

    Raises:
        ClipError: if it cannot be opened or decoded, or changes meanwhile.
    """
    try:
        # A pipe would be waited for, and a device has no end.
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise ClipError("it is no regular file")
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            sha = hashlib.file_digest(file, "sha256").hexdigest()
            frames = None if known(sha) else read_frames(file, *sampling)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ClipError(f"it cannot be read: {error.strerror}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ClipError("it changed while it was read")
    return ReadClip(sha, before, frames)


def extract(
    paths: Sequence[Path],
    sampling: Sampling,
    encoder: Callable[[], Callable[[Tensor], Tensor]],
    cache: Cache,
    hashes: ClipHashes,
    decoders: int,
) -> dict[Path, str]:
    """Compute and keep the features of the clips that have none.

    Clips are decoded in threads while the encoder works, a few ahead of it, so memory does not grow with their
    number. A clip is one batch, whatever its neighbours: its features do not depend on what else is computed.

    Args:
        paths: video files.
        sampling: how frames are taken.
        encoder: makes the encoder, frames ``(n, height, width, 3)`` uint8 -> ``(n, features)`` float32 on the CPU;
            called only if something is to be computed.
        cache: where features are kept.
        hashes: what is known of files.
        decoders: threads that decode.

    Returns:
        The clips that cannot be read, with the reason.

    Raises:
        ArgumentError: if features are not finite, which no clip's should be.
    """

    def known(sha: str) -> bool:
        return cache.has({"clip": sha})

    todo = [path for path in paths if (sha := hashes.get(path)) is None or not known(sha)]
    bad: dict[Path, str] = {}
    encode = None
    if todo:
        cache.clear_remains()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, disable=not todo) as bar, ThreadPoolExecutor(decoders) as pool:
        task = bar.add_task("clips -> features", total=len(todo))
        reads = ((path, pool.submit(read_clip, path, sampling, known)) for path in todo)
        try:
            for path, reading in _ahead(reads, decoders + 1):
                try:
                    read = reading.result()
                    if read.frames is not None:
                        encode = encode or encoder()
                        features = encode(torch.from_numpy(read.frames))
                        if not features.isfinite().all():
                            got = f"one that makes NaN or infinity of {path}"
                            raise ArgumentError("backbone", got, "weights and a precision that give finite features")
                        cache.keep({"clip": read.sha}, {"features": features})
                    hashes.add(path, read.stat, read.sha)
                except ClipError as error:
                    bad[path] = str(error)
                    log.warning("%s: %s", path, error)
                bar.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)
            hashes.flush()
    return bad


def _ahead(reads: Iterable[tuple[Path, Future[ReadClip]]], number: int) -> Iterator[tuple[Path, Future[ReadClip]]]:
    """The same, started ``number`` ahead of the one that is given."""
    reads = iter(reads)
    started = deque(islice(reads, number))
    while started:
        first = started.popleft()
        started.extend(islice(reads, 1))
        yield first
        del first  # its frames are not held while the next is waited for


class _Rate(ProgressColumn):
    """Clips a second, over the last of them."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} clips/s")
