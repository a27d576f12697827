"""From a stream of frames to those that a network looks at, evenly in time as those of clips are."""

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from prunekit.data_modules.frames import ClipError, Converter

RATE = Fraction(25)  # frames a second of a stream that does not say
LONGEST = 10  # seconds between two frames; a longer time is a cut, or an attack on whoever repeats frames
MOST_PIXELS = 8_192  # of a side; more would be no video but an attack on memory
MOST_DAMAGED = 50  # packets one after the other
STANDARD_INPUT = "-"
DEVICES = ("v4l2", "avfoundation", "dshow", "x11grab", "lavfi")  # FFmpeg's, as in v4l2:/dev/video0


class Taken(NamedTuple):
    """A frame that the network is to look at.

    Attributes:
        picture: ``(height, width, 3)`` uint8 RGB.
        second: of the stream that it stands for.
        decoding: seconds that it took to decode what came since the one before, and to stretch it.
    """

    picture: NDArray[np.uint8]
    second: float
    decoding: float


class Counts:
    """What came of a stream so far.

    Attributes:
        packets: anything at all, so that a stall is noticed.
        decoded: frames.
        damaged: packets that could not be decoded.
        size: height and width of the newest frame.
        resized: how often that changed.
    """

    def __init__(self) -> None:
        self.packets = self.decoded = self.damaged = self.resized = 0
        self.size: tuple[int, int] | None = None

    def saw(self, size: tuple[int, int]) -> None:
        """Count a frame of this size.

        Raises:
            ClipError: if none is so large.
        """
        if max(size) > MOST_PIXELS:
            raise ClipError(f"its frames are {size[1]}x{size[0]}, and at most {MOST_PIXELS} a side is accepted")
        self.decoded += 1
        self.resized += self.size not in (None, size)
        self.size = size


class Sampler:
    """Which frames of a stream to take: those on display in the middle of equal parts, as of clips.

    With parts of ``between`` seconds from the first frame on, the i-th frame taken is the one on display at
    ``(i + 1/2) between``: the last that begins by then. So a clip of n parts, read as a stream, gives the frames that
    :func:`~prunekit.data_modules.frames.evenly` takes n of.

    Args:
        between: seconds.

    Example:
        >>> sampler = Sampler(Fraction(2))
        >>> [list(sampler.before(Fraction(begin))) for begin in (0, 1, 2, 3, 8)]
        [[], [], [1.0], [], [3.0, 5.0, 7.0]]
    """

    def __init__(self, between: Fraction) -> None:
        self._between = between
        self._first: Fraction | None = None
        self._taken = 0

    def before(self, begin: Fraction) -> Iterator[float]:
        """The seconds for which the last frame is taken, now that another one begins: none, one or several."""
        self._first = begin if self._first is None else self._first
        while (moment := (self._taken + Fraction(1, 2)) * self._between) < begin - self._first:
            self._taken += 1
            yield float(moment)


class _Clock:
    """When frames begin, in seconds after the first."""

    def __init__(self, rate: Fraction) -> None:
        self._step, self._shift = 1 / rate, Fraction(0)
        self.now = -self._step

    def begin(self, frame: av.VideoFrame) -> Fraction:
        counted = self.now + self._step
        if frame.pts is None or frame.time_base is None:
            self.now = counted
            return counted
        stamp = frame.pts * frame.time_base - self._shift
        if counted == 0 or abs(stamp - counted) > LONGEST:
            self._shift, stamp = self._shift + stamp - counted, counted
        self.now = stamp if stamp > self.now else counted
        return self.now


def stream_frames(source: str, size: tuple[int, int], between: Fraction, counts: Counts) -> Iterator[Taken]:
    """Decode a stream and take frames from it, as :class:`Sampler` says; memory does not grow with its length.

    A frame is taken when the next one begins, or the stream ends. Times are the frames' own; a frame whose time is
    missing or not later than that of the one before begins ``1 / rate`` after it, and so does one ten seconds off,
    from which on times are counted anew. Packets that cannot be decoded are counted.

    Args:
        source: a file or a named pipe; ``-``, standard input; or a device of FFmpeg's, such as ``v4l2:/dev/video0``.
        size: height and width that frames are stretched to, whatever theirs are.
        between: seconds from one frame taken to the next.
        counts: kept up to date.

    Raises:
        ClipError: if it cannot be opened or is cut off, with what was seen of it.
    """
    convert, sampler, decoding = Converter(size), Sampler(between), 0.0
    last: av.VideoFrame | None = None
    try:
        with _opened(source) as container:
            if not container.streams.video:
                raise ClipError("it holds no video")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the others are the network's
            rate = stream.average_rate or RATE
            clock = _Clock(rate)
            for frame, seconds in _decoded(container, stream, counts):
                decoding += seconds
                begin = None if frame is None else clock.begin(frame)
                moments = list(sampler.before(clock.now + 1 / rate if begin is None else begin))
                if moments and last is not None:
                    start = time.perf_counter()
                    picture = convert(last)
                    decoding += time.perf_counter() - start
                    for moment in moments:
                        yield Taken(picture, moment, decoding)
                    decoding = 0.0
                last = frame
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"it was cut off after {counts.decoded} frames" if counts.decoded else "no frame of it could be read"
        raise ClipError(f"{what}: {reason}") from error


def _decoded(container: Any, stream: Any, counts: Counts) -> Iterator[tuple[av.VideoFrame | None, float]]:
    """Frames with the seconds that they took; None at the end."""
    damaged = 0
    for packet in container.demux(stream):
        counts.packets += 1
        start = time.perf_counter()
        try:
            frames = packet.decode()
            damaged = 0
        except av.error.InvalidDataError:
            counts.damaged, damaged = counts.damaged + 1, damaged + 1
            if damaged > MOST_DAMAGED:
                raise
            continue
        seconds = (time.perf_counter() - start) / max(1, len(frames))
        for frame in frames:
            counts.saw((frame.height, frame.width))
            yield frame, seconds
    yield None, 0.0


class _Bytes:
    """A pipe's bytes as they come; it has no ``seek``, so that nobody tries."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self, count: int) -> bytes:
        return os.read(self._handle, count)


@contextmanager
def _opened(source: str) -> Iterator[Any]:
    """What FFmpeg makes of a source; names of network protocols are files here."""
    device, _, name = source.partition(":")
    if device in DEVICES and name:
        with av.open(name, format=device) as container:
            yield container
    elif source == STANDARD_INPUT:
        with av.open(_Bytes(sys.stdin.fileno()), "r", buffer_size=2**16) as container:
            yield container
    else:
        with Path(source).open("rb", buffering=0) as file:
            pipe = stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
            with av.open(_Bytes(file.fileno()) if pipe else file, "r", buffer_size=2**16) as container:
                yield container


def seconds_of(path: Path) -> Fraction:
    """How long a video file lasts, by its pictures and their rate; nothing is decoded.

    Raises:
        ClipError: if it cannot be read, or does not say.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            pictures = sum(packet.size > 0 for packet in container.demux(stream))
            if not stream.average_rate or not pictures:
                raise ClipError("it does not say how long it lasts")
            return pictures / stream.average_rate
    except (av.error.FFmpegError, OSError, IndexError, ValueError) as error:
        raise ClipError(f"it cannot be read: {error}") from error
