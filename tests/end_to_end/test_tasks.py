"""Runs of the sequence tasks: what they leave, what a report makes of them, and what becomes of one that is killed."""

import csv
import signal

import pytest

from prunekit.app.report import report
from prunekit.app.results import metric_in
from tests.data_modules.tasks import write_all
from tests.end_to_end import killing

SMALL = ("model.units=8", "data.batch_size=4", "dense_epochs=2", "trainer.limit_train_batches=8", "data.scoring=20")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    write_all(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "key"), [("ptb_units", "ppl"), ("jsb_units", "nll")])
def test_results_and_report_are_of_the_tasks_metric(experiment, key, root, new_run):
    runs = [
        new_run(f"experiment={experiment}", f"paths.data_dir={root}", *SMALL, f"criterion={name}", f"seed={seed}")
        for name in ("random", "reconstruction")
        for seed in (0, 1)
    ]
    for run in runs:
        results = run.go()
        assert set(results["metrics"]) == {f"{when}/test_{key}" for when in ("dense", "pruned", "final")}
        assert results["metrics"][f"pruned/test_{key}"] == results["events"][-1][f"test_{key}"]
        assert {f"{key}_before", f"{key}_after"} <= set(results["events"][-1])
        assert results["events"][-1]["data"] == "validation"
        assert metric_in(results).key == key
        assert results["parameters"]["compact"] < results["parameters"]["dense"]
        assert run.go()["metrics"] == results["metrics"]  # found finished
    folder = runs[0].folder.parent
    written = report(folder, folder / "report")
    name = metric_in(results).name
    assert (folder / "report" / f"{name.replace(' ', '_')}.png") in written
    text = (folder / "report" / "report.md").read_text()
    assert f"## Test {name}; lower is better" in text
    assert f"## Test {name} against random order, paired by seed; lower is better" in text
    assert "ccuracy" not in text.split("<details>")[0]
    dense = [run.go()["metrics"][f"dense/test_{key}"] for run in runs[:2]]
    assert f"Dense: {sum(dense) / 2:.4g} ± " in text
    with (folder / "report" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {float(row[f"dense_test_{key}"]) for row in rows} == set(dense)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [7, 18, 41])
def test_a_run_with_carried_states_that_is_killed_ends_bitwise_as_if_it_had_not_been(moment, root, tmp_path):
    def overrides(folder):
        return (
            "experiment=ptb_units", f"paths.data_dir={root}", "model.units=8", "data.batch_size=4", "dense_epochs=2",
            "data.scoring=20", "data.steps=6", "callbacks.checkpoints.every_n_steps=3", "trainer.accelerator=cpu",
            "trainer.enable_progress_bar=false", f"run_dir={folder}", f"paths.runs_dir={folder}-home", "reuse=false",
        )  # fmt: skip

    assert killing.finish(*overrides(tmp_path / "whole")) == 0
    folder = tmp_path / "killed"
    step = ("prunekit.models.sequence_model.SequenceModel", "training_step", moment)
    assert killing.finish(*overrides(folder), prepare=killing.die_before, arguments=step) == -signal.SIGKILL
    assert killing.finish(*overrides(folder)) == 0
    killing.assert_equal(killing.outcome(folder), killing.outcome(tmp_path / "whole"))
