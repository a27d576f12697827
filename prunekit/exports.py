"""A compact network as files: weights in safetensors, and a small JSON that says what it is made of.

Nothing in them is executed, and nothing of training is needed to read them.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from prunekit.errors import ConfigError
from prunekit.files import write_json, write_whole
from prunekit.models.networks import READOUTS, MlpNetwork, RecognizerNetwork
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.units.layers import GATES

M = TypeVar("M", bound=nn.Module)
NETWORK, WEIGHTS, BACKBONE = "network.json", "compact.safetensors", "backbone.safetensors"
FORMAT = 1
KEY = "export"  # of messages
Spec = dict[str, Any]
RECURRENT = {kind.__name__: kind for kind in GATES}
# Modules without weights, and the arguments that make them what they are.
PLAIN: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "ReLU": (nn.ReLU, ()),
    "Sigmoid": (nn.Sigmoid, ()),
    "Tanh": (nn.Tanh, ()),
    "Identity": (nn.Identity, ()),
    "Dropout": (nn.Dropout, ("p",)),
}
LINEAR = ("in_features", "out_features")
SIZES = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


def serialized(module: nn.Module) -> bytes:
    """A safetensors file with a module's parameters and buffers."""
    return save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})


def describe(module: nn.Module) -> Spec:
    """What a module is made of, in plain values.

    Raises:
        ValueError: if it is of a kind that cannot be described.

    Example:
        >>> describe(nn.Linear(3, 2))
        {'kind': 'Linear', 'in_features': 3, 'out_features': 2, 'bias': True}
    """
    kind = type(module).__name__
    if type(module) is nn.Linear:
        return {"kind": kind, **{name: getattr(module, name) for name in LINEAR}, "bias": module.bias is not None}
    if type(module) in RECURRENT.values():
        more = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
        return {"kind": kind, **{name: getattr(module, name) for name in SIZES}, **more}
    if type(module) is RecurrentStack:
        return {"kind": kind, "layers": [describe(layer) for layer in module.layers], "dropout": module.dropout}
    if type(module) is nn.Sequential:
        return {"kind": kind, "parts": {name: describe(part) for name, part in module.named_children()}}
    if kind in PLAIN and type(module) is PLAIN[kind][0]:
        return {"kind": kind, **{name: getattr(module, name) for name in PLAIN[kind][1]}}
    raise ValueError(f"{kind} is none of {', '.join(['Linear', *RECURRENT, 'RecurrentStack', 'Sequential', *PLAIN])}")


def construct(spec: Spec) -> nn.Module:
    """The module that :func:`describe` described, with weights that are not set.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: if it is no such description.

    Example:
        >>> construct(describe(nn.Sequential(nn.Linear(3, 2), nn.ReLU())))
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
          (1): ReLU()
        )
    """
    kind, arguments = spec["kind"], {name: value for name, value in spec.items() if name != "kind"}
    if kind == "Linear" or kind in RECURRENT:
        made: nn.Module = (RECURRENT.get(kind) or nn.Linear)(**arguments, device="meta")
        return made.to_empty(device="cpu")
    if kind == "RecurrentStack":
        layers = [construct(layer) for layer in arguments["layers"]]
        return RecurrentStack(layers, arguments["dropout"])  # type: ignore[arg-type]
    if kind == "Sequential":
        sequence = nn.Sequential()
        for name, part in arguments["parts"].items():
            sequence.add_module(name, construct(part))
        return sequence
    return PLAIN[kind][0](**arguments)


def plain_network(module: nn.Module) -> nn.Module | None:
    """One of our networks without its training; None if it is none of ours.

    A backbone is left out: the network then reads features.
    """
    if isinstance(module, RecognizerNetwork):
        return RecognizerNetwork(module.lstm, module.head, module.readout).eval()
    return MlpNetwork(module.layers).eval() if isinstance(module, MlpNetwork) else None


def _described(network: nn.Module, layers: list[str]) -> Spec:
    if isinstance(network, RecognizerNetwork):
        return {"network": "recognizer", "readout": network.readout, "layers": _parts(network, ["lstm", "head"])}
    if isinstance(network, MlpNetwork):
        return {"network": "mlp", "layers": _parts(network, ["layers"])}
    return {"network": None, "class": type(network).__name__, "layers": _parts(network, layers)}


def _parts(network: nn.Module, names: list[str]) -> dict[str, Spec]:
    return {name: describe(network.get_submodule(name)) for name in names}


def save_compact(folder: Path, network: nn.Module, layers: list[str], more: Spec) -> None:
    """Write ``network.json`` and ``compact.safetensors``.

    Args:
        folder: made if it is missing.
        network: compact: from :func:`plain_network`, or any other module, which then has to be given to
            :func:`load_compact`.
        layers: of another module the names of the layers that compaction has changed.
        more: what else the JSON should say, in plain values.

    Raises:
        ValueError: if a layer cannot be described.
    """
    content = serialized(network)
    described = _described(network, layers)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS, lambda file: file.write(content))
    sha = hashlib.sha256(content).hexdigest()
    write_json(folder / NETWORK, {"format": FORMAT, **described, "weights_sha256": sha, **more})


def read_description(folder: Path) -> Spec:
    """What ``network.json`` says.

    Raises:
        ConfigError: if it is missing, damaged or of another tool or version.
    """
    accepted = "a folder that prunekit export wrote"
    path = Path(folder) / NETWORK
    try:
        description = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(KEY, f"{folder}, which holds no {NETWORK}", accepted) from None
    except (ValueError, OSError) as error:
        raise ConfigError(KEY, f"{path}, which is damaged ({error})", accepted) from None
    if not isinstance(description, dict) or description.get("format") != FORMAT or "layers" not in description:
        got = description.get("format", "none") if isinstance(description, dict) else "none"
        raise ConfigError(KEY, f"{path} of format {got}", f"{accepted}, format {FORMAT}")
    return description


def load_compact(folder: str | Path, into: M | None = None) -> nn.Module | M:
    """Read a compact network, in evaluation mode on the CPU.

    Args:
        folder: that an export wrote.
        into: for a network that is none of prunekit's: a module of the class that was exported, of its dense size; its
            layers are replaced by smaller ones.

    Returns:
        The network, or ``into``.

    Raises:
        ConfigError: if a file is missing, damaged or from another export, or ``into`` does not fit.
    """
    description = read_description(Path(folder))
    weights = _read_weights(Path(folder) / WEIGHTS, description.get("weights_sha256"))
    try:
        parts = {name: construct(spec) for name, spec in description["layers"].items()}
        network = _assembled(description, parts, into)
        dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
        network.to(dtypes.pop() if len(dtypes) == 1 else torch.float32).load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        got = f"{folder}, whose description and weights do not make a network ({type(error).__name__}: {error})"
        raise ConfigError(KEY, got, "an export, and for a network of your own a module of its class") from None
    return network.eval()


def _assembled(description: Spec, parts: dict[str, nn.Module], into: nn.Module | None) -> nn.Module:
    makers: dict[str, Callable[[], nn.Module]] = {
        "recognizer": lambda: RecognizerNetwork(parts["lstm"], parts["head"], description["readout"]),
        "mlp": lambda: MlpNetwork(parts["layers"]),  # type: ignore[arg-type]
    }
    if description["network"] in makers:
        if description["network"] == "recognizer" and description["readout"] not in READOUTS:
            raise ValueError(f"readout {description['readout']!r}")
        return makers[description["network"]]()
    if into is None:
        raise ValueError(f"a {description['class']} is none of prunekit's networks: give one to load into")
    for name, part in parts.items():
        into.get_submodule(name)
        into.set_submodule(name, part)
    return into


def _read_weights(path: Path, sha: object) -> dict[str, Tensor]:
    accepted = "the files of one export, whole"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha:
            raise ConfigError(KEY, f"{path}, whose content is not what {NETWORK} was written with", accepted)
        return load(content)
    except (OSError, SafetensorError) as error:
        raise ConfigError(KEY, f"{path} ({error})", accepted) from None
