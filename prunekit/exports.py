"""A compact network as files: weights in safetensors, and a small JSON on what they are of.

Nothing in them is executed, nothing of training is needed to read them, and reading takes no more memory than they do.
"""

import hashlib
import json
import logging
import re
import textwrap
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from prunekit.digests import digest
from prunekit.errors import ArgumentError, check_choice
from prunekit.files import write_record, write_whole
from prunekit.models.networks import READOUTS, MlpNetwork, RecognizerNetwork
from prunekit.units.layers import CELLS, GATES, resized
from prunekit.units.links import ELEMENTWISE
from prunekit.units.size_attributes import give, read_sizes

M = TypeVar("M", bound=nn.Module)
log = logging.getLogger("prunekit")
NETWORK, WEIGHTS, BACKBONE = "network.json", "compact.safetensors", "backbone.safetensors"
FORMAT = 2
log = logging.getLogger("prunekit")
WHOLE = "the files of one export, whole"
ACTIVATIONS = {kind.__name__: kind for kind in ELEMENTWISE}
DEEP = re.compile(r"layers\.hidden\d+\.weight|lstm\.(layers\.\d+\.)?weight_hh_l\d+")  # what there is one of a layer


def serialized(module: nn.Module) -> bytes:
    """A safetensors file with a module's parameters and buffers; what has two names is there twice."""
    return save({name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()})


def write_weights(path: Path, module: nn.Module) -> str:
    """Write such a file; its SHA-256."""
    content = serialized(module)
    write_whole(path, lambda file: file.write(content))
    return hashlib.sha256(content).hexdigest()


def read_weights(path: Path, sha: object) -> dict[str, Tensor]:
    """The tensors of such a file.

    Raises:
        ArgumentError: if it is missing, damaged, or another than the one of this SHA-256.
    """
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha:
            return load(content)
        got = f"{path}, whose content is not what {NETWORK} was written with"
    except (OSError, SafetensorError) as error:
        got = f"{path} ({error})"
    raise ArgumentError("folder", got, WHOLE)


def plain_network(module: nn.Module) -> nn.Module | None:
    """One of our networks without its training; None if it is none of ours.

    A backbone is left out: the network then reads features.
    """
    if isinstance(module, RecognizerNetwork):
        return RecognizerNetwork(module.lstm, module.head, module.readout).eval()
    return MlpNetwork(module.layers).eval() if isinstance(module, MlpNetwork) else None


def save_compact(folder: Path, network: nn.Module, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write ``network.json`` and ``compact.safetensors``; what the first says.

    Args:
        folder: made if it is missing.
        network: compact, and of any class. One of prunekit's is written without its training and its backbone; any
            other one, and one of prunekit's with parts that it does not have by itself, such as an activation with
            settings, has to be given to :func:`load_compact`.
        more: what else the JSON should say, in plain values.
    """
    network = plain_network(network) or network
    if (folder / NETWORK).exists():
        log.warning("the network that was in %s is replaced", folder)
    sha = write_weights(folder / WEIGHTS, network)
    said = {"format": FORMAT, "network": _kind(network), "class": type(network).__name__, "weights_sha256": sha}
    said |= more or {}
    write_record(folder / NETWORK, said)
    return said


def read_description(folder: Path) -> dict[str, Any]:
    """What ``network.json`` says.

    Raises:
        ArgumentError: if it is missing, damaged or of another tool or version.
    """
    try:
        found = json.loads((folder / NETWORK).read_text())
        written = found.pop("digest", None)
        if found["format"] == FORMAT and written == digest(found):
            return dict(found)
        why = f"is of format {found['format']}" if found["format"] != FORMAT else "is not as it was written"
    except FileNotFoundError:
        got = f"{folder}, which has no {NETWORK}" if folder.is_dir() else f"{folder}, and there is no such folder"
        accepted = "a folder that prunekit export, prunekit shrink or small.save(folder) wrote"
        raise ArgumentError("folder", got, accepted) from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        why = f"cannot be read ({type(error).__name__}: {error})"
    raise ArgumentError("folder", f"{folder}, whose {NETWORK} {why}", f"an export of format {FORMAT}")


def load_compact(folder: str | Path, into: M | None = None) -> nn.Module | M:
    """Read a compact network, in evaluation mode on the CPU.

    Args:
        folder: that an export wrote.
        into: for a network that is none of prunekit's: a module of the class that was exported, of its dense size; its
            layers are replaced by smaller ones, and attributes that have their sizes follow. For one of prunekit's:
            None, or such a module too.

    Returns:
        The network, or ``into``.

    Raises:
        ArgumentError: if a file is missing, damaged or from another export, or ``into`` is missing or does not fit.
    """
    folder = Path(folder)
    description = read_description(folder)
    weights = read_weights(folder / WEIGHTS, description.get("weights_sha256"))
    kind, theirs = description.get("network"), f"a module of the class that was exported, {description.get('class')}"
    theirs += ", of the sizes that it had before it was made smaller"
    if into is None and kind is None:
        raise ArgumentError("into", None, theirs)
    argument, got, accepted = ("folder", folder, WHOLE) if into is None else ("into", type(into).__name__, theirs)
    ours = (MlpNetwork.__name__, RecognizerNetwork.__name__)  # which Mlp and Recognizer have in them
    if into is not None and description.get("class") not in (None, type(into).__name__, *ours):
        # Another class may have the same layers and do something else with them.
        raise ArgumentError("into", f"{type(into).__name__}, another class", theirs)
    try:
        network = _made(kind or {}, weights) if into is None else into
        _fit(network, weights)
        if into is not None:
            types = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
            into.to(device="cpu", dtype=types.pop() if len(types) == 1 else None)
        network.load_state_dict(weights, assign=into is None)
        give(network, read_sizes(description.get("sizes", [])))
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        said = textwrap.shorten(str(error), 300, placeholder=" ...")  # torch lists all tensors
        why = f"with weights that make no network of it ({type(error).__name__}: {said})"
        raise ArgumentError(argument, f"{got}, {why}", accepted) from None
    return network.eval()


def _kind(network: nn.Module) -> dict[str, str] | None:
    """What makes one of our networks beside its weights; None if that does not make this one."""
    if type(network) not in (MlpNetwork, RecognizerNetwork):
        return None
    more = {"readout": network.readout} if isinstance(network, RecognizerNetwork) else {}
    names = [type(part).__name__ for part in network.modules() if isinstance(part, ELEMENTWISE)] or ["ReLU"]
    kind = {"activation": names[0], **more}
    try:
        made = _made(kind, network.state_dict())
        _fit(made, network.state_dict())
    except (LookupError, ValueError, RuntimeError):
        return None
    return kind if repr(made) == repr(network) else None


def _made(kind: Mapping[str, str], weights: Mapping[str, Tensor]) -> nn.Module:
    """One of our networks, as deep as these weights, of width 1 and on the meta device."""
    depth = len([name for name in weights if DEEP.fullmatch(name)])
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {}
        for number in [""] if "readout" in kind else range(1, depth + 1):
            parts |= {f"hidden{number}": nn.Linear(1, 1), f"activation{number}": ACTIVATIONS[kind["activation"]]()}
        layers = nn.Sequential(OrderedDict(parts, output=nn.Linear(1, 1)))
        if "readout" not in kind:
            return MlpNetwork(layers)
        check_choice("readout", kind["readout"], READOUTS)
        return RecognizerNetwork(nn.LSTM(1, 1, depth, batch_first=True), layers, kind["readout"])


def _fit(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Replace the linear and recurrent layers for which there are weights of other sizes."""
    for name, layer in [*network.named_modules()]:
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in weights.items() if key.startswith(f"{name}.")}
        known = name and type(layer) in (nn.Linear, *GATES, *CELLS)
        if known and _sizes(layer, own) != _sizes(layer, layer.state_dict()):
            made = resized(layer, *_sizes(layer, own))
            made.load_state_dict(own, assign=True)  # takes no memory, and is refused if shapes do not agree
            made.requires_grad_(any(parameter.requires_grad for parameter in layer.parameters()))
            network.set_submodule(name, made)


def _sizes(layer: nn.Module, own: Mapping[str, Tensor]) -> tuple[int, list[int]]:
    """How many inputs a layer has that has these weights, and how many outputs or, for each layer, units."""
    if isinstance(layer, nn.RNNCellBase):
        return own["weight_ih"].shape[1], [own["weight_hh"].shape[1]]
    if not isinstance(layer, nn.RNNBase):
        return own["weight"].shape[1], [own["weight"].shape[0]]
    form = "weight_{0}_l{1}" if "weight_hh_l0" in own else "layers.{1}.weight_{0}_l0"
    widths = [own[form.format("hh", number)].shape[1] for number in range(layer.num_layers)]
    return own[form.format("ih", 0)].shape[1], widths
