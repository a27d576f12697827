"""Exports as files: what is read is what was written, and nothing else is read."""

import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.exports import NETWORK, WEIGHTS, load_compact, plain_network, save_compact
from prunekit.models.mlp import Mlp
from prunekit.models.networks import MlpNetwork, RecognizerNetwork
from prunekit.models.recognizer import Recognizer
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.portable import run_onnx, run_pt2, write_onnx, write_pt2
from prunekit.units.compaction import compact, difference
from prunekit.units.grouping import Units
from prunekit.units.links import ELEMENTWISE, Link

ADAM = partial(torch.optim.Adam, lr=0.01)
X = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))


def recognizer(layers=1, readout="last"):
    torch.manual_seed(0)
    net = Recognizer(3, 4, ADAM, units=8, layers=layers, hidden=6, readout=readout).eval()
    Units("lstm").mask(net, ~(torch.arange(8) % 2 == 0)).apply(net)
    return net


def exported(folder, net):
    save_compact(folder, compact(net).module, {"more": 1})
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


def test_a_folder_that_is_not_there_or_no_export_is_said_to_be_that(tmp_path):
    with pytest.raises(
        ArgumentError, match=r"nothere, and there is no such folder'?; accepted: a folder that .*save\(folder\)"
    ):
        load_compact(tmp_path / "nothere")
    with pytest.raises(ArgumentError, match=r"which has no network\.json"):
        load_compact(tmp_path)


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
    torch.manual_seed(0)
    net = Theirs().eval()
    with torch.no_grad():
        for name, parameter in net.deep["memory"].named_parameters():
            if name.endswith("_l1"):
                parameter.view(3, 6, -1)[:, :4] = 0.0
        net.scale.fill_(2.0)
    small = compact(net, [Link("deep.memory", "say")]).module
    assert plain_network(small) is None
    save_compact(tmp_path, small)
    read = load_compact(tmp_path, into=Theirs())
    assert difference(net(X), read(X)) <= 1e-6
    assert isinstance(read.deep["memory"], RecurrentStack)
    with pytest.raises(ArgumentError, match=r"into: got None; accepted: a module of the class .*, Theirs"):
        load_compact(tmp_path)
    with pytest.raises(ArgumentError, match=r"into: got 'Alike, another class'; accepted: a module of the class"):
        load_compact(tmp_path, into=type("Alike", (Theirs,), {"forward": lambda self, x: -x})())
    with pytest.raises(ArgumentError, match=r"into: got 'Linear, .*accepted: a module of the class"):
        load_compact(tmp_path, into=nn.Linear(2, 2))


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def change(folder, **values):
    """Another description, with the digest that it has: an attacker's."""
    path = folder / NETWORK
    said = json.loads(path.read_text()) | values
    del said["digest"]
    path.write_text(json.dumps(said | {"digest": digest(said)}))


def scribble(folder, **values):
    path = folder / NETWORK
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def reweigh(folder, **weights):
    """Other weights, with the digest that they have."""
    content = save(load_file(folder / WEIGHTS) | weights)
    (folder / WEIGHTS).write_bytes(content)
    change(folder, weights_sha256=hashlib.sha256(content).hexdigest())


GIVEN = {"activation": "ReLU", "readout": "mean"}


def lie(folder):
    """A header with more numbers than the file holds."""
    content = (folder / WEIGHTS).read_bytes().replace(b"[16,4]", b"[16,9]")
    (folder / WEIGHTS).write_bytes(content)
    change(folder, weights_sha256=hashlib.sha256(content).hexdigest())


DAMAGES = {
    "no folder": (shutil.rmtree, "and there is no such folder"),
    "no description": (lambda folder: (folder / NETWORK).unlink(), r"which has no network\.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"compact\.safetensors .*No such file"),
    "weights cut short": (lambda folder: cut(folder / WEIGHTS), "content"),
    "description cut short": (lambda folder: cut(folder / NETWORK), "JSONDecodeError"),
    "another tool's": (lambda folder: (folder / NETWORK).write_text("[]"), "TypeError"),
    "a later format": (lambda folder: change(folder, format=3), r"of format 3.*accepted: .*format 2"),
    "another readout, silently": (lambda folder: scribble(folder, network=GIVEN), "not as it was written"),
    "classes in another order": (lambda folder: scribble(folder, classes=["b", "a"]), "not as it was written"),
    "another kind of network": (lambda folder: change(folder, network={"kind": "x"}), "KeyError: 'activation'"),
    "no kind": (lambda folder: change(folder, network=[1]), "TypeError"),
    "another activation": (lambda folder: change(folder, network=GIVEN | {"activation": "exec"}), "KeyError: 'exec'"),
    "another readout": (lambda folder: change(folder, network=GIVEN | {"readout": "max"}), "readout: got 'max'"),
    "another size": (lambda folder: reweigh(folder, **{"lstm.weight_hh_l0": torch.zeros(16, 5)}), "size mismatch"),
    "a huge size": (lambda folder: reweigh(folder, **{"lstm.weight_hh_l0": torch.zeros(1, 10**6)}), "size mismatch"),
    "no units": (lambda folder: reweigh(folder, **{"lstm.weight_hh_l0": torch.zeros(0, 0)}), "hidden_size"),
    "no matrix": (lambda folder: reweigh(folder, **{"head.output.weight": torch.zeros(4)}), "IndexError"),
    "no floats": (lambda folder: reweigh(folder, **{"head.output.weight": torch.ones(4, 3).long()}), "make no network"),
    "a weight too many": (lambda folder: reweigh(folder, more=torch.zeros(1)), "Unexpected key"),
    "a header that lies": (lie, "Header|header|Invalid|invalid"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_export_is_refused(damage, tmp_path):
    folder = exported(tmp_path / "e", recognizer())
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(ArgumentError, match=message):
        load_compact(folder)


def test_weights_of_another_export_are_refused(tmp_path):
    one = exported(tmp_path / "a", recognizer())
    net = recognizer()
    with torch.no_grad():
        net.head.output.bias += 1
    shutil.copy(exported(tmp_path / "b", net) / WEIGHTS, one / WEIGHTS)
    with pytest.raises(ArgumentError, match="content is not what"):
        load_compact(one)


def mlp_with(activation):
    torch.manual_seed(0)
    net = Mlp([4, 6, 3], ADAM)
    net.layers.activation1 = activation
    with torch.no_grad():
        net.layers.hidden1.weight[1:3] = 0.0
    return net.eval()


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_our_network_is_read_with_any_activation(kind, tmp_path):
    net = mlp_with(kind())
    read = load_compact(exported(tmp_path, net))
    assert read.layers.hidden1.out_features == 4
    x = torch.randn(3, 4)
    assert difference(net(x), read(x)) <= 1e-6


class Wave(nn.Module):
    def forward(self, x):
        return x.sin()


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.3), nn.GELU("tanh"), nn.PReLU(), Wave()])
def test_an_activation_with_settings_or_of_ones_own_comes_with_the_module(activation, tmp_path):
    net = mlp_with(activation)
    exported(tmp_path, net)
    with pytest.raises(ArgumentError, match="into: got None"):
        load_compact(tmp_path)
    read = load_compact(tmp_path, into=mlp_with(activation))
    x = torch.randn(3, 4)
    assert difference(net(x), read(x)) <= 1e-6
    assert read.layers.hidden1.out_features == (4 if isinstance(activation, ELEMENTWISE) else 6)


def test_our_network_is_read_into_a_module_to_be_trained_on(tmp_path):
    net = recognizer(2)
    exported(tmp_path, net)
    other = Recognizer(3, 4, ADAM, units=8, layers=2, hidden=6).double()
    other.head.hidden.requires_grad_(False)
    read = load_compact(tmp_path, into=other)
    assert read is other
    assert isinstance(read, Recognizer)
    assert difference(net(X), read(X)) <= 1e-6  # of the file's type
    read.training_step((X, torch.zeros(5, dtype=torch.int64))).backward()
    assert read.lstm.layers[0].weight_ih_l0.grad is not None
    assert (read.head.hidden.in_features, read.head.hidden.weight.grad) == (4, None)


@pytest.mark.parametrize("tied", [False, True])
def test_a_network_with_tied_weights_is_read_with_them_tied(tied, tmp_path):
    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
        if tied:
            net[5].weight = net[4].weight
        return net.eval()

    net = make()
    with torch.no_grad():
        net[0].weight[2] = 0.0
        net[4].weight.mul_(2)
    links = [Link("0", "2", ("1",))]
    save_compact(tmp_path, compact(net, links).module)
    read = load_compact(tmp_path, into=make())
    assert difference(net(torch.ones(2, 3)), read(torch.ones(2, 3))) <= 1e-6
    assert (read[5].weight is read[4].weight) == tied
    assert read[0].out_features == 4


def test_reading_draws_no_random_number(tmp_path):
    exported(tmp_path, recognizer(2))
    before = torch.get_rng_state()
    load_compact(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


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
