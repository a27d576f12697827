"""Whole runs on the stand-in, held against the same on the CPU: the same masks, and no step that waits."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from prunekit import gpu
from prunekit.app.explain import AREAS
from prunekit.app.explain import main as explain
from prunekit.app.export import CHECK
from prunekit.app.export import main as export
from prunekit.app.rebuild import rebuild
from prunekit.callbacks.curves import Curves
from tests import standin
from tests.conftest import SHORT
from tests.standin import watching

pytestmark = pytest.mark.standin
REGIONS = (*SHORT, "~callbacks.heatmaps")
SALIENCY = (*REGIONS, "callbacks.region_mean_mask.index=saliency", "segmentation=watershed")
UNITS = ("experiment=synthetic_te", "model.units=16", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames")
UNITS += ("criterion.edges=quantile", "criterion.target_bins=16")  # so that scores of hardly trained units differ
UNITS += ("callbacks.unit_mask.retrain_epochs=1",)
CURVE = (*UNITS, "callbacks.unit_curve.rates=[0.0,0.5]")
LINEAR = (*CURVE, "callbacks.unit_mask.compensation=linear", "callbacks.unit_curve.compensation=linear")
GATES = (*CURVE, "callbacks.unit_mask.granularity=gate", "callbacks.unit_curve.granularity=gate")
AT_ONCE = (*UNITS, "~callbacks.unit_curve", "callbacks.unit_mask.retrain_epochs=0")  # an event that no training follows
CLOSED_LOOP = (*AT_ONCE, "callbacks.unit_mask.compensation=closed_loop")
CLOSED_CURVE = (*CURVE, "callbacks.unit_curve.compensation=closed_loop")
LOW_RANK = (*AT_ONCE, "control=low_rank")
RUNS = {
    "regions": REGIONS, "saliency": SALIENCY, "linear compensation": LINEAR, "gates": GATES,
    "closed loop": CLOSED_LOOP, "curve in closed loop": CLOSED_CURVE, "low rank": LOW_RANK,
}  # fmt: skip
# Runs from video files take ten seconds each.
EACH = [pytest.param(kind, marks=[pytest.mark.slow] if run[0] == UNITS[0] else []) for kind, run in RUNS.items()]


def weights(run):
    return rebuild(run.folder).module.state_dict()


@pytest.mark.parametrize("kind", EACH)
def test_masks_are_the_cpus_and_weights_but_for_rounding(kind, device, go, tmp_path):
    theirs, ours = go(*RUNS[kind], on="cpu"), go(*RUNS[kind])
    assert (theirs.results["device"], ours.results["device"]) == ("cpu", "stand-in 0")
    features = [
        {clip_of(path): load_file(path)["features"] for path in (tmp_path / on / "features").rglob("*.safetensors")}
        for on in ("standin", "cpu")
    ]
    assert features[0].keys() == features[1].keys()
    assert all(torch.equal(features[0][name], features[1][name]) for name in features[0])
    assert_equal_files(ours.folder, theirs.folder, "masks.safetensors")
    found = weights(ours)
    for name, tensor in weights(theirs).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    accuracies = [[event["acc_after"] for event in run.results["events"]] for run in (ours, theirs)]
    assert accuracies[0] == accuracies[1]
    assert ours.results["callbacks"] == theirs.results["callbacks"]


def clip_of(path):
    """The digest of the clip whose features these are; the file's name is of how they were made, too."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["inputs"])["clip"]


def assert_equal_files(ours, theirs, pattern):
    names = sorted(path.relative_to(theirs) for path in theirs.glob(pattern))
    assert names == sorted(path.relative_to(ours) for path in ours.glob(pattern))
    for name in names:
        one, other = load_file(ours / name), load_file(theirs / name)
        assert all(torch.equal(one[key], other[key]) for key in other), name


@pytest.mark.parametrize(
    "overrides", [REGIONS, pytest.param((*UNITS, "~callbacks.unit_curve"), marks=pytest.mark.slow)], ids=["mlp", "lstm"]
)
def test_no_step_of_training_waits(overrides, device, go):
    """Runs of which one takes more steps in each epoch wait equally often."""
    waits = []
    for batches in (2, 4):
        with watching() as seen:
            go(*overrides, f"trainer.limit_train_batches={batches}", "data.batch_size=4", folder=str(batches))
        waits.append(seen.waits())
    assert waits[0]
    assert waits[1] - waits[0] == Counter()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regions", "linear compensation"])
def test_a_run_that_was_cut_off_ends_where_it_would_have_ended(kind, device, go, monkeypatch):
    rounds = "callbacks.region_mean_mask.rounds=2" if kind == "regions" else "callbacks.unit_mask.rounds=2"
    whole = go(*RUNS[kind], rounds)
    close, calls = Curves.on_train_epoch_end, []

    def cut_off(*arguments):
        calls.append(1)
        if len(calls) == 4:  # in the retraining after the first round
            raise KeyboardInterrupt
        close(*arguments)

    monkeypatch.setattr(Curves, "on_train_epoch_end", cut_off)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        go(*RUNS[kind], rounds, folder="cut")
    ended = go(*RUNS[kind], rounds, folder="cut")
    assert len(calls) > 4
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(ended)[name], tensor), name


@pytest.mark.slow
def test_what_was_made_on_a_gpu_is_exported_and_explained_without_one(device, go, tmp_path, monkeypatch):
    units, regions = go(*LINEAR, folder="units"), go(*REGIONS, folder="regions")
    standin.load().forget_touches()
    monkeypatch.setattr(gpu, "KIND", "cuda")
    export([str(units.folder), "--out", str(tmp_path / "export")])
    explain([str(regions.folder), "--out", str(tmp_path / "explain")])
    check = json.loads((tmp_path / "export" / CHECK).read_text())
    assert check
    assert all(one["difference"] <= 1e-6 for one in check.values())
    assert (tmp_path / "explain" / AREAS).exists()
    assert standin.load().touched() == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true", "16-true"])
def test_runs_end_in_fewer_bits(precision, device, go):
    optimizer = ["model/optimizer=sgd"] if precision == "16-true" else []  # Adam's epsilon is 0 in float16
    run = go(*LINEAR, *optimizer, f"trainer.precision={precision}")
    assert run.results["sparsity"]["achieved"]["lstm.units"] == 0.5
    assert all(tensor.isfinite().all() for tensor in weights(run).values())


SITE = """
from tests import standin
standin.load()
from tests.standin import accelerator
accelerator.register()
from prunekit import gpu
gpu.KIND = standin.NAME
"""


MEETING = """
import pathlib, time
from prunekit.app import life
go = life.Run.go
def wait_for_all(self, wait=False):
    begun = pathlib.Path("{folder}") / f"begun-{{self.config_hash}}"
    begun.touch()
    while len(list(begun.parent.glob("begun-*"))) < {jobs}:
        time.sleep(0.05)
    return go(self, wait)
life.Run.go = wait_for_all
"""


def sweep(tmp_path, *arguments, site=""):
    """Run a sweep in processes that all have the stand-in, those that a launcher starts too; the jobs' results."""
    (tmp_path / "sitecustomize.py").write_text(SITE + site)
    path = os.pathsep.join([str(tmp_path), str(standin.ROOT)])
    command = [sys.executable, "-m", "prunekit.app.train", "-m", *REGIONS, *arguments]
    runs = [f"paths.runs_dir={tmp_path / 'runs'}", "threads=1", "trainer.enable_progress_bar=false"]
    environment = os.environ | {"PYTHONPATH": path, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *runs], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/results.json")]


@pytest.mark.slow
def test_a_sweep_uses_both_devices_and_finds_what_the_cpu_finds(device, go, tmp_path):
    jobs = sweep(tmp_path, "hydra/launcher=processes", "hydra.launcher.n_jobs=2", "seed=0,1")
    assert {job["device"] for job in jobs} == {"stand-in 0", "stand-in 1"}
    for job in jobs:
        theirs = go(*REGIONS, f"seed={job['seed']}", on="cpu").results
        assert job["metrics"] == theirs["metrics"]
        assert job["sparsity"] == theirs["sparsity"]


@pytest.mark.slow
def test_a_device_does_several_jobs_at_once(device, tmp_path):
    """A job holds its place until as many as there are places have begun; with fewer at once none would end."""
    rates = "callbacks.region_mean_mask.rate=0.1,0.2,0.3,0.4"
    site = MEETING.format(folder=str(tmp_path), jobs=4)
    jobs = sweep(tmp_path, "hydra/launcher=processes", "hydra.launcher.jobs_per_gpu=2", rates, site=site)
    assert sorted(job["device"] for job in jobs) == ["stand-in 0"] * 2 + ["stand-in 1"] * 2
    assert len(list((tmp_path / "runs" / "dense").iterdir())) == 1
