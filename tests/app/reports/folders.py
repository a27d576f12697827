"""Folders of runs, written by hand."""

import json
from itertools import product

import yaml

ACCURACIES = {"entropy": 0.7, "random": 0.6}


def write(folder, seed, accuracy, unit=None, config=None, paths="/a", **more):
    """A finished run; ``unit`` is its criterion, order and rate, ``config`` what else its config says."""
    name = more.get("experiment", "units")
    config = {
        "config_hash": folder.name, "name": name, "seed": seed, "dense_epochs": 2, "force": False, "threads": None,
        "paths": {"cache_dir": f"{paths}/cache", "runs_dir": f"{paths}/runs"},
        "data": {"seed": seed, "cache_dir": f"{paths}/cache", "device": "cpu"}, "logger": {"save_dir": paths},
        "trainer": {"enable_progress_bar": paths == "/a", "devices": [seed % 2]}, **(config or {}),
    }  # fmt: skip
    results = {
        "experiment": name, "seed": seed, "config_hash": folder.name, "device": "cpu",
        "metrics": {"dense/test_acc": 0.9, "pruned/test_acc": accuracy, "final/test_acc": accuracy},
        "sparsity": {"overall": 0.5, "achieved": {}}, "parameters": {"dense": 10, "nonzero": 5, "compact": 6},
        "macs": {"dense": 10, "compact": 5}, "file_bytes": {"dense": 100, "compact": 40},
        "latency": {"dense": {"1": 0.1, "64": 0.6}, "compact": {"1": 0.05, "64": 0.1}},
        "seconds": {"train": 1.5}, "callbacks": {}, **more,
    }  # fmt: skip
    if unit is not None:
        criterion, order, rate = unit
        arguments = {"_target_": f"prunekit.criteria.{criterion}.X"}
        arguments |= {"seed": seed} if criterion == "random" else {"bins": 4}
        config["criterion"] = arguments
        config["callbacks"] = {"unit_mask": {"criterion": arguments, "order": order, "rate": rate, "rounds": 1}}
        results["callbacks"] = {"unit_mask": {"criterion": criterion, "order": order, "rate": rate}}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "results.json").write_text(json.dumps(results))


def write_grid(root, without=(), **more):
    """3 seeds x 2 criteria x 2 orders x 2 rates; the accuracy tells which is which."""
    settings = product([0, 1, 2], ["entropy", "random"], ["ascending", "descending"], [0.2, 0.6])
    for seed, criterion, order, rate in settings:
        if (seed, criterion, order, rate) not in without:
            # Seeds are worth 5 points to both, 1 more to entropy: pairs differ by that one alone.
            accuracy = ACCURACIES[criterion] + 0.05 * seed + 0.01 * seed * (criterion == "entropy") - 0.1 * rate
            accuracy += 0.04 * (order == "descending")
            folder = root / f"{criterion}-{order}-{rate}-{seed}"
            write(folder, seed, accuracy, (criterion, order, rate), **more)
