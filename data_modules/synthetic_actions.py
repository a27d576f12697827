"""Small videos written by a program, in the layout of a real data set, so that nothing need be downloaded."""

import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from skimage.filters import gaussian

from prunekit.data_modules.clips import Clip, ClipSource
from prunekit.data_modules.ucf101 import Ucf101
from prunekit.digests import digest
from prunekit.errors import ArgumentError, check_count

CLASSES = ("Brighten", "Darken", "Grow", "Shrink", "Coarsen", "Refine")
CLIPS_OF_A_VIDEO = 2
TEST_GROUPS = (0, 4)  # of four groups the first tests
VERSION = 1  # of how clips are drawn; another one is another folder


class SyntheticActions(ClipSource):
    """Six actions that differ only in how a picture changes: brightness, the size of a disc, the grain of a texture.

    They come in pairs that run in opposite directions, so that no single frame tells them apart. Real mp4 files in
    UCF101's layout, with lists for ``official1``: clips of one group share background, colours and place, as clips
    cut from one video do.

    Args:
        cache_dir: a writable folder; the clips are written to ``<cache_dir>/synthetic_actions`` once.
        groups: videos a class, of two clips each.
        frames: frames of a clip.
        frame_size: their height and width, in pixels, even.
        seed: of all that is drawn.

    Raises:
        ArgumentError: if a value is not accepted.
    """

    synthetic = True

    def __init__(
        self, cache_dir: str, groups: int = 16, frames: int = 30, frame_size: tuple[int, int] = (96, 128), seed: int = 0
    ) -> None:
        check_count("groups", groups, least=5)
        check_count("frames", frames, least=2)
        for side in frame_size:
            if check_count("frame_size", side, least=32) % 2:
                raise ArgumentError("frame_size", list(frame_size), "even numbers of pixels")
        self.groups, self.frames, self.frame_size = groups, frames, (frame_size[0], frame_size[1])
        self.seed = check_count("seed", seed)
        self.root = Path(cache_dir) / "synthetic_actions" / digest([VERSION, groups, frames, *frame_size, seed])

    def clips(self) -> list[Clip]:
        """All clips, written if they are not there yet."""
        return self._written().clips()

    def classes(self) -> list[str]:
        """The six actions."""
        return list(CLASSES)

    def official(self, number: int) -> Mapping[str, str]:
        """Split 1: every fourth group tests."""
        return self._written().official(number) if number == 1 else super().official(number)

    def _written(self) -> Ucf101:
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.root}.lock"):
                if not self.root.is_dir():  # written aside, then renamed: it is there whole or not at all
                    aside = self.root.with_name(f".{self.root.name}.part")
                    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
                    self._write(aside)
                    aside.rename(self.root)
        except OSError as error:
            raise ArgumentError("cache_dir", f"{self.root} ({error})", "a folder that can be written") from error
        return Ucf101(str(self.root / "clips"), str(self.root / "lists"))

    def _write(self, root: Path) -> None:
        parts: dict[str, list[str]] = {"train": [], "test": []}
        (root / "lists").mkdir(parents=True)
        for number, label in enumerate(CLASSES):
            (root / "clips" / label).mkdir(parents=True)
            for group in range(self.groups):
                for take in range(CLIPS_OF_A_VIDEO):
                    name = f"{label}/v_{label}_g{group + 1:02}_c{take + 1:02}.mp4"
                    video = draw(label, self.frames, self.frame_size, (self.seed, number // 2, group), take)
                    write_mp4(root / "clips" / name, video)
                    parts["test" if group % TEST_GROUPS[1] == TEST_GROUPS[0] else "train"].append(name)
        names = "".join(f"{number} {label}\n" for number, label in enumerate(CLASSES, start=1))
        (root / "lists" / "classInd.txt").write_text(names)
        for part, listed in parts.items():
            (root / "lists" / f"{part}list01.txt").write_text("".join(f"{name}\n" for name in listed))


def draw(label: str, frames: int, size: tuple[int, int], group: tuple[int, ...], take: int) -> NDArray[np.uint8]:
    """The pictures of one clip: ``(frames, height, width, 3)`` uint8.

    Args:
        label: one of ``CLASSES``.
        frames: how many.
        size: height and width.
        group: what decides background, colours and place; the two directions of a change share these.
        take: what decides speed and noise within a group.
    """
    height, width = size
    place = np.random.default_rng(group)
    noise = np.random.default_rng([*group, take, CLASSES.index(label)])
    background = gaussian(place.random((height, width, 3)), sigma=(4, 4, 0))
    background = (background - background.min()) / np.ptp(background)
    tint = place.uniform(0.6, 1.0, 3)
    centre = place.uniform(0.4, 0.6, 2) * size
    grain = place.random((height, width, 1))
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - centre[0], columns - centre[1])[..., None]
    change = np.linspace(0.0, 1.0, frames) ** noise.uniform(0.8, 1.25)
    if label in ("Darken", "Shrink", "Refine"):
        change = change[::-1]
    pictures = []
    for amount in change:
        light, radius, blur = 0.6, 0.2, 1.0
        if label in ("Brighten", "Darken"):
            light = 0.1 + 0.9 * amount
        elif label in ("Grow", "Shrink"):
            radius = 0.04 + 0.46 * amount
        else:
            blur = 0.5 + 5.5 * amount
        texture = gaussian(grain, sigma=(blur, blur, 0))
        texture = (texture - texture.mean()) / texture.std()
        picture = (0.5 + 0.15 * texture) * (0.5 + 0.5 * background)
        picture = np.where(distance < radius * height, tint, picture) * light
        pictures.append(picture + noise.normal(0, 0.02, picture.shape))
    return (255 * np.clip(pictures, 0, 1)).round().astype(np.uint8)


def write_mp4(path: Path, video: NDArray[np.uint8], rate: int = 25) -> None:
    """Write pictures ``(frames, height, width, 3)`` uint8 RGB as MPEG-4 video; the path's ending is the container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.height, stream.width, stream.pix_fmt = video.shape[1], video.shape[2], "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 3
        stream.codec_context.thread_count = 1
        for picture in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
