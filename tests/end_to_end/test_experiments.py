"""Every experiment runs whole, in small. A new file in conf/experiment needs no edit here."""

from pathlib import Path

import pytest

import conf
from tests.conftest import compose_config

EXPERIMENTS = sorted(path.stem for path in (Path(conf.__file__).parent / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_runs_in_small(experiment, new_run, request):
    overrides = [f"experiment={experiment}", "trainer=debug", "dense_epochs=1", "trainer.limit_train_batches=3"]
    if "mnist" in compose_config(f"experiment={experiment}").data._target_:
        overrides.append(f"paths.data_dir={request.getfixturevalue('real_data')}")
    run = new_run(*overrides)
    results = run.go()
    assert results["events"]
    assert results["sparsity"]["overall"] > 0
    pictures = len(list((run.folder / "figures").glob("*.png")))
    assert pictures > 3 if "heatmaps" in run.config["callbacks"] else pictures == 1
    assert results["experiment"] == experiment
