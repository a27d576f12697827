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
    nodes = run.config["callbacks"].values()
    prunes = any("rate" in node for node in nodes)
    assert bool(results["events"]) == (results["sparsity"]["overall"] > 0) == prunes
    pictures = {path.stem for path in (run.folder / "figures").glob("*.png")}
    if prunes and results["events"][-1]["epoch"] == 1 and all(not n.get("retrain_epochs") for n in nodes):
        # Nothing was trained after the dense network: its curves lie with it.
        assert "curves" not in pictures
        pictures |= {path.stem for path in run.home.glob("dense/*/figures/*.png")}
    drawn = {"sample_frames": "frames", "confusion": "confusion", "curves": "curves"}
    asked = {name for name, node in run.config["callbacks"].items() if node.get("draw", True)}
    assert pictures >= {picture for name, picture in drawn.items() if name in asked}
    assert (run.folder / "confusion.npy").exists() == ("confusion" in run.config["callbacks"])
    assert len(pictures) > 3 or "heatmaps" not in run.config["callbacks"]
    assert results["experiment"] == experiment
