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
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on from a state; a GPU keeps its own where the state was taken without one."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


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
