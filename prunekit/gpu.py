"""Which kind of GPU is used where a user leaves it open, and what is asked of it."""

from typing import Any

import torch
from torch import Tensor

# What `auto` means where there is one. Macs' GPUs (mps) have no float64, so that they are taken by name alone.
KIND = "cuda"
WITHOUT_FLOAT64 = {"mps"}


def module(kind: str | None = None) -> Any:
    """What torch has for one kind of device, such as ``torch.cuda``."""
    return torch.get_device_module(KIND if kind is None else kind)


def available() -> bool:
    """Whether there is a GPU of the kind that ``auto`` means."""
    return bool(module().is_available())


def name(device: torch.device) -> str:
    """What a GPU calls itself; its kind, where it says nothing."""
    of = module(device.type)
    return str(of.get_device_name(device)) if hasattr(of, "get_device_name") else device.type


def wait() -> None:
    """Wait until GPUs have done what they were given; one that this process has not used is left alone."""
    if available() and module().is_initialized():
        module().synchronize()
    if torch.backends.mps.is_available():
        torch.mps.synchronize()


def float64(tensor: Tensor) -> Tensor:
    """The tensor in float64: on its own device, or on the CPU where that has none.

    Example:
        >>> float64(torch.ones(1)).dtype
        torch.float64
    """
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()
