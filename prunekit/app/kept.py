"""What a finished run keeps of its network: the mask, and what differs from the checkpoint that it came from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from prunekit.app.checkpoint_file import CheckpointFile, newest_readable
from prunekit.app.errors import ConfigError
from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.digests import tensor_digest
from prunekit.files import write_whole
from prunekit.masks import Mask, find_parameter

MASKS, CHANGES = "masks.safetensors", "changes.safetensors"
PARTS = ("rows", "columns", "values")


def keep(folder: Path, dense: Path, module: nn.Module, mask: Mask, start: CheckpointFile) -> dict[str, Any]:
    """Leave in a run's folder what makes its final network again from a checkpoint, and say which.

    Args:
        folder: the run's.
        dense: the dense network's checkpoint.
        module: the final network.
        mask: it is on the module.
        start: the checkpoint that the run went on from; the folder's newest is preferred.
    """
    newest = newest_readable(list_checkpoints(folder / "checkpoints")) or start
    save_masks(folder / MASKS, mask)
    save_changes(folder / CHANGES, newest.content["state_dict"], module, mask)
    paths = {"checkpoint": os.path.relpath(newest.path, folder), "dense": os.path.relpath(dense, folder)}
    return {"network": {**paths, **digests(module, mask)}}


def save_masks(path: Path, mask: Mask) -> None:
    """Write a mask as safetensors: parameter name -> bool tensor, True = kept.

    Where whole rows are kept or removed, as with units, a row is a single entry: ``(rows, 1, ...)``, which broadcasts.
    """
    content = save({name: _rows(tensor).contiguous() for name, tensor in mask.items()})
    write_whole(path, lambda file: file.write(content))


def load_masks(path: Path, module: nn.Module) -> Mask:
    """Read what :func:`save_masks` wrote, in the shapes of the module's parameters.

    Raises:
        KeyError: if ``module`` lacks a parameter.
        RuntimeError: if a shape does not fit.
    """
    return Mask({name: kept.expand(find_parameter(module, name).shape) for name, kept in load_file(path).items()})


def _rows(kept: Tensor) -> Tensor:
    first = kept[(slice(None), *[slice(1)] * (kept.dim() - 1))] if kept.numel() else kept
    return first if torch.equal(kept, first.expand_as(kept)) else kept


def save_changes(path: Path, base: Mapping[str, Tensor], module: nn.Module, mask: Mask) -> None:
    """Write what neither a checkpoint nor the mask says of a network: of each tensor the rows and columns that differ.

    Args:
        path: of the file.
        base: the state_dict of the checkpoint that the network came from.
        module: the final network.
        mask: it is on the module.
    """
    content: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        before, now = base[name].cpu(), tensor.detach().cpu()
        if name in mask:
            before = before.masked_fill(~mask[name], 0)
        differ = (before != now).reshape(len(now) if now.dim() else 1, -1)
        if differ.any():
            rows, columns = (differ.any(axis).nonzero().flatten() for axis in (1, 0))
            values = now.reshape(differ.shape)[rows][:, columns].contiguous()
            content |= {f"{name}|{part}": each for part, each in zip(PARTS, (rows, columns, values), strict=True)}
    written = save(content)
    write_whole(path, lambda file: file.write(written))


@torch.no_grad()
def load_changes(path: Path, module: nn.Module) -> None:
    """Put what :func:`save_changes` wrote into a module that has the checkpoint's weights and the mask.

    Raises:
        KeyError, RuntimeError, IndexError: if the file is of another network.
    """
    content, state = load_file(path), module.state_dict()
    for name in {key.rpartition("|")[0] for key in content}:
        rows, columns, values = (content[f"{name}|{part}"] for part in PARTS)
        whole = state[name].view(len(state[name]) if state[name].dim() else 1, -1)
        whole[rows[:, None], columns] = values.to(whole)


def load_network(
    folder: Path, module: nn.Module, base: Mapping[str, Tensor], kept: Mapping[str, str], key: str
) -> Mask:
    """Make a module the final network of a run that is finished; nothing is trained.

    Args:
        folder: the run's.
        module: of the run's class; its weights change.
        base: the state_dict of the checkpoint that the network came from.
        kept: what :func:`digests` said of the network when the run left it.
        key: of messages.

    Returns:
        The mask that is on the module, with what it holds removed entries at.

    Raises:
        ConfigError: if a file is missing or damaged, or what comes out is not the network that the run had.
    """
    accepted = "the folder of a finished run, whole, with its dense network"
    try:
        kinds = {tensor.dtype for tensor in base.values() if tensor.is_floating_point()}
        if len(kinds) == 1:  # of a run in another precision
            module.to(kinds.pop())
        module.load_state_dict(base)
        mask = load_masks(folder / MASKS, module)
        mask.apply(module)
        load_changes(folder / CHANGES, module)
    except (OSError, SafetensorError, KeyError, RuntimeError, IndexError, ValueError) as error:
        raise ConfigError(key, f"{folder} ({type(error).__name__}: {error})", accepted) from error
    mask = Mask(dict(mask), {name: find_parameter(module, name) for name in mask})
    found = digests(module, mask)
    for part, value in found.items():
        if kept.get(part) != value:
            raise ConfigError(key, f"{folder}, whose files do not make the {part} that it had", accepted)
    return mask


def digests(module: nn.Module, mask: Mask) -> dict[str, str]:
    """What the ``weights`` and the ``mask`` of a network are known by."""
    return {"weights": tensor_digest(module.state_dict()), "mask": tensor_digest(dict(mask))}
