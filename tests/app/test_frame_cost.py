"""What a run on clips says of a frame of a stream: of which networks, on how many threads, and of no other data."""

import json

import pytest
import torch

from prunekit.app import frame_cost
from prunekit.app.frame_cost import frame_cost as cost
from prunekit.models.backbone import FrameEncoder
from prunekit.stepping import StepNetwork
from tests.conftest import go_and_keep

PRUNED = ("experiment=ucf101_compact", "model.units=16", "model.hidden=8", "dense_epochs=1")
PRUNED += ("callbacks.unit_mask.rate=0.75", "~callbacks.confusion")
PAIRS = [("lstm", "head")]


@pytest.fixture
def finished(new_run, miniature):
    run = new_run(*PRUNED, *miniature("ucf101_compact"))
    return run, *go_and_keep(run)


@pytest.fixture
def timed(monkeypatch):
    """What is timed, and each time other seconds."""
    calls = []

    def medians(rivals, repeats, clock):
        outs = {name: rival() for name, rival in rivals.items()}
        calls.append((rivals, outs, torch.get_num_threads(), clock))
        return dict.fromkeys(rivals, float(len(calls)))

    monkeypatch.setattr(frame_cost, "medians", medians)
    return calls


def test_a_run_on_clips_says_what_a_frame_takes(finished):
    run, _, data = finished
    found = json.loads((run.folder / "results.json").read_text())["frame"]
    assert set(found) == {"threads", "every", "seconds"}
    assert found["every"] == pytest.approx(6 / 25 / data.sampling.frames)  # its clips have six frames
    assert set(found["seconds"]) == {"decoding", "backbone", "dense", "compact"}
    assert all(0 < seconds < 1 for seconds in found["seconds"].values())
    assert found["threads"] == 1


def test_the_networks_that_are_timed_are_the_dense_and_the_compact_one_on_one_thread(finished, timed):
    _, module, data = finished
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        cost(module, PAIRS, data, {})
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    [(rivals, outs, threads, clock)] = timed
    assert (threads, clock.__name__) == (1, "thread_time")
    steps = {name: rivals[name].func for name in ("dense", "compact")}
    assert all(isinstance(step, StepNetwork) for step in steps.values())
    assert {name: step.network.lstm.layer.hidden_size for name, step in steps.items()} == {"dense": 16, "compact": 4}
    assert outs["backbone"].shape == (1, 512)  # a frame at a time
    assert outs["dense"][0].shape == (1, 2)
    assert torch.allclose(outs["dense"][0], outs["compact"][0], atol=1e-5)


def test_runs_of_one_backbone_have_its_times_in_common(finished, timed):
    _, module, data = finished
    known = {}
    first, second = (cost(module, PAIRS, data, known)["frame"]["seconds"] for _ in range(2))
    assert first["decoding"] == second["decoding"]
    assert (first["backbone"], second["backbone"]) == (1.0, 1.0)
    assert (first["compact"], second["compact"]) == (1.0, 2.0)
    data.backbone.precision = "bf16"
    assert cost(module, PAIRS, data, known)["frame"]["seconds"]["backbone"] == 3.0


def test_a_dense_run_has_no_compact_network_and_other_data_no_frames(finished, timed):
    _, module, data = finished
    assert set(cost(module, [], data, {})["frame"]["seconds"]) == {"decoding", "backbone", "dense"}
    assert cost(module, [], object(), {}) == {}
    assert cost(torch.nn.Linear(2, 2), [], data, {}) == {}


def test_what_cannot_be_measured_costs_no_results(finished, monkeypatch, caplog):
    _, module, data = finished
    monkeypatch.setattr(frame_cost, "seconds_between_frames", lambda data: None)
    assert cost(module, PAIRS, data, {}) == {}
    assert "what a frame costs is not known: ValueError: no training clip says how long" in caplog.text


def test_a_backbone_that_was_trained_along_is_the_one_that_is_timed(finished, timed):
    _, module, data = finished
    known, marks = {}, []
    assert cost(module, PAIRS, data, known)["frame"]["seconds"]["backbone"] == 1.0
    module.backbone = FrameEncoder("untrained", "", trainable=True)
    module.backbone.register_forward_hook(lambda encoder, *a: marks.append(encoder.training))
    assert cost(module, PAIRS, data, known)["frame"]["seconds"]["backbone"] == 2.0
    assert set(marks) == {False}
