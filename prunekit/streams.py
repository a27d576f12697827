"""An exported network that reads a stream: some steps at a time, going on from the states that it left."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from prunekit.errors import ArgumentError, check_choice
from prunekit.exports import WEIGHTS, WHOLE, load_compact
from prunekit.step_files import STEP, read_step
from prunekit.step_programs import OPEN, STEP_INT8, STEP_ONNX, STEP_PT2
from prunekit.stepping import Runner, State, StepNetwork, recurrent_names, run_on

BY = {"weights": "", "onnx": STEP_ONNX, "int8": STEP_INT8, "pt2": STEP_PT2}


class Stream:
    """A network that is handed a stream's steps as they come; :func:`load_stream` makes it.

    Args:
        run: takes and gives tensors in the order that the states are in.
        states: what it hands on.
        shape: of what it reads; None stands for the batch and for steps.
        time: which of these two is steps.
        dtype: of what it reads.

    Example:
        >>> from prunekit.models.networks import RecognizerNetwork
        >>> step = StepNetwork(RecognizerNetwork(nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 4)).eval())
        >>> stream = Stream(lambda given: step(*given), step.states, (None, None, 3), 1, "float32")
        >>> stream.step(torch.zeros(1, 2, 3)).shape, stream.step(torch.zeros(1, 9, 3)).shape, stream.steps
        (torch.Size([1, 4]), torch.Size([1, 4]), 11)
    """

    def __init__(
        self, run: Runner, states: Sequence[State], shape: Sequence[int | None], time: int, dtype: str
    ) -> None:
        self._run, self._of = run, states
        self._shape, self._time, self._dtype = tuple(shape), time, getattr(torch, dtype)
        self._states: list[Tensor] = []
        self.steps = 0

    def reset(self) -> None:
        """Begin anew, with states of 0 and a batch of any size."""
        self._states, self.steps = [], 0

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """What the network says after these steps and all before them.

        Args:
            x: one step or more, as of a clip: ``(N, steps, features)`` mostly, or ``(steps, N, features)`` for a
                network that was exported with such.

        Returns:
            Logits ``(N, classes)`` after the last of them; for a network that has an output for each step, those.

        Raises:
            ArgumentError: if it is of another shape or type, or of another batch than the steps before.
        """
        fits = x.dim() == len(self._shape) and all(
            size is None or size == own for size, own in zip(self._shape, x.shape, strict=True)
        )
        if not fits or x.dtype != self._dtype or 0 in x.shape:
            wanted = f"{self._dtype} {self._shape}, where None is any size from 1 on"
            raise ArgumentError("x", f"{x.dtype} {tuple(x.shape)}", wanted)
        batch = x.shape[1 - self._time]
        states = self._states or [state.zeros(batch) for state in self._of]
        if any(own.shape != state.sizes(batch) for own, state in zip(states, self._of, strict=True)):
            raise ArgumentError("x", f"a batch of {batch}", "one of as many sequences as before, or reset() first")
        out, *self._states = self._run([x, *states])
        self.steps += x.shape[self._time]
        return out


def load_stream(folder: str | Path, by: str = "weights", into: nn.Module | None = None) -> Stream:
    """Read an export that was made for streams, on the CPU.

    Args:
        folder: that ``prunekit export --streaming`` or ``save(..., streaming=True)`` wrote.
        by: what runs: ``weights``, those that :func:`~prunekit.exports.load_compact` reads, which executes nothing of
            the files; ``onnx`` or, if it was exported, ``int8`` by ONNX Runtime; or ``pt2`` by torch. All but the first
            are programs: have them of people whom you trust.
        into: for ``weights``, as in :func:`~prunekit.exports.load_compact`.

    Returns:
        An object with ``reset()`` and ``step(x)``.

    Raises:
        ArgumentError: if a file is missing, damaged, of another export or another than it says that it is.
    """
    folder = Path(folder)
    check_choice("by", by, BY)
    said = read_step(folder)
    states, given = said["states"], said["input"]
    run: Runner
    if by == "weights":
        network = load_compact(folder, into)
        names = dict.fromkeys(state.name.rpartition(".")[0] for state in states)
        own = [name for name in names if name in recurrent_names(network)]
        step = StepNetwork(network, own)
        run, found = partial(run_on, step), step.states if own else []
    else:
        content = _content(folder / BY[by], said["files"].get(BY[by]))
        run, found = OPEN[BY[by]](content, states)
    if found != states:
        raise ArgumentError("folder", f"{folder}, whose {STEP} does not fit its {BY[by] or WEIGHTS}", WHOLE)
    return Stream(run, states, given["shape"], given["time"], given["dtype"])


def _content(path: Path, sha: object) -> bytes:
    """A file's content, if it is the one of this SHA-256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArgumentError("folder", f"{path} ({error.strerror})", WHOLE) from None
    if hashlib.sha256(content).hexdigest() != sha:
        raise ArgumentError("folder", f"{path}, whose content is not what {STEP} was written with", WHOLE)
    return content
