"""From a node of a config to an object, and back from an object to the key of its node."""

import inspect
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from prunekit.app.config import Config, has_type, in_words
from prunekit.app.errors import ConfigError
from prunekit.errors import ArgumentError

FEW = 5  # arguments that are all shown where one of them is wrong
HYDRAS = ("_target_", "_partial_", "_recursive_", "_convert_")
Built = Mapping[int, tuple[object, str]]


class Builder:
    """Builds the objects of one run and knows under which key of the config each was built.

    Args:
        led_to: keys whose value is another key's, with that key: what a user sets is the other one.

    Attributes:
        built: the id of an object -> the object and its key.
    """

    def __init__(self, led_to: Mapping[str, str] | None = None) -> None:
        self._led_to = led_to or {}
        self.built: dict[int, tuple[object, str]] = {}

    def build(self, node: Config, key: str, **injected: Any) -> Any:
        """Build one node of the config, and the nodes inside it first.

        Args:
            node: with ``_target_``, and what else Hydra's ``instantiate`` knows.
            key: where it stands in the config.
            injected: arguments that no config holds, such as the run's folder.

        Raises:
            ConfigError: if a class refuses its arguments.
        """
        with self.naming():
            find_target(node, key)
            return self._made(node, key, **injected)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Put the key of its object before each argument that an error raised within names."""
        try:
            yield
        except ArgumentError as error:
            raise self.named(error) from error

    def named(self, error: ArgumentError) -> ConfigError:
        """The same with a full key; with the bare argument if it is of no object that was built here."""
        error = _named(error, self.built)
        return ConfigError(self._set_by(error.argument), error.got, error.accepted)

    def _set_by(self, key: str) -> str:
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            if other := self._led_to.get(".".join(parts[:end])):
                return self._set_by(".".join([other, *parts[end:]]))
        return key

    def _made(self, value: Any, key: str, **injected: Any) -> Any:
        if isinstance(value, list):
            return [self._made(part, f"{key}[{number}]") for number, part in enumerate(value)]
        if not isinstance(value, dict):
            return value
        deep = value.get("_recursive_", True)
        parts = {name: self._made(part, f"{key}.{name}") if deep else part for name, part in value.items()}
        if "_target_" not in value:
            return parts
        target, positional = find_target(value, key), parts.pop("_args_", [])
        given = {name: part for name, part in parts.items() if name not in HYDRAS}
        check_arguments(target.func, given, key)
        if value.get("_partial_"):
            made: Any = Deferred(target, *positional, **given, **injected)
            made.key = key
        else:
            try:
                made = target(*positional, **given | injected)
            except (ConfigError, OSError):
                raise
            except ArgumentError as error:
                raise _named(error, self.built, key) from error
            except Exception as error:
                meant = {name: value[name] for name in given if len(given) <= FEW or name in str(error)}
                got = meant or f"{len(given)} arguments"
                raise ConfigError(key, got, f"arguments that {value['_target_']} takes: {error}") from error
        self.built[id(made)] = made, key
        return made


class Deferred(partial[Any]):
    """A node with ``_partial_``: an error raised when it is called has its ``key`` too, copied or not."""

    key: str

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it."""
        try:
            return super().__call__(*arguments, **keywords)
        except ArgumentError as error:
            raise _named(error, {}, self.key) from error


def _named(error: ArgumentError, built: Built, key: str = "") -> ConfigError:
    """An error with the key of its owner, or else ``key``, before its argument."""
    if isinstance(error, ConfigError):
        return error
    _, key = built.get(id(error.owner), (None, key))
    return ConfigError(".".join(filter(None, [key, error.argument])), error.got, error.accepted)


def find_target(node: Any, key: str) -> "partial[Any]":
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
        found: partial[Any] = instantiate({"_target_": node["_target_"], "_partial_": True})
    except InstantiationException as error:  # importing runs code that may raise anything
        accepted = f"the path of a class; {error.__cause__ or error}"
        raise ConfigError(f"{key}._target_", node["_target_"], accepted) from error
    if not isinstance(node.get("_partial_", False), bool):
        raise ConfigError(f"{key}._partial_", node["_partial_"], "true or false")
    return found


def parameters_of(target: Any) -> Mapping[str, inspect.Parameter] | None:
    """The arguments that a class or function takes; None where that cannot be told, as of some written in C."""
    try:
        return inspect.signature(target).parameters
    except ValueError:
        return None


def check_arguments(target: Any, given: Config, key: str) -> None:
    """Refuse an argument that a class does not take, or a value of another type than the class declares.

    Hydra refuses a misspelt key but not a wrong value, and many classes notice one only when it is used, after
    hours perhaps.

    Raises:
        ConfigError: with the key and the type declared.
    """
    takes = parameters_of(target)
    try:
        hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    except (NameError, TypeError):  # names that only a type checker imports, as of W&B's logger; or no hints
        hints = {}
    for name, value in given.items():
        if takes is not None and name not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            words = f"only {', '.join(takes)}, which {target.__module__}.{target.__qualname__} takes"
            raise ConfigError(f"{key}.{name}", value, words)
        if name in hints and not has_type(value, hints[name]):
            raise ConfigError(f"{key}.{name}", value, in_words(hints[name]))
