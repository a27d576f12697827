"""Which GPU a job of a sweep takes, where there are several."""

import getpass
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from prunekit.app.errors import ConfigError


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
def free_gpu(trainer: Mapping[str, Any], job: int, gpus: Sequence[str] | None = None) -> Iterator[int | None]:
    """Hold a GPU that no other job of this machine holds, as long as there is one; else share them by turns.

    Args:
        trainer: the config's; only where ``devices`` is 1 and ``accelerator`` admits a GPU is one chosen.
        job: the job's number.
        gpus: names of the GPUs that are seen; None to ask.

    Yields:
        The GPU's number, or None where there is nothing to choose.
    """
    gpus = visible_gpus() if gpus is None else gpus
    if len(gpus) < 2 or trainer.get("accelerator") not in ("auto", "gpu", "cuda") or trainer.get("devices") != 1:
        yield None
        return
    folder = Path(tempfile.gettempdir()) / f"prunekit-gpus-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    # Jobs that start together try different ones first.
    for number in (*range(job % len(gpus), len(gpus)), *range(job % len(gpus))):
        lock = FileLock(folder / f"{gpus[number]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield number
        finally:
            lock.release()
        return
    yield job % len(gpus)


def current(gpu: int | None) -> AbstractContextManager[None]:
    """Make a GPU the one that ``cuda`` without a number means, such as for features; nothing for None."""
    return torch.cuda.device(-1 if gpu is None else gpu)


def visible_gpus() -> list[str]:
    """A name for each GPU that this process sees, the same in all processes of this machine."""
    count = torch.cuda.device_count()
    return [str(getattr(torch.cuda.get_device_properties(i), "uuid", i)) for i in range(count)] if count > 1 else []
