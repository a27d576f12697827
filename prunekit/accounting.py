"""What a network costs, masked and compact: parameters, operations, bytes and seconds."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prunekit.exports import serialized
from prunekit.latency import Timing, medians, timings
from prunekit.precision import ieee
from prunekit.units.compaction import compact, difference
from prunekit.units.links import network_links

log = logging.getLogger("prunekit")
BATCHES = (1, 64)
TURNS = 5
LONGEST = 4.0  # seconds that one pass of one batch may take to be timed
# Beyond rounding, in whatever precision: the layers are connected otherwise than was said.
MOST_DIFFERENCE = 1e-2
Predict = Callable[[nn.Module, Any], Tensor]  # a module and inputs -> logits


def account(
    module: nn.Module,
    removed: int,
    recurrent: Iterable[tuple[str, str]],
    example: Any,
    predict: Predict = nn.Module.__call__,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What results say of a masked network's cost, and of the compact one's.

    Latencies of the two are measured side by side, on the device where the module is and with this process's threads.
    Where no compact network can be made, or it turns out that layers are connected otherwise than it seemed, its
    numbers are the masked one's, and the log says why.

    Args:
        module: masked, in evaluation mode.
        removed: parameters that the mask removes.
        recurrent: names of a recurrent layer and of the part that makes logits of its outputs, for each one that is
            pruned; which linear layer reads which is seen from ``nn.Sequential``.
        example: one sample on the module's device: a tensor ``(1, ...)``, or such tensors in a dict, tuple or list.
        predict: what makes logits of a module and such inputs; by default the module is called with them.
        known: what networks of these shapes cost, measured earlier; added to. None to measure.

    Returns:
        ``parameters``, ``macs`` (multiply-accumulate operations of a forward pass over the sample), ``file_bytes`` (of
        a safetensors file) and ``latency`` (batch size -> median seconds of a forward pass, None where it takes too
        long to be timed), each with ``dense`` and ``compact``; of parameters ``nonzero`` too, of multiply-adds also the
        compact network's ``without_empty_rows`` of recurrent layers: removed gates leave such rows, and torch computes
        them all the same. And ``compaction``: by how much the outputs differ, relative to the larger of 1 and the
        largest logit, and which layers were ``left`` as they are, or why there is no compact network.
        If the model cannot be measured, ``parameters`` and ``compaction`` alone.
    """
    try:
        smaller, how, empty = _compacted(module, recurrent, example, predict, tell=removed > 0)
        known = {} if known is None else known
        shapes = [(each, [tensor.shape for tensor in each.state_dict().values()]) for each in (module, smaller)]
        inputs = apply_to_collection(example, Tensor, lambda x: (x.shape, x.dtype, x.device))
        key = repr((type(module), shapes, inputs, torch.get_num_threads()))
        if key not in known:
            known[key] = _costs({"dense": module, "compact": smaller}, example, predict)
        found = {name: dict(value) for name, value in known[key].items()}
        found["parameters"]["nonzero"] = found["parameters"]["dense"] - removed
        found["macs"]["without_empty_rows"] = found["macs"]["compact"] - empty
        return {**found, "compaction": how}
    except Exception as error:  # whatever a model does: it must not cost what the run has computed
        log.warning("what the network costs is not known: %s: %s", type(error).__name__, error)
        count = _count(module)
        known_anyway = {"dense": count, "nonzero": count - removed, "compact": count}
        return {"parameters": known_anyway, "compaction": {"refused": f"{type(error).__name__}: {error}"}}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _compacted(
    module: nn.Module, recurrent: Iterable[tuple[str, str]], example: Any, predict: Predict, tell: bool
) -> tuple[nn.Module, dict[str, Any], int]:
    try:
        made = compact(module, network_links(module, recurrent), tell=tell)
        with _steps(made.module) as steps, torch.no_grad(), ieee():
            apart = difference(predict(module, example), predict(made.module, example))
        if not apart <= MOST_DIFFERENCE:
            raise ValueError(f"outputs differ by {apart:.2g}: layers are connected otherwise than by name or sequence")
    except (ValueError, AttributeError, RuntimeError) as error:
        log.warning("no compact network: %s", error)
        return module, {"refused": str(error)}, 0
    empty = sum(n * int((w == 0).all(1).sum()) * w.shape[1] for layer, n in steps.items() for w in _weights(layer))
    return made.module, {"difference": apart, **({"left": made.left} if made.left else {})}, empty


def _costs(networks: dict[str, nn.Module], example: Any, predict: Predict) -> dict[str, dict[str, Any]]:
    times = {str(size): _latency(networks, example, size, predict) for size in BATCHES}
    return {
        "parameters": {name: _count(network) for name, network in networks.items()},
        "macs": {name: macs(network, example, predict) for name, network in networks.items()},
        "file_bytes": {name: len(serialized(network)) for name, network in networks.items()},
        "latency": {name: {size: t and t[name].median for size, t in times.items()} for name in networks},
        "latency_quartiles": {name: {size: t and [*t[name][1:]] for size, t in times.items()} for name in networks},
    }


@torch.no_grad()
def _latency(networks: dict[str, nn.Module], example: Any, size: int, predict: Predict) -> dict[str, Timing] | None:
    try:
        # One sample tells whether many would take too long.
        alone = medians({"dense": partial(predict, networks["dense"], example)}, repeats=1)["dense"]
        if alone * size <= LONGEST:
            batch = apply_to_collection(example, Tensor, lambda x: x.expand(size, *x.shape[1:]).contiguous())
            return timings({name: partial(predict, each, batch) for name, each in networks.items()}, TURNS, warm=True)
    except torch.OutOfMemoryError:
        log.warning("a batch of %d does not fit into memory, so it is not timed", size)
    return None


def macs(module: nn.Module, example: Any, predict: Predict = nn.Module.__call__) -> int:
    """Multiply-accumulate operations of one forward pass over ``example``, one sample, as torch counts them.

    Example:
        >>> import torch
        >>> macs(nn.Linear(3, 2), torch.zeros(1, 3)), macs(nn.LSTM(3, 2), torch.zeros(5, 1, 3))
        (6, 200)
    """
    # Whether torch counts a recurrent layer depends on the library that runs it, so those are counted here.
    with _steps(module) as steps, FlopCounterMode(display=False) as counter, torch.no_grad():
        predict(module, example)
    recurrent = sum(n * weight.numel() for layer, n in steps.items() for weight in _weights(layer))
    root = type(module).__name__
    names = {f"{root}.{name}".rstrip(".") for name, layer in module.named_modules() if isinstance(layer, nn.RNNBase)}
    counts = {name: int(sum(flops.values())) for name, flops in counter.get_flop_counts().items()}
    return (counts.get("Global", 0) - sum(counts.get(name, 0) for name in names)) // 2 + recurrent


@contextmanager
def _steps(module: nn.Module) -> Iterator[Counter[nn.Module]]:
    """How many steps each recurrent layer takes meanwhile, over all sequences of a batch."""
    steps: Counter[nn.Module] = Counter()

    def count(layer: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        steps[layer] += outputs[0].data.shape[:-1].numel()  # of a tensor, or of a PackedSequence

    hooks = [part.register_forward_hook(count) for part in module.modules() if isinstance(part, nn.RNNBase)]
    try:
        yield steps
    finally:
        for hook in hooks:
            hook.remove()


def _weights(layer: nn.Module) -> list[Tensor]:
    """The matrices of a recurrent layer, with a row for each gate of each unit."""
    return [parameter for name, parameter in layer.named_parameters() if name.startswith("weight")]
