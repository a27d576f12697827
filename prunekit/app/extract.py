"""The door to features: ``prunekit extract experiment=NAME [data.shard=i/n]`` computes them and no more."""

import sys

import hydra
from omegaconf import DictConfig

from prunekit.app.builder import Builder
from prunekit.app.config import references, resolve
from prunekit.app.devices import current, free_gpu
from prunekit.app.door import errors_told
from prunekit.app.errors import ConfigError
from prunekit.app.sweep import Outcome, in_sweep, jobs_per_gpu, run_job, summed_up
from prunekit.app.typed_keys import keys_told

HELP = """\
prunekit extract key=value ...                      the features of the clips of an experiment's data, computed and kept
prunekit extract -m data.shard=0/4,1/4,2/4,3/4 ...  in parts, which may run at once and on several machines

  prunekit extract experiment=ucf101_te data.source.root=FOLDER
  prunekit extract experiment=ucf101_te --cfg job   prints all keys; those of data count here

Runs with the same data find the features in paths.cache_dir. Keys and experiments: prunekit train --help"""


def extract_once(cfg: DictConfig) -> None:
    """Compute the features that the config's data needs, or this job's shard of them.

    Any number of jobs with shards of one ``n`` may run at once, wherever they see the same ``paths.cache_dir``.
    """
    if in_sweep():
        run_job(lambda number: _job(cfg, number))
        return
    with errors_told():
        print(_extract(cfg))


def _job(cfg: DictConfig, number: int) -> Outcome:
    trainer = {"accelerator": cfg.trainer.accelerator, "devices": 1}
    with free_gpu(trainer, number, each=jobs_per_gpu()) as gpu, current(gpu):
        return Outcome(run=None, words=_extract(cfg))


def _extract(cfg: DictConfig) -> str:
    config, _ = resolve(cfg)
    builder = Builder(references(cfg))
    data = builder.build(config["data"], "data")
    if not hasattr(data, "extract"):
        raise ConfigError("data", config["data"]["_target_"], "data made of clips")
    with builder.naming():
        number = data.extract()
    part = f", which are shard {config['data']['shard']}" if config["data"]["shard"] else ""
    return f"{number} clips{part}: features are in {config['paths']['cache_dir']}"


_hydra_main = hydra.main(version_base="1.3", config_path="pkg://prunekit.conf", config_name="train")(extract_once)


def main() -> None:
    """Compose the config and compute; after a sweep over shards list what failed."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP)
        return
    with keys_told(), summed_up():
        _hydra_main()


if __name__ == "__main__":
    main()
