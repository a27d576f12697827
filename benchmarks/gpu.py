"""What a GPU gives, beside the CPU of the same machine: ``python -m benchmarks.gpu``, on a machine that has one.

Prints steps of training, frames a second, what TF32 changes, whether training twice gives the same bits, and how many
jobs of a sweep a GPU gets done by how many run on it at once. No data is needed; the sweep wants the extra ``sweeps``.
"""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks.tables import show
from prunekit import gpu
from prunekit.latency import medians
from prunekit.models.backbone import FrozenBackbone
from prunekit.models.mlp import Mlp
from prunekit.models.recognizer import Recognizer
from prunekit.precision import ieee
from prunekit.units.compaction import compact, difference
from prunekit.units.grouping import Units
from prunekit.units.links import recurrent_link

INPUTS, STEPS, CLASSES = 512, 25, 6
EXPERIMENTS = ("experiment=digits_region", "experiment=synthetic_te")
JOBS_AT_ONCE = (1, 2, 4, 8)


def recognizer(units: int) -> Recognizer:
    torch.manual_seed(0)
    return Recognizer(INPUTS, CLASSES, partial(torch.optim.Adam, lr=0.001), units=units)


def training(module: pl.LightningModule, x: Tensor, device: str, steps: int) -> Callable[[], None]:
    """Steps of training on one batch, on a device."""
    module, x = copy.deepcopy(module).to(device), x.to(device)
    y = torch.arange(len(x), device=device) % CLASSES
    optimizer = module.configure_optimizers()

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            module.training_step((x, y)).backward()
            optimizer.step()

    return run


def epochs(steps: int = 100, units: Sequence[int] = (64, 256, 1024), repeats: int = 5) -> None:
    """Training steps by the size of the network: the small ones are what a GPU idles at."""
    rivals = {"MLP 784-100-50-10, batch 100": (Mlp([784, 100, 50, 10], partial(torch.optim.SGD, lr=0.1)), (100, 784))}
    rivals |= {f"LSTM of {number} units, batch 32": (recognizer(number), (32, STEPS, INPUTS)) for number in units}
    rows = []
    for name, (module, shape) in rivals.items():
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        found = medians({on: training(module, x, on, steps) for on in ("cpu", gpu.KIND)}, repeats)
        rows.append([name, *(f"{1000 * seconds / steps:.2f}" for seconds in found.values())])
    show("Milliseconds a step of training", ["", "CPU", "GPU"], rows)


@torch.no_grad()
def frames(size: tuple[int, int] = (240, 320), number: int = STEPS, repeats: int = 5) -> None:
    """Frames a second through the frozen backbone, a clip at a time as features are computed."""
    pictures = torch.zeros(number, *size, 3, dtype=torch.uint8)
    rows = []
    for precision in ("fp32", "bf16"):
        encoder = FrozenBackbone("untrained", "cache", precision=precision).build()
        calls = {on: partial(lambda net, x: net(x).cpu(), copy.deepcopy(encoder).to(on), pictures.to(on))
                 for on in ("cpu", gpu.KIND)}  # fmt: skip
        with ieee():
            found = medians(calls, repeats)
        rows.append([precision, *(f"{number / seconds:.0f}" for seconds in found.values())])
    show(f"Frames a second, {size[0]}x{size[1]}", ["", "CPU", "GPU"], rows)


@torch.no_grad()
def tf32(units: int = 1024, size: tuple[int, int] = (240, 320)) -> None:
    """What TF32 changes: masked against compact, and features against the CPU's."""
    masked = recognizer(units).eval()
    Units("lstm").mask(masked, torch.arange(units) < units // 2).apply(masked)
    small = compact(masked, [recurrent_link(masked, "lstm", "head")]).module
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, STEPS, INPUTS, generator=generator)
    pictures = torch.randint(0, 256, (4, *size, 3), generator=generator).to(torch.uint8)
    encoder = FrozenBackbone("untrained", "cache").build()
    theirs = encoder(pictures)
    rows = []
    for name, guard in (("ieee, as prunekit sets it", ieee), ("torch's defaults", nullcontext)):
        with guard():
            apart = difference(masked.to(gpu.KIND)(x.to(gpu.KIND)), small.to(gpu.KIND)(x.to(gpu.KIND)))
            features = encoder.to(gpu.KIND)(pictures.to(gpu.KIND)).cpu()
        rows.append([name, f"{apart:.1e}", f"{difference(theirs, features):.1e}"])
    show("Largest differences, relative to the largest value", ["", "masked, compact", "features, CPU's"], rows)


def results(folder: Path, *overrides: str) -> list[dict[str, dict[str, str]]]:
    """What runs of a command have left."""
    paths = [f"paths.runs_dir={folder}", f"paths.cache_dir={folder.parent / 'cache'}"]
    command = [sys.executable, "-m", "prunekit", "train", *paths, "trainer.enable_progress_bar=false", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/results.json"))]


def determinism(experiments: Sequence[str] = EXPERIMENTS, extra: Sequence[str] = ()) -> None:
    """Train twice, in processes and folders of their own, and compare what the networks are known by."""
    rows = []
    for experiment in experiments:
        with TemporaryDirectory() as home:
            found = []
            for number, on in enumerate(("gpu", "gpu", "cpu")):
                (one,) = results(Path(home, str(number)), experiment, f"trainer={on}", *extra)
                found.append(one["network"])
        same = {part: found[0][part] == found[1][part] for part in ("weights", "mask")}
        for part, equal in same.items():
            as_cpu = "the CPU's" if found[0][part] == found[2][part] else "another than the CPU's"
            name = f"{experiment.partition('=')[2]}, {part}"
            rows.append([name, found[0][part], found[1][part], "equal" if equal else "NOT equal", as_cpu])
    show("Trained twice, deterministic: true", ["", "first", "second", "", ""], rows)


def sweeps(at_once: Sequence[int] = JOBS_AT_ONCE, jobs: int = 16, extra: Sequence[str] = ()) -> None:
    """Jobs a minute by how many run at once on each GPU; each job trains a network of its own."""
    rows = []
    for each in at_once:
        launcher = ["hydra/launcher=processes", f"hydra.launcher.jobs_per_gpu={each}", "threads=1"]
        seeds = f"seed={','.join(map(str, range(jobs)))}"
        with TemporaryDirectory() as home:
            started = time.perf_counter()
            done = results(Path(home, "runs"), EXPERIMENTS[0], "trainer=gpu", seeds, *launcher, *extra, "-m")
            seconds = time.perf_counter() - started
        rows.append([str(each), f"{seconds:.0f}", f"{60 * len(done) / seconds:.1f}"])
    title = f"{jobs} jobs of digits_region on {gpu.module().device_count()} GPU"
    show(title, ["jobs a GPU", "seconds", "jobs a minute"], rows)


def main() -> None:
    """Print all tables."""
    if not gpu.available():
        raise SystemExit("there is no GPU here to measure")
    print(f"{gpu.name(torch.device(gpu.KIND))}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    epochs()
    frames()
    tf32()
    determinism()
    sweeps()


if __name__ == "__main__":
    main()
