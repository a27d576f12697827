"""``prunekit export --streaming``: a run's network for streams, beside what reads whole clips."""

import statistics
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from prunekit.data_modules.frames import ClipError
from prunekit.data_modules.stream_frames import seconds_of
from prunekit.errors import ArgumentError
from prunekit.files import read_record, write_record
from prunekit.models.networks import RecognizerNetwork
from prunekit.step_files import STEP, save_step
from prunekit.step_trials import STEPS, TOLERANCE
from prunekit.streams import BY, Stream, load_stream
from prunekit.units.compaction import difference

CLIPS = 64  # training clips whose length is looked up
TIMED = 200  # steps


def export_steps(folder: Path, network: nn.Module, dense: nn.Module, data: Any, x: Tensor) -> dict[str, dict[str, Any]]:
    """Write the step files of a run's network, and hold them against the masked network.

    Args:
        folder: of the export, with what reads whole clips.
        network: compact.
        dense: the masked network.
        data: the run's data module, for the time between frames.
        x: test clips, as the network reads them.

    Returns:
        For each way to run it ``file_bytes``, the largest ``difference`` from the masked network's logits after a
        clip's last step, and the median seconds of a step of one clip (``latency``); also in ``step.json``.

    Raises:
        ArgumentError: if the network cannot be run step by step, or a file gives other logits.
    """
    between = seconds_between_frames(data)
    several = x.repeat(2, -(-STEPS // x.shape[1]), 1) if isinstance(network, RecognizerNetwork) else x
    said = save_step(folder, network, several, {"seconds": between})
    ways = ["weights"] if isinstance(network, RecognizerNetwork) else []
    ways += [by for by, name in BY.items() if name in said["files"]]
    found = {}
    for by in ways:
        stream = load_stream(folder, by)
        whole, along = dense(x), said["input"]["time"]
        steps = [stream.step(x.narrow(along, step, 1)) for step in range(x.shape[along])]
        apart = difference(whole, torch.cat(steps, along) if said["each"] else steps[-1])
        if not apart <= TOLERANCE:
            got = f"{BY[by] or by}, whose logits differ by {apart:.2g} from the masked network's"
            accepted = f"at most {TOLERANCE:g}, relative to the larger of 1 and the largest logit"
            raise ArgumentError("run", got, accepted)
        size = (folder / BY[by]).stat().st_size if BY[by] else 0
        found[by] = {"file_bytes": size, "difference": apart, "latency": _seconds(stream, x, along)}
    record = read_record(folder / STEP)
    assert record is not None
    write_record(folder / STEP, record | {"check": found})
    return found


def seconds_between_frames(data: Any) -> float | None:
    """The median, over training clips, of a clip's length divided by the frames that are taken from it.

    None where the data are no clips, or none of them tells.
    """
    if not hasattr(data, "sampling"):
        return None
    clips = data.made_split.train
    lengths = _lengths(clip.path for clip in clips[:: max(1, len(clips) // CLIPS)])
    return float(statistics.median(lengths) / data.sampling.frames) if lengths else None


def _lengths(paths: Iterable[Path]) -> list[Fraction]:
    found = []
    for path in paths:
        try:
            found.append(seconds_of(path))
        except ClipError:
            continue
    return found


def _seconds(stream: Stream, x: Tensor, along: int) -> float:
    stream.reset()
    one = x.narrow(1 - along, 0, 1).narrow(along, 0, 1).contiguous()
    return statistics.median(_timed(lambda: stream.step(one)) for _ in range(TIMED))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def steps_table(found: dict[str, dict[str, Any]]) -> Table:
    """What was written for streams."""
    table = Table(title="step by step, a clip at a time", title_justify="left")
    table.add_column("")
    for by in found:
        table.add_column(Path(BY[by]).suffix or "weights", justify="right")
    table.add_row("kB", *(f"{one['file_bytes'] / 1000:,.0f}" if one["file_bytes"] else "-" for one in found.values()))
    table.add_row("difference", *(f"{one['difference']:.1e}" for one in found.values()))
    table.add_row("ms, a step", *(f"{1000 * one['latency']:.3f}" for one in found.values()))
    return table
