"""Which jobs a sweep is said to have before it starts, those that Hydra makes; and what is said of them at its end."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from prunekit.app.jobs import new_job
from prunekit.app.sweep import planned, tell
from prunekit.app.sweep_table import MOST, finished, results_table
from tests.app.reports.folders import write


def test_a_value_of_the_command_line_takes_the_place_of_the_sweeps_own():
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    sweeper["params"] = {"seed": "0,1,2", "data.split": "a,b"}
    overrides = {"task": ["experiment=x", "seed=5,6"]}
    config = OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": overrides}})
    assert planned(config) == [
        [f"seed={seed}", f"data.split={split}", "experiment=x"] for seed in (5, 6) for split in "ab"
    ]


def sweep_of(root, count, control=""):
    """Jobs of finished runs, the last of which is a control's if that is given."""
    jobs = []
    for number in range(count):
        of = (
            {"control": {"name": control, "order": "ascending", "rate": 0.5}} if control and number == count - 1 else {}
        )
        write(root / f"run{number}", number, 0.5 + number / 100, ("entropy", "ascending", 0.5), **of)
        words = ["experiment=units", f"callbacks.unit_mask.rate=0.{number}", f"control={control or 'null'}"]
        jobs.append({**new_job(number, words, "finished"), "run": str(root / f"run{number}")})
    return jobs


def cells(table):
    return [(str(column.header), *map(str, column.cells)) for column in table.columns]


@pytest.mark.parametrize(("control", "dense"), [("scratch", ""), ("single_weights", "90.00%"), ("low_rank", "90.00%")])
def test_the_end_of_a_sweep_shows_what_its_jobs_reached_by_what_differs(control, dense, tmp_path, capsys):
    jobs = sweep_of(tmp_path / "my runs", 3, control)
    failed = new_job(3, ["callbacks.unit_mask.rate=2"], "failed")
    assert cells(results_table(finished([*jobs, failed]))) == [
        ("unit_mask.rate", "0.0", "0.1", "0.2"),
        ("dense", "90.00%", "90.00%", dense),
        ("in the end", "50.00%", "51.00%", "52.00%"),
    ]
    tell([*jobs, failed], tmp_path)
    printed = capsys.readouterr().out
    assert "sweep: 4 jobs, 3 finished, 1 not" in printed
    assert "52.00%" in printed
    assert f"report: prunekit report '{tmp_path / 'my runs'}'" in printed
    assert f"verdicts: prunekit compare '{tmp_path / 'my runs'}'" in printed


@pytest.mark.parametrize("count", [0, 1, MOST + 1])
def test_of_one_job_or_too_many_there_is_no_table(count, tmp_path, capsys):
    jobs = sweep_of(tmp_path / "runs", count)
    assert results_table(finished(jobs)) is None
    tell([{**job, "overrides": job["overrides"][:2]} for job in jobs], tmp_path)
    assert "verdicts" not in capsys.readouterr().out


def test_runs_that_are_gone_or_damaged_are_not_in_the_table(tmp_path):
    jobs = sweep_of(tmp_path, 4)
    Path(jobs[0]["run"], "results.json").write_text("{")
    Path(jobs[1]["run"], "results.json").unlink()
    assert next(column[1:] for column in cells(results_table(finished(jobs)))) == ("0.2", "0.3")
