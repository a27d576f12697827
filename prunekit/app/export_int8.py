"""``prunekit export --int8``: the compact network with int8 weights, beside float32, pruned and dense."""

import copy
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from prunekit.accounting import TURNS
from prunekit.app.rebuild import Rebuilt
from prunekit.errors import ArgumentError, check_rate
from prunekit.exports import plain_network, save_compact
from prunekit.files import read_record, write_record
from prunekit.latency import medians
from prunekit.models.backbone import FrameEncoder
from prunekit.models.networks import RecognizerNetwork
from prunekit.portable import Runner, run_onnx, write_onnx
from prunekit.quantized import check_quantizable, quantize
from prunekit.step_files import STEP, save_step
from prunekit.step_programs import STEP_INT8, STEP_ONNX, open_onnx
from prunekit.stepping import StepNetwork

INT8, COMPACT_INT8, COMPACT_ONNX = "int8.json", "compact.int8.onnx", "compact.onnx"
CALIBRATED = 512  # training samples
TESTED = 2_048  # test samples, the first
TOLERANCE = 0.01  # of calibration samples that may get another class

Rows = dict[str, dict[str, Any]]


@torch.no_grad()
def export_int8(folder: Path, rebuilt: Rebuilt, network: nn.Module, tolerance: float = TOLERANCE) -> Rows:
    """Write an int8 file beside the float32 one that it is made of, ``step.onnx`` or ``compact.onnx``.

    Args:
        folder: of the export; for a recurrent network with its step files.
        rebuilt: the run.
        network: compact, one of prunekit's.
        tolerance: the share of calibration samples, the first training samples, that may get another class than the
            float32 network gives them.

    Returns:
        What ``int8.json`` holds: for ``pruned`` and, where its weights are there, ``dense``, each in ``float32`` and
        ``int8``: ``file_bytes``, ``latency`` (seconds of one sample, of a recurrent network's step) and ``test_acc``;
        and ``changed``, the share of calibration samples that int8 gives another class.

    Raises:
        ArgumentError: if ONNX Runtime would leave it in float32, or more samples change their class than tolerated.
    """
    check_rate("int8_tolerance", tolerance)
    check_quantizable(network)
    found = {"pruned": _rows(folder, network, rebuilt)}
    changed = found["pruned"]["int8"]["changed"]
    if changed > tolerance:
        got = f"a network that gives {changed:.1%} of {CALIBRATED} calibration samples or fewer another class in int8"
        raise ArgumentError("int8", got, f"one that changes at most {tolerance:.1%} of them (--int8-tolerance)")
    dense = _dense(rebuilt)
    if dense is not None:
        with tempfile.TemporaryDirectory() as aside:
            found["dense"] = _rows(Path(aside), dense, rebuilt)
    if isinstance(network, RecognizerNetwork):
        record = read_record(folder / STEP)
        assert record is not None
        sha = hashlib.sha256((folder / STEP_INT8).read_bytes()).hexdigest()
        write_record(folder / STEP, record | {"files": record["files"] | {STEP_INT8: sha}})
    write_record(folder / INT8, found | {"tolerance": tolerance})
    return found


def _dense(rebuilt: Rebuilt) -> nn.Module | None:
    if rebuilt.dense is None:
        return None
    module = copy.deepcopy(rebuilt.module)
    module.load_state_dict(rebuilt.dense)
    return plain_network(module)


def _rows(folder: Path, network: nn.Module, rebuilt: Rebuilt) -> Rows:
    """Write what is missing, and measure both files."""
    steps = isinstance(network, RecognizerNetwork)
    names = (STEP_ONNX, STEP_INT8) if steps else (COMPACT_ONNX, COMPACT_INT8)
    source, target = (folder / name for name in names)
    x, _ = next(_samples(rebuilt, train=True))
    if steps and not (folder / STEP).exists():
        save_compact(folder, network)
        save_step(folder, network)
    if not steps and not source.exists():
        write_onnx(source, network, torch.cat([x[:1], x[:1]]))
    if not source.exists():
        raise ArgumentError("int8", f"a network of which there is no {source.name}, as was said", "a float32 network")
    quantize(source, target)
    runners = {kind: _runner(path, network) for kind, path in (("float32", source), ("int8", target))}
    one = x[:1, :1].contiguous() if steps else x[:1].contiguous()
    seconds = medians({kind: partial(run, one) for kind, run in runners.items()}, 20 * TURNS, warm=True)
    found: Rows = {}
    for kind, path in (("float32", source), ("int8", target)):
        found[kind] = {"file_bytes": path.stat().st_size, "latency": seconds[kind]}
        found[kind]["test_acc"] = _share_equal(((runners[kind](x), y) for x, y in _samples(rebuilt, train=False)))
    same = _share_equal((runners["int8"](x), runners["float32"](x).argmax(1)) for x, _ in _samples(rebuilt, train=True))
    found["int8"]["changed"] = 1 - same
    return found


def _runner(path: Path, network: nn.Module) -> Runner:
    """What a file makes of whole samples; a step network begins each with states of 0."""
    if not isinstance(network, RecognizerNetwork):
        return run_onnx(path)
    states = StepNetwork(network).states
    run, _ = open_onnx(path.read_bytes(), states)

    def whole(x: Tensor) -> Tensor:
        return run([x, *(state.zeros(len(x)) for state in states)])[0]

    return whole


def _samples(rebuilt: Rebuilt, train: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of samples, as a network without its backbone reads them, and their classes."""
    data: Any = rebuilt.data
    arrays, backbone = data.arrays, getattr(rebuilt.module, "backbone", None)
    every_x, every_y = (arrays.train_x, arrays.train_y) if train else (arrays.test_x, arrays.test_y)
    size = 4 if isinstance(backbone, FrameEncoder) else 64
    for start in range(0, min(len(every_y), CALIBRATED if train else TESTED), size):
        x = every_x[start : start + size].cpu()
        yield backbone(x) if isinstance(backbone, FrameEncoder) else x, every_y[start : start + size].cpu()


def _share_equal(pairs: Iterator[tuple[Tensor, Tensor]]) -> float:
    equal = total = 0
    for logits, classes in pairs:
        equal, total = equal + int((logits.argmax(1) == classes).sum()), total + len(classes)
    return equal / total


def int8_table(found: Mapping[str, Any]) -> Table:
    """What int8 gives and costs."""
    table = Table(title="int8 beside float32", title_justify="left")
    for name in ("", "kB", "ms", "test accuracy", "class changed"):
        table.add_column(name, justify="right" if name else "left")
    for network in ("pruned", "dense"):
        for kind, one in found.get(network, {}).items():
            changed = f"{one['changed']:.1%}" if "changed" in one else ""
            size, milliseconds = f"{one['file_bytes'] / 1000:,.0f}", f"{1000 * one['latency']:.3f}"
            table.add_row(f"{network}, {kind}", size, milliseconds, f"{one['test_acc']:.2%}", changed)
    return table
