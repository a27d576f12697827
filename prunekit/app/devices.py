"""Which GPU a run or a job of a sweep takes, where there are several."""

import getpass
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prunekit import gpu
from prunekit.app.errors import ConfigError

_used: list[int] = []  # the GPU that this process had last


def accelerator(wanted: Any = "auto") -> Any:
    """What Lightning is told for ``trainer.accelerator``.

    Its own ``auto`` takes a Mac's GPU first, which has no float64: ours is a GPU of the kind that has, or the CPU.
    """
    if wanted in ("auto", "gpu") and gpu.available():
        return gpu.KIND
    return "cpu" if wanted == "auto" else wanted


def own_gpu(trainer: Mapping[str, Any]) -> int | None:
    """The number of the GPU that this process trains on, before Lightning says so; None without one.

    Example:
        >>> own_gpu({"accelerator": "cpu", "devices": [3]}) is None
        True
    """
    if accelerator(trainer.get("accelerator", "auto")) != gpu.KIND:
        return None
    devices = trainer.get("devices", 1)
    if isinstance(devices, str) and "," in devices:
        devices = [int(part) for part in devices.split(",") if part.strip()]
    rank = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    number = devices[rank] if isinstance(devices, list) and rank < len(devices) else rank
    return number if 0 <= number < gpu.module().device_count() else None


def check_one_device(trainer: Mapping[str, Any]) -> None:
    """Refuse a job of a sweep that wants several devices.

    Raises:
        ConfigError: with the reason.

    Example:
        >>> check_one_device({"devices": 1})
        >>> check_one_device({"devices": [3]})
    """
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1):
        if nodes == 1:
            return
        devices = f"{devices} on each of {nodes} nodes"
    accepted = "1 in a multirun: a job's further processes would start with its command, which is the whole sweep's. "
    raise ConfigError("trainer.devices", devices, accepted + "For several devices run one job without -m")


@contextmanager
def free_gpu(
    trainer: Mapping[str, Any], job: int, gpus: Sequence[str] | None = None, each: int = 1
) -> Iterator[int | None]:
    """Hold a GPU that no other job of this machine holds, as long as there is one; else share them by turns.

    With several jobs a GPU, a further one goes to it while it has as much memory free as each would have of it.

    Args:
        trainer: the config's; only where ``devices`` is 1 and ``accelerator`` admits a GPU is one chosen.
        job: the job's number.
        gpus: names of the GPUs that are seen; None to ask.
        each: jobs that may hold one GPU at once.

    Yields:
        The GPU's number, or None where there is nothing to choose.
    """
    gpus = visible_gpus() if gpus is None else gpus
    admits = trainer.get("accelerator") in ("auto", "gpu", gpu.KIND)
    if len(gpus) < 2 or not admits or trainer.get("devices") != 1:
        yield None
        return
    folder = Path(tempfile.gettempdir()) / f"prunekit-gpus-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    # Jobs that start together try different ones first; those of one process stay where it has memory in use already.
    first = [number for number in _used if number < len(gpus)]
    order = (*range(job % len(gpus), len(gpus)), *range(job % len(gpus)))
    for place, number in (*product(range(each), first), *product(range(each), order)):
        lock = FileLock(folder / (f"{gpus[number]}.{place}.lock" if place else f"{gpus[number]}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if place and not _has_room(number, each):
            lock.release()
            continue
        _used[:] = [number]
        try:
            yield number
        finally:
            lock.release()
        return
    _used[:] = [first[0] if first else job % len(gpus)]
    yield _used[0]


def _has_room(number: int, each: int) -> bool:
    free, whole = gpu.module().mem_get_info(number)
    return bool(free * each >= whole)


def current(number: int | None) -> AbstractContextManager[None]:
    """Make a GPU the one that ``cuda`` without a number means, such as for features; nothing for None."""
    # A process begins with the first one; asking for it would take memory on it even where nothing is to be done.
    is_it = number is None or (number == 0 and not gpu.module().is_initialized())
    return nullcontext() if is_it else gpu.module().device(number)


def visible_gpus() -> list[str]:
    """A name for each GPU that this process sees, the same in all processes of this machine."""
    count = gpu.module().device_count()
    return [str(getattr(gpu.module().get_device_properties(i), "uuid", i)) for i in range(count)] if count > 1 else []
