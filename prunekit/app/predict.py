"""The door to predictions: ``prunekit predict EXPORT clip.avi ...`` says which actions an export sees.

``prunekit predict EXPORT --stream SOURCE`` says it while a video goes on.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from prunekit.app.door import errors_told
from prunekit.app.live import Live, is_live, watch
from prunekit.app.naming import run_folder
from prunekit.data_modules.features import Sampling, read_clip
from prunekit.data_modules.frames import ClipError
from prunekit.errors import ArgumentError
from prunekit.exports import BACKBONE, NETWORK, load_compact, read_description, read_weights
from prunekit.models.backbone import FEATURES, UNTRAINED, FrozenBackbone
from prunekit.streams import BY

MOST_FRAMES, MOST_PIXELS = 10_000, 8_192  # of a side; more would be no clip but an attack on memory


class Prediction(NamedTuple):
    """What a network makes of a clip.

    Attributes:
        probabilities: class -> probability, the likeliest first.
        seconds: of the parts: ``decoding``, ``backbone``, ``network``.
    """

    probabilities: dict[str, float]
    seconds: dict[str, float]


class Predictor:
    """An exported recogniser with its backbone, on the CPU.

    Args:
        folder: the export.

    Raises:
        ArgumentError: if it is no export of a recogniser of clips, or a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        description = read_description(folder)
        try:
            clips, self.classes = description["clips"], list(description["classes"])
            self.sampling = Sampling(int(clips["frames"]), (int(clips["size"][0]), int(clips["size"][1])))
            frames, sides = self.sampling
            if not (1 <= frames <= MOST_FRAMES and min(sides) >= 1 and max(sides) <= MOST_PIXELS):
                raise ValueError("no clip is sampled so")
            self.encoder = FrozenBackbone(UNTRAINED, "", **clips["backbone"]).build()
        except (LookupError, TypeError, ValueError):
            got = f"{folder / NETWORK}, which says nothing of video clips"
            raise ArgumentError("folder", got, "the export of a recogniser that was trained on clips") from None
        self.network: nn.Module = load_compact(folder)
        try:
            with torch.no_grad():
                logits = self.network(torch.zeros(1, 1, FEATURES)).shape[1]
        except RuntimeError:
            logits = 0
        if logits != len(self.classes):
            got = f"{folder}, whose network does not tell {len(self.classes)} classes by {FEATURES} features a frame"
            raise ArgumentError("folder", got, "an export that does not contradict itself")
        try:
            self.encoder.network.load_state_dict(read_weights(folder / BACKBONE, clips.get("backbone_sha256")))
        except RuntimeError as error:
            got = f"{folder / BACKBONE} ({str(error).splitlines()[0]})"
            raise ArgumentError("folder", got, "the backbone that was exported with the network") from None

    @torch.no_grad()
    def __call__(self, path: Path) -> Prediction:
        """Decode a clip and tell its action.

        Raises:
            ClipError: if it cannot be decoded.
        """
        times = [time.perf_counter()]
        frames = read_clip(path, self.sampling).frames
        times.append(time.perf_counter())
        features = self.encoder(torch.from_numpy(frames))
        times.append(time.perf_counter())
        shares = self.network(features[None])[0].softmax(0)
        times.append(time.perf_counter())
        ranked = sorted(zip(self.classes, shares.tolist(), strict=True), key=lambda pair: -pair[1])
        parts = zip(("decoding", "backbone", "network"), times, times[1:], strict=False)
        return Prediction(dict(ranked), {name: end - start for name, start, end in parts})


def _shown(path: Path, found: Prediction, top: int) -> Table:
    table = Table(title=str(path), title_justify="left", show_header=False)
    for name, share in list(found.probabilities.items())[:top]:
        table.add_row(name, f"{share:.1%}")
    table.add_section()
    for name, seconds in found.seconds.items():
        table.add_row(name, f"{1000 * seconds:.1f} ms")
    return table


def add_stream(parser: argparse.ArgumentParser) -> None:
    """Add what says how a stream is watched."""
    source = "a video file or named pipe, - for a container on standard input, or a device, such as v4l2:/dev/video0"
    parser.add_argument("--stream", metavar="SOURCE", help=f"watch this while it goes on: {source}")
    parser.add_argument("--by", choices=sorted(BY), default="weights", help="what runs the network of a stream")
    parser.add_argument("--every", type=float, help="seconds from one frame to the next; default: as in training")
    parser.add_argument("--anew", type=int, default=0, help="frames after which the network begins anew; 0: never")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds after which a silent source has stalled")
    parser.add_argument("--drop", action="store_true", help="drop frames rather than wait; a device's always are")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command and predict; exit with 2 if a clip could not be read, after all others."""
    parser = argparse.ArgumentParser(prog="prunekit predict", description="Tell the actions in video files.")
    parser.add_argument("export", type=run_folder, help="a folder that prunekit export wrote")
    parser.add_argument("clips", type=Path, nargs="*", metavar="clip", help="a video file")
    parser.add_argument("--top", type=int, default=5, help="classes shown, the likeliest first")
    add_stream(parser)
    given = parser.parse_args(arguments)
    if bool(given.clips) == bool(given.stream):
        parser.error("one of the two: clips, or --stream and a source")
    console = Console(highlight=False, soft_wrap=True)
    failed = 0
    with errors_told():
        predict = Predictor(given.export)
        if given.stream:
            live = Live(predict, given.export, given.by, given.every, given.anew)
            drop = given.drop or is_live(given.stream)
            sys.exit(watch(live, given.stream, drop, given.patience, console.print))
        for path in track(given.clips, "clips", transient=True, disable=len(given.clips) == 1):
            try:
                console.print(_shown(path, predict(path), given.top))
            except ClipError as error:
                failed += 1
                print(f"error: {path}: {error}", file=sys.stderr)
    if failed:
        sys.exit(2)


if __name__ == "__main__":
    main()
