"""Any one key of any experiment set to nonsense gives a run or one clear message, never anything else."""

import random
import re
import warnings
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import conf
from prunekit.app.life import Run
from prunekit.errors import ArgumentError
from tests.conftest import compose_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Made of the same classes as others that are not left out.
COVERED = {"synthetic_dense", "ucf101_dense", "ucf101_curve", "hmdb51_dense", "hmdb51_te"}
EXPERIMENTS = sorted({path.stem for path in (Path(conf.__file__).parent / "experiment").glob("*.yaml")} - COVERED)
NONSENSE = [
    None, True, False, "abc", "", "layers.hidden2.bias", -1, 0, 1, 3, 2.5, -0.5, float("nan"), float("inf"),
    [], [1], ["abc", None], {}, {"a": 1}, "${nowhere}", "???", "1e-3",
]  # fmt: skip
CORRUPTIONS = 200


def keys_of(config: DictConfig, prefix: str = "") -> list[str]:
    """Every key of a config, nodes and leaves, except where it would write."""
    found = []
    for name in config:
        key = f"{prefix}{name}"
        if key == "paths":
            continue
        found.append(key)
        if OmegaConf.is_dict(config) and OmegaConf.is_dict(config._get_node(name)):
            found += keys_of(config._get_node(name), f"{key}.")
    return found


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_one_corrupted_key_gives_a_run_or_a_message(experiment, tmp_path, miniature, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [
        f"experiment={experiment}", "dense_epochs=1", "trainer.limit_train_batches=2", "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false", f"paths.runs_dir={tmp_path / 'runs'}",
        f"paths.cache_dir={tmp_path / 'cache'}", *miniature(experiment),
    ]  # fmt: skip
    if "heatmaps" in compose_config(*small).callbacks:
        small.append("callbacks.heatmaps.max_neurons=1")
    plain = compose_config(*small)
    keys = keys_of(plain)
    assert len(keys) > 50
    choices = random.Random(experiment)
    ran, refused, wrong = 0, 0, []
    for _ in range(CORRUPTIONS):
        key, value = choices.choice(keys), choices.choice(NONSENSE)
        if (key, value) == ("trainer.devices", 3):
            continue  # its other ranks would be processes that run these tests
        config = plain.copy()
        OmegaConf.set_struct(config, False)
        OmegaConf.update(config, key, value, merge=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a strange value may well be warned about
                Run(config).go()
            ran += 1
        except ArgumentError as error:
            refused += 1
            if not re.fullmatch(r"[\w., -]+: got .+; accepted: .+", str(error), re.DOTALL):
                wrong.append(f"{key}={value!r}: an unclear message: {error}")
        except Exception as error:
            wrong.append(f"{key}={value!r}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
    # Both happen, so neither a door that refuses everything nor one that lets everything pass would do.
    assert ran >= 8
    assert refused >= 60
