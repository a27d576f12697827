"""HMDB-51: its folders, names and lists."""

import re
from collections.abc import Mapping
from pathlib import Path

from prunekit.data_modules.clips import TEST, TRAIN, Clip, ClipSource, class_folders, read_list
from prunekit.errors import ArgumentError

CODES = {"0": None, "1": TRAIN, "2": TEST}


class Hmdb51(ClipSource):
    """HMDB-51: 6,766 clips of 51 classes, with three published splits of 70 training and 30 test clips a class.

    A clip is ``<class>/<video>_<class>_<six fields>.avi``; the fields are what is visible, the camera's motion, the
    number of people, the view, the quality and a number. Clips with the same ``<video>`` were cut from one, whatever
    their class.

    Source: Kuehne, Jhuang, Garrote, Poggio and Serre, HMDB: A Large Video Database for Human Motion Recognition,
    ICCV 2011; https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database (archives hmdb51_org.rar,
    which holds one archive a class, and test_train_splits.rar).

    Args:
        clips_dir: holds ``<class>/<clip>``.
        lists_dir: holds ``<class>_test_split1.txt`` and so on.
    """

    def __init__(self, clips_dir: str, lists_dir: str) -> None:
        self.clips_dir, self.lists_dir = Path(clips_dir), Path(lists_dir)

    def clips(self) -> list[Clip]:
        """All clips on disk, class by class.

        Raises:
            ArgumentError: if a folder is missing, a class has no list or a file has another name.
        """
        classes = set(self.classes())
        found = []
        for label, paths in class_folders(self.clips_dir).items():
            if label not in classes:
                got = f"{self.clips_dir / label}, a class without a list in {self.lists_dir}"
                raise ArgumentError("clips_dir", got, "HMDB-51's folders")
            found += [Clip(f"{label}/{path.name}", path, label, self._source(label, path)) for path in paths]
        return found

    def classes(self) -> list[str]:
        """The classes that have a list, sorted."""
        ending = "_test_split1.txt"
        classes = sorted(path.name.removesuffix(ending) for path in self.lists_dir.glob(f"*{ending}"))
        if not classes:
            got = f"{self.lists_dir}, which holds no <class>{ending}"
            raise ArgumentError("lists_dir", got, "the folder of HMDB-51's lists")
        return classes

    def official(self, number: int) -> Mapping[str, str]:
        """Published split ``number``; of the codes 1 is training, 2 is test and 0 unused."""
        parts = {}
        for label in self.classes():
            path = self.lists_dir / f"{label}_test_split{number}.txt"
            for line_number, line in read_list(path):
                name, _, code = line.rpartition(" ")
                if not name or code not in CODES:
                    got = f"{path}, line {line_number}: {line}"
                    raise ArgumentError("lists_dir", got, "HMDB-51's lists, with <clip> 0, 1 or 2 on a line")
                if (part := CODES[code]) is not None:
                    parts[f"{label}/{name.strip()}"] = part
        return parts

    def _source(self, label: str, path: Path) -> str:
        match = re.fullmatch(rf"(.+)_{re.escape(label)}_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+", path.stem)
        if match is None:
            raise ArgumentError("clips_dir", str(path), f"HMDB-51's clips, named <video>_{label}_<six fields>")
        return match[1]
