import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from prunekit.data_modules import frames as module
from prunekit.data_modules.frames import ClipError, evenly, read_frames
from tests.data_modules.videos import read_levels, write_levels, write_timed


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 1000))
def test_frames_of_equal_length_follow_the_formula(n, count, length):
    expected = [(2 * i + 1) * n // (2 * count) for i in range(count)]
    assert evenly(range(n), 1, count) == expected
    assert evenly([7 + length * k for k in range(n)], length, count) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 30))
def test_each_frame_taken_is_the_one_on_display_in_the_middle_of_its_part(lengths, count):
    times = np.cumsum([0, *lengths])[:-1].tolist()
    taken = evenly(times, lengths[-1], count)
    shown = [k for k, length in enumerate(lengths) for _ in range(length * 2 * count)]  # in units of 1 / (2 count)
    assert taken == [shown[(2 * i + 1) * sum(lengths)] for i in range(count)]


@pytest.mark.parametrize("n", [1, 2, 10, 24, 25, 26, 61])
def test_the_frames_of_a_clip_are_those_of_the_formula(n, tmp_path):
    values = [20 + 200 * k // max(n - 1, 1) // 5 * 5 for k in range(n)]
    path = write_levels(tmp_path / "clip.mp4", values)
    with path.open("rb") as file:
        taken = read_frames(file, 25, (32, 48))
    assert taken.shape == (25, 32, 48, 3)
    assert taken.dtype == np.uint8
    assert read_levels(taken) == [values[k] for k in evenly(range(n), 1, 25)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_is_honoured(suffix, tmp_path):
    values, times = [40, 80, 120, 160, 200], [0, 10, 20, 80, 100]
    path = write_timed(tmp_path / f"clip{suffix}", values, times)
    with path.open("rb") as file:
        taken = read_levels(read_frames(file, 10, (32, 48)))
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    assert [round(float(frame.pts * frame.time_base) * 100) for frame in decoded] == times
    assert taken == [
        values[k] for k in evenly(times, round(float(decoded[-1].duration * decoded[-1].time_base) * 100), 10)
    ]
    assert taken.count(120) >= 5  # on display for more than half of the time


def test_a_second_pass_gives_the_same_frames(tmp_path, monkeypatch):
    content = write_levels(tmp_path / "clip.mp4", list(range(20, 220, 5))).read_bytes()
    once = read_frames(io.BytesIO(content), 25, (32, 48))
    passes = []
    decode = module._decode
    monkeypatch.setattr(module, "_decode", lambda file: passes.append(1) or decode(file))
    monkeypatch.setattr(module, "HELD_PIXELS", 5000)
    assert np.array_equal(read_frames(io.BytesIO(content), 25, (32, 48)), once)
    assert len(passes) == 2


@pytest.mark.parametrize(("codec", "pixels", "suffix"), [("mpeg4", "yuv420p", "mp4"), ("mjpeg", "yuvj420p", "avi")])
def test_colours_survive_in_limited_and_in_full_range(codec, pixels, suffix, tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 40, 90), (10, 250, 128)
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = pixels
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with path.open("rb") as file:
        (taken,) = read_frames(file, 1, (64, 64))
    for columns in (slice(4, 28), slice(36, 60)):
        assert np.abs(taken[:, columns].mean((0, 1)) - picture[0, columns].mean(0)).max() < 6


def test_a_frame_is_stretched_to_the_size(tmp_path):
    path = write_levels(tmp_path / "clip.mp4", [100], (64, 128))
    with path.open("rb") as file:
        assert read_frames(file, 2, (48, 40)).shape == (2, 48, 40, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "decoding stopped after 0 frames"), (b"no video at all" * 100, "decoding stopped after 0 frames")],
)
def test_what_is_no_video_is_named(content, reason):
    with pytest.raises(ClipError, match=reason):
        read_frames(io.BytesIO(content), 25, (32, 48))


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with path.open("rb") as file, pytest.raises(ClipError, match="it holds no video"):
        read_frames(file, 25, (32, 48))


def test_a_clip_cut_off_is_named_or_read_as_far_as_it_goes(tmp_path):
    content = write_levels(tmp_path / "clip.mp4", list(range(0, 250, 5))).read_bytes()
    with pytest.raises(ClipError, match="decoding stopped after 0 frames"):  # an mp4's index is at its end
        read_frames(io.BytesIO(content[: len(content) // 2]), 25, (32, 48))


ODD = {
    "decord_flipping_a_pancake.mkv": None,
    "decord_unordered.mov": None,
    "decord_video_0.mov": None,
    "decord_video_90.mov": None,
    "mmaction2_demo.mp4": None,
    "mmaction2_test.avi": None,
    "mmaction2_test.mp4": None,
    "torchcodec_nasa_13013.mp4": None,
    "ucf11_v_biking_01_01.mpg": None,
    "decord_corrupted.mp4": "decoding stopped after 28 frames: Invalid data found when processing input",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_clips_decode_or_are_named(name, real_data):
    with (real_data / "odd_clips" / name).open("rb") as file:
        if ODD[name]:
            with pytest.raises(ClipError, match=ODD[name]):
                read_frames(file, 25, (240, 320))
        else:
            taken = read_frames(file, 25, (240, 320))
            assert taken.shape == (25, 240, 320, 3)
            assert taken.std() > 3 or name == "decord_unordered.mov"  # which is nearly white


def test_the_odd_clips_are_all_expected(real_data):
    assert {path.name for path in (real_data / "odd_clips").iterdir()} == set(ODD)


def test_a_turned_clip_is_shown_upright(real_data):
    path = real_data / "odd_clips" / "decord_video_90.mov"
    with av.open(str(path)) as container:
        raw = next(iter(container.decode(video=0))).to_ndarray(format="rgb24")
    with path.open("rb") as file:
        taken = read_frames(file, 3, (240, 320))[0] / 255
    misses = [np.abs(resize(np.rot90(raw, turns), (240, 320), anti_aliasing=True) - taken).mean() for turns in range(4)]
    assert int(np.argmin(misses)) == 3  # a quarter clockwise
    assert misses[3] < 0.02 < sorted(misses)[1] / 2


def test_hmdb_clips_decode_whatever_their_headers_say(real_data):
    paths = sorted((real_data / "hmdb51" / "clips").rglob("*.avi"))
    lies = 0
    for path in paths:
        with av.open(str(path)) as container:
            header, decoded = container.streams.video[0].frames, sum(1 for _ in container.decode(video=0))
        lies += header != decoded
        with path.open("rb") as file:
            assert read_frames(file, 25, (240, 320)).shape == (25, 240, 320, 3)
    assert len(paths) == 6
    assert lies == 6


@pytest.mark.slow
def test_all_real_ucf101_clips_decode(real_data):
    paths = sorted((real_data / "ucf101" / "clips").rglob("*.avi"))
    assert len(paths) == 300
    for path in paths:
        with path.open("rb") as file:
            assert read_frames(file, 25, (240, 320)).std() > 3
