"""Unit pruning as a user runs it: results, reuse of the dense network, kills, two ranks."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunekit.app.checkpoint_file import read_checkpoint
from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.errors import ArgumentError
from tests.end_to_end import killing

SMALL = ("model.units=16", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames")
EXPERIMENT = "experiment=synthetic_te"


def test_results_say_what_was_pruned(new_run, miniature):
    run = new_run(
        EXPERIMENT, *SMALL, "model.regularization=l2", "callbacks.unit_mask.rate=0.3", *miniature("synthetic_te")
    )
    results = run.go()
    assert results["callbacks"]["unit_mask"] == {
        "criterion": "transfer_entropy", "order": "descending", "rate": 0.3, "repair": "none", "compensation": "none",
        "units": {"count": 16, "removed": 5},
    }  # fmt: skip
    assert results["regularization"] == "l2"
    assert results["sparsity"]["achieved"]["lstm.units"] == 5 / 16
    assert results["sparsity"]["requested"] == {"unit_mask": 0.3}
    removed = 5 * 4 * (512 + 16)
    assert results["sparsity"]["overall"] == removed / (64 * (512 + 16) + 16 * 8 + 8 * 6)
    assert results["parameters"]["nonzero"] == results["parameters"]["dense"] - removed - 5 * 4 * 2
    mask = load_file(run.folder / "masks.safetensors")
    assert set(mask) == {f"lstm.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    curve = results["callbacks"]["unit_curve"]["rows"]
    assert len(curve) == (4 * 2 + 1) * 10  # reconstruction has one order
    at_zero = {row["test_acc"] for row in curve if row["rate"] == 0}
    assert at_zero == {results["metrics"]["dense/test_acc"]}
    same = [r for r in curve if (r["criterion"], r["order"], r["rate"]) == ("transfer_entropy", "descending", 0.3)]
    assert same[0]["test_acc"] == results["metrics"]["pruned/test_acc"]


@pytest.mark.parametrize("criterion", ["entropy", "l1_norm", "random", "reconstruction"])
def test_the_command_chooses_the_criterion(criterion, new_run, miniature):
    extra = ("~callbacks.unit_curve", f"criterion={criterion}", "callbacks.unit_mask.order=ascending")
    found = new_run(EXPERIMENT, *SMALL, *extra, *miniature("synthetic_te")).go()["callbacks"]["unit_mask"]
    assert (found["criterion"], found["order"]) == (criterion, "ascending")


def test_criteria_orders_and_rates_share_the_dense_network(new_run, miniature):
    small = (EXPERIMENT, *SMALL, "~callbacks.unit_curve", *miniature("synthetic_te"))
    runs = [
        new_run(*small, *extra)
        for extra in ((), ("criterion=random",), ("callbacks.unit_mask.rate=0.9",), ("criterion.bins=4",))
    ]
    accuracies = {run.go()["metrics"]["dense/test_acc"] for run in runs}
    assert len(accuracies) == 1
    assert len({run.folder for run in runs}) == 4
    assert len(list((runs[0].home / "dense").iterdir())) == 1
    assert not list(runs[0].home.rglob("epoch*.ckpt"))  # jobs that only prune store masks


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("callbacks.unit_mask.order=up", r"callbacks\.unit_mask\.order: got 'up'; accepted: ascending \| descending"),
        ("callbacks.unit_mask.lstm=head", r"callbacks\.unit_mask\.lstm: got 'head'; .*recurrent ones: lstm"),
        ("callbacks.unit_mask.head=tail", r"callbacks\.unit_mask\.head: got 'tail'"),
        ("criterion.bins=3", r"criterion.bins: got 3"),
        ("criterion.target=loss", r"target: got 'loss'; accepted: probability \| hit \| accuracy"),
        ("criterion=reconstruction", r"callbacks\.unit_mask\.order: got 'descending'; accepted: ascending for recon"),
        ("callbacks.unit_mask.compensation=some", r"compensation: got 'some'; accepted: none \| linear \| closed_loop"),
        ("callbacks.unit_curve.ridge=0", r"callbacks\.unit_curve\.ridge: got 0"),
        ("~criterion", r"callbacks\.unit_mask\.criterion: got .*Interpolation key 'criterion' not found"),
        ("callbacks.unit_curve.criteria.entropy.bins=5", r"bins: got 5"),
        ("callbacks.unit_curve.rates=[2]", r"rates: got 2"),
    ],
)
def test_wrong_values_are_named_before_any_training(override, message, new_run, miniature, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        new_run(EXPERIMENT, *SMALL, override, *miniature("synthetic_te")).go()
    assert not list(tmp_path.rglob("*.ckpt"))


BASE = (
    EXPERIMENT, "data.source.groups=6", "data.source.frames=6", "data.frames=4", "data.source.frame_size=[32,32]",
    "data.frame_size=[32,32]", "model.units=32", "model.hidden=16", "dense_epochs=4", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "data.device=cpu", "~callbacks.sample_frames",
    "callbacks.unit_curve.rates=[0.0,0.5,0.9]", "callbacks.unit_mask.rounds=2", "callbacks.unit_mask.retrain_epochs=1",
    "callbacks.unit_mask.compensation=linear", "callbacks.unit_curve.compensation=linear",
)  # fmt: skip


def overrides(folder: Path) -> tuple[str, ...]:
    return (*BASE, f"run_dir={folder}", f"paths.runs_dir={folder}-home", f"paths.cache_dir={folder}-cache")


def outcome(folder: Path) -> dict:
    results = json.loads((folder / "results.json").read_text())
    keys = ("metrics", "sparsity", "events", "callbacks")
    scores = {name: load_file(folder / name) for name in ("scores.safetensors", "unit_scores.safetensors")}
    return {
        "results": {key: results[key] for key in keys},
        "weights": read_checkpoint(list_checkpoints(folder / "checkpoints")[-1]).content["state_dict"],
        "scores": scores,
        "masks": load_file(folder / "masks.safetensors"),
    }


MOMENTS = {
    "before the scoring": (killing.die_before, ("prunekit.callbacks.unit_curve", "score", 1)),
    "within the scoring": (killing.die_before, ("prunekit.units.series.Recorder", "_take", 2)),
    "when scored": (killing.die_after, ("prunekit.callbacks.unit_curve", "score", 1)),
    "at a row": (killing.die_before, ("prunekit.callbacks.unit_curve", "value_of", 7)),
    "while a row is written": (killing.die_in_the_middle_of_a_write, ("unit_curve.json", 9)),
    "when a row was written": (killing.die_after, ("prunekit.callbacks.unit_curve", "write_record", 11)),
    "when all rows are there": (killing.die_before, ("prunekit.callbacks.unit_curve.UnitCurve", "_show", 1)),
    "at the mask": (killing.die_before, ("prunekit.callbacks.pruning.Pruning", "_prune", 1)),
    "at the second mask": (killing.die_after, ("prunekit.callbacks.pruning.Pruning", "_prune", 2)),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert killing.finish(*overrides(folder)) == 0
    return outcome(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_units_are_scored_or_measured(moment, whole, tmp_path):
    prepare, arguments = MOMENTS[moment]
    folder = tmp_path / "run"
    assert killing.finish(*overrides(folder), prepare=prepare, arguments=arguments) == -signal.SIGKILL
    path = folder / "unit_curve.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    assert rows == whole["results"]["callbacks"]["unit_curve"]["rows"][: len(rows)]
    if "row" in moment:
        assert len(rows) >= 6
    assert killing.finish(*overrides(folder)) == 0
    killing.assert_equal(outcome(folder), whole)


GRAINS = {
    "unit": ("callbacks.unit_mask.compensation=linear",),
    "gate": (
        "callbacks.unit_mask.granularity=gate", "callbacks.unit_curve.granularity=gate",
        "callbacks.unit_curve.compensation=none",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("grain", GRAINS)
def test_two_ranks_find_the_scores_and_the_mask_of_one(grain, tmp_path):
    for devices in (1, 2):
        command = [
            sys.executable, "-m", "prunekit.app.train", *(o for o in BASE if not o.startswith("callbacks.unit_mask")),
            f"paths.cache_dir={tmp_path / 'cache'}", f"paths.runs_dir={tmp_path / 'runs'}",
            f"run_dir={tmp_path / str(devices)}", "trainer=ddp", f"trainer.devices={devices}",
            "criterion.correction=surrogate", "criterion.surrogates=5", "trainer.accelerator=cpu",
            "model.optimizer.lr=0.0", *GRAINS[grain],
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (
        {name: load_file(tmp_path / d / name) for name in ("scores.safetensors", "masks.safetensors")} for d in "12"
    )
    assert "transfer_entropy.p_values" in one["scores.safetensors"]
    for name, content in one.items():
        for key, tensor in content.items():
            assert torch.equal(tensor, two[name][key]), (name, key)
    rows = [json.loads((tmp_path / d / "unit_curve.json").read_text()) for d in "12"]
    assert rows[0] == rows[1]
