import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from prunekit.data_modules import features as module
from prunekit.data_modules.features import ClipHashes, Sampling, extract, feature_cache, read_clip
from prunekit.data_modules.frames import ClipError
from prunekit.errors import ArgumentError
from tests.data_modules.videos import write_levels, write_ucf

SAMPLING = Sampling(5, (32, 48))


class Encoder:
    """Mean colour of each frame; counts the clips it is given."""

    def __init__(self):
        self.clips, self.made = 0, 0

    def __call__(self):
        self.made += 1
        return self.encode

    def encode(self, frames):
        self.clips += 1
        return frames.float().mean((1, 2))


@pytest.fixture
def paths(tmp_path):
    return sorted(write_ucf(tmp_path / "clips", {"Archery": 3, "Surfing": 2}).rglob("*.mp4"))


@pytest.fixture
def run(tmp_path, paths):
    """Extract all clips into one cache; return (bad clips, clips encoded, cache)."""

    def go(recipe=None, decoders=2, some=None):
        cache, encoder = feature_cache(tmp_path / "cache", recipe or {"a": 1}), Encoder()
        bad = extract(some or paths, SAMPLING, encoder, cache, ClipHashes(tmp_path / "cache"), decoders)
        return bad, encoder.clips, cache

    return go


def features_of(cache, path):
    found = cache.load({"clip": read_clip(path, SAMPLING).sha})
    return None if found is None else found["features"]


def file_of(cache, path):
    sha = read_clip(path, SAMPLING).sha
    (file,) = [file for file in cache.folder.iterdir() if file.suffix == ".safetensors" and sha in str(inputs_of(file))]
    return file


def inputs_of(file):
    with safe_open(file, "pt") as content:
        return content.metadata()["inputs"]


def test_each_clip_is_computed_once_and_kept(run, paths):
    bad, computed, cache = run()
    assert (bad, computed) == ({}, 10)
    for path in paths:
        frames = torch.from_numpy(read_clip(path, SAMPLING).frames)
        assert torch.equal(features_of(cache, path), frames.float().mean((1, 2)))
    assert run()[:2] == ({}, 0)


def test_a_second_start_reads_no_video_and_makes_no_encoder(run, paths, monkeypatch):
    run()
    monkeypatch.setattr(module, "read_clip", None)
    monkeypatch.setattr(Encoder, "__call__", None)
    assert run()[:2] == ({}, 0)


def test_only_the_clip_that_changed_is_computed_again(run, paths):
    run()
    write_levels(paths[3], [90, 60, 30])
    bad, computed, cache = run()
    assert (bad, computed) == ({}, 1)
    assert features_of(cache, paths[3])[0, 0] > 80


def test_a_clip_that_was_only_touched_or_moved_is_read_but_not_computed(run, paths, tmp_path):
    run()
    os.utime(paths[0], ns=(1, 1))
    moved = tmp_path / "elsewhere.mp4"
    shutil.copy(paths[1], moved)
    assert run(some=[*paths, moved])[:2] == ({}, 0)


def test_another_recipe_is_computed_beside(run):
    _, _, one = run()
    _, computed, other = run(recipe={"a": 2})
    assert computed == 10
    assert one.folder != other.folder
    assert run()[1] == 0


def test_features_do_not_depend_on_neighbours_or_threads(run, paths, tmp_path):
    _, _, cache = run(decoders=1)
    for number, path in enumerate(paths):
        alone = feature_cache(tmp_path / str(number), {"a": 1})
        extract([path], SAMPLING, Encoder(), alone, ClipHashes(tmp_path / str(number)), decoders=4)
        assert torch.equal(features_of(alone, path), features_of(cache, path))


def test_bad_clips_are_named_and_the_others_computed(run, paths, caplog):
    paths[2].write_bytes(b"no video")
    paths[5].unlink()
    paths[5].mkdir()
    bad, computed, _ = run()
    assert set(bad) == {paths[2], paths[5]}
    assert bad[paths[2]].startswith("decoding stopped after 0 frames: ")
    assert bad[paths[5]] == "it cannot be read: Is a directory"
    assert computed == 8
    assert str(paths[2]) in caplog.text
    assert run()[0] == bad  # named again, not forgotten


@pytest.mark.timeout(60)
def test_what_is_no_file_is_named_and_not_waited_for(run, paths):
    for path, make in ((paths[0], os.mkfifo), (paths[1], lambda path: path.symlink_to("/dev/zero"))):
        path.unlink()
        make(path)
    bad, computed, _ = run()
    assert bad == dict.fromkeys(paths[:2], "it is no regular file")
    assert computed == 8


def test_a_clip_that_changes_while_it_is_read_is_refused(paths, monkeypatch):
    read = module.read_frames

    def slowly(file, *arguments):
        taken = read(file, *arguments)
        with paths[0].open("ab") as other:
            other.write(b"more")
        return taken

    monkeypatch.setattr(module, "read_frames", slowly)
    with pytest.raises(ClipError, match="it changed while it was read"):
        read_clip(paths[0], SAMPLING)


def test_a_damaged_file_is_named_and_computed_again(run, paths, caplog):
    _, _, cache = run()
    file, another = (file_of(cache, path) for path in paths[:2])
    whole, features = file.read_bytes(), load_file(file)["features"].clone()
    flipped = whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:]
    for content in (whole[: len(whole) // 2], b"", b"x" * 100, flipped, another.read_bytes()):
        file.write_bytes(content)
        caplog.clear()
        assert features_of(cache, paths[0]) is None
        assert f"{file} is damaged" in caplog.text
        assert run()[1] == 1
        assert torch.equal(load_file(file)["features"], features)


def test_features_that_are_not_finite_are_refused_and_not_kept(paths, tmp_path):
    class Overflows(Encoder):
        def encode(self, frames):
            return super().encode(frames) / (0.0 if self.clips == 3 else 1.0)

    cache = feature_cache(tmp_path / "cache", {"a": 1})
    with pytest.raises(ArgumentError, match=r"^backbone: got 'one that makes NaN or infinity of"):
        extract(paths, SAMPLING, Overflows(), cache, ClipHashes(tmp_path / "cache"), 2)
    assert len(list(cache.folder.glob("*.safetensors"))) == 2


def test_processes_add_to_one_memo(tmp_path, paths):
    one, other = ClipHashes(tmp_path), ClipHashes(tmp_path)
    for hashes, path in ((one, paths[0]), (other, paths[1])):
        read = read_clip(path, SAMPLING)
        hashes.add(path, read.stat, read.sha)
        hashes.flush()
    both = ClipHashes(tmp_path)
    assert both.get(paths[0]) == read_clip(paths[0], SAMPLING).sha
    assert both.get(paths[1]) == read_clip(paths[1], SAMPLING).sha
    assert both.get(paths[2]) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{broken", b"{}"])
def test_a_damaged_memo_costs_only_time(content, run, tmp_path):
    run()
    (tmp_path / "cache" / "features" / "clips.json").write_bytes(content)
    assert run()[:2] == ({}, 0)


def test_an_error_in_the_encoder_keeps_what_was_finished(run, paths, tmp_path):
    class Fails(Encoder):
        def encode(self, frames):
            if self.clips == 4:
                raise RuntimeError("out of memory")
            return super().encode(frames)

    cache = feature_cache(tmp_path / "cache", {"a": 1})
    with pytest.raises(RuntimeError, match="out of memory"):
        extract(paths, SAMPLING, Fails(), cache, ClipHashes(tmp_path / "cache"), 2)
    assert run()[1] == 6


def test_half_written_files_are_deleted_when_they_are_old(run, paths):
    _, _, cache = run()
    folder = cache.folder
    for name in ("old.part", "new.part"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / "old.part", (1, 1))
    write_levels(paths[0], [10, 20])
    run()
    assert [path.name for path in folder.glob("*.part")] == ["new.part"]


def test_few_clips_are_held_at_a_time(run, paths, monkeypatch):
    held, most = [0], [0]
    read = module.read_clip

    def count(*arguments):
        held[0] += 1
        most[0] = max(most[0], held[0])
        return read(*arguments)

    class Slow(Encoder):
        def encode(self, frames):
            held[0] -= 1
            return super().encode(frames)

    monkeypatch.setattr(module, "read_clip", count)
    monkeypatch.setattr("tests.data_modules.test_features.Encoder", Slow)
    assert run(decoders=1)[1] == 10
    assert most[0] <= 4


def test_progress_is_shown(run, capsys):
    run()
    assert "10/10" in capsys.readouterr().out
