"""Clips: decoding, features, memory, a warm start, and what caching features saves in training."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torchvision.models import resnet18

from benchmarks.tables import show
from prunekit.data_modules.clip_frames import ClipFrames
from prunekit.data_modules.features import ClipHashes, Sampling, extract, feature_cache, read_clip
from prunekit.data_modules.frames import evenly, read_frames
from prunekit.data_modules.synthetic_actions import SyntheticActions, write_mp4
from prunekit.latency import medians
from prunekit.models.backbone import MEAN, STD, FrameEncoder, FrozenBackbone
from prunekit.models.recognizer import Recognizer

SAMPLING = Sampling(25, (240, 320))


def some_clips(count: int, folder: Path) -> list[Path]:
    """Real clips where there are some, else synthetic ones of the same size."""
    real = sorted(Path(os.environ.get("PRUNEKIT_DATA_DIR", "data"), "ucf101", "clips").rglob("*.avi"))
    found = real or [clip.path for clip in SyntheticActions(str(folder), frames=150, frame_size=(240, 320)).clips()]
    return found[:: max(1, len(found) // count)][:count]


def decode_with_pyav(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return read_frames(file, *SAMPLING)


def decode_with_opencv(path: Path) -> np.ndarray:
    """All frames are decoded, as the header's count is not to be trusted; those wanted are converted."""
    import cv2

    video, frames = cv2.VideoCapture(str(path)), []
    while video.grab():
        frames.append(video.retrieve()[1])
    wanted = [frames[k] for k in evenly(range(len(frames)), 1, 25)]
    return np.stack([cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (320, 240)) for frame in wanted])


def decode_with_torchcodec(path: Path) -> torch.Tensor:
    """Its exact mode, which counts frames by a scan of the file."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    count = decoder.metadata.num_frames
    assert count is not None
    return decoder.get_frames_at(evenly(range(count), 1, 25)).data


def decoding(paths: list[Path], repeats: int) -> None:
    """One thread, 25 frames a clip."""
    rivals: dict[str, Callable[[Path], object]] = {"prunekit (PyAV)": decode_with_pyav}
    for name, module, rival in (
        ("OpenCV", "cv2", decode_with_opencv),
        ("torchcodec", "torchcodec", decode_with_torchcodec),
    ):
        if importlib.util.find_spec(module):
            try:
                rival(paths[0])
                rivals[name] = rival
            except (RuntimeError, ImportError, OSError) as error:
                print(f"{name} is left out: {str(error).splitlines()[0]}")
    found = medians(
        {name: partial(lambda f: [f(path) for path in paths], rival) for name, rival in rivals.items()}, repeats
    )
    base = found["prunekit (PyAV)"]
    rows = [[name, f"{len(paths) / seconds:.0f}", f"{seconds / base:.2f}"] for name, seconds in found.items()]
    show(f"Decoding 25 frames of each of {len(paths)} clips", ["", "clips/s", "time against prunekit's"], rows)


def plain_loop(paths: list[Path]) -> None:
    """What one writes first: torchvision's network as it is, in fp32, one clip after the other."""
    network = resnet18().eval()
    network.fc = torch.nn.Identity()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        for path in paths:
            frames = torch.from_numpy(decode_with_pyav(path)).permute(0, 3, 1, 2)
            network((frames / 255 - mean) / std)


def extraction(paths: list[Path], repeats: int) -> None:
    """From files to cached features, against the plain loop and against the network alone."""
    frames = [torch.from_numpy(decode_with_pyav(path)) for path in paths]

    def cached(precision: str) -> None:
        backbone = FrozenBackbone("untrained", "", precision=precision)
        encoder = backbone.build()
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            cache, hashes = feature_cache(Path(folder), {}), ClipHashes(Path(folder))
            extract(paths, SAMPLING, lambda: encoder, cache, hashes, decoders=os.cpu_count() or 1)

    def bare(precision: str) -> None:
        encoder = FrozenBackbone("untrained", "", precision=precision).build()
        with torch.no_grad():
            for clip in frames:
                encoder(clip)

    rivals = {
        "plain fp32 loop, clip by clip": partial(plain_loop, paths),
        "prunekit, fp32": partial(cached, "fp32"),
        "prunekit, bf16": partial(cached, "bf16"),
        "the network alone, fp32": partial(bare, "fp32"),
        "the network alone, bf16": partial(bare, "bf16"),
    }
    found = medians(rivals, repeats)
    plain = found["plain fp32 loop, clip by clip"]
    rows = []
    for name, seconds in found.items():
        alone = found[f"the network alone, {name[-4:]}"] / seconds if name.startswith("prunekit") else None
        rate = 25 * len(paths) / seconds
        rows.append([name, f"{rate:.1f}", f"{plain / seconds:.2f}", f"{alone:.0%}" if alone else ""])
    columns = ["", "frames/s", "against the plain loop", "of the network alone"]
    show(f"Features of {len(paths)} clips, 25 frames of 240x320 each", columns, rows)


def warm_start(paths: list[Path], repeats: int) -> None:
    """Finding and reading all features again, as each run does."""
    with tempfile.TemporaryDirectory() as folder:
        cache = feature_cache(Path(folder), {})
        some = torch.randn(25, 512)
        hashes = ClipHashes(Path(folder))
        for path in paths:
            read = read_clip(path, SAMPLING, known=lambda sha: True)
            cache.keep({"clip": read.sha}, {"features": some})
            hashes.add(path, read.stat, read.sha)
        hashes.flush()

        def start() -> None:
            known = ClipHashes(Path(folder))
            found = (cache.load({"clip": known.get(path)}) for path in paths)
            torch.stack([content["features"] for content in found if content is not None])

        found = medians({"start": start}, repeats * 3)
    show("A start on a warm cache", ["clips", "seconds"], [[str(len(paths)), f"{found['start']:.3f}"]])


def training(paths: list[Path], repeats: int) -> None:
    """An epoch of the recogniser on cached features, against one through the backbone, frozen and trained."""
    hashes = [(path, read_clip(path, SAMPLING, known=lambda sha: True).sha) for path in paths]
    frames = ClipFrames(hashes, SAMPLING, os.cpu_count() or 1)
    features = torch.randn(len(paths), 25, 512)
    y = torch.arange(len(paths)) % 2

    def epoch(backbone: FrameEncoder | None) -> Callable[[], None]:
        net = Recognizer(512, 2, partial(torch.optim.Adam, lr=0.001), backbone=backbone)
        optimizer = net.configure_optimizers()

        def run() -> None:
            for part in torch.arange(len(paths)).split(4):
                x = features[part] if backbone is None else frames[part]
                loss = net.training_step((x, y[part]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return run

    rivals = {
        "on cached features": epoch(None),
        "through the frozen backbone": epoch(FrameEncoder("untrained", "", trainable=True).freeze()),
        "through the backbone, trained too": epoch(FrameEncoder("untrained", "", trainable=True)),
    }
    found = medians(rivals, repeats)
    base = found["on cached features"]
    rows = [[name, f"{seconds:.2f}", f"{seconds / base:.0f}"] for name, seconds in found.items()]
    show(f"An epoch of {len(paths)} clips, batches of 4", ["", "seconds", "ratio"], rows)


def memory(counts: tuple[int, int] = (300, 3000)) -> None:
    """The peak memory of a process that computes features of so many small, distinct clips."""
    rows = []
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.clips", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append([str(count), done.stdout.split()[-1]])
    show("Peak memory while features are computed", ["clips of 64x64", "MB"], rows)


def peak_memory(count: int) -> None:
    """Compute features of ``count`` clips and print this process's peak memory in MB."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        paths = [Path(folder, f"{number}.mp4") for number in range(count)]
        for path in paths:
            write_mp4(path, random.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8))
        encoder = FrozenBackbone("untrained", "").build()
        cache, hashes = feature_cache(Path(folder), {}), ClipHashes(Path(folder))
        extract(paths, Sampling(8, (64, 64)), lambda: encoder, cache, hashes, decoders=2)
        assert len(list(cache.folder.rglob("*.safetensors"))) == count
    # Not getrusage, whose peak counts the process that started this one.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(line.split()[1]) // 1024)


def main(repeats: int = 3) -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        decoding(some_clips(60, Path(folder)), repeats)
        extraction(some_clips(20, Path(folder)), repeats)
        warm_start(some_clips(300, Path(folder)), repeats)
        training(some_clips(8, Path(folder)), repeats)
        memory()
        print(f"measured in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        peak_memory(int(sys.argv[1]))
    else:
        main()
