"""The experiments that come with prunekit, and what each asks, as ``prunekit train --help`` lists them."""

import re
from importlib.resources import files

from omegaconf import OmegaConf

QUESTION = re.compile(r"^# Question: ((?:.*\n)(?:#  +.*\n)*)", re.MULTILINE)


def questions() -> dict[str, str]:
    """By its name the question that an experiment's file begins with.

    Example:
        >>> questions()["digits_region"]
        'what does each neuron of a small classifier look at, on data that needs no download?'
    """
    found = {}
    for path in sorted(files("prunekit.conf.experiment").iterdir(), key=lambda each: each.name):
        if path.name.endswith(".yaml") and (match := QUESTION.search(path.read_text(encoding="utf-8"))):
            found[path.name.removesuffix(".yaml")] = " ".join(match[1].replace("#", " ").split())
    return found


def _listed() -> str:
    """A line each, the question up to its first sentence's end."""
    asked = questions()
    width = max(map(len, asked))
    return "\n".join(f"  {name:{width}}  {words.partition('? ')[0].rstrip('?')}?" for name, words in asked.items())


OmegaConf.register_new_resolver("experiments", _listed, replace=True)
