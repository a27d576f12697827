"""Nodes held against the classes that they name, before anything is built."""

import functools
import inspect
import json
import types
import typing
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from prunekit.app.errors import ConfigError


def find_target(node: Any, key: str) -> "functools.partial[Any]":
    """What a node names, to be called through Hydra's own partial, which refuses what Hydra refuses.

    Raises:
        ConfigError: if it names nothing that can be called.
    """
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        hint = "a node with _target_, the path of a class"
        if key.startswith("callbacks."):
            name = key.split(".")[1]
            hint += f"; the list of callbacks does not name {name}: add it there, or drop the values with ~{key}"
        raise ConfigError(key, node, hint)
    try:
        found: functools.partial[Any] = instantiate({"_target_": node["_target_"], "_partial_": True})
    except InstantiationException as error:  # importing runs code that may raise anything
        accepted = f"the path of a class; {error.__cause__ or error}"
        raise ConfigError(f"{key}._target_", node["_target_"], accepted) from error
    return found


def arguments_of(target: Any) -> "tuple[dict[str, inspect.Parameter], bool]":
    """The arguments by name that a class or function takes, and whether it takes any others too."""
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # of some that are written in C
        return {}, True
    return dict(parameters), any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def check_types(node: Any, key: str) -> None:
    """Refuse a node with a key that its class does not take, or a value of another type than the class declares.

    Hydra refuses a misspelt key but not a wrong value, and many classes notice one only when it is used, after
    hours perhaps. Nodes inside the node are checked too.

    Raises:
        ConfigError: with the key and the type declared.
    """
    target = find_target(node, key).func
    if not isinstance(node.get("_partial_", False), bool):
        raise ConfigError(f"{key}._partial_", node["_partial_"], "true or false")
    takes, any_other = arguments_of(target)
    hints = _hints(target)
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name not in takes and not any_other:
            raise ConfigError(f"{key}.{name}", value, f"only {', '.join(takes)}, which {node['_target_']} takes")
        if isinstance(value, dict) and "_target_" in value:
            check_types(value, f"{key}.{name}")
        elif isinstance(value, dict) and any(isinstance(v, dict) and "_target_" in v for v in value.values()):
            for inner, part in value.items():
                check_types(part, f"{key}.{name}.{inner}")
        elif name in hints and not has_type(value, hints[name]):
            raise ConfigError(f"{key}.{name}", value, in_words(hints[name]))


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    except (NameError, TypeError):  # names that only a type checker imports, as of W&B's logger; or none at all
        return {}


def has_type(value: object, hint: Any) -> bool:
    """Whether a value of a config is what a type hint says.

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
    except PydanticUserError:  # a type that says itself how it is checked; its class does it
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
