"""Whether a network can be run step by step: it is tried, and refused with the reason."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunekit.errors import ArgumentError
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.stepping import Runner, StepNetwork, recurrent_names, run_on
from prunekit.units.before_and_now import floats
from prunekit.units.compaction import difference

TOLERANCE = 1e-6  # relative to the larger of 1 and the largest output; what float32 rounds, of sequences as in training
TRIED = 1e-5  # where an example is drawn, which may drive a network further than what it was trained on
STEPS = 7  # of the sequences that a network is tried with
CHUNKS = ([1] * STEPS, [3, 1, 3], [2, 5])
ACCEPTED = (
    "a network of nn.LSTM, nn.GRU or nn.RNN layers of one direction, whose other parts look at one step at a time"
)


class Stepped(NamedTuple):
    """How a network is run step by step.

    Attributes:
        step: the network.
        example: sequences that it takes.
        time: which dimension of them steps are; the other one of the first two is the batch.
        each: whether its outputs are of each step rather than of the last.
    """

    step: StepNetwork
    example: Tensor
    time: int
    each: bool


@torch.no_grad()
def step_network(network: nn.Module, example: Tensor | None = None) -> Stepped:
    """Make a step network and try it: it has to give what the network gives of whole sequences.

    Args:
        network: any with recurrent layers, in evaluation mode.
        example: sequences that it takes, of steps enough; None where these are ``(N, steps, features)`` or ``(steps,
            N, features)`` of the first recurrent layer's features.

    Raises:
        ArgumentError: if it cannot be run step by step, with the reason.
    """
    names = _checked(network)
    first: Any = network.get_submodule(names[0])
    x = example
    if x is None:
        draw = torch.Generator().manual_seed(0)
        like = next(first.parameters())
        x = torch.randn(STEPS, STEPS, first.input_size, generator=draw).to(like)
    try:
        time, used = _time(network, x, names)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, ArgumentError):
            raise
        got = f"a network that does not take {tuple(x.shape)} ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise ArgumentError("example", got, "example=..., a batch of sequences as the network takes them") from None
    x = x.narrow(time, 0, min(STEPS, x.shape[time])).narrow(1 - time, 0, min(3, x.shape[1 - time]))
    if x.shape[time] < STEPS or x.shape[1 - time] < 2:
        raise ArgumentError("example", f"{tuple(x.shape)}", f"two sequences or more of {STEPS} steps or more")
    step = StepNetwork(network, used)
    run = partial(run_on, step)
    whole, part = (floats(network(x.narrow(time, 0, steps)))[0].shape for steps in (STEPS, 3))
    each = len(whole) > time and (whole[time], part[time]) == (STEPS, 3)
    stepped = Stepped(step, x, time, each)
    for chunks in CHUNKS:
        apart = apart_in_parts(run, network, stepped, chunks)
        if any(one.calls > len(chunks) for one in step.carried.values()):
            raise _refused("a recurrent layer that is called several times")
        for one in step.carried.values():
            one.calls = 0
        if not apart <= TRIED:
            words = f"outputs that differ by {apart:.2g} where sequences come in parts: more than its recurrent layers"
            raise _refused(f"{words} looks at several steps, or these begin with states other than 0")
    return stepped


def _checked(network: nn.Module) -> list[str]:
    names = recurrent_names(network)
    for name, part in network.named_modules():
        if isinstance(part, nn.RNNCellBase):
            raise _refused(f"{name}, a cell, whose steps the module around it counts")
        if isinstance(part, nn.RNNBase | RecurrentStack) and part.bidirectional:
            words = "a layer of two directions: one begins at the end of a sequence, which a stream does not have"
            raise _refused(f"{name or type(part).__name__}, {words}")
        if isinstance(part, nn.RNNBase) and (part.proj_size or name not in names):
            raise _refused(f"{name or type(part).__name__}, which has a projection or is of a class of its own")
    if not names:
        raise _refused("a network without a recurrent layer")
    return names


def _refused(got: str) -> ArgumentError:
    return ArgumentError("streaming", got, ACCEPTED)


def _time(network: nn.Module, x: Tensor, names: list[str]) -> tuple[int, list[str]]:
    """Which dimension of sequences steps are, and the layers that are called."""
    seen: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(layer: nn.RNNBase, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            given = inputs[0] if inputs else named["input"]
            if not isinstance(given, Tensor) or given.dim() != 3:
                raise _refused(f"{name or type(layer).__name__}, which reads no batch of sequences, or a packed one")
            seen[name] = given.shape[1 if layer.batch_first else 0]

        return hook

    handles = [network.get_submodule(name).register_forward_pre_hook(watch(name), with_kwargs=True) for name in names]
    try:
        network(x)
        whole = dict(seen)
        for time in (1, 0):
            try:
                network(x.narrow(time, 0, x.shape[time] - 1))
            except RuntimeError:
                continue
            if all(seen[name] == whole[name] - 1 for name in whole):
                return time, [name for name in names if name in whole]
    finally:
        for handle in handles:
            handle.remove()
    raise _refused("recurrent layers whose steps are not the sequences' own")


@torch.no_grad()
def apart_in_parts(run: Runner, network: nn.Module, stepped: Stepped, chunks: Sequence[int], batch: int = 3) -> float:
    """How far outputs of parts are from those of the whole up to each part's end.

    Args:
        run: what takes parts.
        network: what takes the whole.
        stepped: how, and an example.
        chunks: the steps of each part.
        batch: sequences at a time.

    Returns:
        The largest difference; NaN if one is, and infinity for outputs of another shape.
    """
    x = stepped.example.narrow(1 - stepped.time, 0, min(batch, stepped.example.shape[1 - stepped.time])).contiguous()
    states: Sequence[Tensor] = [state.zeros(x.shape[1 - stepped.time]).to(x.device) for state in stepped.step.states]
    done, found = 0, []
    for chunk in chunks:
        out, *states = run([x.narrow(stepped.time, done, chunk).contiguous(), *states])
        done += chunk
        wanted = floats(network(x.narrow(stepped.time, 0, done)))[0]
        wanted = wanted.narrow(stepped.time, done - chunk, chunk) if stepped.each else wanted
        if out.shape != wanted.shape:
            return float("inf")
        found.append(difference(wanted, out))
    return float(torch.tensor(found, dtype=torch.float64).max())  # which a NaN is, unlike Python's
