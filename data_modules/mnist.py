"""MNIST, read from a folder that may be read-only, or downloaded into a cache."""

import tempfile
from pathlib import Path
from urllib.error import URLError

import torch
from filelock import FileLock
from torchvision.datasets import MNIST
from torchvision.datasets.utils import check_integrity

from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.errors import ArgumentError

SHAPES = {True: (60000, 28, 28), False: (10000, 28, 28)}


class Mnist(InMemoryDataModule):
    """MNIST: 60,000 training and 10,000 test images, ``(n, 28, 28)`` float32 in [0, 1], not standardised.

    The files are looked for in ``data_dir/MNIST/raw``, then in ``cache_dir/MNIST/raw``, unpacked or as the four
    published ``.gz``. ``data_dir`` is only read: what has to be unpacked or downloaded goes to ``cache_dir``.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.

    Args:
        data_dir: a folder of data sets, only read.
        cache_dir: a writable folder.
        batch_size: samples of a training batch over all devices together.
        validation: share of the training data held out, in [0, 1).
        seed: of the shuffling of each epoch.
        eval_batch_size: samples of an evaluation batch.
        download: whether missing files may be fetched from torchvision's mirrors.
        scoring: how many of the training samples units are scored and repaired on, the first ones; None for all.

    Raises:
        ArgumentError: if the files are missing, damaged or cannot be unpacked.
    """

    def __init__(
        self,
        data_dir: str,
        cache_dir: str,
        batch_size: int,
        validation: float,
        seed: int,
        eval_batch_size: int = 5000,
        download: bool = True,
        scoring: int | None = None,
    ) -> None:
        super().__init__(batch_size, validation, seed, eval_batch_size, scoring)
        self.data_dir, self.cache_dir, self.download = Path(data_dir), Path(cache_dir), download

    def prepare_data(self) -> None:
        """Unpack or download what is missing, in one process of each machine."""
        self._root()

    def load(self) -> Arrays:
        """Read both parts and scale the pixels to [0, 1]."""
        root = self._root()
        return Arrays(*self._part(root, train=True), *self._part(root, train=False))

    def _part(self, root: Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        folder = root / "MNIST" / "raw"
        accepted = "MNIST's original files; delete the damaged ones or set data_dir"
        try:
            part = MNIST(root, train=train)
        except (OSError, ValueError, AssertionError, RuntimeError) as error:
            raise ArgumentError("data_dir", f"{folder} ({error})", accepted, self) from error
        if tuple(part.data.shape) != SHAPES[train] or len(part.targets) != len(part.data):
            got = f"{folder}: images {tuple(part.data.shape)}, {len(part.targets)} labels"
            raise ArgumentError("data_dir", got, accepted, self)
        return part.data.float() / 255, part.targets.long()

    def _root(self) -> Path:
        """The folder whose ``MNIST/raw`` holds the four unpacked files."""
        for root in (self.data_dir, self.cache_dir):
            if all((root / "MNIST" / "raw" / Path(name).stem).is_file() for name, _ in MNIST.resources):
                return root
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(self.cache_dir / ".mnist.lock"):
                return self._unpack()
        except OSError as error:
            raise ArgumentError("cache_dir", f"{self.cache_dir} ({error})", "a writable folder", self) from error

    def _unpack(self) -> Path:
        """Unpack or download beside, then rename: the cache never holds half a data set."""
        target = self.cache_dir / "MNIST" / "raw"
        if all((target / Path(name).stem).is_file() for name, _ in MNIST.resources):
            return self.cache_dir  # another process was faster
        with tempfile.TemporaryDirectory(dir=self.cache_dir, prefix=".mnist-") as folder:
            raw = Path(folder) / "MNIST" / "raw"
            raw.mkdir(parents=True)
            missing = [name for name, md5 in MNIST.resources if not self._link(name, md5, raw)]
            if missing and not self.download:
                got = f"{', '.join(missing)} missing in MNIST/raw of {self.data_dir} and of {self.cache_dir}"
                raise ArgumentError("data_dir", got, "a folder with MNIST/raw, or download=true", self)
            try:
                MNIST(folder, download=True)  # takes the linked archives as they are and fetches the others
            except (RuntimeError, URLError) as error:
                said = " ".join(str(error).split())
                got = f"no MNIST/raw in {self.data_dir} or {self.cache_dir}, and no download: {said}"
                raise ArgumentError("data_dir", got, "a folder with MNIST/raw, or a network", self) from error
            target.mkdir(parents=True, exist_ok=True)
            for name, _ in MNIST.resources:
                (raw / Path(name).stem).replace(target / Path(name).stem)
        return self.cache_dir

    def _link(self, name: str, md5: str, raw: Path) -> bool:
        """Link the archive ``name`` into ``raw`` if we have it; refuse a damaged one."""
        for root in (self.data_dir, self.cache_dir):
            archive = root / "MNIST" / "raw" / name
            if not archive.is_file():
                continue
            if not check_integrity(str(archive), md5):
                got = f"{archive} is damaged (its MD5 is not {md5})"
                raise ArgumentError("data_dir", got, "MNIST's original files; delete this one to fetch it again", self)
            (raw / name).symlink_to(archive.resolve())
            return True
        return False
