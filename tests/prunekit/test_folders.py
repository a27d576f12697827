from contextlib import suppress

import pytest

from prunekit.errors import ArgumentError
from prunekit.folders import replaced


def fill(out, content="new"):
    with replaced(out, "done", "list") as folder:
        (folder / "done").write_text(content)


def test_a_folder_takes_the_place_of_one_of_its_kind(tmp_path, monkeypatch):
    out = tmp_path / "a" / "out"
    fill(out, "old")
    (out / "more").touch()
    fill(out / ".." / "out")
    assert [path.name for path in out.iterdir()] == ["done"]
    (tmp_path / "link").symlink_to(out)
    fill(tmp_path / "link", "newer")
    assert (out / "done").read_text() == "newer"
    assert (tmp_path / "link").is_symlink()
    monkeypatch.chdir(out)
    fill(out.__class__())
    assert (out / "done").read_text() == "new"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_on_an_error_the_old_one_stays(tmp_path):
    out = tmp_path / "out"
    fill(out, "old")
    with suppress(RuntimeError), replaced(out, "done", "list") as folder:
        (folder / "done").touch()
        raise RuntimeError
    assert (out / "done").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_something_else_stays_and_what_cannot_be_made_is_told(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").touch()
    for out, message in (("mine", "which is there and no list"), ("file", "no list"), ("file/sub", "can be written")):
        with pytest.raises(ArgumentError, match=rf"^out: .*{message}"):
            fill(tmp_path / out)
