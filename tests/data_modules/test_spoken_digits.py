import shutil

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from prunekit.data_modules.mel import mel_bands
from prunekit.data_modules.spoken_digits import MOST_BYTES, SpokenDigits
from prunekit.errors import ArgumentError
from tests.data_modules.tasks import SPEAKERS, write_digits


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder, each=2)
    return folder


def digits(root, **arguments):
    return SpokenDigits(str(root), **{"batch_size": 10, "seed": 0, **arguments})


def test_folds_hold_out_whole_speakers_each_once(root):
    tested = []
    for fold in range(3):
        data = digits(root, fold=fold)
        arrays = data.arrays
        assert arrays.train_x.shape == (80, 64, 24)
        assert arrays.test_x.shape == (40, 64, 24)
        assert not set(data.speakers["train"]) & set(data.speakers["test"])
        tested += data.speakers["test"]
        assert arrays.test_y.bincount().tolist() == [4] * 10
    assert tested == list(SPEAKERS)


def test_speakers_are_held_out_for_validation(root):
    data = digits(root, fold=1, validation_speakers=1)
    data.setup()
    assert data.report() == {
        "train speakers": "ann, bob, eve", "validation speakers": "fay", "test speakers": "cid, dot",
    }  # fmt: skip
    assert sum(len(y) for _, y in data.val_dataloader()) == 20
    alone = digits(root, fold=1)
    alone.setup()
    assert alone.val_dataloader() == []


def test_frames_are_standardised_by_the_training_speakers_and_padded_in_front(root):
    data = digits(root, eval_batch_size=20)
    data.setup()
    x, y = data.arrays.train_x, data.arrays.train_y
    there = data.valid((x, y))
    assert there[:, -1].all()
    assert not there[:, 0].any()
    assert (there.int().diff(dim=1) >= 0).all()  # padding, then frames
    assert torch.allclose(x[there].mean(0), torch.zeros(24), atol=1e-3)
    assert torch.allclose(x[there].std(0), torch.ones(24), atol=2e-2)
    assert data.model_arguments() == {"inputs": 24, "outputs": 10, "classes": 10}
    # A batch that units are repaired on has one speaker's recordings.
    (first, _), *_ = data.scoring_dataloader()
    assert torch.equal(first, x[:20])


def test_longer_recordings_lose_their_end(root):
    short = digits(root, frames=5).arrays.train_x
    assert short.shape == (80, 5, 24)
    assert short.any(2).all()


def test_the_tones_can_be_told_by_their_bands(root):
    # Of a tone of 300 + 300 d Hz the loudest band is higher for each higher digit.
    bands = mel_bands(8000, 40, 101)
    assert bands.shape == (40, 101)
    assert (np.diff(bands.argmax(1)) >= 0).all()
    width = np.diff(np.linspace(0, 4000, 101))[0]
    wide = bands[-5:]
    assert np.allclose(wide.sum(1) * width, 2 * np.ones(5) * 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("0_ann_0.wav", b"", "ValueError"),
        ("0_ann_0.wav", b"RIFF\xff\xff\xff\xffWAVEfmt ", "0_ann_0.wav"),
        ("0_ann_0.wav", bytes(MOST_BYTES + 1), "more than"),
        ("0_ann_zero.wav", b"", "another name"),
    ],
)
def test_odd_files_are_named(tmp_path, name, content, why):
    (write_digits(tmp_path) / name).write_bytes(content)
    with pytest.raises(ArgumentError, match=f"^data_dir: .*{why}.*accepted: the Free Spoken Digit Dataset"):
        _ = digits(tmp_path).arrays


@pytest.mark.parametrize(
    ("hertz", "wave"),
    [
        (16000, np.zeros(800, np.int16)),
        (8000, np.zeros((800, 2), np.int16)),
        (8000, np.zeros(800, np.float32)),
        (8000, np.zeros(0, np.int16)),
    ],
)
def test_other_sounds_are_refused(tmp_path, hertz, wave):
    wavfile.write(write_digits(tmp_path) / "0_ann_0.wav", hertz, wave)
    with pytest.raises(ArgumentError, match=r"^data_dir: .*0_ann_0\.wav .*8 kHz mono"):
        _ = digits(tmp_path).arrays


def test_too_few_speakers_and_wrong_arguments(tmp_path, root):
    write_digits(tmp_path, speakers=SPEAKERS[:5])
    with pytest.raises(ArgumentError, match=r"^data_dir: .*recordings of ann, bob, cid, dot, eve.*test in fold 2"):
        _ = digits(tmp_path, fold=2).arrays
    with pytest.raises(ArgumentError, match=r"^data_dir: .*which is not there.*git clone"):
        _ = digits(tmp_path / "nothing").arrays
    with pytest.raises(ArgumentError, match=r"^data_dir: .*4 validate"):
        _ = digits(root, validation_speakers=4).arrays
    with pytest.raises(ArgumentError, match=r"^fold: "):
        digits(root, fold=3)


def test_the_fingerprint_is_the_recordings(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    assert digits(root).fingerprint() == digits(tmp_path / "copy").fingerprint()
    wavfile.write(tmp_path / "copy" / "spoken_digits" / "recordings" / "0_ann_0.wav", 8000, np.ones(900, np.int16))
    assert digits(root).fingerprint() != digits(tmp_path / "copy").fingerprint()


@pytest.mark.slow
def test_real_recordings(real_data):
    data = digits(real_data)
    assert data.arrays.train_x.shape == (2000, 64, 24)
    assert data.arrays.test_y.bincount().tolist() == [100] * 10
    assert data.speakers["test"] == ["george", "jackson"]
    assert bool(data.arrays.train_x.isfinite().all())
