"""Reports of runs that are judged by something else than accuracy."""

import csv

import pytest

from prunekit.app.report import report
from prunekit.app.results import described
from prunekit.errors import ArgumentError
from prunekit.metrics import NLL, PERPLEXITY
from tests.app.reports.folders import write


def write_words(root, metric=PERPLEXITY):
    """Dense 100; half of the units gone by entropy 110, at random 130, and more with each seed."""
    for seed in (0, 1, 2):
        for criterion, value in (("entropy", 110.0), ("random", 130.0)):
            values = {"dense": 100.0, "pruned": value + 2 * seed, "final": value + 2 * seed}
            write(
                root / f"{criterion}-{seed}", seed, 0.0, (criterion, "ascending", 0.5), **described(metric),
                metrics={f"{when}/test_{metric.key}": each for when, each in values.items()},
            )  # fmt: skip


def test_units_are_reported_by_perplexity(tmp_path):
    write_words(tmp_path / "runs")
    written = report(tmp_path / "runs", tmp_path / "out")
    assert {path.stem for path in written if path.suffix == ".png"} == {"perplexity", "costs", "difference"}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Test perplexity; lower is better" in text
    assert "Dense: 100 ± 0 (n=3)" in text
    assert "| entropy | ascending | 3 | 112 ± 4.97 |" in text
    assert "## Test perplexity against the dense network, paired; lower is better" in text
    assert "| random | ascending | 3 | 32 ± 4.97 |" in text
    assert "## Test perplexity against random order, paired by seed; lower is better" in text
    assert "| entropy | ascending | 3 | -20 ± 0 |" in text
    assert "ccuracy" not in text
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["final_test_ppl"] for row in rows} == {"110.0", "112.0", "114.0", "130.0", "132.0", "134.0"}
    assert not [name for name in rows[0] if "acc" in name]


def test_settings_are_reported_by_it_too(tmp_path):
    for seed in (0, 1):
        for rate, value in ((0.2, 3.5), (0.4, 4.25)):
            write(
                tmp_path / f"{rate}-{seed}", seed, 0.0, config={"callbacks": {"l2_mask": {"rate": rate}}},
                metrics={f"{when}/test_nll": value for when in ("dense", "pruned", "final")}, **described(NLL),
            )  # fmt: skip
    report(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "rate | dense test nll | pruned test nll | final test nll | sparsity | n |" in text
    assert "| 0.4 | 4.25 ± 0 | 4.25 ± 0 | 4.25 ± 0 | 50.0 ± 0.0 | 2 |" in text
    assert (tmp_path / "out" / "settings.png").exists()


def test_metrics_are_never_mixed(tmp_path):
    write_words(tmp_path)
    write(tmp_path / "another", 5, 0.5, ("entropy", "ascending", 0.5))
    with pytest.raises(ArgumentError, match=r"^folder: .*judged by accuracy and by perplexity"):
        report(tmp_path, tmp_path / "out")
