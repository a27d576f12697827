"""What a run is and where it lies, as its phases are told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from prunekit.app.builder import Builder
from prunekit.app.checkpoint_file import CheckpointFile
from prunekit.app.config import Config


@dataclass
class Shared:
    """What the runs of a process hand on to each other.

    Attributes:
        data: the last data module and what its builder knew, by the digest of its config; more would fill memory.
        costs: what networks of equal shapes cost, which takes time to measure.
    """

    data: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)


class Setting(NamedTuple):
    """What a run is and where it lies.

    Attributes:
        config: resolved.
        identity: the same with the names of paths in place of paths.
        config_hash: which run it is.
        text: of ``config.yaml``.
        folder: the run's.
        home: of all runs.
        shown: what runs are compared by, for loggers.
        given: the checkpoint that it was told to go on from; None for its own.
        builder: knows which object is which node's.
        share: gives all ranks a value of rank 0, if they have met.
    """

    config: Config
    identity: Config
    config_hash: str
    text: str
    folder: Path
    home: Path
    shown: dict[str, Any]
    given: CheckpointFile | None
    builder: Builder
    share: Callable[[Any], Any] | None = None
