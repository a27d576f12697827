"""What makes two runs the same: hashes of plain, resolved configs in which no path has its value."""

from collections.abc import Mapping
from typing import Any

from prunekit.app.control import teacher_of
from prunekit.digests import digest

# Keys that say where things lie or what to do with a run that is there, not what the run is.
NOT_IDENTITY = ("paths", "ckpt_path", "run_dir", "resume", "trust", "force", "reuse", "threads")
# Settings of the data that say how it is computed, not what it is.
NOT_DATA = ("device", "decoders", "shard")
# Trainer settings that change what is shown, not what is computed; and the end, which follows from the schedule.
NOT_SHOWN = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler")
NOT_DENSE = ("max_epochs", *NOT_SHOWN)


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hex digits for a whole run, the keys of where it lies apart.

    Example:
        >>> config_hash({"seed": 0, "paths": "a"}) == config_hash({"seed": 0, "paths": "b"})
        True
        >>> config_hash({"seed": 0}) == config_hash({"seed": 1})
        False
    """
    return digest(_what_counts({key: value for key, value in config.items() if key not in NOT_IDENTITY}))


def content_digest(written: Mapping[str, Any]) -> str:
    """Of what a run's ``config.yaml`` holds, wherever its paths are moved to, so that damage is noticed."""
    return digest({key: value for key, value in written.items() if key != "paths"})


def dense_hash(config: Mapping[str, Any], fingerprint: str, device: str) -> str:
    """Twelve hex digits for the dense part of a run: what is trained before the first event.

    Args:
        config: the resolved config; of it count ``model``, ``data``, ``seed``, ``dense_epochs``, the trainer's
            settings that bear on training, the callbacks that ``dense_callbacks`` names, and what its teacher is.
        fingerprint: of the data itself.
        device: the kind of device trained on, such as ``cpu``; its arithmetic is not another's.

    Example:
        >>> config = {"model": {}, "data": {}, "trainer": {}, "seed": 0, "dense_epochs": 1, "callbacks": {"a": 1}}
        >>> dense_hash(config, "f", "cpu") == dense_hash({**config, "callbacks": {}}, "f", "cpu")
        True
    """
    trainer = {key: value for key, value in config["trainer"].items() if key not in NOT_DENSE}
    parts = _what_counts({key: config[key] for key in ("model", "data", "seed", "dense_epochs")})
    named = {name: config["callbacks"][name] for name in config.get("dense_callbacks", [])}
    named = {"callbacks": named} if named else {}
    if (teacher := teacher_of(config)) is not None:
        named["teacher"] = dense_hash(teacher, fingerprint, device)
    return digest({**parts, **named, "trainer": trainer, "fingerprint": fingerprint, "device": device})


def _what_counts(config: Mapping[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in config.get("data", {}).items() if key not in NOT_DATA}
    return {**config, **({"data": data} if data else {})}


def flat(node: Any, key: str = "") -> dict[str, Any]:
    """Its leaves, by their full keys; lists are leaves.

    Example:
        >>> flat({"a": {"b": 1, "c": [2]}})
        {'a.b': 1, 'a.c': [2]}
    """
    if not isinstance(node, Mapping) or not node:
        return {key: node}
    found: dict[str, Any] = {}
    for part, value in node.items():
        found |= flat(value, f"{key}.{part}" if key else str(part))
    return found
