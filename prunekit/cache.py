"""One cache for all that is computed once: tensors by the digest of what they depend on, whole, checked and locked."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from prunekit.digests import digest, tensor_digest
from prunekit.files import write_whole
from prunekit.rank import is_rank_zero, locked_on_rank_zero

Content = dict[str, Tensor]
SECONDS_A_WRITE_MAY_TAKE = 3600.0
log = logging.getLogger("prunekit")


class Cache:
    """A folder of what was computed, one file each; any number of processes that see it may use it at once.

    A file says what it depends on and has a digest of its content: one that was damaged, or renamed, is made again.

    Args:
        folder: made when something is kept; None keeps nothing.
        context: plain values that all contents depend on, such as a fingerprint of the data.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = Cache(Path(folder))
        ...     first = cache.get({"what": "one"}, lambda: {"x": torch.ones(2)})
        ...     cache.get({"what": "one"}, lambda: {"x": torch.zeros(2)})
        {'x': tensor([1., 1.])}
    """

    def __init__(self, folder: Path | None = None, context: Mapping[str, Any] | None = None) -> None:
        self.folder, self._context = folder, dict(context or {})

    def get(
        self, inputs: Mapping[str, Any], make: Callable[[], Content], share: Callable[[Any], Any] = lambda found: found
    ) -> Content:
        """What depends on ``inputs``: found, or made and kept. Meanwhile no other process makes the same.

        Args:
            inputs: plain values on which alone it depends; where some are not plain it is made each time.
            make: makes it; called on all ranks where it is not there.
            share: gives all ranks what rank 0 has found.
        """
        path = self._path(inputs)
        if path is None:
            return make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_on_rank_zero(FileLock(path.with_name(f".{path.stem}.lock")), share):
            found: Content | None = share(self.load(inputs) if is_rank_zero() else None)
            if found is not None:
                log.info("found earlier on the same network and data, and taken from %s", path)
                return found
            made = make()
            if is_rank_zero():
                self.keep(inputs, made)
            return made

    def has(self, inputs: Mapping[str, Any]) -> bool:
        """Whether something is kept; not whether it is whole, which takes reading it."""
        path = self._path(inputs)
        return path is not None and path.is_file()

    def load(self, inputs: Mapping[str, Any]) -> Content | None:
        """What is kept; None if there is nothing, or nothing whole: a damaged file is named and deleted."""
        path = self._path(inputs)
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                written = file.metadata() or {}
            if written.get("inputs") != self._text(inputs):
                raise ValueError("it is of other inputs")
            if written.get("digest") != tensor_digest(found):
                raise ValueError("its content is not what was written")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            log.warning("%s is damaged (%s); it is made again", path, error)
            path.unlink(missing_ok=True)
            return None
        return found

    def keep(self, inputs: Mapping[str, Any], content: Content) -> None:
        """Write what depends on ``inputs``, whole or not at all."""
        if (path := self._path(inputs)) is not None:
            metadata = {"digest": tensor_digest(content), "inputs": self._text(inputs)}
            whole = save({name: tensor.detach().cpu().contiguous() for name, tensor in content.items()}, metadata)
            write_whole(path, lambda file: file.write(whole))

    def clear_remains(self) -> None:
        """Delete half-written files of processes that were killed: old ones, as others may write just now."""
        for path in self.folder.glob("*.part") if self.folder is not None else ():
            if time.time() - path.stat().st_mtime > SECONDS_A_WRITE_MAY_TAKE:
                path.unlink(missing_ok=True)

    def _text(self, inputs: Mapping[str, Any]) -> str:
        return json.dumps({**self._context, **inputs}, sort_keys=True)

    def _path(self, inputs: Mapping[str, Any]) -> Path | None:
        try:
            return None if self.folder is None else self.folder / f"{digest({**self._context, **inputs})}.safetensors"
        except TypeError:
            return None
