"""What recurrent and linear layers of a network read and give while a batch passes, one row a valid step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from prunekit.calibration import Calibration
from prunekit.units.layers import resized, suffixes
from prunekit.units.parts import KINDS, Key


class Steps(NamedTuple):
    """What a part did at the steps of one call.

    Attributes:
        inputs: ``(n, inputs)``, what it read at each step.
        earlier: ``(n, units)``, its own outputs one step before, or the states that it was handed; a linear layer has
            none, ``(n, 0)``.
        outputs: ``(n, units)``.
        places: ``(n, 2)`` int64 on the CPU, which sequence of the batch, and which step of it; of a linear layer, whose
            rows may be anything, ``(n, 0)``.
    """

    inputs: Tensor
    earlier: Tensor
    outputs: Tensor
    places: Tensor


@contextmanager
def watching(module: nn.Module, layers: Sequence[str], valid: Tensor | None = None) -> Iterator[dict[Key, list[Steps]]]:
    """Take down meanwhile what layers do, call by call; steps of packed sequences are the valid ones alone.

    Of a recurrent module of several layers the inner ones are computed once more, without dropout.

    Args:
        module: the network.
        layers: names of ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` without projection, of their cells, or of ``nn.Linear``.
        valid: ``(N, T)`` bool, which steps of padded sequences are no padding; the others are left out. A cell's n-th
            call is taken for the n-th step.

    Yields:
        What fills as the module is called: the part's layer, number and direction -> its calls.

    Example:
        >>> net = nn.GRU(2, 3, num_layers=2)
        >>> with torch.no_grad(), watching(net, [""]) as seen:
        ...     _ = net(torch.zeros(5, 4, 2))
        >>> [(key, call.inputs.shape[1], len(call.outputs)) for key, (call,) in seen.items()]
        [(('', 0, 0), 2, 20), (('', 1, 0), 3, 20)]
    """
    seen: dict[Key, list[Steps]] = {}

    def take(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], outputs: Any) -> None:
            x = inputs[0] if inputs else named["input"]
            hx = named.get("hx", inputs[1] if len(inputs) > 1 else None)
            if isinstance(layer, nn.RNNBase):
                for key, steps in stack_steps(layer, x, hx).items():
                    padded = None if isinstance(x, PackedSequence) else valid
                    seen.setdefault((name, *key), []).append(_only(steps, padded))
                return
            calls = seen.setdefault((name, 0, 0), [])
            if isinstance(layer, nn.RNNCellBase):
                step = valid[:, len(calls)] if valid is not None and len(calls) < valid.shape[1] else None
                calls.append(_only(_cell_steps(layer, x, hx, outputs, len(calls)), step))
            else:
                rows = x.reshape(-1, x.shape[-1])
                places = torch.empty(len(rows), 0, dtype=torch.int64)
                turned = valid.T if valid is not None and x.shape[:-1] == valid.T.shape != valid.shape else valid
                calls.append(_only(Steps(rows, rows[:, :0], outputs.reshape(-1, outputs.shape[-1]), places), turned))

        return hook

    hooks = [module.get_submodule(name).register_forward_hook(take(name), with_kwargs=True) for name in layers]
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()


def watch_batches(
    module: nn.Module, layers: Sequence[str], calibration: Calibration
) -> Iterator[tuple[Any, dict[Key, list[Steps]]]]:
    """Each batch, and what layers did while it passed; see :func:`watching`.

    Args:
        module: the network.
        layers: their names; those of several parts may be there as often.
        calibration: the batches, and how the network takes one.

    Example:
        >>> batches = Calibration([torch.zeros(5, 4, 2)] * 2, predict=lambda net, batch: (net(batch), None))
        >>> with torch.no_grad():
        ...     [len(seen["", 0, 0][0].outputs) for _, seen in watch_batches(nn.GRU(2, 3), ["", ""], batches)]
        [20, 20]
    """
    for batch in calibration.batches:
        with watching(module, list(dict.fromkeys(layers)), calibration.valid_steps(batch)) as seen:
            calibration.predict(module, batch)
        yield batch, seen


def tensors(given: Any) -> list[Tensor]:
    """The tensors in tuples, lists, mappings, data classes and other objects, whatever is nested in what.

    Example:
        >>> tensors({"a": [torch.tensor(1)], "b": nn.Identity()})
        [tensor(1)]
    """
    found: list[Tensor] = []
    for leaf in tree_leaves(given):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):
            found += tensors(list(leaf.values()))
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module | type) and not callable(leaf):
            found += tensors(list(vars(leaf).values()))
    return found


def floating(given: Any) -> list[Tensor]:
    """Those of floating-point numbers."""
    return [each for each in tensors(given) if each.is_floating_point()]


def _only(steps: Steps, valid: Tensor | None) -> Steps:
    """The valid steps, where there are as many as are told of."""
    if valid is None or valid.numel() != len(steps.inputs):
        return steps
    return Steps(*(each[valid.reshape(-1).to(each.device)] for each in steps))


def stack_steps(layer: nn.RNNBase, x: Tensor | PackedSequence, hx: Any) -> dict[tuple[int, int], Steps]:
    """What each layer and direction of a recurrent module does with a batch.

    Args:
        layer: without projection.
        x: what it is called with: a batch of sequences, padded or packed, or one sequence.
        hx: the states that it is called with; None for 0.
    """
    found = {}
    lengths = x.batch_sizes if isinstance(x, PackedSequence) else None
    data = x.data if isinstance(x, PackedSequence) else x
    single = lengths is None and data.dim() == 2  # one sequence, without a batch's dimension
    if single:
        data = data[None]
    elif lengths is None and not layer.batch_first:
        data = data.transpose(0, 1)
    samples = int(lengths[0]) if lengths is not None else len(data)
    directions = len(suffixes(layer))
    if hx is None:
        zero = data.new_zeros(layer.num_layers * directions, samples, layer.hidden_size)
        states = [zero, zero] if isinstance(layer, nn.LSTM) else [zero]
    else:
        states = [each[:, None] if single else each for each in (hx if isinstance(hx, tuple) else (hx,))]
        if isinstance(x, PackedSequence) and x.sorted_indices is not None:
            states = [each.index_select(1, x.sorted_indices) for each in states]
    places = _places(data, lengths, x.sorted_indices if isinstance(x, PackedSequence) else None)
    for number in range(layer.num_layers):
        first = [each[number * directions : (number + 1) * directions].contiguous() for each in states]
        start: Any = tuple(first) if isinstance(layer, nn.LSTM) else first[0]
        outputs = _alone(layer, number)(data if lengths is None else PackedSequence(data, lengths), start)[0]
        outputs = outputs if lengths is None else outputs.data
        for direction, each in enumerate(torch.split(outputs, layer.hidden_size, dim=-1)):
            earlier = _earlier(each, first[0][direction], lengths, reverse=direction == 1)
            rows = [part.reshape(-1, part.shape[-1]) for part in (data, earlier, each)]
            found[number, direction] = Steps(rows[0], rows[1], rows[2], places)
        data = outputs
    return found


def _places(data: Tensor, lengths: Tensor | None, order: Tensor | None) -> Tensor:
    """Of each row of a batch the sequence and the step: ``(N, T, ...)``, or packed, with the order of sequences."""
    if lengths is None:
        return torch.cartesian_prod(torch.arange(data.shape[0]), torch.arange(data.shape[1])).view(-1, 2)
    sample = torch.cat([torch.arange(int(count)) for count in lengths])
    step = torch.arange(len(lengths)).repeat_interleave(lengths)
    return torch.stack([sample if order is None else order.cpu()[sample], step], 1)


def _alone(layer: nn.RNNBase, number: int) -> nn.RNNBase:
    """One layer of a recurrent module as a module of its own, whose weights lie in one piece, as cuDNN wants them."""
    own = {
        f"{kind}_l0{suffix}": layer.get_parameter(f"{kind}_l{number}{suffix}").detach()
        for suffix in suffixes(layer)
        for kind in (KINDS if layer.bias else KINDS[:2])
    }
    made = resized(layer, own["weight_ih_l0"].shape[1], [layer.hidden_size])
    assert isinstance(made, nn.RNNBase)
    made.to_empty(device=own["weight_ih_l0"].device)
    made.load_state_dict(own)
    made.batch_first = True
    made.flatten_parameters()
    return made.eval()


def _earlier(outputs: Tensor, start: Tensor, lengths: Tensor | None, reverse: bool) -> Tensor:
    """Outputs one step before: ``(N, T, units)`` of padded sequences, ``(steps, units)`` of packed ones."""
    if lengths is None:
        begin = start[:, None]
        return torch.cat([outputs[:, 1:], begin] if reverse else [begin, outputs[:, :-1]], 1)
    steps = torch.split(outputs, lengths.tolist())  # of each step the sequences that are so long, longest first
    if reverse:
        later = [*steps[1:], start[:0]]
        return torch.cat(
            [torch.cat([after, start[len(after) : len(now)]]) for now, after in zip(steps, later, strict=True)]
        )
    return torch.cat([start, *(before[: len(now)] for before, now in pairwise(steps))])


def _cell_steps(cell: nn.RNNCellBase, x: Tensor, hx: Any, outputs: Any, step: int) -> Steps:
    h = outputs[0] if isinstance(outputs, tuple) else outputs
    before = hx[0] if isinstance(hx, tuple) else hx
    before = torch.zeros_like(h) if before is None else before
    rows = [each.reshape(-1, each.shape[-1]) for each in (x, before, h)]
    sample = torch.arange(len(rows[0]))
    return Steps(rows[0], rows[1], rows[2], torch.stack([sample, torch.full_like(sample, step)], 1))
