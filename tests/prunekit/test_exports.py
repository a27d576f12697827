"""Exports as files: what is read is what was written, and nothing else is read."""

import json
import shutil
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from prunekit.errors import ConfigError
from prunekit.exports import NETWORK, WEIGHTS, construct, describe, load_compact, plain_network, save_compact
from prunekit.models.mlp import Mlp
from prunekit.models.networks import MlpNetwork, RecognizerNetwork
from prunekit.models.recognizer import Recognizer
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.portable import run_onnx, run_pt2, write_onnx, write_pt2
from prunekit.units.compaction import compact, difference
from prunekit.units.removal import unit_mask

ADAM = partial(torch.optim.Adam, lr=0.01)
X = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))


def recognizer(layers=1, readout="last"):
    torch.manual_seed(0)
    net = Recognizer(3, 4, ADAM, units=8, layers=layers, hidden=6, readout=readout).eval()
    unit_mask(net.lstm, "lstm", torch.arange(8) % 2 == 0).apply(net)
    return net


def exported(folder, net):
    save_compact(folder, plain_network(compact(net).module), [], {"more": 1})
    return folder


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_recognizer_is_read_as_it_was_written(layers, readout, tmp_path):
    net = recognizer(layers, readout)
    read = load_compact(exported(tmp_path, net))
    assert type(read) is RecognizerNetwork
    assert isinstance(read.lstm, nn.LSTM if layers == 1 else RecurrentStack)
    assert difference(net(X), read(X)) <= 1e-6
    assert not read.training
    assert json.loads((tmp_path / NETWORK).read_text())["more"] == 1


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_mlp_is_read_as_it_was_written(activation, dtype, tmp_path):
    net = Mlp([4, 5, 3], ADAM, activation).to(dtype).eval()
    with torch.no_grad():
        net.layers.hidden1.weight[1:3] = 0.0
    read = load_compact(exported(tmp_path, net))
    assert type(read) is MlpNetwork
    x = torch.rand(3, 2, 2, dtype=dtype)
    assert difference(net(x), read(x)) <= (1e-6 if dtype == torch.float32 else 1e-12)
    assert read.layers.hidden1.out_features == 3


def test_reading_needs_nothing_of_training_and_runs_nothing(tmp_path):
    exported(tmp_path, recognizer())
    code = f"""
import sys, pickle, torch
pickle.Unpickler = pickle.load = pickle.loads = torch.load = None
from prunekit.exports import load_compact
print(load_compact({str(tmp_path)!r})(torch.zeros(1, 6, 3)).shape)
assert not {{"pytorch_lightning", "hydra", "callbacks", "data_modules"}} & set(sys.modules), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[1, 4]" in done.stdout


class Theirs(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep = nn.ModuleDict({"memory": nn.GRU(3, 6, 2)})
        self.say = nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * self.say(self.deep["memory"](x.transpose(0, 1))[0][-1])


def test_a_network_of_ones_own_is_read_into_a_module_of_its_class(tmp_path):
    from prunekit.units.links import Link

    torch.manual_seed(0)
    net = Theirs().eval()
    with torch.no_grad():
        for name, parameter in net.deep["memory"].named_parameters():
            if name.endswith("_l1"):
                parameter.view(3, 6, -1)[:, :4] = 0.0
        net.scale.fill_(2.0)
    small = compact(net, [Link("deep.memory", "say")]).module
    assert plain_network(small) is None
    save_compact(tmp_path, small, ["deep.memory", "say"], {})
    read = load_compact(tmp_path, into=Theirs())
    assert difference(net(X), read(X)) <= 1e-6
    assert isinstance(read.deep["memory"], RecurrentStack)
    with pytest.raises(ConfigError, match=r"a Theirs is none of prunekit's networks: give one to load into"):
        load_compact(tmp_path)
    with pytest.raises(ConfigError, match="a module of its class"):
        load_compact(tmp_path, into=nn.Linear(2, 2))


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def change(folder, **values):
    path = folder / NETWORK
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def resize(folder):
    layers = json.loads((folder / NETWORK).read_text())["layers"]
    layers["lstm"]["hidden_size"] = 5
    change(folder, layers=layers)


DAMAGES = {
    "no folder": (shutil.rmtree, r"which holds no network\.json"),
    "no description": (lambda folder: (folder / NETWORK).unlink(), r"which holds no network\.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"compact\.safetensors .*No such file"),
    "weights cut short": (lambda folder: cut(folder / WEIGHTS), "content"),
    "description cut short": (lambda folder: cut(folder / NETWORK), "damaged"),
    "another tool's": (lambda folder: (folder / NETWORK).write_text("[]"), "of format none"),
    "a later format": (lambda folder: change(folder, format=2), r"of format 2.*accepted: .*format 1"),
    "another kind of layer": (lambda folder: change(folder, layers={"lstm": {"kind": "x"}}), "do not make a network"),
    "another size": (resize, "size mismatch"),
    "another readout": (lambda folder: change(folder, readout="max"), "readout 'max'"),
    "a layer too few": (lambda folder: change(folder, layers={}), "KeyError: 'lstm'"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_export_is_refused(damage, tmp_path):
    folder = exported(tmp_path / "e", recognizer())
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        load_compact(folder)


def test_weights_of_another_export_are_refused(tmp_path):
    one = exported(tmp_path / "a", recognizer())
    net = recognizer()
    with torch.no_grad():
        net.head.output.bias += 1
    shutil.copy(exported(tmp_path / "b", net) / WEIGHTS, one / WEIGHTS)
    with pytest.raises(ConfigError, match="content is not what"):
        load_compact(one)


def test_every_kind_is_described_and_made_again():
    stack = RecurrentStack([nn.RNN(3, 5, nonlinearity="relu", bidirectional=True), nn.RNN(10, 2, nonlinearity="relu")])
    for module in (nn.Sequential(nn.Dropout(0.3), nn.Tanh(), nn.Linear(3, 2, bias=False), nn.Identity()), stack):
        again = construct(describe(module))
        assert describe(again) == describe(module)
        assert str(again) == str(module)
        assert [p.shape for p in again.parameters()] == [p.shape for p in module.parameters()]
    with pytest.raises(ValueError, match="LayerNorm is none of Linear"):
        describe(nn.Sequential(nn.LayerNorm(3)))


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_portable_files_take_batches_of_any_size(kind, layers, tmp_path):
    net = recognizer(layers)
    network = plain_network(compact(net).module)
    path = tmp_path / f"x.{kind}"
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        write_onnx(path, network, X[:2])
        run = run_onnx(path, threads=1)
    else:
        write_pt2(path, network, X[:2])
        run = run_pt2(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    for size in (1, 2, 64):
        batch = torch.randn(size, 6, 3)
        assert difference(net(batch), run(batch)) <= 1e-6
