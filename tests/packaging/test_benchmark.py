"""The benchmark's pages say what its rows say: docs/compared/compared.csv, which the runs have left."""

import re
from pathlib import Path

import pytest

from prunekit.app.compare import compare
from prunekit.app.reports.compared import choose
from prunekit.app.reports.questions import AT_ONCE, RANDOM
from prunekit.app.reports.rows_file import read_rows

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "compared"
FOLDERS = [FOLDER, FOLDER / "low_rank"]  # the second of networks that were trained anew
VERDICT = re.compile(r"^\| (?:Repair|Chosen|Transfer|Group).*\|$", re.MULTILINE)

TASKS = {
    "digits": "spoken_digits_units",
    "rows": "mnist_rows_units",
    "chorales": "jsb_units",
    "tunes": "nottingham_units",
}
REPAIR, SMALL = "Repair without labels or training, against ", "a small network from scratch"
ASKED = {  # in the README's words, of which there is less room
    "repair, no labels; from scratch": f"{REPAIR}{SMALL}",
    "the same; from scratch, 4 times as long": f"{REPAIR}{SMALL} for four times the epochs",
    "the same; taught, no labels": f"{REPAIR}{SMALL} that the dense one taught, no labels",
    "the same; taught, 4 times as long": f"{REPAIR}a small network that was taught for four times the epochs",
    "the same; low rank": f"{REPAIR}weights of low rank, as many multiply-adds, no labels",
    "the same; as many single weights": f"{REPAIR}as many single weights gone, the smallest",
    "repair, 1 epoch; from scratch for 4": f"Repair and one epoch, against {SMALL} for four",
    "repair, 4 epochs; from scratch for all": f"Repair and four epochs, against {SMALL} for all the epochs of both",
    "repair, 4 of a teacher; taught for all": f"Repair and four epochs of a teacher, against {SMALL} that it taught "
    "for all the epochs",
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_tables_and_the_rows_are_what_compare_makes_of_the_rows(folder, tmp_path):
    compare([folder / "compared.csv"], tmp_path)
    for name in ("compared.md", "compared.csv"):
        assert (tmp_path / name).read_text() == (folder / name).read_text(), f"prunekit compare {folder}/compared.csv"


def test_the_verdicts_of_the_page_are_those_of_the_tables():
    page, *tables = (
        path.read_text() for path in (DOCS / "recurrent_benchmark.md", *(f / "compared.md" for f in FOLDERS))
    )
    glances = [text.partition("## At a glance")[2].partition("\n## ")[0] for text in tables]
    shown = VERDICT.findall(page)
    assert len(shown) > 10
    assert [line for line in shown if not any(line in glance for glance in glances)] == []


def test_the_readmes_first_table_is_of_these_rows():
    """Means over networks at half of the units: whole, random ones cut, repaired without labels, from scratch."""
    readme = (DOCS.parent / "README.md").read_text()
    for task in read_rows(FOLDER / "compared.csv"):
        ways = [RANDOM, AT_ONCE, {"control": "scratch", "retrain_epochs": "0"}]
        found = [[row.value for place, row in choose(task, way, way).items() if place[-1] == 0.5] for way in ways]
        dense = {
            tuple(row.said.get(key) for key in task.networks): row.dense for row in task.rows if row.dense is not None
        }
        values = [list(dense.values()), *found]
        cells = " | ".join(task.metric.show(sum(each) / len(each)) for each in values)
        assert f" | {cells} |" in readme, task.name


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def glances():
    """Each improvement of the tables, by its question, its task and the share removed."""
    found = {}
    for folder in reversed(FOLDERS):  # of what is in both, the first's
        text = (folder / "compared.md").read_text().partition("## At a glance")[2].partition("\n## ")[0]
        for part in text.split("\n### ")[1:]:
            head, _, *rows = [line for line in part.splitlines() if line.startswith("|")]
            tasks = [name.partition(",")[0] for name in cells(head)[1:]]
            for question, *gains in map(cells, rows):
                for task, gain in zip(tasks, gains, strict=True):
                    if gain:
                        found[question, task, part.partition(" ")[0]] = gain
    return found


def test_the_readmes_last_table_has_these_improvements():
    part = (DOCS.parent / "README.md").read_text().partition("\n## When pruning is not worth it")[2]
    head, _, *rows = re.findall(r"^\|.*\|$", part.partition("\n## ")[0], re.MULTILINE)
    columns = []
    for name in cells(head)[1:]:
        *task, removed = name.split(", ")
        columns.append((TASKS[task[0]] if task else columns[-1][0], removed))
    found = glances()
    assert {cells(row)[0] for row in rows} == set(ASKED)
    for row in rows:
        label, *shown = cells(row)
        gains = [found.get((ASKED[label], *column), "") for column in columns]
        assert shown == [re.sub(r"\*\*(.+)\*\*", r"\1*", gain) for gain in gains], label
