"""From a video file to evenly spaced frames."""

import statistics
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

# Decoded frames are held until the clip's end is known; of longer clips only the frames wanted, in a second pass.
HELD_PIXELS = 2**27  # of 1.5 bytes, mostly


class ClipError(Exception):
    """A clip that cannot be read; the message says why."""


def evenly(times: Sequence[int], last: int, count: int) -> list[int]:
    """Which frames to take so that they lie evenly in time: those on display in the middle of ``count`` equal parts.

    With frames that begin at ``t_0 < ... < t_{n-1}``, the last one lasting ``last``, and D = t_{n-1} + last - t_0,
    the i-th frame taken is the largest k with ``t_k - t_0 <= (2 i + 1) D / (2 count)``. Frames of equal length give
    ``k = floor((2 i + 1) n / (2 count))``; fewer frames than ``count`` are taken more than once. All in integers.

    Args:
        times: when each frame begins, in any unit, strictly increasing.
        last: how long the last frame lasts, in the same unit.
        count: how many to take.

    Returns:
        ``count`` indices, ascending.

    Example:
        >>> evenly(range(10), 1, 5), evenly(range(2), 1, 5), evenly([0, 1, 8], 2, 5)
        ([1, 3, 5, 7, 9], [0, 0, 1, 1, 1], [1, 1, 1, 1, 2])
    """
    span = times[-1] + last - times[0]
    scaled = [2 * count * (time - times[0]) for time in times]
    return [bisect_right(scaled, (2 * i + 1) * span) - 1 for i in range(count)]


def read_frames(file: BinaryIO, count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a clip and take ``count`` frames evenly from it, as :func:`evenly` says.

    The frames that the decoder gives are counted; a header's count is not asked. Timestamps count if they strictly
    increase (so a variable frame rate is honoured); where they do not, as in many AVI files, all frames last equally
    long. Frames are turned upright by the nearest quarter turn, and stretched to ``size``.

    Args:
        file: open for reading, at any position.
        count: frames to take.
        size: their height and width, in pixels.

    Returns:
        ``(count, height, width, 3)`` uint8, RGB.

    Raises:
        ClipError: if it is no video, or decoding stops with an error before its end.
    """
    held: list[av.VideoFrame] | None = []
    times: list[int | None] = []
    held_pixels = last = 0
    for frame in _decode(file):
        times.append(frame.pts)
        last = frame.duration or 0
        if held is not None:
            held.append(frame)
            held_pixels += frame.width * frame.height
            if held_pixels > HELD_PIXELS:
                held = None
    if not times:
        raise ClipError("it holds no frame")
    indices = evenly(*_clock(times, last), count)
    wanted = set(indices)
    source = _decode(file) if held is None else held
    convert = Converter(size)
    pictures = {k: convert(frame) for k, frame in enumerate(source) if k in wanted}
    if len(pictures) != len(wanted):
        raise ClipError("a second pass over it gave other frames than the first")
    return np.stack([pictures[k] for k in indices])


def _clock(times: Sequence[int | None], last: int) -> tuple[Sequence[int], int]:
    """The times to go by, and how long the last frame lasts."""
    known = [time for time in times if time is not None]
    gaps = [later - earlier for earlier, later in pairwise(known)]
    if len(known) < len(times) or any(gap <= 0 for gap in gaps):
        return range(len(times)), 1
    if last <= 0:
        last = round(statistics.median(gaps)) if gaps else 1
    return known, last


def _decode(file: BinaryIO) -> Iterator[av.VideoFrame]:
    file.seek(0)
    done = 0
    try:
        with av.open(file, "r", buffer_size=2**18) as container:
            if not container.streams.video:
                raise ClipError("it holds no video")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # clips are decoded side by side instead
            for frame in container.decode(stream):
                yield frame
                done += 1
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClipError(f"decoding stopped after {done} frames: {reason}") from error


class Converter:
    """Decoded frames -> upright RGB pictures of one size."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size, self._reformatter = size, VideoReformatter()  # it keeps what it has set up for the next frame

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The picture, ``(height, width, 3)`` uint8."""
        turns = round(frame.rotation / 90) % 4  # counterclockwise, as numpy's
        height, width = self._size if turns % 2 == 0 else self._size[::-1]
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))
