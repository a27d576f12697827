"""The launcher ``processes``: jobs side by side in processes of this machine, several on a GPU if that is asked for."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from prunekit import gpu
from prunekit.app.devices import accelerator
from prunekit.app.thread_choice import share_of, take_share
from prunekit.errors import check_count

NAME = "hydra_plugins.prunekit"  # Hydra takes plugins from a package of this name alone
# What the dense network does not depend on, whatever its value.
NOT_DENSE = ("callbacks", "criterion", "segmentation", "logger", "hydra", "paths", "threads", "force")
Jobs = list[tuple[int, Sequence[str]]]


class Processes(Launcher):  # type: ignore[misc]
    """Runs jobs in processes, those that share a dense network in one after the other.

    Args:
        n_jobs: processes; -1 for one a core, or with GPUs for ``jobs_per_gpu`` on each.
        jobs_per_gpu: jobs that a GPU does at once, as long as it has memory for them.
        verbose: joblib's own messages, 0 to 50.
    """

    def __init__(self, n_jobs: int = -1, jobs_per_gpu: int = 1, verbose: int = 0) -> None:
        self.n_jobs, self.verbose = n_jobs, verbose
        self.jobs_per_gpu = check_count("hydra.launcher.jobs_per_gpu", jobs_per_gpu, least=1)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take up what Hydra hands every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; what became of each, in their order."""
        from joblib import Parallel, delayed, effective_n_jobs  # noqa: PLC0415 - an extra may be missing

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        processes = self.n_jobs if self.n_jobs > 0 else self._on_gpus() or effective_n_jobs(self.n_jobs)
        jobs = list(enumerate(job_overrides, start=initial_job_idx))
        given = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        share = share_of(min(processes, len(jobs)))  # joblib would say so in its processes' environment
        parts = in_processes(jobs, processes)
        found = Parallel(n_jobs=processes, backend="loky", verbose=self.verbose)(
            delayed(in_turn)(part, share, *given) for part in parts
        )
        done = {number: result for part in found for number, result in part}
        return [done[number] for number, _ in jobs]

    def _on_gpus(self) -> int:
        kind = accelerator(self.config.trainer.accelerator)
        return self.jobs_per_gpu * int(gpu.module().device_count()) if kind == gpu.KIND and gpu.available() else 0


def in_turn(part: Jobs, threads: int | None, *given: Any) -> list[tuple[int, JobReturn]]:
    """Do some jobs one after the other, in a process that has imported no more than what is needed for it."""
    from hydra_plugins.hydra_joblib_launcher._core import execute_job  # noqa: PLC0415 - likewise

    take_share(threads)
    return [(number, execute_job(number, overrides, *given)) for number, overrides in part]


def in_processes(jobs: Jobs, processes: int) -> list[Jobs]:
    """Part jobs so that those that share a dense network go together, while there is work for all processes.

    The first of them trains it; in processes of their own the others would only wait for it.

    Example:
        >>> jobs = [(0, ["seed=0", "criterion=a"]), (1, ["seed=1", "criterion=a"]), (2, ["seed=0", "criterion=b"])]
        >>> [[number for number, _ in part] for part in in_processes(jobs, 2)]
        [[0, 2], [1]]
        >>> [[number for number, _ in part] for part in in_processes(jobs, 3)]
        [[0], [2], [1]]
    """
    together: dict[tuple[str, ...], Jobs] = {}
    for number, overrides in jobs:
        key = tuple(word for word in overrides if word.lstrip("+~").split("=")[0].split(".")[0] not in NOT_DENSE)
        together.setdefault(key, []).append((number, overrides))
    parts = list(together.values())
    while len(parts) < min(processes, len(jobs)):
        largest = max(range(len(parts)), key=lambda place: len(parts[place]))
        half = (len(parts[largest]) + 1) // 2
        parts[largest : largest + 1] = [parts[largest][:half], parts[largest][half:]]
    return parts


def register() -> None:
    """Have Hydra find the launcher under the name that the config gives it."""
    Plugins.instance().class_name_to_class[f"{NAME}.{Processes.__name__}"] = Processes
    sys.modules.setdefault(NAME, sys.modules[__name__])
