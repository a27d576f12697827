"""From a composed config to plain values that are of the right kind."""

import difflib
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from yaml import YAMLError

from prunekit.app.errors import ConfigError

Config = dict[str, Any]
TOP_LEVEL: dict[str, Any] = {
    "name": str,
    "seed": int,
    "dense_epochs": int,
    "dense_callbacks": list[str],
    "ckpt_path": str | None,
    "run_dir": str | None,
    "resume": str | None,
    "trust": list[str] | None,
    "control": str | None,
    "force": bool,
    "reuse": bool,
    "threads": int | None,
    "paths": dict[str, str],
    "criterion": dict[str, Any] | None,
    "segmentation": dict[str, Any] | None,
    "callbacks": dict[str, dict[str, Any]],
    "model": dict[str, Any],
    "data": dict[str, Any],
    "trainer": dict[str, Any],
    "logger": dict[str, Any] | list[dict[str, Any]] | None,
}
NAME = re.compile(r"[\w.-]+")
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?(\w[\w.]*)(?:,[^${}]*)?\}")


def resolve(cfg: DictConfig) -> tuple[Config, Config]:
    """Resolve a config twice: as it is, with absolute paths, and with each path replaced by its key.

    Returns:
        The config to build from, and the same one to hash: moving folders does not make another run.

    Raises:
        ConfigError: if a value is missing or an interpolation leads nowhere.
    """
    absolute = {name: str(Path(str(path)).absolute()) for name, path in cfg.paths.items()}
    nameless = {str(name): f"<{name}>" for name in cfg.paths}
    resolved = []
    copy = cfg.copy()
    for paths in (absolute, nameless):
        copy.paths = paths
        try:
            content = OmegaConf.to_container(copy, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(str(error.full_key or "config"), str(error), "a value") from error
        assert isinstance(content, dict)
        made = {str(key): value for key, value in content.items()}
        if made.get("control") is None:  # so that runs which are none are the same as before there were any
            made.pop("control", None)
        resolved.append(made)
    for key in resolved[0].keys() - TOP_LEVEL.keys():
        near = difflib.get_close_matches(key, TOP_LEVEL) or list(TOP_LEVEL)
        raise ConfigError(key, resolved[0][key], f"no such key; nearest: {', '.join(near)}")
    for key, hint in TOP_LEVEL.items():
        if not has_type(resolved[0].get(key), hint):
            raise ConfigError(key, resolved[0].get(key), in_words(hint))
    if not NAME.fullmatch(resolved[0]["name"]):
        raise ConfigError("name", resolved[0]["name"], "letters, digits, '.', '_' and '-', as it names a folder")
    return resolved[0], resolved[1]


def references(cfg: DictConfig) -> dict[str, str]:
    """Keys whose value is that of another key and nothing more, each with the key that it leads to.

    Example:
        >>> references(OmegaConf.create({"seed": 0, "data": {"seed": "${seed}", "folder": "${seed}/x"}}))
        {'data.seed': 'seed'}
    """

    def walk(value: Any, key: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, part in value.items():
                yield from walk(part, f"{key}.{name}")
        elif isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
            yield key[1:], match[1]

    return dict(walk(OmegaConf.to_container(cfg), ""))


def with_references(absolute: Any, nameless: Any) -> Any:
    """The first of :func:`resolve`'s configs with references to ``paths`` where the second has names of paths.

    Such a config is the same run when it is read again, wherever its paths are moved to.

    Example:
        >>> with_references({"file": "/x/y", "other": "/x/z"}, {"file": "<data_dir>/y", "other": "/x/z"})
        {'file': '${paths.data_dir}/y', 'other': '/x/z'}
    """
    if isinstance(absolute, dict):
        return {key: with_references(value, nameless[key]) for key, value in absolute.items()}
    if isinstance(absolute, list):
        return [with_references(*pair) for pair in zip(absolute, nameless, strict=True)]
    if isinstance(absolute, str) and absolute != nameless:
        return re.sub(r"^<(\w+)>", r"${paths.\1}", nameless)
    return absolute


def read_config(path: Path, key: str) -> DictConfig | None:
    """A run's ``config.yaml``; None if there is none. Nothing that it names is imported.

    Raises:
        ConfigError: of ``key`` if it is damaged.
    """
    try:
        found = OmegaConf.load(path)
        if not isinstance(found, DictConfig):
            raise ValueError("it holds no keys")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(
            key, f"{path} is damaged ({why})", "a whole file; delete it and run the same command again"
        ) from error
    return found


def has_type(value: object, hint: Any) -> bool:
    """Whether a value of a config is what a type hint says; objects that were built from it are taken as they are.

    As JSON says it, which like YAML has no tuples, takes a whole number for a float, and true for no number.

    Example:
        >>> has_type([1, 2], tuple[int, int]), has_type(1, float), has_type(True, int)
        (True, True, False)
    """
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    except (TypeError, PydanticUserError):  # an object, or a type that says itself how it is checked: its class does it
        pass
    return True


def in_words(hint: Any) -> str:
    """A type as a user reads it: ``int | null``, or the literals it admits."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(in_words(part) for part in parts)
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not parts else str(hint).replace("typing.", "")
