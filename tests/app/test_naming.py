"""Names of runs: what differs from the experiment, the same however it was typed, safe wherever it is put."""

import re
import shlex

import pytest
from omegaconf import OmegaConf

from prunekit.app.config import resolve
from prunekit.app.differences import differences
from prunekit.app.naming import BETWEEN, LONGEST, find_folder, find_run, run_name
from tests.conftest import compose_config

HASH = "0123456789ab"
RATE = "callbacks.region_mean_mask.rate=0.3"


def name_of(*overrides):
    identity = resolve(compose_config(*overrides))[1]
    return run_name(identity["seed"], differences(identity), HASH)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "seed-0"),
        (["experiment=mnist_region", "seed=3", "callbacks.l2_mask.rate=0.4"], "seed-3__l2_mask.rate-0.4"),
        (["experiment=ucf101_te", "criterion=entropy"], "seed-0__criterion-entropy"),
        (["experiment=ucf101_te", "criterion=entropy", "criterion.bins=8"],
         "seed-0__criterion-entropy__criterion.bins-8"),
        (["experiment=ucf101_te", "data=hmdb51"], "seed-0__data.source-hmdb51"),
        (["experiment=ucf101_te", "+callbacks=teacher"], "seed-0__with-teacher"),
        (["~callbacks.heatmaps", "~callbacks.l2_mask"], "seed-0__no-heatmaps-l2_mask"),
        (["model/optimizer=adam", "control=null"], "seed-0__model.optimizer-adam"),
        (["experiment=mnist_rows_units", "control=scratch"], "seed-0__control-scratch"),
        (["model.sizes=[784,30,10]"], "seed-0__model.sizes-784-30-10"),
        (["trainer.enable_progress_bar=false", "paths.runs_dir=/x", "threads=2", "data.batch_size=20"],
         "seed-0__data.batch_size-20"),
        (["name=mine"], "seed-0"),  # no experiment to differ from
        (["~experiment", "name=mine", "dense_epochs=1"], "seed-0"),
    ],
)  # fmt: skip
def test_a_name_is_what_differs_from_the_experiment(overrides, name):
    assert name_of(*overrides) == f"{name}{BETWEEN}{HASH}"


@pytest.mark.parametrize(
    "overrides",
    [
        [RATE, "seed=3"], ["callbacks.region_mean_mask.rate=0.30", "seed=3", "data.seed=3"],
        ["seed=3", RATE, "callbacks.l2_mask.rate=0.5", "data=digits", "experiment=digits_region"],
        ["seed=3", RATE, "model/optimizer=sgd", "dense_epochs=30"],
    ],
)  # fmt: skip
def test_the_same_config_has_the_same_name_however_it_is_typed(overrides, new_run):
    if "dense_epochs=30" in overrides:
        overrides[-1] = f"dense_epochs={compose_config().dense_epochs}"
    run = new_run(*overrides)
    assert run.folder == new_run("seed=3", RATE).folder
    assert run.folder.name.startswith("seed-3__region_mean_mask.rate-0.3__trainer.accelerator-cpu__")


HOSTILE = {
    "data.a": "../../../etc/passwd", "data.b": "two\nlines", "data.c": "x" * 5000, "data.d": "$(rm -rf ~); `ls` 'q' \"",
    "data.e": "Überprüfung 数据", "data.f": [1, [2, "../x"], None], "data.g": {}, "data.h": "", "data.i": -1e-300,
    "data.j": 10**4000, "k" * 3000: True, "data.l": "NUL", "data.m": "a__b", "data.n": "a=b,c", "data.o": float("nan"),
    "data.p": "..", "data.q": "-rf", "data.r": "\x00\x1b[31m",
}  # fmt: skip


@pytest.mark.parametrize("key", [*HOSTILE, None])
def test_no_value_makes_a_name_that_is_not_safe(key, tmp_path):
    found = HOSTILE if key is None else {key: HOSTILE[key]}
    name = run_name(0, found, HASH)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name)
    assert len(name.encode()) <= LONGEST + 45
    assert name.endswith(f"{BETWEEN}{HASH}")
    assert shlex.split(f"resume={name}") == [f"resume={name}"]
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (
        compose_config(f"run_dir=runs/{name}").run_dir == f"runs/{name}"
    )  # Hydra takes it as it is, and not for a sweep
    assert len(name.split(BETWEEN)) == 3 or key is None


def test_old_folders_are_found_by_their_hash_and_go_on(short_run):
    run = short_run()
    old = run.folder.with_name(run.config_hash)
    results = run.go()
    run.folder.rename(old)
    again = short_run()
    assert again.folder == old
    assert again.go() == results
    assert find_run(old) == old
    assert not run.folder.exists()


def test_a_folder_is_found_by_its_hash_whatever_it_is_called(tmp_path):
    assert find_folder(tmp_path / "none", HASH, "name").name == "name"
    (tmp_path / f"mine__{HASH}").mkdir()
    (tmp_path / "other__ffffffffffff").mkdir()
    assert find_folder(tmp_path, HASH, f"name__{HASH}").name == f"mine__{HASH}"
    (tmp_path / f"name__{HASH}").mkdir()
    assert find_folder(tmp_path, HASH, f"name__{HASH}").name == f"name__{HASH}"
    assert find_run(tmp_path / HASH) == tmp_path / HASH  # two have it: neither is meant
    assert find_run(tmp_path / "ffff").name == "other__ffffffffffff"


def test_an_experiment_of_ones_own_that_lacks_values_costs_no_run(monkeypatch):
    from hydra.errors import HydraException

    def compose(*arguments):
        raise HydraException("no")

    identity = resolve(compose_config("seed=7", "callbacks.l2_mask.rate=0.1"))[1]
    monkeypatch.setattr("prunekit.app.differences._base", compose)
    assert differences(identity) == {}


def test_configs_of_files_are_what_names_are_made_of(tmp_path):
    config = OmegaConf.to_container(compose_config("seed=3"), resolve=True)
    assert differences(config | {"name": "../digits_region"}) == {}
