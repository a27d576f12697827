"""Streams: which frames are taken, and what becomes of sources that are odd, cut off or change."""

import os
import threading
import time
from contextlib import suppress
from fractions import Fraction
from types import SimpleNamespace

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.app.live_reader import LiveReader, StalledError
from prunekit.data_modules.frames import ClipError, evenly, read_frames
from prunekit.data_modules.stream_frames import Counts, Sampler, seconds_of, stream_frames
from tests.data_modules.videos import levels, read_levels, write_levels, write_timed

SIZE = (32, 48)
GREYS = list(range(20, 220, 10))  # 20 frames, 25 a second


def write_ts(path, greys, size=SIZE):
    """MPEG-2 video in a transport stream: what can be cut anywhere and joined."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for picture in levels(greys, size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def taken(source, between, counts=None):
    return list(stream_frames(str(source), SIZE, Fraction(between), counts or Counts()))


@given(gaps=st.lists(st.integers(1, 9), min_size=1, max_size=30), count=st.integers(1, 40))
def test_a_clip_read_as_a_stream_gives_the_frames_that_are_taken_of_clips(gaps, count):
    times = [sum(gaps[:k]) for k in range(len(gaps) + 1)]
    *begins, end = times
    sampler, found = Sampler(Fraction(end, count)), []
    for k, begin in enumerate([*begins, end]):
        found += [k - 1 for _ in sampler.before(Fraction(begin))]
    assert found == evenly(begins, end - begins[-1], count)


@pytest.mark.parametrize("count", [1, 3, 7, 20, 33])
def test_a_file_read_as_a_stream_gives_its_clips_frames(count, tmp_path):
    path = write_levels(tmp_path / "a.mp4", GREYS)
    with path.open("rb") as file:
        wanted = read_frames(file, count, SIZE)
    frames = taken(path, seconds_of(path) / count)
    assert [frame.picture.tobytes() for frame in frames] == [picture.tobytes() for picture in wanted]
    assert frames[0].second == pytest.approx(20 / 25 / count / 2)
    assert all(frame.decoding > 0 for frame in frames[:1])


def test_frames_of_a_variable_rate_are_taken_in_time(tmp_path):
    path = write_timed(tmp_path / "a.mkv", [50, 100, 150, 200], [0, 10, 80, 90])
    assert read_levels([frame.picture for frame in taken(path, Fraction(1, 5))])[:4] == [100, 100, 100, 100]
    assert read_levels([frame.picture for frame in taken(path, Fraction(1, 10))])[:3] == [50, 100, 100]


class Stamped:
    """A frame as far as a clock looks at it."""

    def __init__(self, pts):
        self.pts, self.time_base = pts, Fraction(1)


@pytest.mark.parametrize(
    ("stamps", "begins"),
    [
        ([5, 6, 8], [0, 1, 3]),
        ([None, None, None], [0, 0.5, 1]),
        ([3, 3, 4], [0, 0.5, 1]),
        ([0, 2, 1, 4], [0, 2, 2.5, 4]),
        ([0, 1, 10**12, 10**12 + 1], [0, 1, 1.5, 2.5]),  # a cut is not filled with billions of frames
        ([100, 101, 0, 1], [0, 1, 1.5, 2.5]),
    ],
)
def test_times_go_on_whatever_stamps_say(stamps, begins):
    from prunekit.data_modules.stream_frames import _Clock

    clock = _Clock(Fraction(2))
    assert [float(clock.begin(Stamped(stamp))) for stamp in stamps] == begins


def pour(path, content, until=None):
    """Write into a named pipe from a thread; with ``until`` keep it open that long."""
    os.mkfifo(path)

    def write():
        try:
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                if until is not None:
                    until.wait(20)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_a_pipe_gives_what_the_file_gives(tmp_path):
    path = write_ts(tmp_path / "a.ts", GREYS)
    wanted = [frame.picture.tobytes() for frame in taken(path, Fraction(1, 10))]
    thread = pour(tmp_path / "pipe", path.read_bytes())
    assert [frame.picture.tobytes() for frame in taken(tmp_path / "pipe", Fraction(1, 10))] == wanted
    thread.join()


def test_a_source_whose_size_changes_goes_on(tmp_path):
    content = (
        write_ts(tmp_path / "a.ts", GREYS).read_bytes() + write_ts(tmp_path / "b.ts", GREYS, (64, 64)).read_bytes()
    )
    thread, counts = pour(tmp_path / "pipe", content), Counts()
    frames = taken(tmp_path / "pipe", Fraction(1, 10), counts)
    assert (counts.resized, counts.size) == (1, (64, 64))
    assert {frame.picture.shape for frame in frames} == {(*SIZE, 3)}
    assert len(frames) == pytest.approx(16, abs=1)
    thread.join()


def test_a_source_that_is_cut_off_gives_what_came_before(tmp_path):
    whole = write_ts(tmp_path / "a.ts", GREYS).read_bytes()
    (tmp_path / "a.ts").write_bytes(whole[: len(whole) // 2])
    found = taken(tmp_path / "a.ts", Fraction(1, 25))
    assert 5 < len(found) < 20
    path = write_levels(tmp_path / "b.mp4", GREYS)  # what it holds is said at its end
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ClipError, match="no frame of it could be read"):
        taken(path, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.mp4", "No such file"),
        ("http://127.0.0.1:9/a.mp4", "No such file"),  # a name, not an address
        ("lavfi:nonsense", "no frame of it could be read"),
        ("lavfi:color=size=9000x16:duration=0.1", "its frames are 9000x16, and at most 8192"),
    ],
)
def test_sources_that_are_none_are_refused(name, message, tmp_path):
    if name.startswith("lavfi") and "lavfi" not in av.formats_available:
        pytest.skip("this FFmpeg has no lavfi")
    with pytest.raises(ClipError, match=message):
        taken(name, 1)


def test_a_pipe_that_stalls_is_said_to(tmp_path):
    until = threading.Event()
    thread = pour(tmp_path / "pipe", write_ts(tmp_path / "a.ts", GREYS).read_bytes(), until)
    reader = LiveReader(str(tmp_path / "pipe"), SIZE, Fraction(1, 10), drop=False, patience=0.5)
    with pytest.raises(StalledError, match=r"stalled: nothing came for 0\.5 seconds"):
        list(reader)
    until.set()
    thread.join()


def test_frames_that_find_others_waiting_are_dropped_or_wait(tmp_path):
    path = write_levels(tmp_path / "a.mp4", GREYS)
    for drop in (True, False):
        reader = LiveReader(str(path), SIZE, Fraction(1, 25), drop, patience=5)
        frames = []
        for frame in reader:
            frames.append(frame)
            if drop:
                while reader.counts.decoded < 20:  # a network that takes its time
                    pass
        assert len(frames) + reader.dropped == 20
        assert (reader.dropped > 10) == drop


def test_time_for_which_the_process_was_stopped_is_no_stall(tmp_path, monkeypatch):
    until, calls, now = threading.Event(), [], time.monotonic

    def late():
        calls.append(1)
        return now() + 100 * (len(calls) > 3)  # within the second time that nothing came

    monkeypatch.setattr("prunekit.app.live_reader.time", SimpleNamespace(monotonic=late))
    thread = pour(tmp_path / "pipe", b"", until)
    with pytest.raises(StalledError):
        list(LiveReader(str(tmp_path / "pipe"), SIZE, Fraction(1, 10), drop=False, patience=0.7))
    assert len(calls) >= 2 * 5  # each time it looked at the clock twice
    until.set()
    thread.join()


def test_two_frames_wait_and_no_more(tmp_path):
    reader = LiveReader(str(write_levels(tmp_path / "a.mp4", GREYS)), SIZE, Fraction(1, 25), drop=False, patience=5)
    frames = iter(reader)
    next(frames)
    time.sleep(0.5)  # a network that takes its time
    assert (
        reader.counts.decoded <= 1 + 2 + 1 + 1
    )  # looked at, waiting, in hand, and the next, whose begin is waited for
    assert len(list(frames)) == 19


def test_a_source_of_which_nothing_is_looked_at_has_not_stalled():
    camera = "lavfi:color=white:size=48x32:rate=25:duration=1.5,realtime"
    reader = LiveReader(camera, SIZE, Fraction(100), drop=True, patience=0.6)
    assert list(reader) == []
    assert reader.counts.decoded > 30


def test_a_reader_that_nobody_reads_from_ends():
    reader = LiveReader("lavfi:color=white:size=48x32:rate=25", SIZE, Fraction(1, 25), drop=False, patience=5)
    frames = iter(reader)
    assert read_levels([next(frames).picture]) == [255]
    frames.close()
    reader.join(5)
    assert not reader.is_alive()


@pytest.mark.parametrize("form", ["matroska", "nut", "mpegts", "yuv4mpegpipe"])
def test_a_pipe_that_is_cut_off_gives_what_came_before(form, tmp_path):
    path = tmp_path / "a"
    with av.open(str(path), "w", format=form) as container:
        codec = {"mpegts": "mpeg2video", "yuv4mpegpipe": "wrapped_avframe"}.get(form, "mpeg4")
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for picture in levels(GREYS, SIZE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode())
    whole = path.read_bytes()
    thread, counts = pour(tmp_path / "pipe", whole[: len(whole) * 2 // 3]), Counts()
    with suppress(ClipError):  # not every container can tell a cut from an end
        taken(tmp_path / "pipe", Fraction(1, 25), counts)
    assert 5 < counts.decoded < 20
    thread.join()
