"""A network as one file that needs none of its code: ``torch.export`` and ONNX."""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Runner = Callable[[Tensor], Tensor]


def has_onnx() -> bool:
    """Whether what writes and runs ONNX files is installed: ``pip install 'prunekit[export]'``."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


def write_pt2(path: Path, network: nn.Module, example: Tensor) -> None:
    """Write a network in evaluation mode by ``torch.export``, for batches of any size.

    Args:
        path: of the file, ``.pt2``.
        network: takes and gives one tensor, whose first dimension is the batch.
        example: a batch of two or more.
    """
    with quiet():
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, path)


def run_pt2(path: Path) -> Runner:
    """What such a file computes."""
    with quiet():
        network = torch.export.load(path).module()

    def run(x: Tensor) -> Tensor:
        logits: Tensor = network(x)
        return logits

    return run


def write_onnx(path: Path, network: nn.Module, example: Tensor) -> None:
    """Write a network in evaluation mode as one ONNX file, for batches of any size.

    Args:
        path: of the file, ``.onnx``.
        network: takes and gives one tensor, whose first dimension is the batch; called ``input`` and ``logits`` there.
        example: a batch of two or more.
    """
    with quiet():
        how: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
        how |= {
            "input_names": ["input"],
            "output_names": ["logits"],
            "dynamic_shapes": ({0: torch.export.Dim("batch")},),
        }
        torch.onnx.export(network, (example,), path, **how)


def run_onnx(path: Path, threads: int | None = None) -> Runner:
    """What such a file computes, by ONNX Runtime on the CPU; None for as many threads as torch has."""
    import onnxruntime  # noqa: PLC0415 - an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or it slows down what runs after it
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own code and on LSTM weights that they bring together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
