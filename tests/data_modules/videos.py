"""Small videos and data sets whose content a test knows."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from prunekit.data_modules.synthetic_actions import write_mp4


def levels(values: list[int], size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Grey pictures, one of each level."""
    return np.stack([np.full((*size, 3), value, np.uint8) for value in values])


def write_levels(path: Path, values: list[int], size: tuple[int, int] = (32, 48)) -> Path:
    """A video whose frames are grey, one of each level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, levels(values, size))
    return path


def write_timed(path: Path, values: list[int], times: list[int], rate: int = 100) -> Path:
    """Grey frames that begin at these times, in 1/rate seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for picture, time in zip(levels(values), times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_levels(frames: np.ndarray) -> list[int]:
    """The grey levels of frames, to the nearest five."""
    return [int(5 * round(float(frame.mean()) / 5)) for frame in frames]


def write_ucf(root: Path, classes: dict[str, int], clips_of_a_group: int = 2, suffix: str = ".mp4") -> Path:
    """Clips in UCF101's layout: for each class so many groups; a brighter class has brighter clips."""
    for number, (label, groups) in enumerate(classes.items()):
        for group in range(1, groups + 1):
            for clip in range(1, clips_of_a_group + 1):
                start = 20 + 60 * number + 4 * group + clip
                name = f"{label}/v_{label}_g{group:02}_c{clip:02}{suffix}"
                write_levels(root / name, [start + 3 * step for step in range(6)])
    return root


def write_ucf_lists(
    folder: Path, clips: Path, tested: tuple[int, ...] = (1,), end: str = "\r\n", split: int = 1
) -> Path:
    """A split's lists of :func:`write_ucf`'s clips; the groups ``tested`` test."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(str(path.relative_to(clips)) for path in clips.rglob("*.*"))
    labels = sorted({name.split("/")[0] for name in names})
    (folder / "classInd.txt").write_bytes("".join(f"{i} {c}{end}" for i, c in enumerate(labels, 1)).encode())
    test = [name for name in names if any(f"_g{group:02}_" in name for group in tested)]
    train = [f"{name} {labels.index(name.split('/')[0]) + 1}" for name in names if name not in test]
    (folder / f"testlist0{split}.txt").write_bytes("".join(f"{name}{end}" for name in test).encode())
    (folder / f"trainlist0{split}.txt").write_bytes("".join(f"{name}{end}" for name in train).encode())
    return folder


def write_hmdb(root: Path, classes: dict[str, int]) -> None:
    """Clips and lists in HMDB-51's layout: for each class so many videos of two clips; the last video tests."""
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for number, (label, videos) in enumerate(classes.items()):
        lines = []
        for video in range(videos):
            for clip in range(2):
                name = f"Film!_({video})+_{label}_f_cm_np1_le_med_{clip}.avi"
                start = 20 + 60 * number + 4 * video + clip
                write_levels(root / "clips" / label / name, [start + 3 * step for step in range(6)])
                lines.append(f"{name} {2 if video == videos - 1 else 1} \n")
        (lists / f"{label}_test_split1.txt").write_text("".join(lines))
