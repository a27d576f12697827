"""A folder of runs as one table: what each was, what came out, and which are missing."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from rich.progress import track

from prunekit.app.errors import ConfigError
from prunekit.app.identity import NOT_DATA, NOT_IDENTITY, NOT_SHOWN
from prunekit.app.jobs import read_jobs
from prunekit.app.reports.labels import CRITERIA, CRITERION, criterion_labels, name_segmentations, varies
from prunekit.app.results import RESULTS

CONFIG = "config.yaml"
SEED, ORDER, RATE = "seed", "order", "rate"
# What the columns order and rate are made of.
SETTINGS = tuple(f"callbacks.unit_{key}" for key in ("mask.order", "mask.rate", "curve.orders", "curve.rates"))
ACCURACY = "final_test_acc"
SAVED = "saved"  # share of the LSTM's multiply-adds
GRAIN = "callbacks.unit_curve.granularity"
NEURONS = ("at_least_90", "at_most_40", "alive", "median_area", "upper_area", "regions", "median_region")
COUNTS = ("alive", "regions", "median_region")  # no shares
MEASURES = ("dense_test_acc", "pruned_test_acc", ACCURACY, "sparsity", *NEURONS)
MOST_COMBINATIONS = 100_000  # beyond these no grid is filled in to see what is missing


class Run(NamedTuple):
    """A finished run: its flat config, without where it lies, and its results."""

    config: dict[str, Any]
    results: dict[str, Any]


class Runs(NamedTuple):
    """The runs of one experiment.

    Attributes:
        experiment: its name.
        table: a row a run, or a row a point of its ``unit_curve``: ``config_hash``, ``seed``, the axes, for units
            ``criterion``, ``order`` and ``rate``, then what was measured; sorted.
        times: a row a run, its seconds: of its parts, and of a batch in the dense and in the compact network.
        axes: config keys that differ between runs, the seed and what follows from it apart.
        constant: config keys that do not, with their values.
        problems: runs that have not finished or cannot be read, a line each.
    """

    experiment: str
    table: pd.DataFrame
    times: pd.DataFrame
    axes: list[str]
    constant: dict[str, Any]
    problems: list[str]


def collect(folder: Path) -> Runs:
    """Read all runs in ``folder``, however deep.

    Raises:
        ConfigError: if there is no finished run, or there are runs of several experiments.
    """
    if not folder.is_dir():
        raise ConfigError("folder", str(folder), "a folder of runs, such as runs/<experiment>")
    found, problems, seen = [], [], set()
    for path in track(sorted(folder.rglob(CONFIG)), description="runs", transient=True):
        try:
            config = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            run = Run(_identity(config), json.loads((path.parent / RESULTS).read_text()))
            _require_whole(run)
        except FileNotFoundError:
            problems.append(f"not finished: {path.parent}; its command continues it")
        except (ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"damaged: {path.parent} ({type(error).__name__}: {error}); delete it and run it again")
        else:
            if run.results["config_hash"] in seen:
                problems.append(f"left out: {path.parent}, a copy of a run that is there")
            else:
                seen.add(run.results["config_hash"])
                found.append(run)
    problems += unfinished_jobs(folder)
    if not found:
        raise ConfigError("folder", f"{folder}, with no finished run ({len(problems)} others)", "a folder of runs")
    names = sorted({run.results["experiment"] for run in found})
    if len(names) > 1:
        got = f"{folder}, with runs of several experiments: {', '.join(names)}"
        raise ConfigError("folder", got, f"the folder of one experiment, such as {folder / names[0]}")
    return _tabulate(names[0], found, problems)


def _tabulate(experiment: str, found: list[Run], problems: list[str]) -> Runs:
    name_segmentations(found)
    keys = sorted({key for config, _ in found for key in config})
    units = ("criterion", *CRITERIA, *SETTINGS)
    values = {key: [config.get(key) for config, _ in found] for key in keys if not key.startswith(units)}
    axes = [key for key, column in values.items() if varies(column) and key != SEED]
    for origin in (SEED, "dense_epochs"):  # data.seed and the like follow these
        axes = [key for key in axes if key == origin or values[key] != values[origin]]
    labels = criterion_labels(found)
    rows = []
    for (config, results), label in zip(found, labels, strict=True):
        run = {"config_hash": results["config_hash"], SEED: results["seed"], **{key: config.get(key) for key in axes}}
        rows += [{**run, **point} for point in _points(results, label)]
    if any(CRITERION in row for row in rows) and not all(CRITERION in row for row in rows):
        others = [str(row["config_hash"]) for row in rows if CRITERION not in row]
        problems = [*problems, f"left out, as no units are pruned in them: {', '.join(others)}"]
        rows = [row for row in rows if CRITERION in row]
    table = pd.DataFrame(rows)
    by = [SEED, *axes, *(name for name in (CRITERION, ORDER, RATE) if name in table)]
    table = table.sort_values(by=by, key=lambda column: column.map(sort_key), kind="stable", ignore_index=True)
    for key in axes:  # None stays None, where pandas would have made a number of it
        table[key] = pd.Series([plain(value) for value in table[key]], dtype=object)
    twice = table[table.duplicated(by, keep=False)]["config_hash"].unique()
    if len(twice):
        problems = [*problems, f"of equal settings, averaged within their seed: {', '.join(twice)}"]
    times = [
        {"config_hash": r["config_hash"], "device": r["device"], **r["seconds"], **_latencies(r.get("latency", {}))}
        for _, r in found
    ]
    constant = {key: column[0] for key, column in values.items() if not varies(column)}
    return Runs(experiment, table, pd.DataFrame(times).sort_values("config_hash"), axes, constant, problems)


def _latencies(latency: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Seconds by network and batch size, as columns."""
    return {f"batch_{size}_{name}": seconds for name, own in latency.items() for size, seconds in own.items()}


def missing(runs: Runs) -> list[dict[str, Any]] | None:
    """Combinations of the values seen, seeds included, that have no row; None if there are too many to go through.

    Criteria combine with the orders and granularities that they are seen in.
    """
    by = [SEED, *runs.axes, *(name for name in (CRITERION, ORDER, RATE) if name in runs.table)]
    columns = [list(dict.fromkeys(map(plain, runs.table[name]))) for name in by]
    there = set(zip(*(map(plain, runs.table[name]) for name in by), strict=True))
    count = 1
    for column in columns:
        count *= len(column)
    if count > MOST_COMBINATIONS:
        return None
    absent = [dict(zip(by, wanted, strict=True)) for wanted in product(*columns) if wanted not in there]
    if CRITERION not in runs.table:
        return absent
    # A criterion need not make sense in every order, nor for gates.
    together = [CRITERION, ORDER, *(key for key in runs.axes if key.endswith(".granularity"))]
    seen = set(zip(*(map(plain, runs.table[key]) for key in together), strict=True))
    return [row for row in absent if tuple(row[key] for key in together) in seen]


def pooled(runs: Runs, keys: Sequence[str]) -> Runs:
    """The runs with some axes' values taken for repetitions, as seeds are.

    Raises:
        ConfigError: if a key is no axis.
    """
    keys = list(dict.fromkeys(keys))
    for key in keys:
        if key not in runs.axes:
            raise ConfigError("--pool", key, f"a key that differs between runs: {', '.join(runs.axes) or 'none does'}")
    table = runs.table.copy()
    for key in keys:
        table[SEED] = [f"{seed}, {value}" for seed, value in zip(table[SEED], table.pop(key), strict=True)]
    return runs._replace(table=table, axes=[key for key in runs.axes if key not in keys])


def _points(results: Mapping[str, Any], label: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    metrics = results["metrics"]
    measured = {
        "dense_test_acc": metrics["dense/test_acc"],
        "pruned_test_acc": metrics["pruned/test_acc"],
        "final_test_acc": metrics["final/test_acc"],
        "sparsity": results["sparsity"]["overall"],
        "parameters_nonzero": results["parameters"]["nonzero"],
    }
    for name in (
        ("parameters", "macs", "file_bytes") if "file_bytes" in results else ()
    ):  # early runs have no compact one
        measured[f"{name}_compact"], measured[f"{name}_dense"] = results[name]["compact"], results[name]["dense"]
    measured |= {f"sparsity.{name}": share for name, share in results["sparsity"]["achieved"].items() if "." in name}
    measured |= {name: results["neurons"][name] for name in NEURONS if name in results.get("neurons", {})}
    measured |= {"neurons": results["neurons"]["count"]} if "neurons" in results else {}
    if CRITERION in results:
        setting = {CRITERION: label[results[CRITERION]], ORDER: results[ORDER], RATE: results[RATE]}
        return [{**setting, **measured}]
    if "unit_curve" in results:
        dense = {"dense_test_acc": measured["dense_test_acc"]}
        return [
            {CRITERION: label[row[CRITERION]], ORDER: row[ORDER], RATE: row[RATE], **dense}
            | {"pruned_test_acc": row["test_acc"], "final_test_acc": row["test_acc"]}
            | ({SAVED: row["saved"]} if "saved" in row else {})
            for row in results["unit_curve"]
        ]
    return [measured]


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config, flat, without where it lies and how it is shown; paths in values have their keys' names."""
    paths = {str(value): name for name, value in config["paths"].items()}

    def nameless(value: Any) -> Any:
        for path in sorted(paths, key=len, reverse=True):
            if isinstance(value, str) and (value == path or value.startswith(f"{path}/")):
                return f"<{paths[path]}>{value.removeprefix(path)}"
        return json.dumps(value) if isinstance(value, list | dict) else value

    flat = dict(_flat(config))
    of_trainer = (f"trainer.{key}" for key in ("devices", *NOT_SHOWN))
    of_data = (f"data.{key}" for key in NOT_DATA)
    skipped = {*NOT_IDENTITY, "config_hash", "name", "logger", *of_trainer, *of_data}
    return {k: nameless(v) for k, v in flat.items() if k not in skipped and not k.startswith(("paths.", "logger."))}


def _flat(node: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def unfinished_jobs(folder: Path) -> list[str]:
    """Jobs that did not finish of the last sweep that made runs in ``folder``, a line each."""
    for sweep in sorted(folder.absolute().parent.glob("sweeps/*"), reverse=True):
        jobs = read_jobs(sweep)
        if any(job["run"] and Path(job["run"]).is_relative_to(folder.absolute()) for job in jobs):
            lines = []
            for job in jobs:
                if job["state"] != "finished":
                    why = f": {job['error']}" if job["error"] else ""
                    lines.append(f"{job['state']} in the last sweep: {' '.join(job['overrides'])}{why}")
            return lines
    return []


def _require_whole(run: Run) -> None:
    """Raise if results lack what a finished run leaves."""
    if not list(_points(run.results, defaultdict(str))):
        raise ValueError("no points of its curve")
    for key in ("config_hash", "experiment", "seed", "device", "seconds"):
        run.results[key]


def plain(value: Any) -> Any:
    """The value, None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def sort_key(value: Any) -> tuple[int, float, str]:
    """What is absent before all, then ``none``, then numbers, then other words."""
    value = plain(value)
    if value is None or value == "none":
        return 0, 0.0, str(value or "")
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))
