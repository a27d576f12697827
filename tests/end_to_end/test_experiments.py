"""Every experiment runs whole, in small. A new file in conf/experiment needs no edit here."""

from pathlib import Path

import pytest

import conf

EXPERIMENTS = sorted(path.stem for path in (Path(conf.__file__).parent / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_runs_in_small(experiment, new_run, miniature):
    overrides = [f"experiment={experiment}", "trainer=debug", "dense_epochs=1", "trainer.limit_train_batches=3"]
    run = new_run(*overrides, *miniature(experiment))
    results = run.go()
    prunes = any("rate" in node for node in run.config["callbacks"].values())
    assert bool(results["events"]) == (results["sparsity"]["overall"] > 0) == prunes
    pictures = {path.stem for path in (run.folder / "figures").glob("*.png")}
    drawn = {"sample_frames": "frames", "confusion": "confusion", "curves": "curves"}
    assert pictures >= {picture for name, picture in drawn.items() if name in run.config["callbacks"]}
    assert len(pictures) > 3 or "heatmaps" not in run.config["callbacks"]
    assert results["experiment"] == experiment
