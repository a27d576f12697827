"""Names of run folders, which say what is special about a run, and how folders are found by their hash alone.

A name is ``seed-3__l2_mask.rate-0.4__0123456789ab``: the seed, what differs from the experiment, the hash. It has
letters, digits and ``_ . + -`` alone: no blank or quote that a shell would take apart, none of ``=`` and ``,``, which
Hydra does not let stand in a value such as ``resume=FOLDER`` or takes for a sweep, nothing that Windows or macOS keep
for themselves. The hash says which run it is; the words before it are for people, and are cut where they are too many.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BETWEEN = "__"
LONGEST, LONGEST_KEY, LONGEST_VALUE = (
    100,
    40,
    24,
)  # characters: names of 255 bytes and paths of 260 are all some take
ORDER = ("control", "criterion", "segmentation", "callbacks", "dense_epochs", "model", "data")  # others come last
CALLBACKS = "callbacks."


def short_keys(found: Mapping[str, Any]) -> dict[str, Any]:
    """Differences under shorter keys, those first that say most.

    Example:
        >>> short_keys({"trainer.precision": 16, "callbacks.l2_mask.rate": 0.4, "callbacks.heatmaps": False})
        {'l2_mask.rate': 0.4, 'no': 'heatmaps', 'trainer.precision': 16}
    """

    def place(key: str) -> tuple[int, bool, bool, str]:
        first = key.partition(".")[0]
        rank = ORDER.index(first) if first in ORDER else len(ORDER)
        return rank, first == "callbacks" and key.count(".") == 1, not key.endswith(".rate"), key

    shown: dict[str, Any] = {}
    for key in sorted(found, key=place):
        name, value = key.removeprefix(CALLBACKS), found[key]
        if key == f"{CALLBACKS}{name}" and "." not in name and isinstance(value, bool):
            word = "with" if value else "no"
            shown[word] = f"{shown[word]} {name}" if word in shown else name
        else:
            shown[name] = value
    return shown


def run_name(seed: int, found: Mapping[str, Any], config_hash: str) -> str:
    r"""The name of a run's folder.

    Args:
        seed: the run's.
        found: key -> value, of what differs from its experiment.
        config_hash: which run it is.

    Example:
        >>> run_name(3, {"callbacks.l2_mask.rate": 0.4, "seed": 3, "criterion": "entropy"}, "0123456789ab")
        'seed-3__criterion-entropy__l2_mask.rate-0.4__0123456789ab'
        >>> run_name(0, {"model.sizes": [16, 16], "data.note": "../.. a\nb", "model.x": "é" * 5000}, "0123456789ab")
        'seed-0__model.sizes-16-16__model.x-other__data.note-a-b__0123456789ab'
    """
    words = [f"{_plain(key, LONGEST_KEY)}-{_plain(value)}" for key, value in short_keys(found).items() if key != "seed"]
    shown, length = [f"seed-{seed}"], len(f"seed-{seed}")
    for number, word in enumerate(words):
        length += len(BETWEEN) + len(word)
        if length > LONGEST:
            shown.append(f"and-{len(words) - number}-more")
            break
        shown.append(word)
    return BETWEEN.join([*shown, config_hash])


def _plain(value: Any, longest: int = LONGEST_VALUE) -> str:
    """A key or a value in characters that are safe everywhere."""
    if isinstance(value, list | tuple):
        text = " ".join(map(str, value))
    else:
        text = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    safe = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_.+-]+", "-", text))[:longest]
    return safe if isinstance(value, int | float) else safe.strip("-._") or "other"


def find_folder(home: Path, config_hash: str, name: str) -> Path:
    """Where a run lies, or will lie: the folder of its name, or one that has its hash and was named otherwise.

    Older versions named folders by the hash alone, and an experiment's file may have changed since.

    Args:
        home: of the experiment's runs.
        config_hash: which run it is.
        name: by :func:`run_name`.
    """
    if (home / name).exists() or not home.is_dir():
        return home / name
    others = sorted(path for path in home.iterdir() if config_hash in (path.name, path.name.rpartition(BETWEEN)[2]))
    return next(iter(others), home / name)


def run_folder(text: str) -> Path:
    """A run's folder as it is typed in a command; see :func:`find_run`."""
    return find_run(Path(text))


def find_run(folder: Path) -> Path:
    """The folder that is meant by its path, or by its hash or the beginning of it in place of its name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     Path(home, "seed-0__0123456789ab").mkdir()
        ...     find_run(Path(home, "0123")).name, find_run(Path(home, "4567")).name
        ...     find_run(Path(home, "0123", "export")).parent.name
        ('seed-0__0123456789ab', '4567')
        'seed-0__0123456789ab'
    """
    if folder.exists() or folder == folder.parent:
        return folder
    if not re.fullmatch("[0-9a-f]{4,12}", folder.name):
        return find_run(folder.parent) / folder.name  # what lies within a run
    if not folder.parent.is_dir():
        return folder
    found = [path for path in folder.parent.iterdir() if path.name.rpartition(BETWEEN)[2].startswith(folder.name)]
    return found[0] if len(found) == 1 else folder
