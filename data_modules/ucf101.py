"""UCF101: its folders, names and lists."""

import re
from collections.abc import Mapping
from pathlib import Path

from prunekit.data_modules.clips import TEST, TRAIN, Clip, ClipSource, class_folders, read_list
from prunekit.errors import ArgumentError

NAME = re.compile(r"v_(\w+)_g(\d+)_c(\d+)", re.IGNORECASE)


class Ucf101(ClipSource):
    """UCF101: 13,320 clips of 101 classes, ``<class>/v_<class>_gXX_cYY.avi``, with three published splits.

    Clips of one class and one group ``gXX`` were cut from the same video. The lists end their lines with CR LF and
    write one class in two ways (folder ``HandstandPushups``, files ``v_HandStandPushups_...``), so names are compared
    without regard to case.

    Source: Soomro, Zamir and Shah, UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, 2012;
    https://www.crcv.ucf.edu/data/UCF101.php (archives UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip).

    Args:
        clips_dir: holds ``<class>/<clip>``.
        lists_dir: holds ``classInd.txt``, ``trainlist01.txt`` and so on.
    """

    def __init__(self, clips_dir: str, lists_dir: str) -> None:
        self.clips_dir, self.lists_dir = Path(clips_dir), Path(lists_dir)

    def clips(self) -> list[Clip]:
        """All clips on disk, class by class.

        Raises:
            ArgumentError: if a folder is missing, a class is not in ``classInd.txt`` or a file has another name.
        """
        spelling = {label.casefold(): label for label in self.classes()}
        found = []
        for folder, paths in class_folders(self.clips_dir).items():
            label = spelling.get(folder.casefold())
            if label is None:
                got = f"{self.clips_dir / folder}, a class that {self.lists_dir / 'classInd.txt'} does not name"
                raise ArgumentError("clips_dir", got, "UCF101's folders")
            for path in paths:
                match = NAME.fullmatch(path.stem)
                if match is None:
                    raise ArgumentError("clips_dir", str(path), "UCF101's clips, named v_<class>_gXX_cYY")
                found.append(Clip(f"{folder}/{path.name}", path, label, f"{label} g{int(match[2]):02}"))
        return found

    def classes(self) -> list[str]:
        """The classes in the order of ``classInd.txt``."""
        path = self.lists_dir / "classInd.txt"
        classes: list[str] = []
        for number, line in read_list(path):
            index, _, label = line.partition(" ")
            if not index.isdigit() or int(index) != len(classes) + 1 or not label:
                raise ArgumentError("lists_dir", f"{path}, line {number}: {line}", f"{len(classes) + 1} <class>")
            classes.append(label)
        return classes

    def official(self, number: int) -> Mapping[str, str]:
        """Published split ``number``, of ``trainlist0N.txt`` and ``testlist0N.txt``."""
        parts: dict[str, str] = {}
        for part in (TRAIN, TEST):
            path = self.lists_dir / f"{part}list{number:02}.txt"
            for line_number, line in read_list(path):
                name = line.split(" ")[0]
                folder, _, file_name = name.partition("/")
                if not folder or not NAME.fullmatch(file_name.rpartition(".")[0]):  # pathlib is slow on 13,320 lines
                    got = f"{path}, line {line_number}: {line}"
                    raise ArgumentError(
                        "lists_dir", got, "UCF101's lists, with <class>/v_<class>_gXX_cYY.avi on a line"
                    )
                if parts.setdefault(name, part) != part:
                    raise ArgumentError(
                        "lists_dir", f"{path}, line {line_number}: {name} is in {TRAIN} too", "one part"
                    )
        return parts
