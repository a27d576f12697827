"""The page of a run or of a sweep: what is on it, in which order."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from prunekit.app.reports.collect import Runs
from prunekit.app.reports.page import folded, from_lines, listing, make_page, pictures
from prunekit.app.reports.run import CONFIG, read_run

SHOWN = ("metrics", "sparsity", "parameters", "macs", "file_bytes", "latency", "seconds", "training", "compaction",
         "data", "device", "versions", "git_sha")  # fmt: skip


def sweep_page(folder: Path, runs: Runs, lines: Sequence[str], drawn: Sequence[Path]) -> str:
    """A page of a sweep, from its report.

    Args:
        folder: of runs.
        runs: in it.
        lines: of the report in Markdown, its title first.
        drawn: PNG files.
    """
    from prunekit.app.reports.page_plots import of_sweep  # noqa: PLC0415 - Bokeh need not be there

    title, *rest = lines
    constant = "\n".join(f"{key}={value}" for key, value in runs.constant.items())
    parts = [from_lines([*commands(folder), "", *rest]), *pictures(drawn), folded("The same in all runs", constant)]
    return make_page(title.lstrip("# "), parts, of_sweep(runs))


def run_page(folder: Path) -> str:
    """A page of one run, which is in ``folder``."""
    from prunekit.app.reports.page_plots import of_run, plain_values  # noqa: PLC0415

    text = (folder / CONFIG).read_text()
    results = read_run(folder).results
    events = [f"| {' | '.join(map(str, each.values()))} |" for each in results.get("events", [])]
    if events:
        names = results["events"][0]
        events = ["## Pruning events", "", f"| {' | '.join(names)} |", "| --- |", *events]
    summary = listing(plain_values(results, SHOWN))
    parts = [
        summary
        + "<p>latency and seconds are in seconds, macs in multiply-adds, accuracies in [0, 1]</p>"
        + from_lines(events),
        *pictures(sorted((folder / "figures").glob("*.png"))),
        folded("Configuration", text),
    ]
    return make_page(
        f"{results['experiment']}, seed {results['seed']}: {results['config_hash']}", parts, of_run(folder)
    )


def commands(folder: Path) -> list[str]:
    """The commands that made the runs of a folder, as Hydra has written them down; paths as they were typed there."""
    found = []
    own = folder / "multirun.yaml"  # where it is a sweep's
    for path in [own] if own.exists() else sorted(folder.absolute().parent.glob("sweeps/*/multirun.yaml")):
        try:
            words = yaml.safe_load(path.read_text())["hydra"]["overrides"]["task"]
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            continue
        if path == own or f"experiment={folder.name}" in words:
            found.append(f"- prunekit train -m {' '.join(map(str, words))}")
    return ["## Commands", "", *dict.fromkeys(found)] if found else []
