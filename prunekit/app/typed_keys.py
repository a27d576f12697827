"""What is told of a key that the config does not have: the nearest that it has, and how to get what was meant."""

import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from prunekit.app.errors import ConfigError
from prunekit.app.identity import flat

UNKNOWN = re.compile(r"(?:Could not override|Could not delete from config\.) '([^']+)'")
NO_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")
GRAMMAR = re.compile(r"mismatched input|no viable alternative|extraneous input|token recognition error")
NO_VALUE = re.compile(r"Error parsing override '([\w.+~/@]+)'\s+missing EQUAL")
SHOWN = 5


@contextmanager
def keys_told() -> Iterator[None]:
    """Around Hydra: end the process with 2 and one message if what was typed makes no config."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that Hydra does not print and exit by itself
    try:
        if flag := dashed(sys.argv[1:]):
            print(f"error: {flag}", file=sys.stderr)
            sys.exit(2)
        yield
    except HydraException as error:
        print(f"error: {told(error, sys.argv[1:])}", file=sys.stderr)
        sys.exit(2)


def told(error: HydraException, words: Sequence[str]) -> str:
    """What is wrong with the words of a command, one step further than Hydra says it where that is known."""
    message = str(error)
    if match := UNKNOWN.search(message):
        return str(unknown_key(match[1], [word for word in words if "=" in word or word.startswith("~")]))
    if match := NO_OPTION.search(message):
        options = re.findall(r"^\t(\w+)$", message, re.MULTILINE)
        near = difflib.get_close_matches(match[2], options, 3)
        accepted = f"nearest: {', '.join(near)}; all: " if near else ""
        return str(ConfigError(match[1], match[2], accepted + ", ".join(options)))
    if match := NO_VALUE.search(message):
        return str(ConfigError(match[1], "no value", f"a key and its value as one word, such as {match[1]}=VALUE"))
    if GRAMMAR.search(message):
        return f"{message}\na value with signs of Hydra's grammar wants quotes within quotes: \"key='a b(c)'\""
    return message


def dashed(words: Sequence[str]) -> ConfigError | None:
    """The error of a key that was typed as an option, if there is one among the words.

    Example:
        >>> print(dashed(["-m", "--seed", "3"]))
        --seed: got '3'; accepted: keys without dashes, with = and no blank: seed=3; options: see prunekit train --help
        >>> dashed(["--cfg", "job", "seed=3"])
    """
    options = {option for action in get_args_parser()._actions for option in action.option_strings}
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option.startswith("--") and not any(known.startswith(option) for known in options):
            following = words[number + 1 : number + 2]
            value = value if equals else following[0] if following and "=" not in following[0] else "VALUE"
            key = option.lstrip("-").replace("-", "_")
            accepted = f"keys without dashes, with = and no blank: {key}={value}; options: see prunekit train --help"
            return ConfigError(option, value, accepted)
    return None


def unknown_key(key: str, words: Sequence[str]) -> ConfigError:
    """The error of a key that was typed and is not there.

    Args:
        key: as typed, without what precedes it.
        words: of the command, of which the others decide what there is.
    """
    others = [word for word in words if _key(word) != key]
    own = [word for word in words if _key(word) == key]
    got = own[0].partition("=")[2] if own and "=" in own[0] else key
    try:
        GlobalHydra.instance().clear()
        with initialize_config_module("prunekit.conf", version_base="1.3"):
            config = OmegaConf.to_container(compose("train", others))
            loader = GlobalHydra.instance().config_loader()
            known, groups = loader.get_group_options("callbacks"), loader.list_groups("")
    except HydraException:  # of a second such key; or of a folder of one's own, which is not looked into
        return ConfigError(key, got, "a key of the config: `prunekit train --cfg job` shows all")
    assert isinstance(config, dict)
    keys = [*groups, *(str(each) for each in flat(config))]
    parts = key.split(".")
    here = list(config["callbacks"])
    if parts[0] == "callbacks" and len(parts) > 1 and parts[1] not in here:
        if parts[1] in known:
            how = f"+callbacks={parts[1]} adds it, with this key beside it" if own and own[0][0] != "~" else ""
            accepted = f"a callback of {config['name']}: {', '.join(here)}" + (f"; {how}" if how else "")
            return ConfigError(key, got, accepted)
        near = difflib.get_close_matches(parts[1], [*here, *known], 1)
        accepted = f"a callback of {config['name']}: {', '.join(here)}"
        return ConfigError(key, got, accepted + (f"; nearest: callbacks.{near[0]}" if near else ""))
    return ConfigError(key, got, f"a key of the config; nearest: {', '.join(nearest(key, keys))}")


def nearest(key: str, keys: Sequence[str]) -> list[str]:
    """The keys that were meant, perhaps, by their full names: those that end so, or of the same node, else alike.

    Example:
        >>> keys = ["seed", "data.backbone.weights", "callbacks.l2_mask.rate", "callbacks.l2_mask.rounds"]
        >>> nearest("backbone.weights", keys), nearest("callbacks.l2_mask.rat", keys)
        (['data.backbone.weights'], ['callbacks.l2_mask.rate', 'callbacks.l2_mask.rounds'])
        >>> nearest("sed", keys)
        ['seed']
    """
    ending = [each for each in keys if each.endswith(f".{key}")]
    node = key.rpartition(".")[0]
    while node and not any(each.startswith(f"{node}.") for each in keys):
        node = node.rpartition(".")[0]
    beside = [each for each in keys if each.startswith(f"{node}.") and not each.endswith("_target_")] if node else []
    alike = difflib.get_close_matches(key, beside or keys, SHOWN, cutoff=0.0 if beside else 0.5)
    last = difflib.get_close_matches(key.rpartition(".")[2], {each.rpartition(".")[2] for each in keys}, 3)
    same = [each for each in keys if each.rpartition(".")[2] in last]
    return list(dict.fromkeys([*ending, *alike, *([] if beside else same)]))[:SHOWN] or sorted(keys)[:SHOWN]


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]
