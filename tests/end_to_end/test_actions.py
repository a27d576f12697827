"""From video files to results: real clips, a miniature of HMDB-51, training on frames, and wrong input."""

import json
import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from prunekit.data_modules.hmdb51 import Hmdb51
from prunekit.errors import ArgumentError
from prunekit.models.backbone import FrozenBackbone
from tests.data_modules.videos import write_levels, write_ucf, write_ucf_lists

SMALL = ("model.units=16", "model.hidden=8", "dense_epochs=2")


def test_a_run_on_features_reports_its_data(new_run, miniature):
    run = new_run("experiment=synthetic_dense", *SMALL, *miniature("synthetic_dense"))
    results = run.go()
    assert results["data"]["backbone"] == "ResNet-18, untrained (random weights)"
    assert results["data"]["split"] == "official1"
    assert results["data"]["test_clips_of_videos_trained_on"] == 0
    assert results["macs"]["dense"] == 3 * 4 * 16 * (512 + 16) + 16 * 8 + 8 * 6
    assert results["parameters"]["dense"] == 4 * 16 * (512 + 16 + 2) + 16 * 8 + 8 + 8 * 6 + 6


def test_the_same_cache_serves_another_run(new_run, miniature, monkeypatch):
    small = (*SMALL, *miniature("synthetic_dense"))
    new_run("experiment=synthetic_dense", *small).go()
    monkeypatch.setattr(FrozenBackbone, "build", None)
    other = new_run("experiment=synthetic_dense", *small, "data.split=random", "seed=1").go()
    assert other["data"]["test_clips_of_videos_trained_on"] > 0


def test_training_end_to_end_on_frames_trains_the_backbone(new_run, miniature):
    run = new_run(
        "experiment=synthetic_dense", "model/backbone=resnet18", "model.backbone.weights=untrained",
        "data.serve=frames", "trainer.limit_train_batches=2", "model.units=16", "model.hidden=8", "dense_epochs=1",
        *miniature("synthetic_dense"),
    )  # fmt: skip
    results = run.go()
    assert results["data"]["backbone"] is None
    dense = next((run.home / "dense").glob("*/dense.ckpt"))
    trained = torch.load(dense, weights_only=True)["state_dict"]
    fresh = FrozenBackbone("untrained", "", fold_batch_norm=False).build().state_dict()
    assert not torch.equal(trained["backbone.network.conv1.weight"], fresh["network.conv1.weight"])
    assert results["parameters"]["dense"] > 11e6


def test_how_and_where_features_are_computed_makes_no_other_run(new_run):
    runs = [
        new_run("experiment=synthetic_dense", *extra)
        for extra in ((), ("data.decoders=3",), ("data.device=cpu",), ("data.frames=4",))
    ]
    hashes = [run.config_hash for run in runs]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


@pytest.fixture
def ucf(tmp_path, weights_file):
    """Overrides for a small UCF101 in the test's own folder, and that folder."""
    root = tmp_path / "data" / "ucf101"
    write_ucf_lists(root / "ucfTrainTestlist", write_ucf(root / "clips", {"Archery": 6, "Surfing": 6}))
    overrides = [
        "experiment=ucf101_dense", f"paths.data_dir={tmp_path / 'data'}", "data.frames=2", "data.frame_size=[32,32]",
        "data.batch_size=8", f"data.backbone.weights={weights_file}", *SMALL,
    ]  # fmt: skip
    return overrides, root


def drop_clips(root):
    for path in (root / "clips").rglob("*_g03_*"):
        path.unlink()


def empty_class(root):
    (root / "clips" / "Biking").mkdir()


def hmdb_lists(root):
    for path in (root / "ucfTrainTestlist").iterdir():
        path.unlink()
    (root / "ucfTrainTestlist" / "pour_test_split1.txt").write_text("a.avi 1\n")


def other_clips(root):
    for path in sorted((root / "clips").rglob("*.mp4")):
        path.rename(path.with_name(path.name.replace("_g", "_g9")))


def spoil(root):
    next((root / "clips").rglob("*_g02_c01.mp4")).write_bytes(b"no video")


WRONG = {
    "missing clips": (drop_clips, [], r"data\.allow_missing: got 'false, and 4 of the 24 clips listed are not on disk"),
    "missing folder": (lambda root: None, ["data.source.clips_dir=nowhere"], r"clips_dir: got 'nowhere, which is no f"),
    "empty class": (empty_class, [], r"clips_dir: .*Biking, a class without a clip"),
    "another set's lists": (hmdb_lists, [], r"lists_dir: .*classInd.txt.*published lists"),
    "another set's clips": (other_clips, ["data.allow_missing=true"], r"lists_dir: .*none of them on disk"),
    "a bad clip": (
        spoil,
        [],
        r"on_bad_clip: got 'fail, and 1 clips cannot be read: Archery/v_Archery_g02_c01.mp4: dec",
    ),
    "no such weights": (
        lambda root: None,
        ["data.backbone.weights=w.pth"],
        r"backbone\.weights: .*w.pth \(No such file",
    ),
    "untrained": (
        lambda root: None,
        ["data.backbone.weights=untrained"],
        r"backbone\.weights: .*synthetic_actions alone",
    ),
    "lambda": (lambda root: None, ["model.strength=-1"], r"model\.strength: got -1"),
    "classes": (lambda root: None, ["model.classes=1"], r"model, data, trainer: .*first step failed"),
    "frames for features": (lambda root: None, ["data.serve=frames"], r"model, data, trainer: .*first step failed"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_one_message_before_any_training(wrong, ucf, new_run):
    overrides, root = ucf
    change, extra, message = WRONG[wrong]
    change(root)
    run = new_run(*overrides, *extra)
    with pytest.raises(ArgumentError, match=message):
        run.go()
    assert not list(run.home.rglob("*.ckpt"))


def test_weights_of_another_network_are_refused(ucf, new_run, tmp_path):
    from torchvision.models import resnet34

    torch.save(resnet34().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ArgumentError, match=r"data\.backbone\.weights: .*Unexpected key.*layer1\.2"):
        new_run(*ucf[0], f"data.backbone.weights={tmp_path / 'w.pth'}").go()


def test_bad_clips_are_left_out_and_reported_when_asked_for(ucf, new_run):
    overrides, root = ucf
    spoil(root)
    results = new_run(*overrides, "data.on_bad_clip=skip").go()
    assert list(results["data"]["bad_clips"]) == ["Archery/v_Archery_g02_c01.mp4"]
    assert results["data"]["train_clips"] == 19


@pytest.mark.slow
def test_hmdb51_runs_whole_on_a_miniature_with_its_real_lists(real_data, new_run, tmp_path, weights_file):
    lists = real_data / "hmdb51" / "testTrainMulti_7030_splits"
    parts = Hmdb51("nowhere", str(lists)).official(1)
    kept = defaultdict(lambda: {"train": [], "test": []})
    for name, part in parts.items():
        kept[name.split("/")[0]][part].append(name)
    chosen = {label: kept[label] for label in ("climb_stairs", "pour", "shoot_bow", "sword_exercise")}
    for number, by_part in enumerate(chosen.values()):
        for name in (*by_part["train"][:12], *by_part["test"][:5]):
            level = 20 + 50 * number + len(name) % 10
            write_levels(tmp_path / "clips" / name, [level + step for step in range(8)])
    for split in ("official1", "random", "grouped"):
        results = new_run(
            "experiment=hmdb51_dense", f"data.source.clips_dir={tmp_path / 'clips'}", f"data.split={split}",
            f"data.source.lists_dir={lists}", "data.allow_missing=true", f"data.backbone.weights={weights_file}",
            "data.frame_size=[32,32]", "model.units=32", "model.hidden=16", "dense_epochs=10", "data.batch_size=8",
        ).go()  # fmt: skip
        assert results["data"]["classes"] == list(chosen)
        assert results["data"]["missing_clips"] == (5100 - 68 if split == "official1" else 0)
        assert results["data"]["train_clips"] + results["data"]["test_clips"] == 68
        assert (results["data"]["train_clips"], results["data"]["test_clips"]) == (48, 20) or split != "official1"
        assert results["data"]["test_clips_of_videos_trained_on"] == 0 or split == "random"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_real_ucf101_clips_are_told_apart(real_data, new_run):
    """With five frames a clip for 25: a fifth of the work, which takes minutes on a slow machine."""
    results = new_run(
        "experiment=ucf101_dense", f"paths.data_dir={real_data}", "data.allow_missing=true",
        f"data.backbone.weights={real_data / 'resnet18_imagenet.pth'}", "data.backbone.precision=fp32",
        "data.frames=5",
    ).go()  # fmt: skip
    assert results["metrics"]["dense/test_acc"] >= 0.93
    assert (results["data"]["train_clips"], results["data"]["test_clips"]) == (216, 84)
    assert results["data"]["test_clips_of_videos_trained_on"] == 0
    assert results["data"]["bad_clips"] == {}
    assert "IMAGENET1K" not in results["data"]["backbone"]


@pytest.mark.slow
def test_the_commands_extract_by_shards_and_train_on_what_they_left(tmp_path):
    paths = [f"paths.runs_dir={tmp_path / 'runs'}", f"paths.cache_dir={tmp_path / 'cache'}"]
    small = [
        "experiment=synthetic_dense", *SMALL, "data.source.groups=5", "data.source.frames=6", "data.frames=3",
        "data.frame_size=[32,32]", "data.source.frame_size=[32,32]", *paths,
    ]  # fmt: skip

    def call(door, *overrides):
        command = [sys.executable, "-m", "prunekit", door, *overrides, *small]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    shards = call("extract", "-m", "data.shard=0/3,1/3,2/3")
    assert shards.returncode == 0, shards.stderr
    assert "20 clips, which are shard 0/3: features are in" in shards.stdout
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 60
    trained = call("train")
    assert trained.returncode == 0, trained.stderr
    assert "clips -> features" not in trained.stdout + trained.stderr
    for words in ("test clips from training videos", "0 of 24", "untrained (random weights)"):
        assert words in trained.stdout
    refused = call("train", "data.shard=0/3", "seed=9")  # a finished run would only be reported
    assert refused.returncode == 2
    assert "error: data.shard: got '0/3'; accepted: null" in refused.stderr
    digits = call("extract", "data=digits")
    assert digits.returncode != 0


@pytest.mark.slow
def test_two_ranks_share_one_cache_and_count_every_clip_once(tmp_path):
    command = [
        sys.executable, "-m", "prunekit.app.train", "experiment=synthetic_dense", *SMALL, "data.source.groups=5",
        "data.source.frames=6", "data.frames=3", "data.frame_size=[32,32]", "data.source.frame_size=[32,32]",
        f"paths.runs_dir={tmp_path / 'runs'}", f"paths.cache_dir={tmp_path / 'cache'}", "trainer=ddp",
        "trainer.accelerator=cpu", "run_dir=run",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    import numpy as np

    assert np.load(tmp_path / "run" / "confusion.npy").sum() == results["data"]["test_clips"] == 24
    files = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(files) == 60
    assert {file.parent.parent for file in files} == {tmp_path / "cache" / "features"}
