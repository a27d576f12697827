"""A thread that reads a stream ahead of whoever looks at its frames, a few frames and no more."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

from prunekit.data_modules.frames import ClipError
from prunekit.data_modules.stream_frames import Counts, Taken, stream_frames

WAITING = 2  # frames that wait for the network
POLL = 0.1  # seconds


class StalledError(ClipError):
    """A source that gives nothing for too long."""


class LiveReader(threading.Thread):
    """Frames of a stream, decoded by a thread of its own while the network looks at earlier ones.

    Args:
        source: as in :func:`~prunekit.data_modules.stream_frames.stream_frames`, as the next two are.
        size: likewise.
        between: likewise.
        drop: whether a frame that finds others waiting takes the oldest one's place, as a camera's has to; else the
            source waits.
        patience: seconds without anything from the source after which it counts as stalled.

    Attributes:
        counts: what came so far.
        dropped: frames that nobody looked at.
    """

    def __init__(self, source: str, size: tuple[int, int], between: Fraction, drop: bool, patience: float) -> None:
        super().__init__(name="prunekit-stream", daemon=True)  # a source that hangs is not to hold the process
        self.counts, self.dropped = Counts(), 0
        self._frames = stream_frames(source, size, between, self.counts)
        self._waiting: queue.Queue[Taken | Exception | None] = queue.Queue(WAITING)
        self._drop, self._patience = drop, patience
        self._left = threading.Event()

    def run(self) -> None:
        """Read until the source ends or nobody wants more."""
        end: Exception | None = None
        try:
            for taken in self._frames:
                if not self._put(taken):
                    return
        except Exception as error:  # handed to whoever reads
            end = error
        while not self._left.is_set():
            try:
                self._waiting.put(end, timeout=POLL)
                return
            except queue.Full:
                continue

    def _put(self, taken: Taken) -> bool:
        while not self._left.is_set():
            try:
                self._waiting.put(taken, timeout=0 if self._drop else POLL)
                return True
            except queue.Full:
                if self._drop:
                    with suppress(queue.Empty):  # the network may have been faster
                        self._waiting.get_nowait()
                        self.dropped += 1
        return False

    def __iter__(self) -> Iterator[Taken]:
        """Frames as they come; to be gone through once.

        Raises:
            StalledError: if nothing comes for too long.
            ClipError: if the source cannot be opened or is cut off.
        """
        self.start()
        try:
            while (taken := self._next()) is not None:
                yield taken
        finally:
            self._left.set()
            self.join(timeout=1.0)

    def _next(self) -> Taken | None:
        seen, waited = self.counts.packets, 0.0
        while True:
            start = time.monotonic()
            try:
                found = self._waiting.get(timeout=POLL)
            except queue.Empty:
                # A process that was stopped for a while and goes on has not waited for all of it.
                waited = 0.0 if self.counts.packets != seen else waited + min(time.monotonic() - start, 2 * POLL)
                seen = self.counts.packets
                if waited >= self._patience:
                    raise StalledError(f"it has stalled: nothing came for {self._patience:g} seconds") from None
                continue
            if isinstance(found, Exception):
                raise found
            return found
