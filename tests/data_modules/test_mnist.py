import gzip
import shutil
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from prunekit.data_modules.mnist import Mnist
from prunekit.errors import ArgumentError


def mnist(data_dir: Path, cache_dir: Path, **arguments) -> Mnist:
    return Mnist(str(data_dir), str(cache_dir), batch_size=100, validation=0.0, seed=0, **arguments)


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_real_mnist_is_unpacked_into_the_cache_and_the_data_folder_is_only_read(real_data, tmp_path):
    before = tree(real_data / "MNIST")
    arrays = mnist(real_data, tmp_path, download=False).arrays
    assert arrays.train_x.shape == (60000, 28, 28)
    assert arrays.test_x.shape == (10000, 28, 28)
    assert (arrays.train_x.min(), arrays.train_x.max()) == (0, 1)
    assert arrays.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert tree(real_data / "MNIST") == before
    assert {path.name for path in tmp_path.iterdir()} == {"MNIST", ".mnist.lock"}
    # A second start finds it unpacked, in the cache or as a data folder that has no archives at all.
    assert mnist(tmp_path / "none", tmp_path, download=False).arrays.test_y.equal(arrays.test_y)
    assert mnist(tmp_path, tmp_path / "unused", download=False).arrays.test_y.equal(arrays.test_y)
    assert not (tmp_path / "unused").exists()


def fake(raw: Path, name: str, content: bytes) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    (raw / name).write_bytes(content)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ArgumentError, match=r"^data_dir: .*train-images-idx3-ubyte\.gz.* missing .*download=true"):
        _ = mnist(tmp_path / "data", tmp_path / "cache", download=False).arrays


def test_a_damaged_archive_is_named_and_left_alone(tmp_path):
    archive = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    fake(archive.parent, archive.name, gzip.compress(b"not these images"))
    with pytest.raises(ArgumentError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        _ = mnist(tmp_path / "data", tmp_path / "cache").arrays
    assert gzip.decompress(archive.read_bytes()) == b"not these images"


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x03", b"\x00\x00\x08\x03" + bytes(range(200))])
def test_damaged_unpacked_files_are_named(tmp_path, content):
    for name, _ in MNIST.resources:
        fake(tmp_path / "MNIST" / "raw", Path(name).stem, content)
    with pytest.raises(ArgumentError, match=r"^data_dir: got .*MNIST"):
        _ = mnist(tmp_path, tmp_path / "cache").arrays


def test_files_of_another_data_set_are_refused(real_data, tmp_path):
    _ = mnist(real_data, tmp_path, download=False).arrays
    raw = tmp_path / "MNIST" / "raw"
    shutil.copy(raw / "t10k-images-idx3-ubyte", raw / "train-images-idx3-ubyte")
    with pytest.raises(ArgumentError, match=r"images \(10000, 28, 28\), 60000 labels"):
        _ = mnist(tmp_path, tmp_path / "cache", download=False).arrays


def test_an_unwritable_cache_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"^cache_dir: .*a writable folder"):
        _ = mnist(tmp_path / "data", tmp_path / "file" / "cache", download=False).arrays
