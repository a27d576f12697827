"""One cache for all that is computed once: tensors by the digest of what they depend on, whole, checked and locked."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from prunekit.files import write_whole
from prunekit.rank import is_rank_zero, locked_on_rank_zero

Content = dict[str, Tensor]
log = logging.getLogger("prunekit")


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


class Cache:
    """A folder of what was computed, one file each; any number of processes that see it may use it at once.

    Args:
        folder: made when something is kept; None keeps nothing.
        context: plain values that all contents depend on, such as a fingerprint of the data.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = Cache(Path(folder))
        ...     first = cache.get({"what": "one"}, lambda: {"x": torch.ones(2)})
        ...     cache.get({"what": "one"}, lambda: {"x": torch.zeros(2)})
        {'x': tensor([1., 1.])}
    """

    def __init__(self, folder: Path | None = None, context: Mapping[str, Any] | None = None) -> None:
        self._folder, self._context = folder, dict(context or {})

    def get(
        self, inputs: Mapping[str, Any], make: Callable[[], Content], share: Callable[[Any], Any] = lambda found: found
    ) -> Content:
        """What depends on ``inputs``: found, or made and kept.

        Meanwhile no other process makes the same. A file whose content is not what was written is made again.

        Args:
            inputs: plain values on which alone it depends; where some are not plain it is made each time.
            make: makes it; called on all ranks where it is not there.
            share: gives all ranks what rank 0 has found.
        """
        try:
            key = digest({**self._context, **inputs})
        except TypeError:
            key = None
        if self._folder is None or key is None:
            return make()
        path = self._folder / f"{key}.safetensors"
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked_on_rank_zero(FileLock(self._folder / f".{key}.lock"), share):
            found: Content | None = share(self._read(path) if is_rank_zero() else None)
            if found is not None:
                return found
            made = make()
            if is_rank_zero():
                metadata = {"digest": tensor_digest(made), "inputs": json.dumps({**self._context, **inputs})}
                content = save({name: tensor.detach().cpu().contiguous() for name, tensor in made.items()}, metadata)
                write_whole(path, lambda file: file.write(content))
            return made

    @staticmethod
    def _read(path: Path) -> Content | None:
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                written = (file.metadata() or {}).get("digest")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged (%s); it is made again", path, error)
            return None
        if tensor_digest(found) != written:
            log.warning("%s is damaged (its content is not what was written); it is made again", path)
            return None
        log.info("taken from %s", path)
        return found
