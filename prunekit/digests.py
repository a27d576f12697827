"""Digests of content: plain values and tensors, equal exactly when the content is."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest(content: Any) -> str:
    """Twelve hex digits of the SHA-256 over a canonical JSON text.

    Raises:
        TypeError: if it holds what is no plain value.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Twelve hex digits of the SHA-256 over names, shapes, dtypes and values: equal exactly when all are.

    Example:
        >>> one, same, other = {"w": torch.zeros(2)}, {"w": torch.zeros(2)}, {"w": torch.ones(2)}
        >>> tensor_digest(one) == tensor_digest(same), tensor_digest(one) == tensor_digest(other)
        (True, False)
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:12]
