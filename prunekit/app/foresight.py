"""What a sweep's own values say before its first job starts: those that no job can work with."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig, open_dict

from prunekit.app.build import build_callbacks
from prunekit.app.builder import Builder
from prunekit.app.config import references, resolve
from prunekit.app.control import controlled
from prunekit.errors import ArgumentError

MOST = 100  # jobs that are looked at: composing one takes a quarter of a second


def covering(jobs: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Of a sweep's jobs so many that each word is in one of them.

    Example:
        >>> covering([["a=1", "b=1"], ["a=1", "b=2"], ["a=2", "b=1"], ["a=2", "b=2"]])
        [['a=1', 'b=1'], ['a=1', 'b=2'], ['a=2', 'b=1']]
    """
    seen: set[str] = set()
    found = []
    for words in jobs:
        if not seen.issuperset(words):
            found.append(words)
            seen.update(words)
    return found


def refused(jobs: Sequence[Sequence[str]], compose: Callable[[list[str]], DictConfig]) -> list[str]:
    """What is said of values with which callbacks or a control cannot be built, each once.

    Models and data are not looked at, since those may take long to build; nor is what is wrong only together with
    another value.

    Args:
        jobs: the overrides of each.
        compose: makes a job's config of these.
    """
    said: dict[str, None] = {}
    for words in covering(jobs)[:MOST]:
        try:
            cfg = compose(list(words))
            with open_dict(cfg):  # as a job's is
                cfg.pop("hydra", None)
            config, _ = resolve(cfg)
            controlled(config)
            builder = Builder(references(cfg))
            with builder.naming():
                build_callbacks(config, {}, builder)
        except ArgumentError as error:
            said[str(error)] = None
        except Exception:  # the job itself will say it
            continue
    return list(said)
