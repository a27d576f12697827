"""Folders of runs, written by hand, as figures and text."""

import csv
import json
from collections import defaultdict
from itertools import product

import pandas as pd
import pytest
import yaml
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.app.report import main, report
from prunekit.app.reports.collect import collect, missing
from prunekit.app.reports.figures import draw_areas, draw_grains, draw_settings, draw_units
from prunekit.app.reports.summary import costs, summarize
from prunekit.errors import ArgumentError
from tests.app.reports.folders import write, write_grid


def test_without_the_control_the_report_says_so(tmp_path):
    write(tmp_path / "a", 0, 0.5, ("entropy", "ascending", 0.5))
    report(tmp_path, tmp_path / "report")
    assert "No random order" in (tmp_path / "report" / "report.md").read_text()
    assert not (tmp_path / "report" / "difference.png").exists()


def test_the_report_says_what_follows_on_the_choice_in_each_row(tmp_path):
    write_grid(tmp_path / "runs")
    report(tmp_path / "runs", tmp_path / "report")
    assert "\nIn each row, but for controls: unit_mask rounds 1.\n" in (tmp_path / "report" / "report.md").read_text()


def test_the_csv_does_not_tell_when_or_where_runs_were_made(tmp_path):
    write_grid(tmp_path / "one")
    write_grid(tmp_path / "two", paths="/b", seconds={"train": 99.0})
    for name in ("one", "two"):
        report(tmp_path / name, tmp_path / "reports" / name)
    one, two = ((tmp_path / "reports" / name / "results.csv").read_bytes() for name in ("one", "two"))
    assert one == two
    rows = list(csv.DictReader(one.decode().splitlines()))
    assert len(rows) == 24
    assert float(rows[0]["final_test_acc"]) == 0.7 - 0.1 * 0.2
    assert (tmp_path / "reports/one/times.csv").read_text() != (tmp_path / "reports/two/times.csv").read_text()


def test_figures_have_a_colour_a_criterion_dashes_for_ascending_and_a_dense_line(tmp_path):
    write_grid(tmp_path, config={"model": {"regularization": "l1"}})
    for path in list(tmp_path.iterdir()):
        config = yaml.safe_load((path / "config.yaml").read_text()) | {"model": {"regularization": "l2"}}
        copy = tmp_path / f"{path.name}-l2"
        copy.mkdir()
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
        results = json.loads((path / "results.json").read_text())
        (copy / "results.json").write_text(json.dumps(results | {"config_hash": copy.name}))
    table = collect(tmp_path).table
    by = ["model.regularization", "criterion", "order", "rate"]
    summary = summarize(table, by, ["final_test_acc"]).rename(
        columns={"final_test_acc.mean": "mean", "final_test_acc.half": "half"}
    )
    dense = pd.DataFrame({"model.regularization": ["l1", "l2"], "mean": [0.9, 0.91], "half": [0.0, 0.0]})
    figure = draw_units(summary, ["model.regularization"], dense, "accuracy", ["entropy", "random"])
    assert [axes.get_title() for axes in figure.axes] == ["regularization l1", "regularization l2"]
    for axes, level in zip(figure.axes, (0.9, 0.91), strict=True):
        drawn = defaultdict(set)
        for line in axes.get_lines():
            if len(line.get_xdata()) == 2 and line.get_marker() in ("o", "s"):
                drawn[line.get_color()].add(line.get_linestyle())
        assert drawn == {"C0": {"-", "--"}, "C1": {"-", "--"}}
        assert any(list(line.get_ydata()) == [level, level] for line in axes.get_lines())


def test_the_same_runs_give_the_same_files_and_tensorboard_has_the_curves(tmp_path):
    write_grid(tmp_path / "runs")
    for name in ("a", "b"):
        report(tmp_path / "runs", tmp_path / name)
    names = {path.name for path in (tmp_path / "a").iterdir()} - {"tensorboard"}
    assert names == {"report.md", "results.csv", "times.csv"} | {
        f"{figure}.{kind}" for figure in ("accuracy", "costs", "difference") for kind in ("png", "svg")
    }
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert imread(tmp_path / "a" / "accuracy.png").std() > 0.01
    report(tmp_path / "runs", tmp_path / "a")  # again, over the first's events
    shown = EventAccumulator(str(tmp_path / "a" / "tensorboard" / "entropy_ascending"))
    shown.Reload()
    points = [(s.step, round(s.value, 4)) for s in shown.Scalars("sweep/mean")]
    assert points == [(20, 0.74), (60, 0.7)]
    assert (tmp_path / "a" / "tensorboard" / "random_descending").is_dir()


def test_a_curve_told_by_many_long_words_has_a_folder_that_can_be_made(tmp_path):
    for seed, note in product([0, 1], ["a" * 150, "b" * 150]):
        config = {"model": dict.fromkeys(("first", "second"), note), "data": {"note": note[::-1]}}
        write(tmp_path / f"{note[0]}{seed}", seed, 0.9, ("entropy", "ascending", 0.5), config)
    report(tmp_path, tmp_path / "report")
    names = [path.name for path in (tmp_path / "report" / "tensorboard").iterdir()]
    assert len(names) == len(set(names)) == 2
    assert max(map(len, names)) < 200


def test_region_runs_are_drawn_against_their_rates(tmp_path):
    for seed, l2, rate in product([0, 1], [0.4, 0.5], [0.2, 0.6]):
        callbacks = {"of_weights": {"rate": l2, "start_epoch": 2}, "regions": {"rate": rate, "image_shape": [28, 28]}}
        neurons = {"at_least_90": rate, "at_most_40": 1 - rate, "alive": 100, "median_area": 0.3, "count": 100}
        write(tmp_path / f"{seed}-{l2}-{rate}", seed, 0.9, None, {"callbacks": callbacks},
              callbacks={"regions": {"neurons": neurons}})  # fmt: skip
    report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    shares = ["90.0", "90.0", "90.0", "50.0", "20.0", "80.0", "100.0", "30.0"]
    cells = ["0.4", "0.2", *(f"{share} ± 0.0" for share in shares), "2"]
    assert f"| {' | '.join(cells)} |" in text
    assert imread(tmp_path / "report" / "settings.png").std() > 0.01
    shown = EventAccumulator(str(tmp_path / "report" / "tensorboard" / "0.4"))
    shown.Reload()
    assert [s.step for s in shown.Scalars("sweep/at_least_90.mean")] == [20, 60]


def test_ways_of_cutting_are_told_in_a_word_and_drawn_by_what_neurons_keep(tmp_path):
    kinds = {"connected": {"connectivity": 1}, "watershed": {"sigma": 1.0}, "Watershed": {"sigma": 2.0}}
    for (name, arguments), seed, index in product(kinds.items(), [0, 1], ["mean", "max"]):
        node = {"_target_": f"prunekit.regions.segmentation.{name.capitalize()}", **arguments}
        callbacks = {"region_mean_mask": {"index": index, "segmentation": node}, "heatmaps": {"segmentation": node}}
        alive = 99 + (index == "max")
        neurons = {"alive": alive, "count": 100, "median_area": 0.1 + 0.01 * seed, "regions": 500 + seed}
        reported = {"region_mean_mask": {"neurons": neurons}}
        more = {"callbacks": reported, "sparsity": {"overall": 0.5, "achieved": {"layer.weight": 0.7}}}
        folder = tmp_path / f"{name}-{seed}-{index}"
        write(folder, seed, 0.9, None, {"segmentation": node, "callbacks": callbacks}, **more)
    runs = collect(tmp_path)
    assert runs.axes == ["callbacks.region_mean_mask.index", "segmentation"]
    assert set(runs.table["segmentation"]) == {"connected", "watershed (sigma=1.0)", "watershed (sigma=2.0)"}
    assert not any("segmentation" in key for key in runs.constant)
    report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    shares = ["90.0 ± 0.0", "90.0 ± 0.0", "90.0 ± 0.0", "50.0 ± 0.0", "70.0 ± 0.0"]
    counts = ["100.0 ± 0.0", "10.5 ± 6.4", "500.5 ± 6.4"]
    assert f"| {' | '.join(['max', 'watershed (sigma=2.0)', *shares, *counts, '2'])} |" in text
    assert imread(tmp_path / "report" / "areas.png").std() > 0.01
    measures = ["final_test_acc", "median_area", "alive", "neurons", "dense_test_acc"]
    drawn = draw_areas(summarize(runs.table, runs.axes, measures), "segmentation", "callbacks.region_mean_mask.index")
    filled = [line.get_markerfacecolor() != "none" for line in drawn.axes[0].lines if line.get_marker() in ("o", "s")]
    assert sorted(filled) == [False] * 3 + [True] * 3
    words = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert {
        "segmentation connected",
        "segmentation watershed (sigma=1.0)",
        "index mean",
        "hollow: not all neurons live",
    } <= set(words)


def test_a_callbacks_own_segmentation_is_an_axis_of_its_own(tmp_path):
    for number, sigma in enumerate([1.0, 2.0]):
        node = {"_target_": "prunekit.regions.segmentation.Watershed", "sigma": sigma}
        callbacks = {"region_mean_mask": {"segmentation": node}, "heatmaps": {"segmentation": None}}
        write(tmp_path / str(number), 0, 0.9, None, {"callbacks": callbacks, "model": {"x_segmentation": {"y": 1}}})
    runs = collect(tmp_path)
    assert runs.axes == ["callbacks.region_mean_mask.segmentation.sigma"]
    assert runs.constant["model.x_segmentation.y"] == 1
    assert not any(key.startswith("callbacks.heatmaps") for key in runs.constant)


def test_steps_of_what_is_no_rate(tmp_path):
    def steps(key, values):
        folder = tmp_path / key
        for number, value in enumerate(values):
            write(folder / str(number), 0, 0.9, None, {"model": {key: value}})
        report(folder, folder / "report")
        shown = EventAccumulator(str(next((folder / "report" / "tensorboard").iterdir())))
        shown.Reload()
        return [scalar.step for scalar in shown.Scalars("sweep/final_test_acc.mean")]

    assert steps("rounds", [1, 3, 8]) == [1, 3, 8]
    assert steps("lr", [0.01, 0.1, 0.3]) == [1, 10, 30]
    assert steps("rate", [0, 1]) == [0, 100]


@pytest.mark.parametrize(
    "values", [[None, 0.5], [True, False], [None, "l1", "l2"], [0.1, "x"], [[1, 2], [3]], [-1, 1]], ids=str
)
@pytest.mark.parametrize("unit", [None, ("random", "ascending", 0.5)])
def test_an_axis_may_hold_anything(values, unit, tmp_path):
    for number, value in enumerate(values):
        write(tmp_path / str(number), 0, 0.5, unit, {"model": {"x": value}})
    runs = collect(tmp_path)
    assert (runs.axes, len(runs.table), missing(runs)) == (["model.x"], len(values), [])
    report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "nan" not in text
    for value in values:
        assert str(value) in text
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    assert (tmp_path / "report" / "settings.png").exists() == (numbers and unit is None)


def test_a_group_that_is_null_has_its_line_too(tmp_path):
    for rate, colour in product([0.2, 0.6], [None, 1.5]):
        write(
            tmp_path / f"{rate}{colour}",
            0,
            0.5,
            None,
            {"model": {"clip": colour}, "callbacks": {"l2_mask": {"rate": rate}}},
        )
    runs = collect(tmp_path)
    summary = summarize(runs.table, runs.axes, ["final_test_acc", "dense_test_acc"])
    figure = draw_settings(summary, [], "callbacks.l2_mask.rate", "model.clip")
    assert (
        sum(len(line.get_xdata()) == 2 and line.get_marker() in ("o", "s") for line in figure.axes[0].get_lines()) == 2
    )


def test_rates_near_one_are_told_apart(tmp_path):
    for rate in (0.98, 0.985, 0.995):
        write(tmp_path / str(rate), 0, 0.5, ("random", "ascending", rate))
    report(tmp_path, tmp_path / "report")
    assert "| 98 % removed | 98.5 % removed | 99.5 % removed |" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "a folder of runs, such as"),
        (lambda root: root.mkdir(), "with no finished run"),
        (lambda root: (write(root / "a", 0, 0.5), write(root / "b", 0, 0.5, experiment="other")),
         "runs of several experiments: other, units"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_reported_are_refused(make, message, tmp_path, capsys):
    make(tmp_path / "runs")
    with pytest.raises(ArgumentError, match=message):
        report(tmp_path / "runs", tmp_path / "report")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "runs")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_costs_are_ratios_to_the_dense_network_and_apart_from_results(tmp_path):
    write_grid(tmp_path / "runs")
    slow = {"dense": {"1": 0.1, "64": None}, "compact": {"1": 0.025, "64": None}}
    write(tmp_path / "runs" / "slow", 3, 0.5, ("entropy", "ascending", 0.2), latency=slow)
    runs = collect(tmp_path / "runs")
    priced = costs(runs)
    assert set(priced["size"]) == {0.4}
    assert set(priced["macs_fewer"]) == {2.0}
    assert set(priced["faster_1"]) == {2.0, 4.0}
    assert priced["faster_64"].dropna().tolist() == pytest.approx([6.0] * 24)
    assert not [name for name in runs.table if "batch" in name]  # times are no results
    assert {"batch_1_dense", "batch_64_compact"} <= set(runs.times)
    report(tmp_path / "runs", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| 0.6 | 40.0% | 2.0x | 2.0x | 6.0x | 3 |" in text
    assert "| 0.2 | 40.0% | 2.0x | 2.5x | 6.0x | 4 |" in text
    assert imread(tmp_path / "report" / "costs.png").std() > 0.01


def test_pooled_keys_count_as_repetitions(tmp_path):
    for seed, split, rate in product([0, 1], ["a", "b", "c"], [0.2, 0.6]):
        accuracy = 0.5 + 0.1 * seed + 0.02 * "abc".index(split)
        config = {"model": {"split": split}}
        write(tmp_path / f"{seed}{split}{rate}", seed, accuracy, ("entropy", "ascending", rate), config)
        write(tmp_path / f"r{seed}{split}{rate}", seed, accuracy - 0.1, ("random", "ascending", rate), config)
    assert main([str(tmp_path), "--pool", "model.split"]) is None
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| entropy | ascending | 6 | 57.0 ± 6.0 | 57.0 ± 6.0 |" in text
    assert "| entropy | ascending | 6 | 10.0 ± 0.0 | 10.0 ± 0.0 |" in text  # against random
    assert "| entropy | ascending | 6 | -33.0 ± 6.0 | -33.0 ± 6.0 |" in text  # against dense
    assert "model.split counts as a repetition" in text
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--pool", "model.spilt"])
    with pytest.raises(
        ArgumentError, match=r"--pool: got 'x'; accepted: a key that differs between runs: model\.split"
    ):
        report(tmp_path, tmp_path / "report", ["x"])


def test_units_and_gates_are_drawn_against_what_they_save(tmp_path):
    for seed, grain in product([0, 1], ["unit", "gate"]):
        rows = [
            {"criterion": "entropy", "order": order, "rate": rate, "removed": 1, "saved": saved, "test_acc": 1 - rate}
            for order in ("ascending", "descending")
            for rate, saved in ((0.2, 0.2), (0.6, 0.6 if grain == "gate" else 0.7))
        ]
        callbacks = {"of_units": {"granularity": grain, "criteria": {"entropy": {"bins": 4}}}}
        reported = {"of_units": {"rows": rows}}
        write(tmp_path / f"{seed}{grain}", seed, 0.9, None, {"callbacks": callbacks}, callbacks=reported)
    runs = collect(tmp_path)
    assert runs.axes == ["callbacks.of_units.granularity"]
    report(tmp_path, tmp_path / "report")
    assert imread(tmp_path / "report" / "grains.png").std() > 0.01
    by = [*runs.axes, "criterion", "order", "rate"]
    summary = summarize(runs.table, by, ["final_test_acc", "dense_test_acc", "saved"])
    figure = draw_grains(summary, runs.axes[0], [], ["entropy"])
    assert [axes.get_title() for axes in figure.axes] == ["highest scores first", "lowest scores first"]
    for axes in figure.axes:
        lines = {
            line.get_linestyle(): list(line.get_xdata()) for line in axes.get_lines() if line.get_marker() in ("o", "s")
        }
        assert lines == {"-": [0.2, 0.7], ":": [0.2, 0.6]}
