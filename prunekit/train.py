"""The door to a run: ``python -m prunekit.train experiment=NAME key=value ...``."""

import hydra
from omegaconf import DictConfig
from rich.console import Console

from prunekit.door import errors_told, quiet_lightning
from prunekit.life import Run
from prunekit.runs.rank import is_rank_zero
from prunekit.runs.results import summary_table


def run_once(cfg: DictConfig) -> None:
    """Run, continue or report what the config describes; exit with 2 on an error that a user can mend."""
    quiet_lightning()
    with errors_told():
        run = Run(cfg)
        results = run.go()
    if is_rank_zero():
        console = Console(highlight=False, soft_wrap=True)
        console.print(summary_table(results))
        console.print(f"figures:     {run.folder / 'figures'}")
        console.print(f"all results: {run.folder / 'results.json'}")
        console.print(f"TensorBoard: tensorboard --logdir {run.home}")


main = hydra.main(version_base="1.3", config_path="pkg://conf", config_name="train")(run_once)

if __name__ == "__main__":
    main()
