import os
import stat

import pytest

from prunekit.files import write_whole


def write(path, durable=True):
    write_whole(path, lambda file: file.write(b"all"), durable)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_that_the_process_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_the_permissions_of_what_other_threads_make_meanwhile_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("os.umask", None)  # which is the whole process's
    write(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"all"


@pytest.mark.parametrize("durable", [True, False])
def test_the_folder_is_brought_to_disk_after_the_rename(tmp_path, monkeypatch, durable):
    synced = []
    fsync = os.fsync

    def watched(handle):
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), (tmp_path / "a").exists()))
        fsync(handle)

    monkeypatch.setattr("prunekit.files.os.fsync", watched)
    write(tmp_path / "a", durable)
    assert synced == ([(False, False), (True, True)] if durable else [])


def test_a_file_system_that_cannot_bring_folders_to_disk_is_written_to_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr("prunekit.files.os.fsync", only_files)
    write(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_where_nothing_can_be_written_the_file_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match=r"directory: .*/a'"):
        write(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="too long"):
        write(tmp_path / ("a" * 300))
