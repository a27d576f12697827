"""Folders of runs, written by hand, as tables."""

import shutil
from itertools import product

import pandas as pd
import pytest
import yaml

from prunekit.app import jobs
from prunekit.app.report import report
from prunekit.app.reports.collect import collect, missing
from prunekit.app.reports.summary import differences, summarize
from prunekit.app.reports.text import state
from tests.app.reports.folders import write, write_grid


def test_a_grid_is_a_table_without_what_follows_from_the_seed(tmp_path):
    write_grid(tmp_path)
    runs = collect(tmp_path)
    assert (runs.experiment, len(runs.table), runs.axes, runs.problems) == ("units", 24, [], [])
    assert list(runs.table[["seed", "criterion", "order", "rate"]].iloc[0]) == [0, "entropy", "ascending", 0.2]
    assert runs.constant["callbacks.unit_mask.rounds"] == 1
    assert runs.constant["data.cache_dir"] == "<cache_dir>"
    assert missing(runs) == []
    assert state(runs)[0].startswith("All combinations")


def test_keys_that_differ_are_axes_and_arguments_of_a_criterion_are_its_label(tmp_path):
    write(tmp_path / "a", 0, 0.5, ("entropy", "ascending", 0.5), {"model": {"regularization": "l1"}})
    write(tmp_path / "b", 0, 0.5, ("random", "ascending", 0.5), {"model": {"regularization": "l2"}})
    assert collect(tmp_path).axes == ["model.regularization"]
    write(tmp_path / "c", 0, 0.5, ("entropy", "ascending", 0.5), {"model": {"regularization": "l1"}})
    config = yaml.safe_load((tmp_path / "c" / "config.yaml").read_text())
    config["callbacks"]["unit_mask"]["criterion"]["bins"] = 8
    (tmp_path / "c" / "config.yaml").write_text(yaml.safe_dump(config))
    assert set(collect(tmp_path).table["criterion"]) == {"entropy (bins=4)", "entropy (bins=8)", "random"}


def test_the_rows_of_a_unit_curve_are_points(tmp_path):
    rows = [
        {"criterion": "random", "order": "ascending", "rate": r, "removed": 1, "test_acc": 1 - r} for r in (0.0, 0.5)
    ]
    curve = {"callbacks": {"unit_curve": {"criteria": {"random": {"_target_": "x", "seed": 0}}, "rates": [0.0, 0.5]}}}
    write(tmp_path / "a", 0, 0.9, None, curve, callbacks={"unit_curve": {"rows": rows}})
    table = collect(tmp_path).table
    assert list(table["rate"]) == [0.0, 0.5]
    assert list(table["final_test_acc"]) == [1.0, 0.5]
    assert list(table["dense_test_acc"]) == [0.9, 0.9]


def test_a_control_that_has_no_curve_differs_by_the_control_alone(tmp_path):
    criteria = {name: {"_target_": f"prunekit.criteria.{name}.X", "bins": 4} for name in ("entropy", "random")}
    curve = {"criteria": criteria, "rates": [0.0, 0.5], "orders": ["ascending"], "lstm": "lstm"}
    rows = [{"criterion": name, "order": "ascending", "rate": 0.5, "test_acc": 0.5} for name in criteria]
    chosen = {"order": "ascending", "rate": 0.5}
    callbacks = {"unit_mask": {"criterion": criteria["entropy"], **chosen, "rounds": 1}, "unit_curve": curve}
    said = {"unit_mask": {"criterion": "entropy", **chosen}, "unit_curve": {"rows": rows}}
    write(tmp_path / "pruned", 0, 0.8, None, {"callbacks": callbacks, "control": None}, callbacks=said)
    of = {"name": "scratch", **chosen}
    write(tmp_path / "scratch", 0, 0.7, None, {"callbacks": callbacks, "control": "scratch"}, control=of)
    runs = collect(tmp_path)
    assert runs.axes == []
    assert list(runs.table["criterion"]) == ["entropy", "from scratch"]


def write_two(folder, seed, unit, gate, accuracy=0.5, names=("unit_mask", "gate_mask")):
    """A run that prunes units, then gates, whose callbacks may have any names."""
    nodes = [{"criterion": {"_target_": "x", **({"seed": seed} if setting[0] == "random" else {"bins": 4})},
              "order": setting[1], "rate": setting[2], "start_epoch": start}
             for start, setting in ((2, unit), (4, gate))]  # fmt: skip
    said = [{"criterion": setting[0], "order": setting[1], "rate": setting[2]} for setting in (unit, gate)]
    # Results need not be in the order of the events.
    reports = dict(reversed(list(zip(names, said, strict=True))))
    config = {"callbacks": dict(zip(names, nodes, strict=True))}
    write(folder, seed, accuracy, None, config, callbacks=reports)


@pytest.mark.parametrize("names", [("unit_mask", "gate_mask"), ("a", "b"), ("b", "a")])
def test_of_two_callbacks_that_prune_units_the_last_is_the_row_and_the_other_an_axis(names, tmp_path):
    first = f"callbacks.{names[0]}"
    for seed, rate, gate in product([0, 1], [0.2, 0.6], ["random", "entropy"]):
        unit = ("entropy", "ascending", rate)
        write_two(tmp_path / f"{seed}{rate}{gate}", seed, unit, (gate, "descending", 0.5), names=names)
    runs = collect(tmp_path)
    assert (runs.axes, missing(runs), runs.problems) == ([f"{first}.rate"], [], [])
    assert list(runs.table[["seed", f"{first}.rate", "criterion", "order", "rate"]].iloc[0]) == [
        0, 0.2, "entropy", "descending", 0.5,
    ]  # fmt: skip
    assert set(runs.table["criterion"]) == {"entropy", "random"}
    assert (runs.constant[f"{first}.criterion"], runs.constant[f"{first}.order"]) == ("entropy", "ascending")
    assert not [key for key in (*runs.constant, *runs.axes) if key.startswith(f"callbacks.{names[1]}.criterion")]


def test_what_another_callback_is_set_to_is_no_axis_where_it_follows_the_last_one(tmp_path):
    for seed, rate, criterion in product([0, 1], [0.2, 0.6], ["random", "entropy"]):
        setting = (criterion, "ascending", rate)
        write_two(tmp_path / f"{seed}{rate}{criterion}", seed, setting, setting)
    assert collect(tmp_path).axes == []


def test_two_curves_in_one_run_are_told_apart_by_their_callbacks(tmp_path):
    def rows(accuracy):
        return [{"criterion": "random", "order": "ascending", "rate": r, "test_acc": accuracy} for r in (0.0, 0.5)]

    nodes = {name: {"criteria": {"random": {"seed": 0}}, "rates": [0.0, 0.5]} for name in ("of_units", "of_gates")}
    reports = {"of_units": {"rows": rows(0.4)}, "of_gates": {"rows": rows(0.8)}}
    write(tmp_path / "a", 0, 0.9, None, {"callbacks": nodes}, callbacks=reports)
    runs = collect(tmp_path)
    assert (runs.axes, runs.problems, missing(runs)) == (["curve"], [], [])
    assert [tuple(row) for row in runs.table[["curve", "rate", "final_test_acc"]].itertuples(index=False)] == [
        ("of_gates", 0.0, 0.8), ("of_gates", 0.5, 0.8), ("of_units", 0.0, 0.4), ("of_units", 0.5, 0.4),
    ]  # fmt: skip
    report(tmp_path, tmp_path / "report")
    assert "### curve of_gates" in (tmp_path / "report" / "report.md").read_text()


def test_what_is_missing_unfinished_or_damaged_is_named_and_the_rest_is_reported(tmp_path):
    gone = [(seed, "entropy", "ascending", 0.6) for seed in (0, 1, 2)] + [(1, "random", "descending", 0.2)]
    write_grid(tmp_path, without=gone)
    (tmp_path / "entropy-descending-0.6-0" / "results.json").write_text('{"metrics": {')
    (tmp_path / "random-ascending-0.2-0" / "results.json").unlink()
    runs = collect(tmp_path)
    assert len(runs.table) == 18
    assert [line.split(" ")[0] for line in runs.problems] == ["damaged:", "not"]
    lines = "\n".join(state(runs))
    assert "Incomplete" in lines
    assert "entropy-descending-0.6-0 (ArgumentError: file: got" in lines
    assert f"not finished: {tmp_path / 'random-ascending-0.2-0'}" in lines
    assert "6 combinations" in lines
    assert "seed=0,1,2 criterion=entropy order=ascending rate=0.6" in lines
    assert "seed=1 criterion=random order=descending rate=0.2" in lines
    written = report(tmp_path, tmp_path / "report")
    assert all(path.exists() for path in written)
    assert "damaged" in (tmp_path / "report" / "report.md").read_text()


def test_differences_are_paired_by_seed_against_the_mean_of_random_orders(tmp_path):
    write_grid(tmp_path)
    against = differences(collect(tmp_path).table, []).set_index(["criterion", "order", "rate"])
    assert len(against) == 4
    row = against.loc[("entropy", "ascending", 0.6)]
    # entropy: 0.7 + 0.06 seed - 0.06; random: 0.62 + 0.05 seed - 0.06 in the mean of its orders
    assert row["mean"] == pytest.approx(0.08 + 0.01)
    assert row["half"] == pytest.approx(4.302653 * 0.01 / 3**0.5)
    assert row["n"] == 3


def test_differences_where_the_control_lacks_what_others_have(tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"random-{seed}", seed, 0.5, ("random", "ascending", 0.5))
        for teacher in (None, "prunekit.X"):
            name = f"entropy-{teacher}-{seed}"
            write(tmp_path / name, seed, 0.6, ("entropy", "ascending", 0.5), {"model": {"teacher": teacher}})
        write(tmp_path / f"none-{seed}", seed, 0.55, ("random", "descending", 0.5), {"model": {"teacher": None}})
    runs = collect(tmp_path)
    assert runs.axes == ["model.teacher"]
    (found,) = differences(runs.table, runs.axes).to_dict("records")
    assert pd.isna(found["model.teacher"])
    assert found["n"] == 2
    assert found["mean"] == pytest.approx(0.6 - (0.5 + 0.55) / 2)


def test_runs_of_one_seed_are_one_of_n_and_copies_are_left_out(tmp_path):
    for name, seed, accuracy in (("a", 0, 0.5), ("b", 0, 0.7), ("c", 1, 0.9)):
        write(tmp_path / name, seed, accuracy, ("entropy", "ascending", 0.5))
    shutil.copytree(tmp_path / "a", tmp_path / "copy of a")
    runs = collect(tmp_path)
    assert len(runs.table) == 3
    assert [line.split(":")[0] for line in runs.problems] == [
        "left out",
        "of equal settings, averaged within their seed",
    ]
    (row,) = summarize(runs.table, ["criterion"], ["final_test_acc"]).to_dict("records")
    assert (row["final_test_acc.mean"], row["n"]) == (pytest.approx(0.75), 2)


def test_dense_runs_among_runs_that_prune_units_are_put_aside(tmp_path):
    write(tmp_path / "a", 0, 0.5, ("random", "ascending", 0.5))
    write(tmp_path / "b", 0, 0.5)
    runs = collect(tmp_path)
    assert list(runs.table["config_hash"]) == ["a"]
    assert runs.problems == ["left out, as no units are pruned in them: b"]
    report(tmp_path, tmp_path / "report")


@pytest.mark.parametrize("content", ["{}", "[]", "1", '{"metrics": {}}', '{"callbacks": {}}'])
def test_results_that_lack_what_they_should_hold_are_damaged(content, tmp_path):
    write(tmp_path / "a", 0, 0.5)
    write(tmp_path / "b", 0, 0.5)
    (tmp_path / "b" / "results.json").write_text(content)
    (problem,) = collect(tmp_path).problems
    assert problem.startswith(f"damaged: {tmp_path / 'b'}")


def test_jobs_of_the_last_sweep_that_did_not_finish_are_told(tmp_path):
    runs = tmp_path / "runs"
    write(runs / "units" / "a", 0, 0.5, ("random", "ascending", 0.5))
    jobs.plan(runs / "sweeps" / "1", [["rate=0.5"], ["rate=2"], ["rate=0.7"], ["rate=0.8"]])
    done = [jobs.new_job(0, ["rate=0.5"], "finished"), jobs.new_job(1, ["rate=2"], "failed")]
    done[0]["run"], done[1]["error"] = str(runs / "units" / "a"), "too much"
    for job in (*done, jobs.new_job(2, ["rate=0.7"], "cut off")):
        jobs.leave(runs / "sweeps" / "1", job)
    told = [
        "failed in the last sweep: rate=2: too much",
        "cut off in the last sweep: rate=0.7",
        "not started in the last sweep: rate=0.8",
    ]
    assert collect(runs / "units").problems == told
    assert [job["state"] for job in jobs.gather(runs / "sweeps" / "1")] == [
        "finished",
        "failed",
        "cut off",
        "not started",
    ]
    jobs.leave(runs / "sweeps" / "1", jobs.new_job(2, ["rate=0.7"], "finished"))  # it was still running
    assert [job["state"] for job in jobs.gather(runs / "sweeps" / "1")] == [
        "finished",
        "failed",
        "finished",
        "not started",
    ]
    assert collect(runs / "units").problems == [told[0], told[2]]


def test_a_run_beside_a_sweep_is_reported_and_makes_it_no_less_whole(tmp_path):
    runs = tmp_path / "runs"
    write_grid(runs / "units")
    sweep = runs / "sweeps" / "1"
    folders = sorted((runs / "units").iterdir())
    jobs.plan(sweep, [["rate=x"]] * len(folders))
    for number, folder in enumerate(folders):
        jobs.leave(sweep, {**jobs.new_job(number, [], "finished"), "run": str(folder)})
    jobs.gather(sweep)
    write(runs / "units" / "alone", 7, 0.5, ("l1_norm", "ascending", 0.33))
    found = collect(runs / "units")
    assert (len(found.table), missing(found)) == (25, [])
    assert state(found)[0].startswith("All combinations")
    assert "alone" in set(found.table["run"])
    of_jobs = collect(sweep)
    assert (len(of_jobs.table), of_jobs.experiment, of_jobs.problems) == (24, "units", [])
    report(sweep, tmp_path / "report")
    assert "l1_norm" not in (tmp_path / "report" / "results.csv").read_text()
    (folders[0] / "results.json").unlink()
    (problem,) = collect(sweep).problems
    assert problem.startswith(f"not finished: {folders[0]}")


def test_a_criterion_that_has_one_order_lacks_nothing_in_the_other(tmp_path):
    write_grid(tmp_path)
    for seed, rate in product([0, 1, 2], [0.2, 0.6]):
        if (seed, rate) != (1, 0.6):
            write(tmp_path / f"one-{seed}-{rate}", seed, 0.5, ("reconstruction", "ascending", rate))
    (row,) = missing(collect(tmp_path))
    assert row == {"seed": 1, "criterion": "reconstruction", "order": "ascending", "rate": 0.6}
