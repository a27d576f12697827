"""Sweeps as a user runs them: reuse, failures, kills, launchers."""

import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunekit.app.build import build_model
from prunekit.app.jobs import read_jobs
from prunekit.app.report import report
from prunekit.app.setting import Shared
from prunekit.app.sweep import Outcome, run_job
from prunekit.callbacks.checkpoints import WholeCheckpointIO
from prunekit.callbacks.measure import outcome
from prunekit.errors import ArgumentError
from tests.conftest import SHORT
from tests.end_to_end import killing

UNITS = ("experiment=synthetic_te", "model.units=16", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames")
UNITS += ("~callbacks.unit_curve",)
GRID = (*SHORT, "~callbacks.heatmaps", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "threads=1")
RATES = "callbacks.region_mean_mask.rate=0.2,0.4"


def prunekit(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "prunekit.app.train", f"paths.runs_dir={folder}", *arguments, "-m"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder.parent, check=False, env=os.environ | environment
    )


def csv_of(folder: Path, experiment: str = "digits_region") -> bytes:
    report(folder / experiment, folder / "report")
    return (folder / "report" / "results.csv").read_bytes()


def test_scores_are_shared_and_equal_to_ones_own(new_run, miniature, caplog):
    caplog.set_level("INFO")
    small = (*UNITS, *miniature("synthetic_te"))
    fine = ("criterion.edges=quantile", "criterion.target_bins=16")
    for number, extra in enumerate([fine, ("criterion=entropy",), ("criterion=random",)]):
        caplog.clear()
        first = new_run(*small, *extra)
        first.go()
        scores = f"taken from {first.home / 'shared'}"
        assert scores not in caplog.text
        second = new_run(*small, *extra, "callbacks.unit_mask.rate=0.8")
        second.go()
        assert "dense network: taken from" in caplog.text
        assert (scores in caplog.text) == (extra != ("criterion=random",))
        own = ("reuse=false", f"run_dir={first.home / str(number)}")
        alone = new_run(*small, *extra, "callbacks.unit_mask.rate=0.8", *own)
        alone.go()
        for name in ("scores.safetensors", "masks.safetensors"):
            killing.assert_equal(load_file(second.folder / name), load_file(alone.folder / name))
        (scores,) = load_file(alone.folder / "scores.safetensors").values()
        assert scores.unique().numel() > 1


def test_a_network_that_was_retrained_is_scored_anew(new_run, miniature):
    rounds = ("callbacks.unit_mask.rounds=2", "callbacks.unit_mask.retrain_epochs=1")
    run = new_run(*UNITS, *rounds, "criterion=entropy", *miniature("synthetic_te"))
    run.go()
    (place,) = (run.home / "shared").glob("*.safetensors")  # of the dense network alone
    last = load_file(run.folder / "scores.safetensors")["entropy"]
    assert not torch.equal(load_file(place)["values"], last)


def test_what_is_known_of_the_dense_network_is_what_would_be_measured(new_run, miniature, monkeypatch):
    small = (*UNITS, "data.validation=0.2", *miniature("synthetic_te"))
    first = new_run(*small).go()
    passes = []
    monkeypatch.setattr("prunekit.callbacks.measure.outcome", lambda *a: passes.append(a[2]) or outcome(*a))

    second = new_run(*small, "callbacks.unit_mask.rate=0.8").go()
    assert passes == ["validation", "test"]  # the pruned network once on each, the dense one not at all
    passes.clear()
    alone = new_run(*small, "callbacks.unit_mask.rate=0.8", "reuse=false", f"run_dir={new_run(*small).home / 'x'}").go()
    assert len(passes) > 2
    keys = ("metrics", "sparsity", "events")
    assert {key: second[key] for key in keys} == {key: alone[key] for key in keys}
    assert first["metrics"]["dense/test_acc"] == second["metrics"]["dense/test_acc"]


def test_a_checkpoint_of_another_run_is_measured_on_this_runs_data(new_run, miniature):
    small = (*UNITS, *miniature("synthetic_te"))
    first = new_run(*small, "reuse=false")
    first.go()
    (checkpoint,) = first.folder.glob("dense/*/dense.ckpt")
    other = new_run(*small, "data.split=random", "data.split_seed=1", f"ckpt_path={checkpoint}")
    results = other.go()
    content = torch.load(checkpoint, weights_only=True)
    content["callbacks"]["Curves"]["rows"][-1]["accuracy"] = 0.123
    WholeCheckpointIO().save_checkpoint(content, checkpoint)
    again = new_run(*small, "data.split=random", "data.split_seed=1", f"ckpt_path={checkpoint}").go()
    assert again["metrics"] == results["metrics"]


def count_trainings(log: Path) -> None:
    """In a child: note each dense training that begins."""
    import prunekit.app.dense

    rehearse = prunekit.app.dense.rehearse

    def noted(*arguments):
        (log / f"{os.getpid()}").touch()
        return rehearse(*arguments)

    prunekit.app.dense.rehearse = noted


def test_runs_that_start_at_once_train_the_dense_network_once(tmp_path):
    killing.warm_up()
    (tmp_path / "log").mkdir()
    started = [
        killing.start(
            *GRID, f"paths.runs_dir={tmp_path / 'runs'}", f"callbacks.region_mean_mask.rate={rate}",
            prepare=count_trainings, arguments=(tmp_path / "log",),
        )
        for rate in (0.2, 0.4)
    ]  # fmt: skip
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    assert len(list((tmp_path / "log").iterdir())) == 1
    assert len(list((tmp_path / "runs" / "dense").iterdir())) == 1


class Hydra:
    """Where Hydra would say which job this is."""

    def __init__(self, folder, number):
        self.job = type("job", (), {"num": number})
        self.runtime = type("runtime", (), {"cwd": str(folder)})
        self.sweep = type("sweep", (), {"dir": "sweep"})
        self.overrides = type("overrides", (), {"task": ["a=1"]})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ArgumentError("a", 1, "2"), "a: got 1; accepted: 2"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (OSError(28, "No space left on device", "f"), "cannot read or write: .*No space left"),
    ],
)
def test_a_job_that_fails_leaves_its_message_and_raises_nothing(error, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("prunekit.app.sweep.HydraConfig.get", lambda: Hydra(tmp_path, 7))

    def work(number):
        assert json.loads((tmp_path / "sweep" / "job00007.json").read_text())["state"] == "cut off"
        raise error

    run_job(work)
    job = json.loads((tmp_path / "sweep" / "job00007.json").read_text())
    assert (job["number"], job["state"], job["overrides"]) == (7, "failed", ["a=1"])
    assert re.search(message, job["error"])
    assert (job["traceback"] is None) == isinstance(error, ArgumentError | OSError)
    assert re.search(f"#7 failed: {message}", capsys.readouterr().out)


def test_jobs_give_their_networks_back(short_run, tmp_path, monkeypatch):
    """In one process a hundred jobs must not hold a hundred networks."""
    monkeypatch.setattr("prunekit.app.sweep._settled", False)
    monkeypatch.setattr("prunekit.app.sweep.HydraConfig.get", lambda: Hydra(tmp_path, 0))
    networks, shared = [], Shared()

    def build(*arguments):
        networks.append(weakref.ref(module := build_model(*arguments)))
        return module

    monkeypatch.setattr("prunekit.app.phases.build_model", build)
    for rate in (0.1, 0.2, 0.3, 0.4):
        run = short_run(f"callbacks.region_mean_mask.rate={rate}")
        run._shared = shared
        run_job(lambda number, run=run: Outcome(run=None, words=run.go()["experiment"]))
    gc.unfreeze()
    assert len(networks) == 4
    assert sum(network() is not None for network in networks) <= 1


@pytest.mark.slow
def test_a_failed_job_does_not_stop_the_others_and_the_same_command_runs_what_is_missing(tmp_path):
    runs = tmp_path / "runs"
    bad = prunekit(runs, *GRID, "callbacks.region_mean_mask.rate=0.2,1.5,0.4", "trainer.devices=1,2")
    assert bad.returncode == 1, bad.stderr
    assert "sweep: 6 jobs, 2 finished, 4 not" in bad.stdout
    end = bad.stdout.partition("sweep: ")[2]
    assert end.count("callbacks.region_mean_mask.rate: got 1.5; accepted: a number from 0 to 1") == 1
    assert end.count("trainer.devices: got 2; accepted: 1 in a multirun") == 3
    assert "Traceback" not in bad.stdout + bad.stderr
    assert (
        bad.stderr.count("warning: jobs with it will fail, the others run: callbacks.region_mean_mask.rate: got 1.5")
        == 1
    )
    jobs = json.loads(next(runs.glob("sweeps/*/jobs.json")).read_text())
    assert [job["state"] for job in jobs] == ["finished", "failed", "failed", "failed", "finished", "failed"]
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("results.json")}
    assert len(times) == 2
    again = prunekit(runs, *GRID, "callbacks.region_mean_mask.rate=0.2,0.3,0.4")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("this run had finished") == 2
    assert "sweep: 3 jobs, 3 finished, 0 not" in again.stdout
    assert len(list(runs.rglob("results.json"))) == 3
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_an_unknown_key_stops_the_sweep_before_its_first_job(tmp_path):
    done = prunekit(tmp_path / "runs", *GRID, "callbacks.region_mean_mask.ratio=0.2,0.4")
    assert done.returncode != 0
    assert "ratio" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_launcher_that_is_not_installed_is_named(monkeypatch, capsys):
    from omegaconf import OmegaConf

    from prunekit.app.sweep import Sweep

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(Sweep, "folder", None)
    target = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
    config = OmegaConf.create({"hydra": {"sweep": {"dir": "x"}, "launcher": {"_target_": target}}})
    with pytest.raises(SystemExit):
        Sweep().on_multirun_start(config)
    assert "pip install 'prunekit[ray]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep in one process, never interrupted: its results.csv, and how long it took."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    killing.warm_up()
    started = time.perf_counter()
    process = killing.start_command(*GRID, f"paths.runs_dir={runs}", RATES, "seed=0,1", "-m")
    process.join(240)
    assert process.exitcode == 0
    return csv_of(runs), time.perf_counter() - started


@pytest.mark.slow
def test_a_sweep_killed_at_ten_random_moments_ends_in_the_same_table(whole, tmp_path):
    expected, seconds = whole
    moments = random.Random(6)
    arguments = (*GRID, f"paths.runs_dir={tmp_path / 'runs'}", RATES, "seed=0,1", "-m")
    killed = 0
    for _ in range(10):
        process = killing.start_command(*arguments)
        time.sleep(moments.uniform(0.1, 0.5) * seconds)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed >= 4
    process = killing.start_command(*arguments)
    process.join(240)
    assert process.exitcode == 0
    *cut, last = [read_jobs(sweep) for sweep in sorted((tmp_path / "runs" / "sweeps").iterdir())]
    assert [job["state"] for job in last] == ["finished"] * 4
    assert all(len(jobs) == 4 for jobs in cut)  # those that never started are known
    assert [job["overrides"] for job in cut[0]] == [job["overrides"] for job in last]
    assert any(job["state"] != "finished" for jobs in cut for job in jobs)
    assert csv_of(tmp_path / "runs") == expected


@pytest.mark.slow
def test_two_equal_sweeps_at_once_share_their_jobs(whole, tmp_path):
    arguments = (*GRID, f"paths.runs_dir={tmp_path / 'runs'}", RATES, "seed=0,1", "-m")
    sweeps = [killing.start_command(*arguments) for _ in range(2)]
    for sweep in sweeps:
        sweep.join(240)
    assert [sweep.exitcode for sweep in sweeps] == [0, 0]
    assert csv_of(tmp_path / "runs") == whole[0]
    assert len(list((tmp_path / "runs" / "dense").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)  # Ray takes long to start beside other tests
@pytest.mark.parametrize(
    ("launcher", "extra"),
    [("processes", ["hydra.launcher.n_jobs=2"]), ("queue", ["hydra.sweeper.max_batch_size=2"]), ("ray_tasks", [])],
)
def test_every_launcher_ends_in_the_same_table(launcher, extra, whole, tmp_path):
    runs = tmp_path / "runs"
    done = prunekit(runs, *GRID, RATES, "seed=0,1", f"hydra/launcher={launcher}", *extra, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "sweep: 4 jobs, 4 finished, 0 not" in done.stdout
    assert csv_of(runs) == whole[0]
    assert len(list((runs / "dense").iterdir())) == 2


SBATCH = """#!/bin/sh
for script; do :; done
cp "$script" "{folder}/script.sh"
echo "Submitted batch job 1"
"""


@pytest.mark.slow
def test_the_slurm_launcher_asks_for_one_gpu_and_one_process_a_job(tmp_path):
    """Without Slurm: a stand-in takes the batch script, and is asked for jobs' states until we stop."""
    tools = tmp_path / "bin"
    tools.mkdir()
    stand_ins = {"sbatch": SBATCH.format(folder=tmp_path), "srun": "#!/bin/sh\n", "sacct": "#!/bin/sh\n"}
    for name, text in stand_ins.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    options = ("hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=30", "hydra.launcher.array_parallelism=3")
    command = [
        sys.executable,
        "-m",
        "prunekit.app.train",
        f"paths.runs_dir={tmp_path / 'runs'}",
        *GRID,
        RATES,
        *options,
    ]
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [*command, "hydra/launcher=slurm", "-m"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "script.sh").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.kill()
    process.wait()
    script = (tmp_path / "script.sh").read_text()
    for line in ("--array=0-1%2", "--gpus-per-node=1", "--nodes=1", "--ntasks-per-node=1", "--partition=gpu",
                 "--time=30", "--cpus-per-task=4", "--mem=16GB", "--job-name=prunekit"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script, script
    assert "submitit.core._submit" in script
