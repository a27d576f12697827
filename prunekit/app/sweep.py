"""A sweep: its jobs leave what became of them, whatever launcher runs them where, and its end lists what failed."""

import atexit
import gc
import importlib.util
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from prunekit import gpu, stopping
from prunekit.app.door import describe
from prunekit.app.errors import ConfigError
from prunekit.app.foresight import refused
from prunekit.app.jobs import JOBS, Job, gather, leave, new_job, plan, read_jobs
from prunekit.app.launcher import register
from prunekit.app.pictures import sweep_pictures
from prunekit.app.ranks import watch_parent
from prunekit.app.results import retrained
from prunekit.app.stops import stop_told
from prunekit.app.sweep_table import finished, results_table
from prunekit.app.writers import writers_silent
from prunekit.errors import ArgumentError
from prunekit.folders import new_folders, remove_empty

EXTRAS = {"hydra_joblib_launcher": "sweeps", "hydra_submitit_launcher": "cluster", "hydra_ray_launcher": "ray"}
atexit.register(gc.unfreeze)  # what the first job has set aside; libraries look for leaks after this
_settled = False


class Outcome(TypedDict):
    """What a job's work tells when it is done: its run's folder if it has one, and a few words on what came out."""

    run: str | None
    words: str


class Sweep(Callback):  # type: ignore[misc]
    """Hydra's view of the sweep: remembers where it writes, and refuses a launcher that is not installed."""

    folder: Path | None = None
    made: ClassVar[list[Path]] = []  # it, and what it is in and was not there before

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called in the process that starts the sweep, before any job."""
        Sweep.folder = Path(config.hydra.sweep.dir).absolute()
        Sweep.made = new_folders(Sweep.folder)
        register()
        package = str(config.hydra.launcher._target_).split(".")[1]
        package = "hydra_joblib_launcher" if package == "prunekit" else package  # which ours builds on
        if package in EXTRAS and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
            accepted = f"one that is installed: pip install 'prunekit[{EXTRAS[package]}]'"
            error = ConfigError("hydra/launcher", package, accepted)
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        jobs = planned(config)
        loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
        if loader is not None:
            for wrong in refused(jobs, lambda words: loader.load_sweep_config(config, words)):
                print(f"warning: jobs with it will fail, the others run: {wrong}", file=sys.stderr, flush=True)
        plan(Sweep.folder, jobs)
        if not str(config.hydra.launcher._target_).endswith(".BasicLauncher"):
            stopping.hold(False)  # this process only waits for those that do the jobs


def planned(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper will make them; none if another sweeper decides."""
    if not str(config.hydra.sweeper._target_).endswith("BasicSweeper"):
        return []
    words = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*words, *config.hydra.overrides.task])
    values = {  # the command line's in place of the sweep's own
        one.get_key_element(): list(one.sweep_string_iterator())
        if one.is_sweep_override()
        else [one.get_value_element_as_str()]
        for one in overrides
    }
    return [[f"{key}={value}" for key, value in zip(values, job, strict=True)] for job in product(*values.values())]


def in_sweep() -> bool:
    """Whether this process runs a job of a sweep."""
    return bool(HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)


def jobs_per_gpu() -> int:
    """How many jobs the launcher of this sweep may have on one GPU at once."""
    return int(HydraConfig.get().launcher.get("jobs_per_gpu") or 1)


def run_job(work: Callable[[int], Outcome]) -> None:
    """Run a job of a sweep so that its failure, of whatever kind, does not stop the others.

    Args:
        work: given the job's number, does it.
    """
    if Sweep.folder is None:  # in a process that a launcher has started: it has nothing to do when that is gone
        watch_parent("the sweep")
    hydra = HydraConfig.get()
    number = int(hydra.job.num)
    folder = Path(hydra.runtime.cwd) / hydra.sweep.dir
    job = new_job(number, list(hydra.overrides.task), "cut off")
    leave(folder, job)
    try:
        with stopping.obeyed(), writers_silent():
            done = work(number)
    except Exception as error:  # the other jobs go on, whatever it is
        if os.environ.get("PRUNEKIT_TRACEBACK"):
            raise
        job["state"] = "failed"
        if isinstance(error, ArgumentError | OSError):
            job["error"] = describe(error)
        else:
            job["error"], job["traceback"] = f"{type(error).__name__}: {error}", traceback.format_exc()
        print(f"#{number} failed: {job['error']}", flush=True)
    else:
        job["state"], job["run"] = "finished", done["run"]
        print(f"#{number} {done['words']}", flush=True)
    leave(folder, job)
    _free()


def _free() -> None:
    """Give back what the job held: networks hang in circles with their trainers, and a GPU's memory with them.

    What lives on, such as all imported code, is looked at once only: it would take most of a short job's time.
    """
    gc.collect()
    if gpu.available():
        gpu.module().empty_cache()
    global _settled  # noqa: PLW0603 - of this process, however many sweeps
    if not _settled:  # once: what a later job still holds now would never be given back
        _settled = True
        gc.freeze()


@contextmanager
def summed_up() -> Iterator[None]:
    """Around a whole command: after a sweep tell what became of its jobs; exit with 1 if not all have finished."""
    with stop_told():
        try:
            yield
        except HydraException:  # what was typed makes no config: there was no sweep
            if Sweep.folder is not None and all(job["state"] == "not started" for job in read_jobs(Sweep.folder)):
                shutil.rmtree(Sweep.folder, ignore_errors=True)
                remove_empty(Sweep.made[1:])
                Sweep.folder = None
            raise
        finally:
            if Sweep.folder is not None:
                jobs = gather(Sweep.folder)
                tell(jobs, Sweep.folder)
    if Sweep.folder is not None and any(job["state"] != "finished" for job in jobs):
        sys.exit(1)


def tell(jobs: list[Job], folder: Path) -> None:
    """Print how many jobs finished, and each that did not with its message."""
    left = [job for job in jobs if job["state"] != "finished"]
    print(f"sweep: {len(jobs)} jobs, {len(jobs) - len(left)} finished, {len(left)} not")
    waiting = [job for job in left if job["state"] == "not started"]
    if waiting:
        print(f"{len(waiting)} not started")
    for job in (job for job in left if job["state"] != "not started"):
        print(f"#{job['number']} {job['state']}: {' '.join(job['overrides'])}")
        if job["error"]:
            print(f"    {job['error']}")
    if left:
        print(f"the same command runs what is missing; tracebacks, if any, are in {folder / JOBS}")
    found = finished(jobs)
    done = [results for _, results in found]
    if (table := results_table(found)) is not None:
        Console(highlight=False, soft_wrap=True).print(table)
    if any(map(retrained, done)) and not any(results.get("control") for results in done):
        print("what the network reaches that is not pruned and trained for as many epochs: control=as_many_epochs")
    folders = sorted({str(Path(job["run"]).parent) for job in jobs if job["run"]})
    for runs in map(shlex.quote, folders):
        print(f"report: prunekit report {runs}")
    if len(folders) == 1:
        print(f"of these jobs alone: prunekit report {shlex.quote(str(folder))}")
    if any("rate" in results.get("control", {}) for results in done):  # of units
        print(f"verdicts: prunekit compare {' '.join(map(shlex.quote, folders))}")
    if shown := sweep_pictures(jobs, folder):
        print(f"their {shown} last pictures: tensorboard --logdir {shlex.quote(str(folder))}")
