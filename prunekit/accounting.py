"""What a network costs, masked and compact: parameters, operations, bytes and seconds."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prunekit.exports import serialized
from prunekit.latency import medians
from prunekit.units.compaction import compact, difference
from prunekit.units.links import network_links

log = logging.getLogger("prunekit")
BATCHES = (1, 64)
TURNS = 5
LONGEST = 4.0  # seconds that one pass of one batch may take to be timed
# Beyond rounding, in whatever precision: the layers are connected otherwise than was said.
MOST_DIFFERENCE = 1e-2
_known: dict[str, tuple["Cost", "Cost"]] = {}  # of this process; what networks cost depends on their shapes alone


class Cost(TypedDict):
    """Of one network.

    Attributes:
        parameters: numbers in them.
        macs: multiply-accumulate operations of a forward pass over one sample.
        file_bytes: of a safetensors file with its parameters and buffers.
        latency: batch size -> median seconds of a forward pass; None where a pass takes too long to be timed.
    """

    parameters: int
    macs: int
    file_bytes: int
    latency: dict[str, float | None]


def account(module: nn.Module, removed: int, recurrent: Iterable[tuple[str, str]], example: Tensor) -> dict[str, Any]:
    """What results say of a masked network's cost, and of the compact one's.

    Latencies of the two are measured side by side, on the device where the module is and with this process's threads,
    once for all networks of equal shapes. Where no compact network can be made, or it turns out that layers are
    connected otherwise than it seemed, its numbers are the masked one's, and the log says why.

    Args:
        module: masked, in evaluation mode.
        removed: parameters that the mask removes.
        recurrent: names of an LSTM and of the part that makes logits of its outputs, for each LSTM that is pruned;
            which linear layer reads which is seen from ``nn.Sequential``.
        example: ``(1, ...)``, one sample, on the module's device.

    Returns:
        ``parameters``, ``macs``, ``file_bytes`` and ``latency``, each with ``dense`` and ``compact``, of parameters
        ``nonzero`` too, of multiply-adds also the compact network's ``without_empty_rows`` of recurrent layers: removed
        gates leave such rows, and torch computes them all the same. And ``compaction``: by how much the outputs differ,
        relative to the larger of 1 and the largest logit, or why there is no compact network.
        If the model cannot be measured, ``parameters`` and ``compaction`` alone.
    """
    try:
        return _account(module, removed, recurrent, example)
    except Exception as error:  # whatever a model does: it must not cost what the run has computed
        log.warning("what the network costs is not known: %s: %s", type(error).__name__, error)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        known = {"dense": parameters, "nonzero": parameters - removed, "compact": parameters}
        return {"parameters": known, "compaction": {"refused": f"{type(error).__name__}: {error}"}}


def _account(module: nn.Module, removed: int, recurrent: Iterable[tuple[str, str]], example: Tensor) -> dict[str, Any]:
    smaller, how, empty = _compacted(module, recurrent, example)
    shapes = [[(name, tensor.shape) for name, tensor in each.state_dict().items()] for each in (module, smaller)]
    key = repr((type(module), shapes, example.shape, example.dtype, example.device, torch.get_num_threads()))
    if key not in _known:
        _known[key] = _costs(module, smaller, example)
    dense, small = _known[key]
    found: dict[str, Any] = {name: {"dense": dense[name], "compact": small[name]} for name in dense}  # type: ignore[literal-required]
    found["parameters"]["nonzero"] = dense["parameters"] - removed
    found["macs"]["without_empty_rows"] = small["macs"] - empty
    return {**found, "compaction": how}


def _compacted(
    module: nn.Module, recurrent: Iterable[tuple[str, str]], example: Tensor
) -> tuple[nn.Module, dict[str, Any], int]:
    try:
        smaller = compact(module, network_links(module, recurrent)).module
        with _steps(smaller) as steps, torch.no_grad():
            apart = difference(module(example), smaller(example))
        if not apart <= MOST_DIFFERENCE:
            raise ValueError(f"outputs differ by {apart:.2g}: layers are connected otherwise than by name or sequence")
    except (ValueError, AttributeError, RuntimeError) as error:
        log.warning("no compact network: %s", error)
        return module, {"refused": str(error)}, 0
    empty = sum(n * int((w == 0).all(1).sum()) * w.shape[1] for layer, n in steps.items() for w in _weights(layer))
    return smaller, {"difference": apart}, empty


def _costs(module: nn.Module, smaller: nn.Module, example: Tensor) -> tuple[Cost, Cost]:
    networks = {"dense": module, "compact": smaller}
    latency = {str(size): _latency(networks, example.expand(size, *example.shape[1:])) for size in BATCHES}
    dense, small = (
        Cost(
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            macs=macs(network, example),
            file_bytes=len(serialized(network)),
            latency={size: found[name] for size, found in latency.items()},
        )
        for name, network in networks.items()
    )
    return dense, small


@torch.no_grad()
def _latency(networks: dict[str, nn.Module], batch: Tensor) -> dict[str, float | None]:
    batch = batch.contiguous()
    calls: dict[str, Callable[[], object]] = {name: partial(network, batch) for name, network in networks.items()}
    try:
        # One sample tells whether many would take too long.
        alone = medians({"dense": partial(networks["dense"], batch[:1])}, repeats=1)["dense"]
        if alone * len(batch) <= LONGEST:
            return dict(medians(calls, TURNS, warm=True))
    except torch.OutOfMemoryError:
        log.warning("a batch of %d does not fit into memory, so it is not timed", len(batch))
    return dict.fromkeys(networks)


def macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulate operations of one forward pass over ``example``, ``(1, ...)``, as torch counts them.

    Example:
        >>> import torch
        >>> macs(nn.Linear(3, 2), torch.zeros(1, 3)), macs(nn.LSTM(3, 2), torch.zeros(5, 1, 3))
        (6, 200)
    """
    # Whether torch counts a recurrent layer depends on the library that runs it, so those are counted here.
    with _steps(module) as steps, FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
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
        steps[layer] += outputs[0].shape[:-1].numel()

    hooks = [part.register_forward_hook(count) for part in module.modules() if isinstance(part, nn.RNNBase)]
    try:
        yield steps
    finally:
        for hook in hooks:
            hook.remove()


def _weights(layer: nn.Module) -> list[Tensor]:
    """The matrices of a recurrent layer, with a row for each gate of each unit."""
    return [parameter for name, parameter in layer.named_parameters() if name.startswith("weight")]
