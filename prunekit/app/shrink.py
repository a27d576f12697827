"""The door to shrinking: ``prunekit shrink WEIGHTS --class package.module:Class --calibrate data.npy --rate 0.5``."""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prunekit.app.door import errors_told
from prunekit.errors import ArgumentError, check_count
from prunekit.shrinking import shrink

NESTED = ("state_dict", "model_state_dict", "model_state", "model")  # where checkpoints keep their weights


def named_class(name: str, arguments: str) -> nn.Module:
    """Make a module of an importable class that the user names, which runs its code.

    Args:
        name: such as ``package.module:Class``.
        arguments: of the class, as JSON.

    Raises:
        ArgumentError: if it cannot be imported or made.
    """
    accepted = "package.module:Class, importable from here, of an nn.Module"
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # as for `python -m`
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError("--class", f"{name} ({error})", accepted) from None
    try:
        given = json.loads(arguments)
        made = found(**given) if isinstance(given, dict) else found(*given)
    except (TypeError, ValueError) as error:
        accepted = "JSON: an object or a list that the class takes"
        raise ArgumentError("--arguments", f"{arguments} ({error})", accepted) from None
    if not isinstance(made, nn.Module):
        raise ArgumentError("--class", f"{name}, which makes a {type(made).__name__}", accepted)
    return made


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights of a safetensors file or of a checkpoint, of which nothing is executed.

    Raises:
        ArgumentError: if it cannot be read or holds none.
    """
    accepted = "a safetensors file, or a checkpoint of tensors and plain values with a state_dict"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes on a damaged file
        said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()[0]  # torch writes in bold
        raise ArgumentError("weights", f"{path} ({said})", accepted) from None
    for name in ("", *NESTED):
        state = found if not name else found.get(name) if isinstance(found, Mapping) else None
        if isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values()):
            return dict(state)
    raise ArgumentError("weights", f"{path}, which holds no tensors by name", accepted)


def without_prefix(state: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Weights under a model's own names, where all have the name that it had in another module before them.

    Example:
        >>> list(without_prefix({"model.weight": torch.ones(1, 1), "model.bias": torch.ones(1)}, nn.Linear(1, 1)))
        weights: all names without their beginning, model.
        ['weight', 'bias']
    """
    first = next(iter(state), "")
    ends = [len(first) - len(name) for name in model.state_dict() if first.endswith(f".{name}")]
    for end in ends:
        own = {name[end:]: value for name, value in state.items() if name.startswith(first[:end])}
        if own.keys() == model.state_dict().keys():
            print(f"weights: all names without their beginning, {first[:end]}")
            return own
    return state


def read_batches(path: Path, size: int) -> list[Tensor]:
    """Samples of a ``.npy`` file, or of a safetensors file of one tensor, in batches.

    Raises:
        ArgumentError: if it cannot be read, or is too small.
    """
    try:
        if path.suffix == ".safetensors":
            (samples,) = load_file(path).values()
        else:
            found = np.load(path, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                raise ValueError("several arrays, in an .npz file")
            samples = torch.from_numpy(found)
    except (OSError, ValueError, TypeError, EOFError, SafetensorError) as error:
        accepted = "a .npy file, or a safetensors file of one tensor, of samples that the model is called with"
        raise ArgumentError("--calibrate", f"{path} ({str(error).partition(chr(10))[0]})", accepted) from None
    if samples.dim() < 1 or not len(samples):
        raise ArgumentError("--calibrate", f"{path}, of shape {tuple(samples.shape)}", "samples, one after the other")
    return list(torch.split(samples.float() if samples.is_floating_point() else samples.long(), size))


def read_rate(words: Sequence[str] | None) -> float | dict[str, float] | None:
    """What ``--rate`` says: a number, or one for each of some layers.

    Raises:
        ArgumentError: if it is neither.

    Example:
        >>> read_rate(["0.5"]), read_rate(["lstm.0=0.3", "lstm.1=0.6"])
        (0.5, {'lstm.0': 0.3, 'lstm.1': 0.6})
    """
    if words is None:
        return None
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        pairs = [word.rpartition("=") for word in words]
        if all(equals for _, equals, _ in pairs) and len({name for name, _, _ in pairs}) == len(words):
            return {name: float(share) for name, _, share in pairs}
    except ValueError:
        pass
    raise ArgumentError("--rate", " ".join(words), "a number from 0 to 1, or a NAME=NUMBER for each of some layers")


def main() -> None:
    """Read the command line, make a network smaller, write it."""
    parser = argparse.ArgumentParser(
        prog="prunekit shrink", description="Make a checkpoint's recurrent network smaller."
    )
    parser.add_argument("weights", type=Path, help="safetensors file or checkpoint; nothing in it is executed")
    parser.add_argument("--class", dest="name", required=True, metavar="MODULE:CLASS",
                        help="your model's class; importing it runs its code")  # fmt: skip
    parser.add_argument("--arguments", default="{}", metavar="JSON", help="what the class is made with")
    parser.add_argument("--calibrate", type=Path, required=True, metavar="FILE",
                        help=".npy or safetensors file of unlabelled samples, one after the other")  # fmt: skip
    parser.add_argument("--batch", type=int, default=32, help="samples a batch; every fourth batch is held out")
    parser.add_argument("--rate", nargs="+", metavar="SHARE",
                        help="share of each layer's units that goes; or of some: lstm.0=0.3 lstm.1=0.6")  # fmt: skip
    parser.add_argument("--tolerance", type=float, help="instead: how far outputs may be from before")
    parser.add_argument("--layers", nargs="+", help="names of the layers; all if not given")
    parser.add_argument("--out", type=Path, required=True, help="folder for compact.safetensors and network.json")
    given = parser.parse_args()
    with errors_told():
        check_count("--batch", given.batch, least=1)
        batches = read_batches(given.calibrate, given.batch)
        state, model = read_state(given.weights), named_class(given.name, given.arguments)
        try:
            model.load_state_dict(without_prefix(state, model))
        except RuntimeError as error:
            said = " ".join(line.strip() for line in str(error).splitlines()[:3])
            raise ArgumentError("weights", f"{given.weights} ({said})", f"weights of a {given.name}") from None
        if given.out.exists() and not given.out.is_dir():
            raise ArgumentError("--out", str(given.out), "a folder, or none yet")
        small = shrink(model, batches, read_rate(given.rate), tolerance=given.tolerance, layers=given.layers)
        small.save(given.out)
    made = f"{given.name.partition(':')[2]}(...)"
    print(f"\nwritten: {given.out}; in Python: prunekit.load_compact({str(given.out)!r}, into={made})")


if __name__ == "__main__":
    main()
