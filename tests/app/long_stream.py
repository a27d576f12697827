"""A stream of hours through ``prunekit predict --stream -``: python -m tests.app.long_stream 7200, for two of them.

It is watched from outside, and what is printed is held against one pass over all of its frames at once.
"""

import os
import random
import subprocess
import sys
import tempfile
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch

from prunekit.app.predict import Predictor
from prunekit.data_modules.stream_frames import Counts, stream_frames
from tests.app.live_export import write_export

ROOT = Path(__file__).parents[2]
RATE, SIZE = 25, (32, 48)
EVERY = Fraction(28, 100)  # seconds from one frame that is looked at to the next, about what UCF101's clips have
LEVELS = (16, 60, 90, 110, 130, 160, 200, 235)  # of grey, in the container
REMEMBERS = (0.0, 2.5, 0.0, 4.0)  # gates by which a state lasts for some dozen frames
PARTS = 10


class Watched(NamedTuple):
    """What a long stream has shown.

    Attributes:
        said: seconds, labels and percentages as they were printed, when the class changed.
        wanted: the same by one pass over all frames.
        summary: what was printed at the end.
        memory: bytes that the process held after each part.
        seconds: that it was at work for each part.
    """

    said: list[tuple[float, str, float]]
    wanted: list[tuple[float, str, float]]
    summary: str
    memory: list[int]
    seconds: list[float]


def header() -> bytes:
    """Of a YUV4MPEG file."""
    return f"YUV4MPEG2 W{SIZE[1]} H{SIZE[0]} F{RATE}:1 Ip A1:1 C420jpeg\n".encode()


def frame(level: int) -> bytes:
    """A grey frame of such a file."""
    pixels = SIZE[0] * SIZE[1]
    return b"FRAME\n" + bytes([level]) * pixels + bytes([128]) * (pixels // 2)


def shown(frames: int) -> list[int]:
    """The place of each frame's level among LEVELS: scenes of one to twenty seconds."""
    draw, found = random.Random(0), []
    while len(found) < frames:
        found += [draw.randrange(len(LEVELS))] * draw.randint(RATE, 20 * RATE)
    return found[:frames]


@torch.no_grad()
def in_one_pass(export: Path, places: list[int], folder: Path) -> list[tuple[float, str, float]]:
    """What the network says of all frames at once, where its class changes."""
    predictor = Predictor(export)
    (folder / "levels.y4m").write_bytes(header() + b"".join(map(frame, LEVELS)))
    pictures = [taken.picture for taken in stream_frames(str(folder / "levels.y4m"), SIZE, Fraction(1, RATE), Counts())]
    features = torch.cat([predictor.encoder(torch.from_numpy(picture)[None]) for picture in pictures])
    moments = [(number + Fraction(1, 2)) * EVERY for number in range(int(len(places) / RATE / EVERY) + 1)]
    moments = [moment for moment in moments if moment < Fraction(len(places), RATE)]
    seen = torch.tensor([places[int(moment * RATE)] for moment in moments])
    network: Any = predictor.network
    shares = network.steps(features[seen][None])[0].softmax(1)
    found: list[tuple[float, str, float]] = []
    for moment, share in zip(moments, shares, strict=True):
        label = predictor.classes[int(share.argmax())]
        if not found or found[-1][1] != label:
            found.append((round(float(moment), 2), label, 100 * float(share.max())))
    return found


def watch(seconds: int, folder: Path) -> Watched:
    """Run so many seconds of video through the command, as fast as it takes them."""
    export = write_export(folder / "export", REMEMBERS)
    places = shown(seconds * RATE)
    command = [sys.executable, "-m", "prunekit", "predict", str(export), "--stream", "-", "--every", str(float(EVERY))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes)
    assert process.stdin is not None
    out: list[tuple[bytes, bytes]] = []
    stdin, process.stdin = process.stdin, None
    reading = threading.Thread(target=lambda: out.append(process.communicate()))
    reading.start()
    memory, spent, ready = [], [], [frame(level) for level in LEVELS]
    with stdin:
        stdin.write(header())
        for part in range(PARTS):
            for place in places[len(places) * part // PARTS : len(places) * (part + 1) // PARTS]:
                stdin.write(ready[place])
            stdin.flush()
            memory.append(int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            spent.append(sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))
    reading.join()
    printed, wrong = (text.decode() for text in out[0])
    assert (process.returncode, wrong) == (0, ""), wrong
    words = [line.split() for line in printed.splitlines() if "%" in line and " s  " in line]
    said = [(float(second), label, float(share.rstrip("%"))) for second, _, label, share, *_ in words]
    summary = printed[printed.index("stream") :]
    seconds_of_parts = [end - start for start, end in pairwise(spent)]
    return Watched(said, in_one_pass(export, places, folder), summary, memory, seconds_of_parts)


def main() -> None:
    """Watch a stream of so many seconds, and tell."""
    with tempfile.TemporaryDirectory() as folder:
        found = watch(int(sys.argv[1]), Path(folder))
    print(found.summary)
    print("MB after each tenth:", *(f"{size / 1e6:.1f}" for size in found.memory))
    print("seconds at work, second tenth to last:", *(f"{seconds:.2f}" for seconds in found.seconds))
    same = [one[:2] for one in found.said] == [one[:2] for one in found.wanted]
    apart = max(abs(one[2] - other[2]) for one, other in zip(found.said, found.wanted, strict=same))
    print(
        f"{len(found.said)} changes of class, {'at the same moments as' if same else 'OTHER THAN'} in one pass;",
        end=" ",
    )
    print(f"probabilities at most {apart:.2f} points apart, of which printing takes 0.05")


if __name__ == "__main__":
    main()
