"""``prunekit predict EXPORT --stream SOURCE``: what a recogniser sees while a video goes on."""

import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from prunekit.app.live_reader import LiveReader
from prunekit.data_modules.frames import ClipError
from prunekit.data_modules.stream_frames import DEVICES
from prunekit.errors import ArgumentError, check_count
from prunekit.models.backbone import FEATURES
from prunekit.step_files import read_step
from prunekit.streams import load_stream

if TYPE_CHECKING:
    from prunekit.app.predict import Predictor

REMEMBERED = 10_000  # frames whose times are remembered: memory does not grow with the stream
SHORTEST, LONGEST = 0.001, 3_600.0  # seconds between frames
PARTS = ("decoding", "backbone", "network")


class Seen(NamedTuple):
    """What a recogniser makes of a stream up to a frame.

    Attributes:
        second: of the stream.
        label: the likeliest class.
        probability: its share.
        frames: how many it has looked at since it began, or began anew.
    """

    second: float
    label: str
    probability: float
    frames: int


class Live:
    """An exported recogniser that looks at a stream.

    Args:
        predictor: the export, as it reads clips.
        folder: where it lies, with step files.
        by: what runs, as in :func:`~prunekit.streams.load_stream`.
        every: seconds from one frame to the next; None for what the training clips had.
        anew: frames after which the states begin anew; 0 for never.

    Attributes:
        frames: how many a clip had in training.
        steps: frames looked at.
        seconds: of the parts, for the last frames.

    Raises:
        ArgumentError: if it is no such export, or ``every`` is missing or no number of seconds.
    """

    def __init__(
        self, predictor: "Predictor", folder: Path, by: str = "weights", every: float | None = None, anew: int = 0
    ) -> None:
        own = read_step(folder)
        if own["input"]["shape"] != [None, None, FEATURES] or own["each"]:
            got = f"{folder}, whose step network reads {own['input']['shape']}"
            raise ArgumentError("folder", got, "the export of a recogniser that was trained on clips")
        self._predictor, self._stream = predictor, load_stream(folder, by)
        every = own.get("seconds") if every is None else every
        if isinstance(every, bool) or not isinstance(every, int | float) or not SHORTEST <= every <= LONGEST:
            accepted = f"seconds from one frame to the next, {SHORTEST} to {LONGEST:g}"
            raise ArgumentError("every", every, f"{accepted}; the export does not say what training had")
        self.frames = predictor.sampling.frames
        self.size, self.between = predictor.sampling.size, Fraction(every).limit_denominator(10**6)
        self._anew = check_count("anew", anew)
        self.steps = 0
        self.seconds: dict[str, deque[float]] = {part: deque(maxlen=REMEMBERED) for part in PARTS}

    @torch.no_grad()
    def watch(self, reader: LiveReader, tell: Callable[[Seen], object]) -> None:
        """Look at a stream until it ends; tell of each frame.

        Raises:
            ClipError: if it cannot be opened, stalls or is cut off.
        """
        for taken in reader:
            if self._anew and self.steps % self._anew == 0:
                self._stream.reset()
            times = [time.perf_counter()]
            features: Tensor = self._predictor.encoder(torch.from_numpy(taken.picture)[None])
            times.append(time.perf_counter())
            shares = self._stream.step(features[None])[0].softmax(0)
            times.append(time.perf_counter())
            since = 1 + (self.steps % self._anew if self._anew else self.steps)
            self.steps += 1
            spent = (taken.decoding, times[1] - times[0], times[2] - times[1])
            for part, seconds in zip(PARTS, spent, strict=True):
                self.seconds[part].append(seconds)
            best = int(shares.argmax())
            tell(Seen(taken.second, self._predictor.classes[best], float(shares[best]), since))


def summary(live: Live, reader: LiveReader, elapsed: float) -> Table:
    """What a stream took."""
    counts, size = reader.counts, reader.counts.size
    table = Table(title="stream", title_justify="left", show_header=False)
    rows = {
        "frames decoded": f"{counts.decoded:,}" + (f", {size[1]}x{size[0]}" if size else ""),
        "frames looked at": f"{live.steps:,}, one every {float(live.between):.3g} s",
        "frames dropped": f"{reader.dropped:,}",
        "packets damaged": f"{counts.damaged:,}",
        "frames a second": f"{counts.decoded / elapsed:.1f} decoded, {live.steps / elapsed:.1f} looked at",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    table.add_section()
    for part, seconds in live.seconds.items():
        if seconds:
            ordered = sorted(seconds)
            late = ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]
            table.add_row(part, f"{1000 * statistics.median(ordered):.1f} ms median, {1000 * late:.1f} ms at 95 %")
    return table


def is_live(source: str) -> bool:
    """Whether a source does not wait: a device."""
    return source.partition(":")[0] in DEVICES


def watch(live: Live, source: str, drop: bool, patience: float, show: Callable[[object], object]) -> int:
    """Watch a source: print the class as it changes, and a summary however it ends.

    Returns:
        The exit status: 0 if the source has ended, 2 if it could not be opened, stalled or was cut off.

    Raises:
        ArgumentError: if ``patience`` is no time.
    """
    if not 0 < patience < math.inf:
        raise ArgumentError("patience", patience, "a number of seconds above 0")
    reader = LiveReader(source, live.size, live.between, drop, patience)
    label, resized, started = "", 0, time.perf_counter()

    def tell(seen: Seen) -> None:
        nonlocal label, resized
        if reader.counts.resized != resized and reader.counts.size is not None:
            if not resized:
                height, width = reader.counts.size
                words = f"the source's frames are now {width}x{height}; they are stretched as those before"
                print(f"{source}: {words}", file=sys.stderr)
            resized = reader.counts.resized
        if seen.label != label:
            label = seen.label
            whole = live.frames  # of a clip in training: before, what is said means little
            early = f"  (after {seen.frames} of {whole} frames)" if seen.frames < whole else ""
            show(f"{seen.second:9.2f} s  {label}  {seen.probability:.1%}{early}")

    try:
        live.watch(reader, tell)
    except ClipError as error:
        print(f"error: {source}: {error}", file=sys.stderr)
        return 2
    finally:
        show(summary(live, reader, time.perf_counter() - started))
    if not reader.counts.decoded:
        print(f"error: {source}: it holds no frame", file=sys.stderr)
        return 2
    return 0
