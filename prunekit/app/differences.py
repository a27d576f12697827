"""What of a run's config differs from its experiment: what one would type to get it."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prunekit.app.config import references
from prunekit.app.identity import NOT_DATA, NOT_IDENTITY, NOT_SHOWN, flat

CALLBACKS = "callbacks"
# Nodes that are chosen by name, those that hold others first.
GROUPS = ["data", "data/source", "data/backbone", "model", "model/optimizer", "model/backbone"]
GROUPS += ["criterion", "segmentation"]
SAYS_NOTHING = (*NOT_IDENTITY, "name", "logger")
ABSENT = object()


def differences(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that have another value than in the run's experiment, and these values.

    They follow from the resolved config, not from how it was typed: a value typed as its default is none, nor is one
    that follows another key as it does by default. A node that was chosen by name is that name (``criterion`` ->
    ``entropy``) and what differs from its file; ``callbacks.teacher`` is True where it was added, False where it was
    taken out. Without such an experiment there are none.

    Args:
        identity: the resolved config with names of paths in place of paths.
    """
    with _composing():
        experiment = _experiment(str(identity["name"]))
        if experiment is None:
            return {}
        try:
            own, chosen = flat(identity), dict[str, str | None]()
            for group in GROUPS:
                base = flat(_base(experiment, *_typed(chosen))[0])
                node = group.replace("/", ".")
                if own.get(f"{node}._target_") != base.get(f"{node}._target_") and f"{node}._target_" in own:
                    chosen[group] = _nearest(group, node, own)
            chosen = {group: name for group, name in chosen.items() if name is not None}
            added = [name for name in identity[CALLBACKS] if name in _options(CALLBACKS)]
            added = [name for name in added if f"{CALLBACKS}.{name}._target_" not in base]
            whole, led = _base(experiment, *_typed(chosen), *(f"+{CALLBACKS}={name}" for name in added))
        except (HydraException, OmegaConfBaseException):  # of an experiment that lacks values, or is no longer there
            return {}
    base = flat(whole)
    found: dict[str, Any] = {group.replace("/", "."): name for group, name in chosen.items()}
    for key in own.keys() | base.keys():
        first, _, rest = key.partition(".")
        node, other = key.rpartition(".")[0], own.get(_leader(key, led), ABSENT)
        if own.get(key, ABSENT) == base.get(key, ABSENT) or own.get(key, ABSENT) == other:
            continue
        if first in SAYS_NOTHING or rest in {"data": NOT_DATA, "trainer": NOT_SHOWN}.get(first, ()):
            continue
        if first == CALLBACKS and (name := rest.partition(".")[0]) not in identity[CALLBACKS]:
            found[f"{CALLBACKS}.{name}"] = False
        elif first == CALLBACKS and name not in whole[CALLBACKS]:
            found[f"{CALLBACKS}.{name}"] = True
        elif key in own and not (key.endswith("._target_") and node in found):
            found[key] = own[key]
    return found | {f"{CALLBACKS}.{name}": True for name in added}


def typed() -> dict[str, str | None]:
    """Keys that the command set, whatever to: in a sweep these vary. Of a node that was chosen by name the name."""
    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    words = [word.lstrip("+~").partition("=")[0].partition("@")[0] for word in HydraConfig.get().overrides.task]
    return {word.replace("/", "."): choices.get(word) for word in words}


@contextmanager
def _composing() -> Iterator[None]:
    """With the command's own search path, or else ours."""
    if GlobalHydra.instance().is_initialized():
        yield
        return
    with initialize_config_module("prunekit.conf", version_base="1.3"):
        yield


def _experiment(name: str) -> str | None:
    """The experiment of a run: the one of its name, or else the one that was chosen."""
    known = _options("experiment")
    chosen = HydraConfig.get().runtime.choices.get("experiment") if HydraConfig.initialized() else None
    return next((each for each in (name, chosen) if each in known), None)


def _options(group: str) -> list[str]:
    return list(GlobalHydra.instance().config_loader().get_group_options(group))


def _typed(chosen: Mapping[str, str | None]) -> list[str]:
    return [f"{group}={name}" for group, name in chosen.items() if name is not None]


def _base(experiment: str, *words: str) -> tuple[dict[str, Any], dict[str, str]]:
    return _composed(str(GlobalHydra.instance().config_loader().get_search_path()), experiment, words)


@cache
def _composed(search_path: str, experiment: str, words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """A config as it is composed from files alone, its paths replaced by their names, and which keys follow which."""
    cfg = compose("train", [f"experiment={experiment}", *words])
    assert isinstance(cfg, DictConfig)
    led = references(cfg)
    cfg.paths = {str(name): f"<{name}>" for name in cfg.paths}
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}, led


def _nearest(group: str, node: str, own: Mapping[str, Any]) -> str | None:
    """The option of a group that the config was made of: of those that name its class the one that it is most like."""
    found = {}
    for name in _options(group):
        known = _option(str(GlobalHydra.instance().config_loader().get_search_path()), group, name)
        if known.get(f"{node}._target_") == own[f"{node}._target_"]:
            found[name] = sum(own.get(key, ABSENT) != value for key, value in known.items())
    return min(found, key=lambda name: (found[name], name), default=None)


@cache
def _option(search_path: str, group: str, name: str) -> dict[str, Any]:
    """What a file sets, but for what refers to other keys: that may have any value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the order of its parts, which does not matter by itself
        values = flat(OmegaConf.to_container(compose(f"{group}/{name}")))
    return {key: value for key, value in values.items() if not (isinstance(value, str) and "${" in value)}


def _leader(key: str, led: Mapping[str, str]) -> str:
    """The key whose value it has by default; no key if there is none."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if other := led.get(".".join(parts[:end])):
            return ".".join([other, *parts[end:]])
    return ""
