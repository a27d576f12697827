"""Sealed files: read by everybody as they were, and known when a bit of them is another."""

import io
import random
import zipfile

import pytest
import torch

from prunekit.sealed import DIGITS, SEAL, is_whole, write_sealed

CONTENT = {"weights": torch.arange(12.0).view(3, 4), "more": {"list": [1, 2.5, "three", None], "none": torch.zeros(0)}}


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "sealed.ckpt"
    with path.open("xb") as file:
        write_sealed(file, lambda inner: torch.save(CONTENT, inner))
    return path


def test_a_sealed_file_is_an_ordinary_one(sealed):
    assert is_whole(sealed) is True
    for mapped in (False, True):
        found = torch.load(sealed, weights_only=True, mmap=mapped)
        assert torch.equal(found["weights"], CONTENT["weights"])
        assert found["more"]["list"] == CONTENT["more"]["list"]
    assert zipfile.is_zipfile(sealed)
    assert zipfile.ZipFile(sealed).testzip() is None
    plain = io.BytesIO()
    torch.save(CONTENT, plain)
    assert sealed.stat().st_size == len(plain.getvalue()) + SEAL


def test_a_file_without_a_seal_is_told_apart(tmp_path):
    torch.save(CONTENT, tmp_path / "plain.ckpt")
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("plain.ckpt", "short", "empty"):
        assert is_whole(tmp_path / name) is None


def test_any_bit_that_flips_is_noticed(sealed):
    whole = sealed.read_bytes()
    draw = random.Random(0)
    for position in [*range(0, 40), *draw.sample(range(len(whole)), 300), *range(len(whole) - SEAL - 4, len(whole))]:
        sealed.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << draw.randrange(8)]) + whole[position + 1 :])
        in_mark = len(whole) - SEAL - 2 <= position < len(whole) - DIGITS
        assert is_whole(sealed) is (None if in_mark else False), position


def test_what_is_cut_or_longer_is_noticed(sealed):
    whole = sealed.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole + b"x", whole[1:], b"y" + whole):
        sealed.write_bytes(content)
        assert is_whole(sealed) is not True


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [5], [2, 3], [0, 1, 0, 4], [3, 0, 0, 2], [1, 4]])
def test_the_parts_in_which_it_is_written_do_not_matter(sizes, tmp_path):
    content, path = b"abc\0\0", tmp_path / "file"

    def write(file):
        start = 0
        for size in sizes:
            assert file.write(content[start : start + size]) == size
            start += size

    with path.open("xb") as file:
        write_sealed(file, write)
    assert path.read_bytes()[:3] == b"abc"
    assert len(path.read_bytes()) == 5 + SEAL
    assert is_whole(path)
