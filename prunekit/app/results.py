"""What a run leaves to read: results.json, and the table at its end."""

import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn

from prunekit.app.control import CONTROLS
from prunekit.app.identity import NOT_IDENTITY, flat
from prunekit.app.naming import short_keys
from prunekit.latency import Timing
from prunekit.masks import Mask, overall_sparsity
from prunekit.metrics import ACCURACY, Metric

RESULTS = "results.json"
SAID = ("key", "name", "higher_is_better", "share")
NOT_COMPARED = (*NOT_IDENTITY, "name", "experiment", "sweep", "trainer", "logger", "hydra")
PACKAGES = ("torch", "pytorch-lightning", "numpy", "scikit-image", "prunekit")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # such as prunekit itself, from a bare clone on the path
        return "not installed"


@cache
def provenance() -> dict[str, Any]:
    """The code and library versions that a result came from; ``git_sha`` is None outside a checkout.

    Asked once a process: it has imported the code that it runs.
    """
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        sha = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        sha = None
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return {"git_sha": sha, "versions": versions}


def sparsity(module: nn.Module, mask: Mask, requested: Mapping[str, float]) -> dict[str, Any]:
    """The achieved sparsities, counted on the mask: of each masked parameter and of all weights of the network.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))
        >>> sparsity(net, Mask({"0.weight": torch.tensor([[True, False]])}), {"l2_mask": 0.5})
        {'requested': {'l2_mask': 0.5}, 'achieved': {'0.weight': 0.5}, 'overall': 0.25}
    """
    return {
        "requested": dict(requested),
        "achieved": {name: mask.sparsity(name) for name in mask},
        "overall": overall_sparsity(module, mask),
    }


def described(metric: Metric) -> dict[str, Any]:
    """What results say of their metric; nothing of accuracy.

    Example:
        >>> described(ACCURACY), metric_in({"metrics": {}}).name
        ({}, 'accuracy')
        >>> from prunekit.metrics import NLL
        >>> metric_in(described(NLL)).key
        'nll'
    """
    if metric == ACCURACY:
        return {}
    return {"metric": {name: getattr(metric, name) for name in SAID}}


def metric_in(results: Mapping[str, Any]) -> Metric:
    """The metric that results are of."""
    said = results.get("metric")
    return ACCURACY if said is None else Metric(**{name: said[name] for name in SAID})


def tested(results: Mapping[str, Any], when: str) -> float | None:
    """The metric on test data of the ``dense``, the ``pruned`` or the ``final`` network; None without test data."""
    value: float | None = results["metrics"][f"{when}/test_{metric_in(results).key}"]
    return value


def hyperparameters(
    config: Mapping[str, Any], found: Mapping[str, Any], typed: Mapping[str, str | None]
) -> dict[str, Any]:
    """What one compares runs by: the seed, pruning rates, and what was changed; TensorBoard has a column for each.

    Args:
        config: resolved.
        found: what differs from the experiment, by its key.
        typed: keys that the command set; in a sweep a job that has an experiment's own value has its column too.

    Example:
        >>> config = {"seed": 0, "callbacks": {"l2_mask": {"rate": 0.5}, "curves": {}}, "data": {"batch_size": 10}}
        >>> hyperparameters(config, {"data.batch_size": 10}, {"seed": None, "trainer": "cpu"})
        {'seed': 0, 'l2_mask.rate': 0.5, 'data.batch_size': 10}
        >>> hyperparameters(config | {"control": None}, {}, {"control": "null"})
        {'seed': 0, 'control': 'none', 'l2_mask.rate': 0.5}
    """
    values = flat(config)
    rates = {f"callbacks.{name}.rate": node["rate"] for name, node in config["callbacks"].items() if "rate" in node}
    # Null is a word here: jobs that lack a value would take the column from those that have one.
    shown = {key: "none" if value is None else value for key, value in values.items()}
    also = {key: shown.get(key, choice) for key, choice in typed.items() if key.partition(".")[0] not in NOT_COMPARED}
    chosen = {key: value for key, value in {**rates, **also, **found}.items() if value is not None}
    chosen = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in chosen.items()}
    return {"seed": config["seed"], **short_keys({key: value for key, value in chosen.items() if key != "seed"})}


def at_chance(results: Mapping[str, Any], accuracy: float) -> bool:
    """Whether an accuracy is no better than saying the most common class always, as far as so many samples tell.

    That is below the upper end of a one-sided 95 % interval around that class's share.

    Example:
        >>> said = {"chance": {"acc": 0.1, "samples": 1000}}
        >>> at_chance(said, 0.11), at_chance(said, 0.12), at_chance({}, 0.0)
        (True, False, False)
    """
    if not (said := results.get("chance")) or not said["samples"]:  # early runs do not tell
        return False
    return bool(accuracy <= said["acc"] + 1.645 * math.sqrt(said["acc"] * (1 - said["acc"]) / said["samples"]))


def _costs(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the network costs, dense -> compact, a row each."""
    if all(results[key]["dense"] == results[key]["compact"] for key in ("parameters", "macs", "file_bytes")):
        return [("", "as large as before: zeros make no tensor smaller, only what goes whole does")]
    words = {"parameters": "parameters", "macs": "multiply-adds a sample", "file_bytes": "bytes on disk"}
    rows = [(words[key], _change(results[key])) for key in words]
    latency, spread = results["latency"], results.get("latency_quartiles")  # which early runs do not have
    threads = f" (threads: {results['threads']})" if results.get("threads") else ""
    for size in latency["dense"]:
        change = {name: latency[name][size] for name in ("dense", "compact")}
        if None not in change.values():
            quartiles = {name: spread[name][size] for name in change} if spread else None
            rows.append((f"milliseconds a batch of {size}{threads}", _milliseconds(change, quartiles)))
    return rows


def _milliseconds(seconds: Mapping[str, float], quartiles: Mapping[str, Sequence[float]] | None) -> str:
    """Medians, with their quartiles where these are known.

    Example:
        >>> _milliseconds({"dense": 0.004, "compact": 0.001}, {"dense": [0.0039, 0.005], "compact": [0.001, 0.0012]})
        '4.00 (3.90 to 5.00) -> 1.00 (1.00 to 1.20), 4.0x'
    """

    def told(name: str) -> str:
        return str(Timing(seconds[name], *quartiles[name])) if quartiles else f"{1000 * seconds[name]:#.3g}"

    return f"{told('dense')} -> {told('compact')}, {seconds['dense'] / seconds['compact']:.1f}x"


def _change(value: Mapping[str, float], form: str = ",") -> str:
    times = f", {value['dense'] / value['compact']:.1f}x" if value["compact"] else ""
    return f"{value['dense']:{form}} -> {value['compact']:{form}}{times}"


def retrained(results: Mapping[str, Any]) -> bool:
    """Whether a run went on training after it pruned, so that its dense network had fewer epochs.

    Example:
        >>> [retrained({"events": [{"epoch": 3}], "training": {"epochs": epochs}}) for epochs in (3, 5)]
        [False, True]
    """
    epochs = results.get("training", {}).get("epochs")  # which early runs do not tell
    return bool(results.get("events")) and epochs is not None and epochs > results["events"][0]["epoch"]


def _told(results: Mapping[str, Any]) -> dict[str, str]:
    """Which networks have a row of their own, by their names in metrics."""
    if not results["events"]:
        return {"dense": CONTROLS.get(results.get("control", {}).get("name"), "dense")}
    epochs = results.get("training", {}).get("epochs")  # which early runs do not tell
    trained = epochs is None or results["events"][-1]["epoch"] != epochs
    return {"dense": "dense", "pruned": "pruned", **({"final": "retrained"} if trained else {})}


def summary_table(results: Mapping[str, Any]) -> Table:
    """The table printed at the end of a run."""
    table = Table(title=f"{results['experiment']}, seed {results['seed']}", title_justify="left")
    metric = metric_in(results)
    table.add_column(f"test {metric.name}")
    table.add_column("", justify="right")
    for when, name in _told(results).items():
        if (found := tested(results, when)) is not None:
            table.add_row(name, metric.show(found) + (", no better than chance" if at_chance(results, found) else ""))
    if results["events"]:
        table.add_section()
        for name, share in results["sparsity"]["achieved"].items():
            table.add_row(f"sparsity of {name}", f"{share:.2%}")
        table.add_row("sparsity of all weights", f"{results['sparsity']['overall']:.2%}")
    if retrained(results):
        table.add_section()
        epochs = f"{results['events'][0]['epoch']} / {results['training']['epochs']}"
        table.add_row("epochs of the dense network / in the end", epochs)
        table.add_row("not pruned for as many", "control=as_many_epochs tells")
    if results["events"] and "file_bytes" in results:  # early runs have no compact network
        table.add_section()
        table.add_row("network", "dense -> compact")
        for rows in _costs(results):
            table.add_row(*rows)
    if data := results.get("data"):
        table.add_section()
        for name, value in _data_rows(data):
            table.add_row(name, value)
    for report in results["callbacks"].values():
        if "alive" in (neurons := report.get("neurons", {})):  # a grouping of one's own may be of neurons too
            table.add_section()
            table.add_row("neurons alive", f"{neurons['alive']} of {neurons['count']}")
            table.add_row("median share of the image they keep", f"{neurons['median_area']:.0%}")
            survivors = neurons["of_survivors"]
            for key, words in (("at_least_90", ">= 90 %"), ("at_most_40", "<= 40 %")):
                label = f"neurons {words} removed (of all / of L2 survivors)"
                table.add_row(label, f"{neurons[key]:.0%} / {survivors[key]:.0%}")
    return table


def _data_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is said of clips; of other data whatever its module reports, as it is."""
    if "test_clips_of_videos_trained_on" not in data:
        return [(str(name), str(value)) for name, value in data.items()]
    rows = [
        ("split", data["split"]),
        ("clips, training / test", f"{data['train_clips']} / {data['test_clips']}"),
        ("test clips from training videos", f"{data['test_clips_of_videos_trained_on']} of {data['test_clips']}"),
    ]
    if data["missing_clips"]:
        rows.append(("clips listed but not on disk", str(data["missing_clips"])))
    if data["bad_clips"]:
        rows.append(("clips left out as unreadable", str(len(data["bad_clips"]))))
    if data["backbone"]:
        rows.append(("features", data["backbone"]))
    return rows
