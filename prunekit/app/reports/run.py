"""One run of a folder: its config, flat, and the rows that its results make in a table."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from prunekit.app.control import CONTROLS, MASK
from prunekit.app.identity import NOT_DATA, NOT_IDENTITY, NOT_SHOWN, content_digest, flat
from prunekit.app.reports.labels import CRITERION
from prunekit.app.results import RESULTS, metric_in
from prunekit.files import read_record
from prunekit.metrics import ACCURACY, Metric

CONFIG = "config.yaml"
SEED, ORDER, RATE = "seed", "order", "rate"
CURVE = "curve"  # the callback's name, where a run has several that measure curves
CURVES = re.compile(r"callbacks\.[^.]+\.criteria\.")
TRAINING = "training_macs"  # what training took, in multiply-adds
SAVED = "saved"  # share of the LSTM's multiply-adds
NEURONS = ("at_least_90", "at_most_40", "alive", "median_area", "upper_area", "regions", "median_region")


class Columns(NamedTuple):
    """The columns of a table that have a metric on test data: of the dense, the pruned and the final network.

    Example:
        >>> Columns.of(ACCURACY).final
        'final_test_acc'
    """

    dense: str
    pruned: str
    final: str

    @classmethod
    def of(cls, metric: Metric) -> "Columns":
        """Those of a metric."""
        return cls(*(f"{when}_test_{metric.key}" for when in cls._fields))


ACCURACIES = Columns.of(ACCURACY)


class Run(NamedTuple):
    """A finished run: its flat config, without where it lies, and its results."""

    config: dict[str, Any]
    results: dict[str, Any]


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises:
        FileNotFoundError: if it has not finished.
        Exception: if it lacks what a finished run leaves.
    """
    results = read_record(folder / RESULTS)
    if results is None:
        raise FileNotFoundError(folder / RESULTS)
    config = yaml.load((folder / CONFIG).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    written = results.get("config_digest")
    if written is not None and written != content_digest(config):
        raise ValueError(f"{CONFIG} is not the one that it was run with")
    run = Run(_identity(config), results)
    if not points(Run(dict(run.config), run.results)):
        raise ValueError("no points of its curve")
    for key in ("config_hash", "experiment", "seed", "device", "seconds"):
        run.results[key]
    return run


def run_or_why(folder: Path) -> Run | str:
    """A run, or why it cannot be one of a report, and what to do."""
    try:
        return read_run(folder)
    except FileNotFoundError:
        return f"not finished: {folder}; its command continues it, or train resume=FOLDER"
    except (ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        return f"damaged: {folder} ({type(error).__name__}: {error}); delete it and run it again"


def points(run: Run) -> list[dict[str, Any]]:
    """The run's row, or one for each point of its curves; what they say is taken out of its config.

    Of several callbacks that prune units the one that begins last gives criterion, order and rate. What the others are
    set to stays in the config: an axis where it differs.
    """
    config, results = run
    metrics, callbacks = results["metrics"], results["callbacks"]
    metric = metric_in(results)
    names = Columns.of(metric)
    dense = {names.dense: metrics[f"dense/test_{metric.key}"]}
    measured = {
        **dense,
        names.pruned: metrics[f"pruned/test_{metric.key}"],
        names.final: metrics[f"final/test_{metric.key}"],
        "sparsity": results["sparsity"]["overall"],
        "parameters_nonzero": results["parameters"]["nonzero"],
    }
    if (work := results.get("training", {}).get("macs")) is not None:
        measured[TRAINING] = work
    for name in ("parameters", "macs", "file_bytes") if "file_bytes" in results else ():  # early runs have none compact
        measured |= {f"{name}_{network}": results[name][network] for network in ("compact", "dense")}
    measured |= {f"sparsity.{name}": share for name, share in results["sparsity"]["achieved"].items() if "." in name}
    for neurons in [said["neurons"] for said in callbacks.values() if "alive" in said.get("neurons", {})][:1]:
        measured |= {name: neurons[name] for name in NEURONS if name in neurons} | {"neurons": neurons["count"]}
    curves = {node: said["rows"] for node, said in callbacks.items() if "rows" in said}
    several = len(curves) > 1
    rows = [
        {CRITERION: config.get(f"callbacks.{node}.criteria.{row[CRITERION]}"), ORDER: row[ORDER], RATE: row[RATE]}
        | {**dense, names.pruned: row[f"test_{metric.key}"], names.final: row[f"test_{metric.key}"]}
        | ({SAVED: row[SAVED]} if SAVED in row else {})
        | ({CURVE: node} if several else {})
        for node, own in curves.items()
        for row in own
    ]
    masks = sorted(
        (node for node, said in callbacks.items() if CRITERION in said),
        key=lambda node: config.get(f"callbacks.{node}.start_epoch") or 0,
    )
    # A control measures no curve, though its config says what the run that it is held against measures.
    nodes = {key.partition(".criteria.")[0] for key in config if CURVES.match(key)}
    told = {f"{node}.{key}" for node in nodes for key in ("orders", "rates")}
    for node in masks[-1:]:
        keys, said = {name: f"callbacks.{node}.{name}" for name in (CRITERION, ORDER, RATE)}, callbacks[node]
        rows = [{CRITERION: config.get(keys[CRITERION]), ORDER: said[ORDER], RATE: said[RATE], **measured}]
        told |= set(keys.values())
    of = results.get("control", {})  # nothing of its own is pruned; its dense network is another run's
    if of:
        measured[names.dense] = None
    if RATE in of:
        rows = [{CRITERION: CONTROLS[of["name"]], ORDER: of[ORDER], RATE: of[RATE], **measured}]
        told |= {"control", *(key for key in config if key.startswith(f"{MASK}.criterion"))}
        told |= {f"{MASK}.{ORDER}", f"{MASK}.{RATE}"}
    criteria = tuple(f"{node}.criteria." for node in nodes)
    for key in [key for key in config if key in told or key.startswith(criteria)]:
        del config[key]
    return rows if masks or curves or RATE in of else [measured]


def frame_columns(results: dict[str, Any]) -> dict[str, float]:
    """What a run's results say of a frame of a stream, as columns of times; nothing where they do not."""
    frame = results.get("frame")
    return (
        {f"frame_{key}": value for key, value in {"every": frame["every"], **frame["seconds"]}.items()} if frame else {}
    )


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config, flat, without where it lies and how it is shown; paths in values have their keys' names."""
    paths = {str(value): name for name, value in config["paths"].items()}

    def nameless(value: Any) -> Any:
        for path in sorted(paths, key=len, reverse=True):
            if isinstance(value, str) and (value == path or value.startswith(f"{path}/")):
                return f"<{paths[path]}>{value.removeprefix(path)}"
        return json.dumps(value) if isinstance(value, list | dict) else value

    values = flat(config)
    of_trainer = (f"trainer.{key}" for key in ("devices", *NOT_SHOWN))
    of_data = (f"data.{key}" for key in NOT_DATA)
    skipped = {*NOT_IDENTITY, "config_hash", "name", *of_trainer, *of_data}
    parts = ("paths", "logger", CRITERION)  # a criterion counts as the callbacks have it
    return {k: nameless(v) for k, v in values.items() if k not in skipped and k.partition(".")[0] not in parts}
