"""int8: the weights become it, outputs stay near, and networks that would not are refused."""

import pytest
import torch
from torch import nn

from prunekit.errors import ArgumentError
from prunekit.exports import plain_network, save_compact
from prunekit.models.recognizer import Recognizer
from prunekit.quantized import check_quantizable, quantize
from prunekit.step_files import save_step
from prunekit.step_programs import STEP_INT8, STEP_ONNX, open_onnx
from prunekit.stepping import StepNetwork


def test_an_lstm_becomes_int8_and_stays_near(tmp_path, caplog):
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    network = plain_network(Recognizer(32, 4, torch.optim.Adam, units=64, hidden=8, layers=2))
    save_compact(tmp_path, network)
    save_step(tmp_path, network)
    caplog.clear()
    quantize(tmp_path / STEP_ONNX, tmp_path / STEP_INT8)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    graph = onnx.load(tmp_path / STEP_INT8).graph
    kinds = [node.op_type for node in graph.node]
    sizes = {each.name: list(each.dims) for each in graph.initializer}
    scales = [sizes[name] for node in graph.node if "LSTM" in node.op_type for name in node.input if "scale" in name]
    assert scales == [[1, 4 * 64]] * 4  # one for each output of both layers' two matrices
    assert kinds.count("DynamicQuantizeLSTM") == 2
    assert not {"LSTM", "Gemm", "MatMul"} & set(kinds)
    assert (tmp_path / STEP_INT8).stat().st_size < 0.4 * (tmp_path / STEP_ONNX).stat().st_size
    states = StepNetwork(network).states
    run, found = open_onnx((tmp_path / STEP_INT8).read_bytes(), states)
    assert found == states
    x = torch.randn(3, 7, 32)
    with torch.no_grad():
        apart = (run([x, *(state.zeros(3) for state in states)])[0] - network(x)).abs().max()
    assert 0 < apart < 0.02


@pytest.mark.parametrize("layer", [nn.GRU(3, 4), nn.RNN(3, 4)])
def test_what_onnx_runtime_leaves_in_float32_is_refused(layer):
    with pytest.raises(ArgumentError, match=r"int8: got 'a .*, which ONNX Runtime leaves in float32'"):
        check_quantizable(nn.Sequential(nn.Linear(3, 3), layer))
    check_quantizable(nn.LSTM(3, 4))


def test_without_onnx_runtime_int8_is_refused(monkeypatch):
    monkeypatch.setattr("prunekit.quantized.has_onnx", lambda: False)
    with pytest.raises(ArgumentError, match=r"int8: got 'no ONNX Runtime'"):
        check_quantizable(nn.LSTM(3, 4))
