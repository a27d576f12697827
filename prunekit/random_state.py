"""The state of all global random numbers: of Python, of numpy, of torch and of the GPU in use, and of no other."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """The state as plain lists and tensors, which ``torch.load(weights_only=True)`` reads."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # the global one is what others draw from
    version, internal, gauss = random.getstate()
    state = {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    return state if device.type == "cpu" else state | {device.type: _of(device).get_rng_state(*_which(device))}


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on from a state; a GPU keeps its own where the state was taken without one."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and device.type in state:
        _of(device).set_rng_state(state[device.type], *_which(device))


def _of(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _which(device: torch.device) -> list[torch.device]:
    """The device as an argument; of a Mac's, which is one, torch does not want to be told."""
    return [] if device.type == "mps" else [device]


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, what is drawn afterwards is as if it had not been.

    Example:
        >>> before = torch.get_rng_state()
        >>> with undisturbed(torch.device("cpu")):
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
