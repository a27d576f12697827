"""The door to a run, or with ``-m`` to many: ``prunekit train experiment=NAME key=value ...``."""

import shlex
from collections.abc import Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

import prunekit.app.experiments  # noqa: F401 - registers what the help lists
from prunekit import stopping
from prunekit.app.devices import check_one_device, free_gpu
from prunekit.app.door import errors_told, quiet_lightning
from prunekit.app.life import Run
from prunekit.app.results import metric_in, summary_table, tested
from prunekit.app.resume import resumed
from prunekit.app.setting import Shared
from prunekit.app.sweep import Outcome, in_sweep, jobs_per_gpu, run_job, summed_up
from prunekit.app.typed_keys import keys_told
from prunekit.rank import is_rank_zero

_shared = Shared()  # of the jobs of a sweep that run in this process


def run_once(cfg: DictConfig) -> None:
    """Run, continue or report what the config describes; exit with 2 on an error that a user can mend."""
    quiet_lightning()
    if in_sweep():
        with stopping.released():
            run_job(lambda number: _job(cfg, number))
        return
    with errors_told(), stopping.released():
        run = Run(resumed(cfg, _words()))
        results = run.go()
    if is_rank_zero():
        console = Console(highlight=False, soft_wrap=True)
        console.print(summary_table(results))
        if (run.folder / "figures").exists():
            console.print(f"figures:     {run.folder / 'figures'}")
        console.print(f"all results: {run.folder / 'results.json'}")
        shown = run.home if run.folder.is_relative_to(run.home) else run.folder
        console.print(f"TensorBoard: tensorboard --logdir {shlex.quote(str(shown))}")
        for number, command in enumerate(next_commands(results, run)):
            console.print(f"{'' if number else 'next:':12} {command}")


def next_commands(results: Mapping[str, Any], run: Run) -> list[str]:
    """What one does with a finished run: look into a network whose neurons have images, take a small one away."""
    images = any("neurons" in said for said in results["callbacks"].values())
    own, all_runs = (shlex.quote(str(place)) for place in (run.folder, run.folder.parent))  # whatever it is called
    commands = [f"prunekit explain {own}"] if images else [f"prunekit report {all_runs}"]
    # Early runs have no compact network; of one that is as large as before there is nothing small to take away.
    parameters = results.get("parameters", {})
    smaller = parameters.get("compact", 0) < parameters.get("dense", 1)
    return [*commands, *([f"prunekit export {own}"] if results["events"] and smaller else [])]


def _words() -> list[str]:
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _job(cfg: DictConfig, number: int) -> Outcome:
    run = Run(resumed(cfg, _words()), _shared)
    check_one_device(run.config["trainer"])
    with free_gpu(run.config["trainer"], number, each=jobs_per_gpu()) as gpu:
        if gpu is not None:
            run.use_gpu(gpu)
        results = run.go(wait=True)  # two sweeps may have a job in common
    value, metric = tested(results, "final"), metric_in(results)
    words = f"{run.folder}" if value is None else f"{metric.show(value)} test {metric.name}: {run.folder}"
    return Outcome(run=str(run.folder), words=words)


_hydra_main = hydra.main(version_base="1.3", config_path="pkg://prunekit.conf", config_name="train")(run_once)


def main() -> None:
    """Compose the config and run; after a sweep list what failed."""
    with keys_told(), summed_up(), stopping.held():  # but for the work itself
        _hydra_main()


if __name__ == "__main__":
    main()
