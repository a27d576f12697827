"""The door to a run: ``python -m prunekit.train experiment=NAME key=value ...``."""

import logging
import os
import sys
import warnings

import hydra
from omegaconf import DictConfig
from rich.console import Console

from prunekit.errors import ConfigError
from prunekit.life import Run
from prunekit.runs.rank import is_rank_zero
from prunekit.runs.results import summary_table


def quiet_lightning() -> None:
    """Keep Lightning's remarks on devices and its tips out of a run's few lines; its warnings stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Raised by Lightning's own use of a torch class that torch 2.9 deprecated; nothing here can be changed about it.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)


def describe(error: ConfigError | OSError) -> str:
    """One message for what a user can mend: a value, or a disk."""
    if isinstance(error, ConfigError):
        return str(error)
    return f"cannot read or write: {error}. What was written before is whole; mend it and run the same command again"


def run_once(cfg: DictConfig) -> None:
    """Run, continue or report what the config describes; exit with 2 on an error that a user can mend.

    ``PRUNEKIT_TRACEBACK=1`` shows where it was raised.
    """
    quiet_lightning()
    try:
        run = Run(cfg)
        results = run.go()
    except (ConfigError, OSError) as error:
        if os.environ.get("PRUNEKIT_TRACEBACK"):
            raise
        if is_rank_zero():
            print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(2)
    if is_rank_zero():
        console = Console(highlight=False, soft_wrap=True)
        console.print(summary_table(results))
        console.print(f"figures:     {run.folder / 'figures'}")
        console.print(f"all results: {run.folder / 'results.json'}")
        console.print(f"TensorBoard: tensorboard --logdir {run.home}")


main = hydra.main(version_base="1.3", config_path="pkg://conf", config_name="train")(run_once)

if __name__ == "__main__":
    main()
