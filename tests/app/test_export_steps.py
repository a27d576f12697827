"""What is said of a stream's files when they are written, and what is refused then."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from prunekit.app import export
from prunekit.app.export_steps import export_steps, seconds_between_frames
from prunekit.errors import ArgumentError
from prunekit.exports import plain_network, save_compact
from prunekit.models.recognizer import Recognizer
from prunekit.step_files import read_step
from tests.data_modules.videos import write_levels


def network():
    return plain_network(Recognizer(6, 3, torch.optim.Adam, units=4, hidden=5))


def test_step_files_are_held_against_the_masked_network(tmp_path):
    torch.manual_seed(0)
    small, x = network(), torch.randn(2, 3, 6)
    save_compact(tmp_path, small)
    found = export_steps(tmp_path, small, small, object(), x)
    assert read_step(tmp_path)["check"] == found
    assert set(found) >= {"weights", "pt2"}
    with pytest.raises(ArgumentError, match=r"run: got .weights, whose logits differ by .* from the masked network"):
        export_steps(tmp_path, small, network(), object(), x)


def test_the_time_between_frames_is_the_median_over_training_clips(tmp_path):
    clips = [write_levels(tmp_path / f"{count}.mp4", [50] * count) for count in (10, 20, 90)]
    clips.insert(1, tmp_path / "missing.mp4")
    data = SimpleNamespace(
        sampling=SimpleNamespace(frames=5),
        made_split=SimpleNamespace(train=[SimpleNamespace(path=path) for path in clips]),
    )
    assert seconds_between_frames(data) == pytest.approx(20 / 25 / 5)
    data.made_split.train = data.made_split.train[1:2]
    assert seconds_between_frames(data) is None
    assert seconds_between_frames(object()) is None


@pytest.mark.parametrize("size", [1, 64])
def test_a_file_that_gives_no_numbers_is_refused(size, monkeypatch):
    small, x = network(), torch.randn(1, 3, 6)
    monkeypatch.setattr(Path, "stat", lambda self, **how: SimpleNamespace(st_size=1))

    def broken(batch):
        return small(batch) * (float("nan") if len(batch) == size else 1)

    with pytest.raises(ArgumentError, match=r"run: got .x, whose logits differ by nan"):
        export._check({"dense": small, "x": broken}, x, Path(), small)
