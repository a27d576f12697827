"""Networks that read streams: one step after the other is the clip, in every form; what cannot be is refused."""

import copy
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from torch import nn

from prunekit import load_stream, shrink
from prunekit.errors import ArgumentError
from prunekit.exports import plain_network, save_compact
from prunekit.latency import Timing
from prunekit.models.networks import RecognizerNetwork
from prunekit.models.recognizer import Recognizer
from prunekit.models.recurrent_stack import RecurrentStack
from prunekit.shrunk import Shrunk
from prunekit.step_files import STEP_ONNX, STEP_PT2, save_step
from prunekit.step_programs import OPEN
from prunekit.step_trials import apart_in_parts, step_network
from prunekit.stepping import run_on
from prunekit.units.compaction import difference
from tests.prunekit.networks_of_steps import WAYS, Case, Odd, Own, cases, saved

ROOT = Path(__file__).parents[2]
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # a case takes a second


@torch.no_grad()
def apart(stream, case):
    """How far a stream in parts is from the clips up to each part's end."""
    stream.reset()
    done, worst = 0, 0.0
    for chunk in case.chunks:
        out = stream.step(case.x[:, done : done + chunk])
        done += chunk
        worst = max(worst, difference(case.network(case.x[:, :done]), out))
    return worst


def apart_from_files(case, folder):
    """The same of the streams that are read from files, by each way of reading them."""
    saved(folder, case.network)
    found = {by: apart(load_stream(folder, by, copy.deepcopy(case.network)), case) for by in WAYS}
    shutil.rmtree(folder)
    return found


@given(case=cases())
@settings(max_examples=30, deadline=None)
def test_a_network_that_goes_on_from_its_states_is_the_clips(case):
    stepped = step_network(case.network)
    states = [state.zeros(len(case.x)) for state in stepped.step.states]
    done = 0
    for chunk in case.chunks:
        out, *states = stepped.step(case.x[:, done : done + chunk], *states)
        done += chunk
        assert difference(case.network(case.x[:, :done]), out) <= 1e-6


@given(case=cases())
@settings(max_examples=3, deadline=None, phases=NO_SHRINKING)
def test_files_give_what_the_clips_give(case, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    found = apart_from_files(case, tmp_path_factory.mktemp("export") / "e")
    assert all(worst <= 1e-6 for worst in found.values()), found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@given(case=cases())
@settings(max_examples=100, deadline=None, phases=NO_SHRINKING)
def test_files_of_a_hundred_architectures_give_what_the_clips_give(case, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    found = apart_from_files(case, tmp_path_factory.mktemp("export") / "e")
    assert all(worst <= 1e-6 for worst in found.values()), found


@pytest.mark.parametrize("readout", ["last", pytest.param("mean", marks=pytest.mark.slow)])
def test_a_pruned_repaired_and_compacted_network_streams(readout, tmp_path):
    torch.manual_seed(0)
    dense = RecognizerNetwork(nn.LSTM(4, 8, 2, batch_first=True), nn.Linear(8, 3), readout).eval()
    small = shrink(dense, [torch.randn(6, 9, 4) for _ in range(8)], rate=0.5, scope="all", show=False)
    assert isinstance(small.module.lstm, RecurrentStack | nn.LSTM)
    assert sum(p.numel() for p in small.module.lstm.parameters()) < sum(p.numel() for p in dense.lstm.parameters()) / 2
    small.save(tmp_path, streaming=True)
    case = Case(small.module, torch.randn(2, 9, 4), [1, 5, 3])
    for by in WAYS:
        assert apart(load_stream(tmp_path, by, copy.deepcopy(dense)), case) <= 1e-6


@pytest.mark.parametrize(("cell", "each"), [(nn.GRU, True), (nn.LSTM, False)])
def test_somebodys_network_streams(cell, each, tmp_path):
    network, example = Own(cell, each).eval(), torch.randn(2, 7, 4)
    bare = Shrunk(network, 0.0, 0.0, [], (0, 0), (0, 0), (Timing(0, 0, 0), Timing(0, 0, 0)), 1)
    bare.save(tmp_path, streaming=True, example=example)
    x = torch.randn(3, 8, 4)
    for by in WAYS:
        stream = load_stream(tmp_path, by, into=copy.deepcopy(network))
        outs = [stream.step(part) for part in (x[:, :1], x[:, 1:6], x[:, 6:])]
        found = torch.cat(outs, 1) if network.each else outs[-1]
        assert difference(network(x), found) <= 1e-6, by
        assert stream.steps == 8


REFUSED = {
    "two directions": (lambda: Own(bidirectional=True), "two directions: one begins at the end"),
    "projection": (lambda: Own(nn.LSTM, proj_size=3), "projection"),
    "no recurrent layer": (lambda: nn.Linear(4, 2), "without a recurrent layer"),
    "cell": (lambda: Odd("cell"), "cell, a cell, whose steps"),
    "packed": (lambda: Odd("packed"), "packed"),
    "twice": (lambda: Odd("twice"), "called several times"),
    "mean": (lambda: Odd("mean"), "more than its recurrent layers looks at several steps"),
    "start": (lambda: Odd("start"), "begin with states other than 0"),
    "blur": (lambda: Odd("blur"), "more than its recurrent layers looks at several steps"),
    "few": (lambda: Odd("few"), "steps are not the sequences' own"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_run_step_by_step_is_refused_with_the_reason(what, tmp_path):
    make, message = REFUSED[what]
    network = make().eval()
    bare = Shrunk(network, 0.0, 0.0, [], (0, 0), (0, 0), (Timing(0, 0, 0), Timing(0, 0, 0)), 1)
    with pytest.raises(ArgumentError, match=f"streaming: got .*{message}.*accepted: a network of nn.LSTM"):
        bare.save(tmp_path / "e", streaming=True, example=torch.randn(4, 9, 4))
    assert not (tmp_path / "e").exists()


def test_a_program_for_one_number_of_sequences_is_not_kept(tmp_path, caplog):
    network = Odd("len").eval()
    save_compact(tmp_path, network)
    with pytest.raises(ArgumentError, match=r"streaming: got .no step.*accepted: a network that torch"):
        save_step(tmp_path, network)
    assert {path.name for path in tmp_path.iterdir()} == {"network.json", "compact.safetensors"}
    assert "no step.pt2" in caplog.text


@pytest.mark.parametrize("wrong", [1, 3])
def test_a_program_that_is_wrong_for_some_number_of_sequences_is_not_kept(wrong, tmp_path, caplog, monkeypatch):
    network = RecognizerNetwork(nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)).eval()
    stepped = step_network(network)

    def run(given):
        out, *states = run_on(stepped.step, given)
        return [out + 0.01 * (len(out) == wrong), *states]

    monkeypatch.setitem(OPEN, STEP_PT2, lambda content, states: (run, stepped.step.states))
    save_compact(tmp_path, network)
    assert set(save_step(tmp_path, network)["files"]) <= {STEP_ONNX}
    assert f"no {STEP_PT2}: ValueError: its outputs differ by 0.01" in caplog.text


def test_examples_that_do_not_do_are_refused():
    with pytest.raises(ArgumentError, match=r"example: got .*does not take \(7, 7, 6\)"):
        step_network(Own().eval())
    with pytest.raises(ArgumentError, match=r"example: got .*accepted: two sequences or more of 7 steps"):
        step_network(Own().eval(), torch.randn(1, 9, 4))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_part_that_is_no_number_is_not_near(part):
    network = RecognizerNetwork(nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)).eval()
    stepped, calls = step_network(network), []

    def run(given):
        out, *states = run_on(stepped.step, given)
        calls.append(out)
        return [out * float("nan") if len(calls) == part + 1 else out, *states]

    apart = apart_in_parts(run, network, stepped, (2, 3, 2))
    assert not apart <= 1e9
    assert len(calls) == 3
    network.head.bias.data.fill_(float("nan"))
    with pytest.raises(ArgumentError, match="outputs that differ by nan"):
        step_network(network)


def test_a_stream_begins_anew_and_refuses_other_sequences(whole):
    for by in WAYS:
        stream = load_stream(whole, by)
        x = torch.randn(2, 3, 3)
        first = stream.step(x)
        assert difference(first, stream.step(x)) > 1e-4  # it goes on
        with pytest.raises(ArgumentError, match="x: got 'a batch of 5'"):
            stream.step(torch.randn(5, 1, 3))
        for bad in (torch.randn(2, 3, 4), torch.randn(2, 3), torch.randn(2, 0, 3), torch.randn(2, 3, 3).double()):
            with pytest.raises(ArgumentError, match="x: got"):
                stream.step(bad)
        stream.reset()
        assert torch.equal(stream.step(x), first)
        stream.reset()
        assert stream.step(torch.randn(5, 1, 3)).shape == (5, 2)


def in_a_process_of_its_own(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_reading_needs_nothing_of_training(whole):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import torch, prunekit
for by in ("weights", "onnx", "pt2"):
    print(prunekit.load_stream(".", by).step(torch.zeros(1, 1, 3)).shape)
assert not {{"pytorch_lightning", "hydra", "prunekit.callbacks", "prunekit.data_modules"}} & set(sys.modules)
"""
    assert in_a_process_of_its_own(code, whole).count("[1, 2]") == 3


@pytest.mark.parametrize("page", ["README.md", "docs/streams.md"])
def test_onnx_runtime_alone_suffices_in_the_ten_lines_of_the_docs(page, whole, tmp_path):
    text = (ROOT / page).read_text()
    lines = re.search(r"```python\n(import numpy as np\nimport onnxruntime.*?)```", text, re.DOTALL)[1]
    assert len(lines.splitlines()) <= 10
    x = torch.randn(1, 6, 3)
    import numpy as np

    np.save(tmp_path / "x.npy", x.numpy())
    code = f"""
import sys
sys.modules["torch"] = sys.modules["prunekit"] = None
import numpy
features = [part for part in numpy.load({str(tmp_path / "x.npy")!r}).swapaxes(0, 1)[:, None]]
{lines.replace("export/", "")}
print(logits.tolist())
"""
    said = in_a_process_of_its_own(code, whole)
    assert difference(load_stream(whole).step(x), torch.tensor(json.loads(said.splitlines()[-1]))) <= 1e-6


@pytest.mark.slow
def test_torch_alone_runs_the_exported_program(whole):
    code = """
import sys; sys.modules["prunekit"] = None
import torch
run = torch.export.load("step.pt2").module()
print(run(torch.zeros(1, 5, 3), *torch.zeros(2, 1, 1, 4), torch.zeros(1, 4).double(), torch.tensor(0))[0].shape)
"""
    assert "[1, 2]" in in_a_process_of_its_own(code, whole)


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("by", WAYS)
def test_a_long_stream_takes_no_more_memory_nor_time_and_does_not_drift(by, readout, tmp_path):
    torch.manual_seed(2)
    network = plain_network(Recognizer(8, 4, torch.optim.Adam, units=16, hidden=5, readout=readout))
    stream = load_stream(saved(tmp_path, network), by)
    x = torch.randn(1, 24_000, 8) + 0.5
    seconds, memory = [], []
    for part in range(8):
        start = time.thread_time()  # others may be busy
        for step in range(3_000 * part, 3_000 * (part + 1)):
            out = stream.step(x[:, step : step + 1])
        seconds.append(time.thread_time() - start)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert difference(network(x), out) <= 1e-6
    assert sorted(seconds[4:])[1] < 1.5 * sorted(seconds[:4])[1]
    assert memory[-1] - memory[1] < 2**22
