"""What precision each promise holds at, and the one place where it is set.

- Features: ``ieee``, float32 products as they are. They are a CPU's up to the order of sums, and their recipe names the
  kind of device.
- Masked against compact: ``ieee``, 1e-6 of the largest logit in float32; with TF32 it would be 4e-5.
- Scores: float64, of what units did; what they did is in the precision that the network is trained in.
- Training: the trainer's. A GPU's convolutions and recurrent layers use TF32 unless told otherwise, matrix products
  do not (``torch.set_float32_matmul_precision``).

TF32 keeps ten bits of what is multiplied, and is cuDNN's default.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

IEEE = "ieee"


@contextmanager
def ieee() -> Iterator[None]:
    """Multiply float32 numbers as they are, on whatever GPU; then as before.

    Example:
        >>> with ieee():
        ...     torch.get_float32_matmul_precision()
        'highest'
    """
    products = torch.get_float32_matmul_precision()
    switches = list(_switches())
    before = [getattr(part, name) for part, name, _ in switches]
    torch.set_float32_matmul_precision("highest")
    for part, name, value in switches:
        setattr(part, name, value)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        for (part, name, _), value in zip(switches, before, strict=True):
            setattr(part, name, value)


def _switches() -> Iterator[tuple[Any, str, Any]]:
    """Where the precision of a GPU's products is set, by what name, and what is IEEE's there."""
    cudnn: Any = torch.backends.cudnn
    if hasattr(cudnn, "conv"):  # since torch 2.9
        for part in (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul):
            yield part, "fp32_precision", IEEE
    else:
        yield cudnn, "allow_tf32", False
