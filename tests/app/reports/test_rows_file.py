"""What a comparison leaves in place of its runs' folders, and what is refused as such a file."""

import csv
import json
import shutil

import pytest

from prunekit.app.compare import main
from prunekit.app.reports.compared import Row, of_rows, pair, read_tasks
from prunekit.app.reports.rows_file import read_any, read_rows
from prunekit.errors import ArgumentError
from prunekit.metrics import ACCURACY
from tests.app.reports.test_compared import OURS, SCRATCH, write_ways

WORDS = ["--ours", "criterion=entropy compensation=linear", "--theirs", "control=scratch"]


def compared(paths, out):
    main([*map(str, paths), "--out", str(out), *WORDS])
    return (out / "compared.md").read_text()


def test_the_file_says_what_the_folders_said_and_goes_on_saying_it(tmp_path, capsys):
    for fold in (0, 1):
        write_ways(tmp_path / "runs", "a", gap=0.1 + fold / 100, name=f"{fold}-", model={"units": 8, "fold": fold})
    write_ways(tmp_path / "runs", "b", gap=-0.05)
    said = compared([tmp_path / "runs"], tmp_path / "first")
    first = tmp_path / "first" / "compared.csv"
    assert compared([first], tmp_path / "again") == said
    assert (tmp_path / "again" / "compared.csv").read_bytes() == first.read_bytes()
    # A run that is given twice counts once, and new ones go with those of the file.
    assert compared([first, tmp_path / "runs" / "a"], tmp_path / "twice") == said
    write_ways(tmp_path / "more", "b", seeds=(3,), gap=-0.05)
    assert "| b | 80 % | 72.5 | 77.5 | -5 (-5 to -5) | 0.00 | 4 |" not in said
    assert "(4 rows)" not in compared([first, tmp_path / "more"], tmp_path / "out")
    assert len(pair(read_any([first, tmp_path / "more"])[1], OURS, SCRATCH)[0].ours) == 4


def test_what_was_not_pruned_counts_at_every_rate(tmp_path):
    words = {"criterion": "none", "order": "none", "compensation": "none", "retrain_epochs": "1", "retrain": "labels"}
    rows = [
        Row(
            words | {"control": "none", "seed": "0", "criterion": "entropy"}, rate, 0.8 - rate / 10, 0.9, 9.0, f"{rate}"
        )
        for rate in (0.0, 0.5, 0.8)
    ]
    whole = Row(words | {"control": "as_many_epochs", "seed": "0"}, 0.5, 0.91, None, 9.0, "whole")
    task = of_rows("a", ACCURACY, [*rows, whole])
    found = pair(task, {"criterion": "entropy"}, {"control": "as_many_epochs"})
    assert [(each.rate, each.theirs) for each in found] == [(0.5, [0.91]), (0.8, [0.91])]
    assert len(of_rows("a", ACCURACY, task.rows).rows) == len(task.rows) == 5


def test_a_task_judged_by_another_metric_in_a_file_is_refused(tmp_path):
    write_ways(tmp_path / "runs")
    compared([tmp_path / "runs"], tmp_path / "out")
    metric = {"key": "ppl", "name": "perplexity", "higher_is_better": False, "share": False}
    for path in (tmp_path / "runs").rglob("results.json"):
        results = json.loads(path.read_text())
        values = {name.replace("acc", "ppl"): 100 * value for name, value in results["metrics"].items()}
        path.write_text(json.dumps({**results, "metric": metric, "metrics": values}))
    with pytest.raises(ArgumentError, match="judged by accuracy and by perplexity"):
        read_any([tmp_path / "runs", tmp_path / "out" / "compared.csv"])


def _cell(lines, column, value):
    lines[2][lines[0].index(column)] = value


DAMAGE = {
    "no column control": lambda lines: [line.pop(lines[0].index("control")) for line in reversed(lines)],
    "more or fewer cells": lambda lines: lines[2].append("1"),
    "line 3: it has more or fewer": lambda lines: lines[2].pop(),
    "line 3: could not convert": lambda lines: _cell(lines, "value", "many"),
    "line 3: removed is nan": lambda lines: _cell(lines, "removed", "nan"),
    "line 3: training_macs is inf": lambda lines: _cell(lines, "training_macs", "inf"),
    r"line 3: task is 'a.*x1b\[31m'": lambda lines: _cell(lines, "task", "a\x1b[31m"),
    "line 3: its metric is": lambda lines: _cell(lines, "share", "2"),
    "line 3: it lacks a word": lambda lines: _cell(lines, "criterion", ""),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_what_is_no_such_file_is_refused_with_the_line(said, tmp_path):
    write_ways(tmp_path / "runs", seeds=(0,))
    compared([tmp_path / "runs"], tmp_path / "out")
    path = tmp_path / "out" / "compared.csv"
    lines = list(csv.reader(path.read_text().splitlines()))
    DAMAGE[said](lines)
    with path.open("w") as file:
        csv.writer(file).writerows(lines)
    with pytest.raises(ArgumentError, match=f"folder: got .*{said}.*accepted: a file compared.csv"):
        read_rows(path)


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"\xff\x00", b'"', b"a,b\n" + b"x" * 200_000):
        (tmp_path / "file.csv").write_bytes(content)
        with pytest.raises(ArgumentError, match=r"accepted: a file compared\.csv"):
            read_any([tmp_path / "file.csv"])
    shutil.rmtree(tmp_path)
    with pytest.raises(ArgumentError, match="no finished run"):
        read_tasks([tmp_path / "nothing"])
