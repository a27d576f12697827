"""ONNX files whose weights are int8, by ONNX Runtime's own dynamic quantisation."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from prunekit.errors import ArgumentError
from prunekit.portable import has_onnx

LEFT = (nn.GRU, nn.RNN)  # ONNX Runtime quantises an LSTM's weights and matrix products, and no other recurrent layer's


def check_quantizable(network: nn.Module) -> None:
    """Refuse a network of which little would be int8, or where what is needed is not installed.

    Raises:
        ArgumentError: with the reason.

    Example:
        >>> try:
        ...     check_quantizable(nn.GRU(3, 4))
        ... except ArgumentError as error:
        ...     print(error)
        int8: got 'a GRU, which ONNX Runtime leaves in float32'; accepted: an LSTM, or linear layers
    """
    if not has_onnx():
        raise ArgumentError("int8", "no ONNX Runtime", "an environment with pip install 'prunekit[export]'")
    for part in network.modules():
        if isinstance(part, LEFT):
            got = f"a {type(part).__name__}, which ONNX Runtime leaves in float32"
            raise ArgumentError("int8", got, "an LSTM, or linear layers")


def quantize(source: Path, target: Path) -> None:
    """Write an ONNX file with int8 weights, a scale for each output; what they are applied to is scaled as it comes.

    Args:
        source: the float32 file; its weights have to be constants, as those of ``step.onnx`` are.
        target: the int8 file.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - an extra

    with _quiet():
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a hint on what may be done before."""
    root = logging.getLogger()

    def hint(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root.addFilter(hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(hint)
