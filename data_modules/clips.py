"""Clips on disk: which there are, what they show, and which source video they were cut from."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prunekit.errors import ArgumentError

SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
TRAIN, TEST = "train", "test"


class Clip(NamedTuple):
    """A video file of one class.

    ``name`` is ``<class>/<file>`` as on disk, ``source`` says which video it was cut from: clips of one source look
    alike.
    """

    name: str
    path: Path
    label: str
    source: str


class ClipSource(ABC):
    """A data set of clips.

    Attributes:
        synthetic: whether it was made by a program, so that a backbone without trained weights will do.
    """

    synthetic = False

    @abstractmethod
    def clips(self) -> list[Clip]:
        """All clips on disk, in an order that depends on their names alone.

        Raises:
            ArgumentError: if there are none, or a folder is missing.
        """

    @abstractmethod
    def classes(self) -> list[str]:
        """The classes of the whole data set, in their published order; not all need lie on disk."""

    def official(self, number: int) -> Mapping[str, str]:
        """The published split ``number``: ``<class>/<file>`` -> ``train`` or ``test``; other clips are unused.

        Empty if the data set has no such list.
        """
        return {}


def class_folders(root: Path) -> dict[str, list[Path]]:
    """The video files of each folder in ``root``, both sorted by name.

    Args:
        root: a source's ``clips_dir``, which holds a folder for each class.

    Raises:
        ArgumentError: if the folder is missing or holds no class, or a class holds no clip.
    """
    if not root.is_dir():
        raise ArgumentError("clips_dir", f"{root}, which is no folder", "a folder that holds <class>/<clip>")
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        names = sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in SUFFIXES)
        if not names:
            accepted = f"folders that hold clips ({', '.join(sorted(SUFFIXES))}); fill or remove this one"
            raise ArgumentError("clips_dir", f"{folder}, a class without a clip", accepted)
        found[folder.name] = [folder / name for name in names]
    if not found:
        raise ArgumentError(
            "clips_dir", f"{root}, which holds no folder of clips", "a folder that holds <class>/<clip>"
        )
    return found


def read_list(path: Path, argument: str = "lists_dir") -> Iterator[tuple[int, str]]:
    """The lines of a list that are not empty, with their numbers; any line ends.

    Args:
        path: of the file.
        argument: of the source, which says where it lies.

    Raises:
        ArgumentError: if the file cannot be read.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        accepted = "a folder with the data set's published lists" if argument == "lists_dir" else "a file with a list"
        raise ArgumentError(argument, f"{path} ({error})", accepted) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


class ClassFolders(ClipSource):
    r"""Any folder that holds ``<class>/<clip>``; the classes are its folders, sorted.

    Args:
        clips_dir: the folder.
        source_pattern: a regular expression that finds, in a clip's file name, the video it was cut from: its first
            group if it has one, else what it matches. None: every clip is a video of its own.
        train_list: a file with ``<class>/<clip>`` on each line, for a split of one's own, ``listed``.
        test_list: likewise; both or none.

    Raises:
        ArgumentError: if the pattern is none, or fits a clip's name nowhere, or a list is no such file.

    Example:
        >>> ClassFolders("clips", source_pattern=r"^(.+)_part\d+").source("match3_part2.mp4")
        'match3'
    """

    def __init__(
        self,
        clips_dir: str,
        source_pattern: str | None = None,
        train_list: str | None = None,
        test_list: str | None = None,
    ) -> None:
        self.clips_dir = Path(clips_dir)
        self._lists = {TRAIN: train_list, TEST: test_list}
        for part, other in ((TRAIN, test_list), (TEST, train_list)):
            if self._lists[part] is None and other is not None:
                raise ArgumentError(f"{part}_list", None, "a file, as there is one for the other part")
        try:
            self._pattern = None if source_pattern is None else re.compile(source_pattern)
        except re.error as error:
            raise ArgumentError("source_pattern", source_pattern, f"a regular expression: {error}") from None

    def source(self, file_name: str) -> str:
        """The video that a clip of this file name was cut from."""
        if self._pattern is None:
            return file_name
        match = self._pattern.search(file_name)
        if match is None:
            accepted = f"a pattern that fits every clip's name, and not {file_name!r}"
            raise ArgumentError("source_pattern", self._pattern.pattern, accepted)
        return match[1] if self._pattern.groups else match[0]

    def clips(self) -> list[Clip]:
        """All clips, class by class."""
        folders = class_folders(self.clips_dir)
        return [
            Clip(f"{label}/{path.name}", path, label, self.source(path.name))
            for label, paths in folders.items()
            for path in paths
        ]

    def classes(self) -> list[str]:
        """The folders' names, sorted."""
        return list(class_folders(self.clips_dir))

    def official(self, number: int) -> Mapping[str, str]:
        """The one split that the lists make, if they are given."""
        parts: dict[str, str] = {}
        for part, path in self._lists.items():
            if path is None or number != 1:
                continue
            argument = f"{part}_list"
            for line_number, line in read_list(Path(path), argument):
                name = line.replace("\\", "/")
                if name.count("/") != 1 or not all(name.split("/")):
                    raise ArgumentError(
                        argument, f"{path}, line {line_number}: {line}", "<class>/<clip> on a line", self
                    )
                if parts.setdefault(name, part) != part:
                    raise ArgumentError(
                        argument, f"{path}, line {line_number}: {name}, in {TRAIN} too", "one part", self
                    )
        return parts


def leaked(train: Iterable[Clip], test: Sequence[Clip]) -> int:
    """How many test clips come from a video that training has seen.

    Example:
        >>> a, b, c = (Clip(f"x/{n}", Path(n), "x", s) for n, s in [("a", "v1"), ("b", "v1"), ("c", "v2")])
        >>> leaked([a], [b, c])
        1
    """
    seen = {clip.source for clip in train}
    return sum(clip.source in seen for clip in test)
