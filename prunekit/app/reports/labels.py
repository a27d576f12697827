"""Short names for parts of configs that say one thing in several keys: a criterion, a segmentation."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Run = tuple[dict[str, Any], dict[str, Any]]  # a flat config and results
CRITERION, SEGMENTATION = "criterion", "segmentation"


def name_criteria(found: Sequence[Run]) -> None:
    """Have one key in place of all that describes a criterion of a callback, whatever the callback is called.

    The callback of a mask has one ``criterion``, that of a curve several ``criteria``, by name.
    """
    entries = []
    for config, results in found:
        for node, said in results["callbacks"].items():
            if CRITERION in said:
                entries.append((config, f"callbacks.{node}.{CRITERION}", said[CRITERION]))
            for name in dict.fromkeys(row[CRITERION] for row in said.get("rows", [])):
                entries.append((config, f"callbacks.{node}.criteria.{name}", name))
    _shorten(entries)


def name_segmentations(found: Sequence[Run]) -> None:
    """Have one key, the class's name, in place of all that says how regions are cut.

    A callback that has the segmentation of the run, as it does unless it is given its own, says nothing more.
    """
    entries = []
    for config, _ in found:
        own = _below(config, SEGMENTATION)
        name = str(own.get("_target_", "")).rpartition(".")[2].lower()
        for node in {key.rpartition(f".{SEGMENTATION}")[0] for key in config if f".{SEGMENTATION}" in key}:
            theirs = f"{node}.{SEGMENTATION}"
            if _below(config, theirs) == own and (name or config.get(theirs) is None):
                for key in [key for key in config if key == theirs or key.startswith(f"{theirs}.")]:
                    del config[key]
        if name:
            entries.append((config, SEGMENTATION, name))
    _shorten(entries)


def tell_nodes(configs: Sequence[dict[str, Any]]) -> None:
    """Of callbacks that only some runs have, keep the keys that differ between these; if none does, that it is there.

    Else all keys of such a callback would tell these runs from the others, and each says no more than any other.

    Example:
        >>> runs = [{"callbacks.a.x": 1, "callbacks.a.y": 2}, {"callbacks.b.z": 3}, {"callbacks.b.z": 4}]
        >>> tell_nodes(runs)
        >>> runs
        [{'callbacks.a': 'yes'}, {'callbacks.b.z': 3}, {'callbacks.b.z': 4}]
    """
    nodes = {".".join(key.split(".")[:2]) for config in configs for key in config if key.startswith("callbacks.")}
    for node in sorted(nodes):
        own = [config for config in configs if any(key.startswith(f"{node}.") for key in config)]
        if len(own) == len(configs):
            continue
        keys = sorted({key for config in own for key in config if key.startswith(f"{node}.")})
        alike = [key for key in keys if not varies([config.get(key) for config in own])]
        for config in own:
            for key in alike:
                config.pop(key, None)
            if alike == keys:
                config[node] = "yes"


def _shorten(entries: Sequence[tuple[dict[str, Any], str, str]]) -> None:
    """Let each config's key say a name, with those arguments below it that differ between entries of that name."""
    alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for config, key, name in entries:
        alike[name].append(_below(config, key))
    shown = {
        name: [argument for argument in sorted({key for each in own for key in each} - {"seed", "_target_"})
               if varies([each.get(argument) for each in own])]
        for name, own in alike.items()
    }  # fmt: skip
    for config, key, name in entries:
        words = [f"{argument}={config.get(f'{key}.{argument}')}" for argument in shown[name]]
        for argument in _below(config, key):
            del config[f"{key}.{argument}"]
        config[key] = f"{name} ({', '.join(words)})" if words else name


def _below(config: Mapping[str, Any], node: str) -> dict[str, Any]:
    return {key.removeprefix(f"{node}."): value for key, value in config.items() if key.startswith(f"{node}.")}


def short(key: str) -> str:
    """A config key's last words, for labels.

    Example:
        >>> short("callbacks.l2_mask.rate"), short("model.regularization"), short("seed")
        ('l2_mask rate', 'regularization', 'seed')
    """
    parts = key.split(".")
    return " ".join(parts[-2:]) if len(parts) > 2 else parts[-1]


def varies(column: Sequence[Any]) -> bool:
    """Whether not all values are equal."""
    return any(value != column[0] for value in column)
