import pytest
import torch

from prunekit.data_modules.action_clips import ActionClips
from prunekit.data_modules.synthetic_actions import CLASSES, SyntheticActions, draw
from prunekit.data_modules.ucf101 import Ucf101
from prunekit.errors import ArgumentError
from prunekit.models.backbone import FrameEncoder, FrozenBackbone
from tests.data_modules.videos import read_levels, write_ucf, write_ucf_lists


class Trusted(Ucf101):
    """A data set of the test's own, for which a backbone without training will do."""

    synthetic = True


@pytest.fixture
def make(tmp_path):
    """A data module of three classes on disk, of which the lists name four."""
    clips = write_ucf(tmp_path / "clips", {"Surfing": 3, "Archery": 3, "Diving": 3, "Biking": 3})
    lists = write_ucf_lists(tmp_path / "lists", clips)
    (lists / "classInd.txt").write_text("1 Surfing\n2 Biking\n3 Archery\n4 Diving\n")
    for path in (clips / "Biking").iterdir():
        path.unlink()
    (clips / "Biking").rmdir()

    def data(**changes):
        arguments = {
            "source": Trusted(str(clips), str(lists)), "backbone": FrozenBackbone("untrained", str(tmp_path / "cache")),
            "cache_dir": str(tmp_path / "cache"), "split": "official1", "split_seed": 0, "batch_size": 4,
            "validation": 0.0, "seed": 0, "frames": 3, "frame_size": [32, 48], "allow_missing": True, "device": "cpu",
        }  # fmt: skip
        return ActionClips(**{**arguments, **changes})

    data.clips = clips
    return data


def test_clips_come_as_features_with_the_classes_present_in_published_order(make):
    data = make()
    arrays = data.arrays
    assert data.classes == ["Surfing", "Archery", "Diving"]
    assert data.model_arguments() == {"inputs": 512, "classes": 3, "outputs": 3}
    assert (arrays.train_x.shape, arrays.test_x.shape) == ((12, 3, 512), (6, 3, 512))
    for clips, y in ((data.made_split.train, arrays.train_y), (data.made_split.test, arrays.test_y)):
        assert [data.classes[i] for i in y] == [clip.label for clip in clips]
    encoder = FrozenBackbone("untrained", "").build()
    frames = make(serve="frames").arrays.test_x[torch.tensor([0, 5])]
    with torch.no_grad():
        expected = torch.stack([encoder(clip) for clip in frames])
    assert torch.equal(arrays.test_x[[0, 5]], expected)


def test_frames_are_indexed_as_a_tensor_would_be(make):
    data = make(serve="frames")
    frames = data.arrays.train_x
    assert frames.shape == (12, 3, 32, 48, 3)
    whole = frames[:]
    assert whole.dtype == torch.uint8
    assert torch.equal(frames[torch.tensor([3, 1])], whole[[3, 1]])
    assert torch.equal(frames[1:12:5], whole[1:12:5])
    assert frames[12:].shape == frames[torch.tensor([], dtype=torch.int64)].shape == (0, 3, 32, 48, 3)
    assert torch.equal(frames.subset(torch.tensor([4, 2]))[:], whole[[4, 2]])
    assert read_levels(whole[0].numpy()) == [90, 95, 105]  # of 89, 92, ..., 104 the second, fourth and last
    data.setup()
    served = torch.cat([x for x, _ in data.train_dataloader()])
    assert served.shape == whole.shape
    assert torch.equal(served.flatten(1).sort(0).values, whole.flatten(1).sort(0).values)
    labels = [y for _, y in data.test_dataloader()]
    assert torch.equal(torch.cat(labels), data.arrays.test_y)


def test_a_clip_that_changes_during_a_run_on_frames_is_named(make):
    data = make(serve="frames")
    frames = data.arrays.train_x
    path = next(make.clips.rglob("*_g02_c01.mp4"))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ArgumentError, match=rf"^source: got '{path}: it has changed") as caught:
        frames[:]
    assert caught.value.owner is data


@pytest.mark.parametrize("serve", ["features", "frames"])
def test_the_fingerprint_follows_the_content(serve, make):
    before = make(serve=serve).fingerprint()
    assert make(serve=serve).fingerprint() == before
    assert make(serve=serve, frames=4).fingerprint() != before
    path = next(make.clips.rglob("*.mp4"))
    path.write_bytes(next(iter(make.clips.rglob("*_g03_c02.mp4"))).read_bytes())
    assert make(serve=serve).fingerprint() != before


@pytest.mark.parametrize("serve", ["features", "frames"])
def test_bad_clips_fail_with_a_list_or_are_left_out_and_reported(serve, make):
    bad = sorted(make.clips.rglob("*_g02_c01.mp4"))[:2]
    for path in bad:
        path.write_bytes(b"no video")
    with pytest.raises(
        ArgumentError, match=r"on_bad_clip: got 'fail, and 2 clips cannot be read: Archery/v_.*; Diving/"
    ):
        _ = make(serve=serve).arrays
    data = make(serve=serve, on_bad_clip="skip")
    assert len(data.arrays.train_y) == 10
    report = data.report()
    assert set(report["bad_clips"]) == {f"{path.parent.name}/{path.name}" for path in bad}
    assert (report["train_clips"], report["test_clips"]) == (10, 6)


def test_the_report_says_what_was_split_and_what_leaks(make):
    report = make(split="random").report()
    split = make(split="random").made_split
    assert report["test_clips_of_videos_trained_on"] == split.leaked > 0
    assert report["backbone"] == "ResNet-18, untrained (random weights)"
    assert make().report()["missing_clips"] == 6


def test_shards_meet_in_one_cache(make, monkeypatch):
    numbers = [make(shard=f"{i}/4").extract() for i in range(4)]
    assert sorted(numbers) == [4, 4, 5, 5]
    monkeypatch.setattr(FrozenBackbone, "build", None)  # nothing is left to compute
    assert len(make().arrays.train_y) == 12
    with pytest.raises(ArgumentError, match=r"^shard: got '1/4'; accepted: null; a shard's features are computed by"):
        _ = make(shard="1/4").arrays


def test_a_damaged_feature_file_is_computed_again(make, tmp_path):
    before = make().arrays
    for path in list((tmp_path / "cache").rglob("*.safetensors"))[:3]:
        path.write_bytes(b"")
    again = make().arrays
    assert torch.equal(before.train_x, again.train_x)
    assert torch.equal(before.test_x, again.test_x)


def test_other_weights_are_another_cache(make, tmp_path):
    encoder = FrameEncoder("untrained", "", trainable=True).network
    state = {**encoder.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    file = tmp_path / "weights.pth"
    before = make().arrays.train_x
    for scale in (1, 2):
        state["conv1.weight"] = state["conv1.weight"] * scale
        torch.save(state, file)
        after = make(backbone=FrozenBackbone(str(file), "")).arrays.train_x
        assert torch.equal(before, after) == (scale == 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "official4"}, r"^split: got 'official4'"),
        ({"split_seed": -1}, r"^split_seed: got -1"),
        ({"frames": 0}, r"^frames: got 0"),
        ({"frame_size": [32]}, r"^frame_size: got \[32\]; accepted: a height and a width"),
        ({"frame_size": [32, 8]}, r"^frame_size: got 8; accepted: a whole number, 32 or more"),
        ({"serve": "audio"}, r"^serve: got 'audio'"),
        ({"on_bad_clip": "ignore"}, r"^on_bad_clip: got 'ignore'"),
        ({"device": "tpu"}, r"^device: got 'tpu'"),
        ({"decoders": 0}, r"^decoders: got 0"),
        ({"shard": "4/4"}, r"^shard: got '4/4'; accepted: null, or i/n"),
        ({"shard": "x"}, r"^shard: got 'x'"),
        ({"shard": "0/0"}, r"^shard: got '0/0'"),
    ],
)
def test_wrong_values_are_named(changes, message, make):
    with pytest.raises(ArgumentError, match=message):
        make(**changes)


def test_cuda_is_refused_where_there_is_none(make, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArgumentError, match=r"^device: got 'cuda'; accepted: auto or cpu"):
        make(device="cuda")


def test_untrained_weights_are_for_synthetic_clips_alone(make):
    real = Ucf101(str(make.clips), str(make.clips.parent / "lists"))
    with pytest.raises(ArgumentError, match=r"backbone\.weights: got 'untrained'; accepted: trained weights"):
        make(source=real)


def test_an_unwritable_cache_is_named(make, tmp_path):
    (tmp_path / "file").write_text("")
    data = make(cache_dir=str(tmp_path / "file"))
    with pytest.raises(ArgumentError, match=r"^cache_dir: .*a folder that can be written") as caught:
        _ = data.arrays
    assert caught.value.owner is data


def test_what_is_wrong_with_the_source_is_the_sources_and_the_rest_the_datas(make, tmp_path):
    source = Ucf101(str(tmp_path / "nowhere"), str(make.clips.parent / "lists"))
    data = make(source=source, backbone=FrozenBackbone(str(tmp_path / "no weights"), ""))
    with pytest.raises(ArgumentError, match=r"^clips_dir") as caught:
        data.report()
    assert caught.value.owner is source
    source.clips_dir = make.clips
    with pytest.raises(ArgumentError, match=r"^weights") as caught:
        data.extract()
    assert caught.value.owner is data.backbone
    source.lists_dir = tmp_path
    (tmp_path / "classInd.txt").write_bytes((make.clips.parent / "lists" / "classInd.txt").read_bytes())
    (tmp_path / "trainlist01.txt").write_text("Surfing/v_Surfing_g01_c01.avi\n")
    (tmp_path / "testlist01.txt").write_text("")
    data = make(source=source, backbone=data.backbone)
    with pytest.raises(ArgumentError, match=r"^source\.lists_dir: got 'lists of 1 clips") as caught:
        data.report()
    assert caught.value.owner is data


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return SyntheticActions(
        str(tmp_path_factory.mktemp("synthetic")), groups=5, frames=8, frame_size=(32, 48), seed=0
    )  # fmt: skip


def test_synthetic_clips_have_the_layout_of_ucf101(synthetic):
    clips = synthetic.clips()
    assert len(clips) == 6 * 5 * 2
    assert synthetic.classes() == list(CLASSES)
    parts = synthetic.official(1)
    assert sorted(parts) == sorted(clip.name for clip in clips)
    test = {clip.source for clip in clips if parts[clip.name] == "test"}
    assert test == {f"{label} g{group:02}" for label in CLASSES for group in (1, 5)}
    assert synthetic.official(2) == {}


def test_synthetic_clips_are_a_function_of_their_seed(synthetic, tmp_path):
    again = SyntheticActions(str(tmp_path), groups=5, frames=8, frame_size=(32, 48), seed=0)
    other = SyntheticActions(str(tmp_path), groups=5, frames=8, frame_size=(32, 48), seed=1)
    assert again.root.name == synthetic.root.name != other.root.name
    for one, two, three in zip(synthetic.clips(), again.clips(), other.clips(), strict=True):
        assert one.path.read_bytes() == two.path.read_bytes() != three.path.read_bytes()


@pytest.mark.parametrize("pair", [0, 2, 4])
def test_the_two_directions_of_a_change_have_the_same_pictures(pair):
    one, other = (draw(label, 9, (32, 48), (0, 1), take=0).astype(float) for label in CLASSES[pair : pair + 2])
    assert abs(one[0] - other[-1]).mean() < 8  # noise apart
    assert abs(one[-1] - other[0]).mean() < 8
    assert abs(one[0] - one[-1]).mean() > 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 4}, r"^groups: got 4"),
        ({"frames": 1}, r"^frames: got 1"),
        ({"frame_size": (33, 48)}, r"^frame_size: got \[33, 48\]; accepted: even"),
        ({"seed": -1}, r"^seed: got -1"),
    ],
)
def test_wrong_synthetic_values_are_named(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        SyntheticActions("cache", **arguments)
