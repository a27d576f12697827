import json
from itertools import product

import pytest
import yaml

from prunekit.app.compare import main
from prunekit.app.reports.compared import pair, read_tasks
from prunekit.app.reports.questions import QUESTIONS
from prunekit.app.reports.rows_file import read_any, read_rows, write_rows
from prunekit.errors import ArgumentError
from tests.app.reports.folders import write

OURS = {"criterion": "entropy", "compensation": "linear"}
SCRATCH = {"control": "scratch"}


def write_ways(root, task="units", seeds=(0, 1, 2), gap=0.1, name="", model=None, bins=4):
    """Of each seed a network pruned by entropy and compensated, one that is not, and one from scratch, at two rates."""
    for seed, rate, (way, less) in product(seeds, (0.5, 0.8), {"linear": 0, "none": 0.3, "scratch": gap}.items()):
        folder = root / task / f"{name}{way}-{rate}-{seed}"
        accuracy = 0.8 - 0.1 * (rate > 0.5) + 0.01 * seed - less
        more = {"control": {"name": "scratch", "order": "ascending", "rate": rate}} if way == "scratch" else {}
        work = {"training": {"epochs": 3, "samples": 10, "macs": 300 if way == "scratch" else 1000}}
        unit = None if way == "scratch" else ("entropy", "ascending", rate)
        write(folder, seed, accuracy, unit, {"model": model or {"units": 8}}, experiment=task, **more, **work)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        mask = config.setdefault("callbacks", {}).setdefault("unit_mask", {})
        mask |= {"rate": rate, "order": "ascending", "compensation": "none" if way == "none" else "linear"}
        mask |= {"retrain_epochs": 1, "criterion": {"_target_": "prunekit.criteria.entropy.X", "bins": bins}}
        config["control"] = "scratch" if way == "scratch" else None
        (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_two_ways_are_paired_by_network_and_rate(tmp_path):
    write_ways(tmp_path)
    (task,) = read_tasks([tmp_path])
    found = pair(task, OURS, SCRATCH)
    assert [each.rate for each in found] == [0.5, 0.8]
    for each in found:
        assert [a - b for a, b in zip(each.ours, each.theirs, strict=True)] == [pytest.approx(0.1)] * 3
        assert each.work == (1000, 300)


def test_a_fold_of_the_data_makes_another_network_unless_a_way_names_it(tmp_path):
    for fold in (0, 1):
        write_ways(tmp_path, seeds=(0, 1), gap=0.1 + fold, name=f"{fold}-", model={"units": 8, "fold": fold})
    (task,) = read_tasks([tmp_path])
    assert task.networks == ["seed", "model.fold"]
    found = pair(task, OURS, SCRATCH)[0]
    assert sorted(round(a - b, 6) for a, b in zip(found.ours, found.theirs, strict=True)) == [0.1, 0.1, 1.1, 1.1]
    ours, theirs = {**OURS, "model.fold": "1"}, {**SCRATCH, "model.fold": "0"}
    assert [len(each.ours) for each in pair(task, ours, theirs)] == [2, 2]


def test_words_that_several_runs_of_a_network_answer_to_are_refused_with_the_key_that_tells_them_apart(tmp_path):
    write_ways(tmp_path)
    (task,) = read_tasks([tmp_path])
    with pytest.raises(ArgumentError, match=r"compensation=\w+ and compensation=.*with compensation too"):
        pair(task, {"criterion": "entropy"}, SCRATCH)


def test_controls_made_for_several_criteria_are_one(tmp_path):
    write_ways(tmp_path)
    write_ways(tmp_path, name="other-", bins=5)
    (task,) = read_tasks([tmp_path])
    assert len(pair(task, {**OURS, "criterion": "entropy (bins=4)"}, SCRATCH)[0].ours) == 3


def test_a_control_of_four_times_the_epochs_is_found_by_these_words(tmp_path):
    write_ways(tmp_path)
    for path in tmp_path.rglob("scratch*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        config["callbacks"]["unit_mask"]["retrain_epochs"] = 3 * config["dense_epochs"]
        path.write_text(yaml.safe_dump(config))
    (task,) = read_tasks([tmp_path])
    assert {row.said["times_dense"] for row in task.rows if row.said["control"] == "scratch"} == {"4"}
    (again,) = read_rows(write_rows(tmp_path / "rows.csv", [task]))
    assert len(pair(again, OURS, {"control": "scratch", "times_dense": "4"})[0].ours) == 3


def test_networks_under_a_penalty_are_ways_of_their_own(tmp_path):
    write_ways(tmp_path)
    write_ways(tmp_path, name="drawn-", gap=0.2)
    for path in tmp_path.rglob("drawn-*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        config["callbacks"]["group_lasso"] = {"strength": 0.01}
        path.write_text(yaml.safe_dump(config))
    (task,) = read_tasks([tmp_path])
    with pytest.raises(ArgumentError, match="with penalty too"):
        pair(task, OURS, {**SCRATCH, "penalty": "none"})
    found = pair(task, {**OURS, "penalty": "none"}, {**SCRATCH, "penalty": "group_lasso"})
    assert [a - b for a, b in zip(found[0].ours, found[0].theirs, strict=True)] == [pytest.approx(0.2)] * 3


def test_the_command_tells_task_by_task_and_over_all(tmp_path, capsys):
    write_ways(tmp_path, "a")
    write_ways(tmp_path, "b", gap=-0.05)
    words = ["--ours", "criterion=entropy compensation=linear", "--theirs", "control=scratch"]
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out"), *words])
    *printed, md, rows, png, svg = [line for line in capsys.readouterr().out.splitlines() if line]
    assert printed[0] == "criterion=entropy compensation=linear, against control=scratch:"
    assert printed[1] == "  a, 50 % removed: +10 (10 to 10) points, better, 3 networks"
    ends = ("md", "csv", "png", "svg")
    assert [md, rows, png, svg] == [str(tmp_path / "out" / f"compared.{end}") for end in ends]
    text = (tmp_path / "out" / "compared.md").read_text()
    glance, _, reached = text.partition("## What each way reached")
    for rate, mean in ((50, 81), (80, 71)):
        table = glance.partition(f"\n### {rate} % removed\n")[2].partition("\n#")[0]
        assert "| ours, against theirs | a, points | b, points |" in table
        assert "against control=scratch | **+10** | **-5** |" in table
        table = reached.partition(f"\n### {rate} % removed: what each way reached\n")[2].partition("\n#")[0]
        assert f"| entropy | ascending | linear | 1 | labels | none | none | {mean} | {mean} |" in table
    assert "| a | 50 % | 81 | 71 | 10 (10 to 10) | 1.00 | 3 | 1.0e+03 / 3.0e+02 | better |" in text
    assert "| b | 80 % | 71 | 76 | -5 (-5 to -5) | 0.00 | 3 | 1.0e+03 / 3.0e+02 | worse |" in text
    assert "- 50 % removed: better on 1, worse on 1 of 2 tasks; P = 0.50 (0.50 to 0.50)" in text
    main([str(tmp_path), "--out", str(tmp_path / "all")])
    text = (tmp_path / "all" / "compared.md").read_text()
    assert text.count("\n## ") == 2
    assert text.count("\n- ") == len(QUESTIONS) == 25  # questions that no network answers
    assert "no network has both ways of any question" in capsys.readouterr().out
    assert not (tmp_path / "all" / "compared.png").exists()


def test_where_lower_is_better_an_improvement_is_a_fall(tmp_path):
    write_ways(tmp_path)
    metric = {"key": "ppl", "name": "perplexity", "higher_is_better": False, "share": False}
    for path in tmp_path.rglob("results.json"):
        results = json.loads(path.read_text())
        values = {name.replace("acc", "ppl"): 100 * value for name, value in results["metrics"].items()}
        path.write_text(json.dumps({**results, "metric": metric, "metrics": values}))
    words = ["--ours", "criterion=entropy compensation=linear", "--theirs", "control=scratch"]
    main([str(tmp_path), "--out", str(tmp_path / "out"), *words])
    text = (tmp_path / "out" / "compared.md").read_text()
    assert "| units | 50 % | 81 ppl | 71 ppl | -10 (-10 to -10) | 0.00 | 3 |" in text
    assert "worse" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ours", "criterion=entropy"], "--ours and --theirs go together"),
        (["--ours", "entropy", "--theirs", "control=scratch"], "accepted: words such as"),
        (["--ours", "criterion=entrop", "--theirs", "control=scratch"], "accepted: what runs here have: entropy"),
        (["--ours", "criteria=entropy", "--theirs", "control=scratch"], "way: got 'criteria'"),
    ],
)
def test_ways_that_cannot_be_are_refused(words, said, tmp_path, capsys):
    write_ways(tmp_path, seeds=(0,))
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--out", str(tmp_path / "out"), *words])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_without_runs_that_remove_units_are_refused_and_damaged_ones_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="no finished run"):
        read_tasks([tmp_path / "empty"])
    write(tmp_path / "dense" / "one", 0, 0.9)
    with pytest.raises(ArgumentError, match="no runs that remove units"):
        read_any([tmp_path / "dense"])
    write_ways(tmp_path, "units")
    (tmp_path / "units" / "none-0.5-0" / "results.json").write_text("{")
    main([str(tmp_path / "units"), "--out", str(tmp_path / "out")])
    assert "none-0.5-0" in (tmp_path / "out" / "compared.md").read_text()
