"""A step network as files that need none of its code: ``step.onnx``, ``step.pt2``, and ``step.json`` on both."""

import copy
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.exports import NETWORK
from prunekit.files import write_record
from prunekit.portable import has_onnx
from prunekit.step_programs import OPEN, STEP_ONNX, STEP_PT2, write_onnx, write_pt2
from prunekit.step_trials import CHUNKS, Stepped, apart_in_parts, step_network
from prunekit.stepping import State

STEP = "step.json"
FORMAT = 1
MOST_STATES, MOST_DIMENSIONS = 1_000, 8
MOST_NUMBERS = 2**26  # of one sequence's states; more would be no network but an attack on memory
TRIED_ELSEWHERE = 1e-4  # by other kernels than torch's, which add in another order
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64")
log = logging.getLogger("prunekit")


def save_step(
    folder: Path, network: nn.Module, example: torch.Tensor | None = None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a network's step files into a folder that :func:`~prunekit.exports.save_compact` wrote it to.

    Args:
        folder: of the export.
        network: in evaluation mode.
        example: sequences that it takes; None where the first recurrent layer reads them.
        more: what else ``step.json`` should say, in plain values.

    Returns:
        What ``step.json`` says.

    Raises:
        ArgumentError: if the network cannot be run step by step, or neither file can be written; with the reason.
    """
    network = copy.deepcopy(network).cpu()
    stepped = step_network(network, None if example is None else example.cpu())
    files: dict[str, str] = {}
    why = "no ONNX file: pip install 'prunekit[export]' brings what writes it"
    for name, write in ((STEP_PT2, write_pt2), (STEP_ONNX, write_onnx)):
        if name == STEP_ONNX and not has_onnx():
            log.warning(why)
            continue
        try:
            write(folder / name, network, stepped)
            content = (folder / name).read_bytes()
            _try(content, name, network, stepped)
            files[name] = hashlib.sha256(content).hexdigest()
        except Exception as error:  # exporters know not all that a network of one's own may do
            why = f"no {name}: {type(error).__name__}: {str(error).splitlines()[0]}"
            log.warning(why)
            (folder / name).unlink(missing_ok=True)
    if not files:
        raise ArgumentError("streaming", why, "a network that torch.export or torch.onnx can write")
    x = stepped.example
    free = sorted({stepped.time, 1 - stepped.time})
    said = {
        "format": FORMAT,
        "network": network_digest(folder),
        "input": {"shape": [None if d in free else n for d, n in enumerate(x.shape)], "time": stepped.time,
                  "dtype": str(x.dtype).removeprefix("torch.")},
        "each": stepped.each,
        "states": [list(state) for state in stepped.step.states],
        "files": files,
        **(more or {}),
    }  # fmt: skip
    write_record(folder / STEP, json.loads(json.dumps(said)))
    return said


def _try(content: bytes, name: str, network: nn.Module, stepped: Stepped) -> None:
    """Open a program and run it, batches and parts of other sizes than it was traced with.

    Raises:
        ValueError: if it does not take them or gives something else, as a traced network may whose code counts them.
    """
    run, states = OPEN[name](content, stepped.step.states)
    if states != stepped.step.states:
        raise ValueError("the network's own code fixes the number of sequences, as len(x) does; x.shape[0] does not")
    for batch in (1, 3):
        apart = apart_in_parts(run, network, stepped, CHUNKS[1], batch)
        if not apart <= TRIED_ELSEWHERE:
            raise ValueError(f"its outputs differ by {apart:.2g} from the network's")


def network_digest(folder: Path) -> str:
    """Of the ``network.json`` that the step files are of, and so of the weights that it names."""
    return digest(json.loads((folder / NETWORK).read_text()))


def read_step(folder: Path) -> dict[str, Any]:
    """What ``step.json`` says, with :class:`State` for its states; nothing is built of it, and no file opened.

    Raises:
        ArgumentError: if it is missing, damaged, of another export, or asks for what no network has.
    """
    accepted = f"an export with step files of format {FORMAT}, as prunekit export --streaming writes"
    try:
        found = json.loads((folder / STEP).read_text())
        written = found.pop("digest", None)
        if found["format"] != FORMAT or written != digest(found):
            why = "is of another format" if found["format"] != FORMAT else "is not as it was written"
        elif found["network"] != network_digest(folder):
            why = f"is not of the {NETWORK} beside it"
        else:
            _check(found)
            return dict(found)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        why = f"cannot be read ({type(error).__name__}: {error})"
    raise ArgumentError("folder", f"{folder}, whose {STEP} {why}", accepted)


def _check(found: dict[str, Any]) -> None:
    """Make states of plain lists, and refuse what no network has.

    Raises:
        ValueError: if it is of other types or sizes, as TypeError and LookupError are.
    """
    states = [State(str(name), tuple(shape), str(dtype)) for name, shape, dtype in found["states"]]
    given = found["input"]
    shapes = [(state.shape, state.dtype) for state in states] + [(tuple(given["shape"]), given["dtype"])]
    if not 1 <= len(states) <= MOST_STATES or len({state.name for state in states}) < len(states):
        raise ValueError(f"{len(states)} states")
    total = 0
    for shape, dtype in shapes:
        sizes = [1 if size is None else size for size in shape]
        known = dtype in DTYPES and len(sizes) <= MOST_DIMENSIONS
        if not known or not all(type(size) is int and 1 <= size <= MOST_NUMBERS for size in sizes):
            raise ValueError(f"{shape} of {dtype}")
        total += torch.Size(sizes).numel()
    if total > MOST_NUMBERS or given["shape"][:2] != [None, None] or given["time"] not in (0, 1):
        raise ValueError(f"states of {total} numbers, and sequences of {given['shape']}")
    found |= {"states": states, "files": dict(found["files"])}
    if type(found["each"]) is not bool or not all(type(sha) is str for sha in found["files"].values()):
        raise TypeError("each or files")
