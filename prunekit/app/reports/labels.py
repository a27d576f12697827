"""Short names for parts of configs that say one thing in several keys: a criterion, a segmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

Run = tuple[dict[str, Any], dict[str, Any]]  # a flat config and results
CRITERION, SEGMENTATION = "criterion", "segmentation"
# What the names of criteria are made of.
CRITERIA = ("callbacks.unit_mask.criterion.", "callbacks.unit_curve.criteria.")


def criterion_labels(found: Sequence[Run]) -> list[dict[str, str]]:
    """For each run criterion name -> label: the name, and with it those arguments that differ between runs."""
    arguments: list[dict[str, dict[str, Any]]] = []
    for config, results in found:
        mask, curve = ({k.removeprefix(node): v for k, v in config.items() if k.startswith(node)} for node in CRITERIA)
        if CRITERION in results:
            arguments.append({results[CRITERION]: mask})
        else:
            own: dict[str, dict[str, Any]] = {}
            for key, value in curve.items():
                name, _, argument = key.partition(".")
                own.setdefault(name, {})[argument] = value
            arguments.append(own)
    different: dict[str, list[str]] = {}
    for name in {name for own in arguments for name in own}:
        all_own = [own[name] for own in arguments if name in own]
        keys = sorted({key for own in all_own for key in own} - {"seed", "_target_"})
        different[name] = [key for key in keys if varies([own.get(key) for own in all_own])]
    return [{name: _label(name, own[name], different[name]) for name in own} for own in arguments]


def name_segmentations(found: Sequence[Run]) -> None:
    """Have one key, a class's name with those arguments that differ, in place of all that says how regions are cut.

    A callback that has the segmentation of the run, as it does unless it is given its own, says nothing more.
    """
    own = [_below(config, SEGMENTATION) for config, _ in found]
    names = [str(arguments.get("_target_", "")).rpartition(".")[2].lower() for arguments in own]
    for (config, _), name, arguments in zip(found, names, own, strict=True):
        for node in {key.rpartition(f".{SEGMENTATION}")[0] for key in config if f".{SEGMENTATION}" in key}:
            theirs = f"{node}.{SEGMENTATION}"
            if _below(config, theirs) == arguments and (name or config.get(theirs, arguments) is None):
                for key in [key for key in config if key == theirs or key.startswith(f"{theirs}.")]:
                    del config[key]
        if name:
            for key in arguments:
                del config[f"{SEGMENTATION}.{key}"]
            alike = [others for other, others in zip(names, own, strict=True) if other == name]
            shown = [key for key in sorted(arguments) if key != "_target_" and varies([o.get(key) for o in alike])]
            config[SEGMENTATION] = _label(name, arguments, shown)


def _below(config: Mapping[str, Any], node: str) -> dict[str, Any]:
    return {key.removeprefix(f"{node}."): value for key, value in config.items() if key.startswith(f"{node}.")}


def _label(name: str, arguments: Mapping[str, Any], shown: list[str]) -> str:
    return f"{name} ({', '.join(f'{key}={arguments.get(key)}' for key in shown)})" if shown else name


def varies(column: Sequence[Any]) -> bool:
    """Whether not all values are equal."""
    return any(value != column[0] for value in column)
