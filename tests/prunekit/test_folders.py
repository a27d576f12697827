import os
import signal
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from prunekit.errors import ArgumentError
from prunekit.folders import locked, replaced


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


@pytest.mark.parametrize("end", [ArgumentError("key", 1, "2"), KeyboardInterrupt(), SystemExit(130)])
@pytest.mark.parametrize("written", [True, False])
def test_a_locked_folder_in_which_nothing_was_written_goes_where_its_run_is_refused_or_stopped(end, written, tmp_path):
    folder = tmp_path / "runs" / "one"
    with suppress(ArgumentError, KeyboardInterrupt, SystemExit), locked(folder, "run_dir", wait=False):
        if written:
            (folder / "config.yaml").touch()
        raise end
    assert folder.exists() == written
    assert (tmp_path / "runs").exists() == written


def die_while_filling(out, moment):
    """In a child."""
    with replaced(out, "done", "list") as folder:
        (folder / "done").write_text("half")
        if moment == "filling":
            os.kill(os.getpid(), signal.SIGKILL)
        Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        if moment == "swapping":
            rename, calls = Path.rename, []

            def second_dies(self, target):
                calls.append(target)
                return os.kill(os.getpid(), signal.SIGKILL) if len(calls) == 2 else rename(self, target)

            Path.rename = second_dies


@pytest.mark.parametrize("moment", ["filling", "swapping", "cleaning"])
def test_what_a_killed_process_left_is_cleared_by_the_next(moment, tmp_path):
    out = tmp_path / "out"
    fill(out, "old")
    child = get_context("fork").Process(target=die_while_filling, args=(out, moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2 or moment == "swapping"
    fill(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "done").read_text() == "new"
    assert [path.name for path in out.iterdir()] == ["done"]


def test_a_folder_that_another_process_is_filling_is_left_alone(tmp_path):
    out = tmp_path / "out"
    with replaced(out, "done", "list") as folder:
        (folder / "done").write_text("first")
        child = get_context("fork").Process(target=fill, args=(out, "second"))
        child.start()
        child.join()
        assert folder.exists()
        assert (out / "done").read_text() == "second"
    assert (out / "done").read_text() == "first"


def test_an_old_one_that_a_killed_process_had_moved_away_comes_back(tmp_path):
    (tmp_path / ".out-77-old").mkdir()
    (tmp_path / ".out-77-old" / "done").write_text("old")
    with suppress(ZeroDivisionError), replaced(tmp_path / "out", "done", "list"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "done").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
