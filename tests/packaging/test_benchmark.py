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
