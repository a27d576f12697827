"""A step network as a program that needs none of its code: ``torch.export`` and ONNX, written and opened again."""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunekit.errors import ArgumentError
from prunekit.exports import WHOLE
from prunekit.portable import quiet
from prunekit.step_layers import Carried, OnnxCarried, Traced, put_operators
from prunekit.step_trials import Stepped
from prunekit.stepping import Runner, State, StepNetwork, run_on

STEP_ONNX, STEP_INT8, STEP_PT2 = "step.onnx", "step.int8.onnx", "step.pt2"


def _traced(network: nn.Module, stepped: Stepped, form: type[Carried]) -> dict[str, Any]:
    """A step network, what it is traced with, and which dimensions are free."""
    step = StepNetwork(network, stepped.step.names, form)
    batch, steps = torch.export.Dim("batch", min=1), torch.export.Dim("steps", min=1)
    # Sizes of 1 are taken for fixed, and equal ones for the same.
    x = stepped.example.narrow(stepped.time, 0, 3).narrow(1 - stepped.time, 0, 2).contiguous()
    states = [state.zeros(2) for state in step.states]
    free = tuple({d: batch for d, size in enumerate(state.shape) if size is None} for state in step.states)
    return {
        "mod": step,
        "args": (x, *states),
        "dynamic_shapes": ({stepped.time: steps, 1 - stepped.time: batch}, free),
    }


def write_pt2(path: Path, network: nn.Module, stepped: Stepped) -> None:
    """Write a step network by ``torch.export``."""
    with quiet():
        program = torch.export.export(**_traced(network, stepped, Traced), strict=False)
        put_operators(program)
        torch.export.save(program, path)


def write_onnx(path: Path, network: nn.Module, stepped: Stepped) -> None:
    """Write a step network as one ONNX file; its inputs are called ``input`` and as states are."""
    names = [state.name for state in stepped.step.states]
    with quiet():
        traced = _traced(network, stepped, OnnxCarried)
        how: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
        how |= {"input_names": ["input", *names], "output_names": ["logits", *(f"new.{name}" for name in names)]}
        torch.onnx.export(traced["mod"], traced["args"], path, dynamic_shapes=traced["dynamic_shapes"], **how)


def open_onnx(content: bytes, states: Sequence[State]) -> tuple[Runner, list[State]]:
    """What such a file computes, by ONNX Runtime, and the states that it takes."""
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError:
        raise ArgumentError("by", "onnx", "weights or pt2 without: pip install 'prunekit[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or it slows down what runs after it
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of classes of its own, all below Exception
        raise ArgumentError("folder", f"{STEP_ONNX} ({str(error).splitlines()[0]})", WHOLE) from None
    types = {"float": "float32", "double": "float64"}
    found = []
    for one in session.get_inputs()[1:]:
        kind = one.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(size if isinstance(size, int) else None for size in one.shape)
        found.append(State(one.name, shape, types.get(kind, kind)))
    names = ["input", *(state.name for state in states)]

    def run(given: Sequence[Tensor]) -> Sequence[Tensor]:
        fed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        return [torch.from_numpy(each) for each in session.run(None, fed)]

    return run, found


def open_pt2(content: bytes, states: Sequence[State]) -> tuple[Runner, list[State]]:
    """What such a file computes, by torch, and the states that it takes, which have no names there."""
    try:
        with quiet():
            program = torch.export.load(io.BytesIO(content))
            network: Any = program.module()
    except Exception as error:  # a hostile file may raise any
        raise ArgumentError("folder", f"{STEP_PT2} ({type(error).__name__}: {error})", WHOLE) from None
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    taken = [values[name] for name in program.graph_signature.user_inputs[1:]]
    found = [
        State(
            state.name,
            tuple(size if isinstance(size, int) else None for size in value.shape),
            str(value.dtype).removeprefix("torch."),
        )
        for state, value in zip(states, taken, strict=False)
    ]
    return partial(run_on, network), found if len(taken) == len(states) else []


OPEN = {STEP_ONNX: open_onnx, STEP_INT8: open_onnx, STEP_PT2: open_pt2}
