"""What of a finished run's config may be built: a config names code, and building what it names runs that code."""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prunekit.app.errors import ConfigError

OWN = ("prunekit.models.", "prunekit.data_modules.", "prunekit.regions.segmentation.")
# Of a run that is trained on: what a trainer is made of, and nothing of Lightning that runs what it is given.
LIGHTNING = ("Trainer", "loggers.TensorBoardLogger", "loggers.CSVLogger")
CALLBACKS = ("prunekit.callbacks.", "prunekit.criteria.", "prunekit.units.grouping.")
OF_TRAINING = (*OWN, *CALLBACKS, *(f"pytorch_lightning.{name}" for name in LIGHTNING))


def require_trusted(
    node: Any,
    key: str,
    where: str,
    trusted: Sequence[str] = (),
    own: Sequence[str] = OWN,
    argument: str = "run",
    how: str = "If that is your own code, add --trust {}",
) -> None:
    """Refuse to build a node unless it names our own classes and torch's optimizers, or code that the user names.

    Our own are imported from where they are defined, so that no path leads through one of our modules to another
    library's function. Nothing else is imported here.

    Args:
        node: of a resolved config.
        key: where it stands in the config.
        where: the run, for the message.
        trusted: modules, packages or full names of the user's own.
        own: beginnings of names of ours, and full names of others' classes.
        argument: whose value the run is, for the message.
        how: a user trusts a package, in words.

    Raises:
        ConfigError: with the first name that is not trusted.
    """
    for name, found in _targets(node, key):
        if not (_is_own(found, own) or any(f"{found}.".startswith(f"{prefix}.") for prefix in trusted)):
            got = f"{where}, whose config builds {found!r} ({name})"
            package = str(found).partition(".")[0]
            accepted = "prunekit's own classes; building anything else runs code that the run names. "
            raise ConfigError(argument, got, accepted + how.format(package))


def add_trust(parser: ArgumentParser) -> None:
    """Let a command's user name code of his own."""
    words = "module or package of your own that the run's config names; building what a run names runs its code"
    parser.add_argument("--trust", action="append", default=[], metavar="NAME", help=words)


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Each ``_target_`` in a node, with its key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield f"{key}._target_", node["_target_"]
        for name, value in node.items():
            yield from _targets(value, f"{key}.{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _targets(value, f"{key}[{number}]")


def _is_own(name: Any, own: Sequence[str] = OWN) -> bool:
    if name in own:
        return True
    module, _, attribute = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if module in ("torch.optim", "torch.optim.lr_scheduler"):
        found = getattr(import_module(module), attribute, None)
        return isinstance(found, type) and issubclass(found, Optimizer | LRScheduler)
    ours = f"{module}.".startswith(tuple(each for each in own if each.endswith(".")))
    if not ours or not all(part.isidentifier() for part in module.split(".")):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and (found.__module__, found.__qualname__) == (module, attribute)
