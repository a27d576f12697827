"""Whole runs, in this process, on the digits."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.digests import digest
from prunekit.errors import ArgumentError
from prunekit.folders import locked

FIRST = "layers.hidden1.weight"


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(list_checkpoints(folder / "checkpoints")[-1], weights_only=True)["state_dict"]


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


def test_a_run_leaves_what_the_design_says(short_run):
    run = short_run()
    returned = run.go()
    assert {path.name.split(".")[0] for path in run.folder.iterdir()} == {
        "", "changes", "checkpoints", "config", "events", "figures", "masks", "results",
    }  # fmt: skip
    results = json.loads((run.folder / "results.json").read_text())
    assert results.pop("digest") == digest(returned)
    assert results == returned
    assert set(results) >= {
        "experiment", "seed", "config_hash", "git_sha", "versions", "device", "seconds", "metrics", "sparsity",
        "parameters", "macs", "events", "network", "callbacks",
    }  # fmt: skip
    assert set(results["callbacks"]) == {"region_mean_mask"}
    assert set(results["callbacks"]["region_mean_mask"]) == {"neurons"}
    assert results["experiment"] == "digits_region"
    assert results["macs"]["dense"] == 784 * 100 + 100 * 50 + 50 * 10
    assert results["parameters"]["dense"] == 83900 + 160
    assert [event["name"] for event in results["events"]] == ["l2_mask", "region_mean_mask"]
    assert {event["data"] for event in results["events"]} == {"validation"}
    assert results["metrics"]["pruned/test_acc"] == results["events"][-1]["test_acc"]
    assert all(0 <= value <= 1 for value in results["metrics"].values())
    shown = EventAccumulator(str(run.folder))
    shown.Reload()
    assert "hp_metric" not in shown.Tags()["scalars"]
    assert [s.value for s in shown.Scalars("final/test_acc")] == pytest.approx([results["metrics"]["final/test_acc"]])
    assert "_hparams_/session_start_info" in shown.summary_metadata
    stored = OmegaConf.load(run.folder / "config.yaml")
    assert stored.config_hash == run.config_hash == run.folder.name.rpartition("__")[2]
    shown = shown.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(shown).session_start_info.hparams
    assert (hparams["l2_mask.rate"].number_value, hparams["dense_epochs"].number_value) == (0.5, 2)
    assert not [key for key in hparams if "batch_size" in key]
    assert stored.callbacks.region_mean_mask.start_epoch == 2


def test_the_sparsity_reported_is_the_one_counted(short_run):
    run = short_run()
    results = run.go()
    mask = load_file(run.folder / "masks.safetensors")[FIRST]
    weight = weights_of(run.folder)[FIRST]
    assert torch.equal(weight != 0, mask)
    zeros = int((weight == 0).sum())
    assert results["sparsity"]["achieved"][FIRST] == zeros / 78400
    assert results["sparsity"]["overall"] == zeros / 83900
    assert results["parameters"]["nonzero"] == 84060 - zeros
    assert 0.7 <= zeros / 78400 < 0.71
    assert results["callbacks"]["region_mean_mask"]["neurons"]["alive"] == int(mask.any(dim=1).sum())


def test_the_same_command_only_reports_a_finished_run_and_force_starts_anew(short_run):
    first = short_run()
    results = first.go()
    before = files_of(first.folder)
    assert short_run().go() == results
    assert files_of(first.folder) == before
    again = short_run("force=true").go()
    assert again["metrics"] == results["metrics"]
    assert files_of(first.folder) != before


def test_a_run_is_a_function_of_its_seed(short_run, tmp_path):
    one = short_run(f"run_dir={tmp_path / 'one'}", "reuse=false")
    two = short_run(f"run_dir={tmp_path / 'two'}", "reuse=false")
    other = short_run("seed=1")
    for run in (one, two, other):
        run.go()
    assert (tmp_path / "one" / "dense").is_dir()
    for name, tensor in weights_of(one.folder).items():
        assert torch.equal(tensor, weights_of(two.folder)[name])
    assert not torch.equal(weights_of(one.folder)[FIRST], weights_of(other.folder)[FIRST])
    assert one.config_hash == two.config_hash != other.config_hash


def test_runs_that_differ_only_in_pruning_share_the_dense_network(short_run, caplog):
    one, two = short_run(), short_run("callbacks.region_mean_mask.rate=0.2")
    dense = one.go()["metrics"]["dense/test_acc"]
    (folder,) = (one.home / "dense").iterdir()
    before = files_of(folder)
    with caplog.at_level("INFO", "prunekit"):
        assert two.go()["metrics"]["dense/test_acc"] == dense
    assert files_of(folder) == before
    assert f"taken from {folder}" in caplog.text
    short_run("model.optimizer.lr=0.2").go()
    assert len(list((one.home / "dense").iterdir())) == 2


def test_a_run_without_retraining_stores_masks_and_no_checkpoint(short_run):
    run = short_run("callbacks.region_mean_mask.retrain_epochs=0")
    results = run.go()
    assert not (run.folder / "checkpoints").exists()
    assert (run.folder / "masks.safetensors").exists()
    assert results["metrics"]["pruned/test_acc"] == results["metrics"]["final/test_acc"]
    assert 0.7 <= results["sparsity"]["achieved"][FIRST] < 0.71


def test_a_run_without_pruning_is_dense_all_along(new_run):
    run = new_run(
        "~experiment", "name=dense", "dense_epochs=1", "trainer.limit_train_batches=5", "data=digits", "model=mlp",
        "callbacks=[curves,checkpoints]",
    )  # fmt: skip
    metrics = run.go()["metrics"]
    assert len(set(metrics.values())) == 1


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_the_same_command_goes_on_after_a_cut_and_ends_bitwise_the_same(short_run, tmp_path, monkeypatch, stop_after):
    extra = ("callbacks.region_mean_mask.rounds=2", "model/optimizer=adam")
    whole = short_run(*extra, f"run_dir={tmp_path / 'whole'}", "reuse=false")
    expected = whole.go()

    from prunekit.callbacks.checkpoints import Checkpoints

    saved = []
    save = Checkpoints._save

    def save_and_die(self, trainer, epochs):
        save(self, trainer, epochs)
        saved.append(epochs)
        if epochs == stop_after:
            raise Killed

    cut = (*extra, f"run_dir={tmp_path / 'cut'}", "reuse=false")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_save", save_and_die)
        with pytest.raises(Killed):
            short_run(*cut).go()
    assert saved[-1] == stop_after
    resumed = short_run(*cut)
    results = resumed.go()
    for key in ("metrics", "sparsity", "events", "callbacks"):
        assert results[key] == expected[key]
    masks = [load_file(run.folder / "masks.safetensors")[FIRST] for run in (whole, resumed)]
    assert torch.equal(*masks)
    for name, tensor in weights_of(whole.folder).items():
        assert torch.equal(tensor, weights_of(resumed.folder)[name])
    shown = EventAccumulator(str(resumed.folder))
    shown.Reload()
    assert [s.step for s in shown.Scalars("accuracy/validation")] == [1, 2, 2, 2, 3, 3, 4]


def test_ckpt_path_last_goes_on_or_says_that_there_is_nothing(short_run):
    with pytest.raises(ArgumentError, match=r"ckpt_path: got 'last, but there is no checkpoint in .*accepted: null"):
        short_run("ckpt_path=last").go()
    run = short_run()
    results = run.go()
    (run.folder / "results.json").unlink()
    assert short_run("ckpt_path=last").go()["metrics"] == results["metrics"]


def test_ckpt_path_takes_a_file_of_this_run_or_of_another(short_run):
    run = short_run("callbacks.checkpoints.keep=9", "callbacks.region_mean_mask.rounds=2")
    results = run.go()
    third, fourth = list_checkpoints(run.folder / "checkpoints")
    (run.folder / "results.json").unlink()
    extra = ("callbacks.checkpoints.keep=9", f"ckpt_path={third}")
    same = short_run("callbacks.region_mean_mask.rounds=2", *extra)
    assert same.folder == run.folder
    assert same.go()["metrics"] == results["metrics"]
    longer = short_run("callbacks.region_mean_mask.rounds=3", *extra)
    plain = short_run("callbacks.region_mean_mask.rounds=3", extra[0])
    assert longer.folder != plain.folder  # a run that went on from another run's checkpoint is not the plain run
    assert len(longer.go()["events"]) == 4
    assert fourth.exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(short_run, caplog):
    extra = ("callbacks.region_mean_mask.rounds=2",)
    run = short_run(*extra)
    results = run.go()
    (run.folder / "results.json").unlink()
    damaged = list_checkpoints(run.folder / "checkpoints")[-1]
    damaged.write_bytes(damaged.read_bytes()[:5000])
    again = short_run(*extra).go()
    assert damaged.name in caplog.text
    assert again["metrics"] == results["metrics"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks.l2_mask.rate=1.5"], r"callbacks\.l2_mask\.rate: got 1\.5"),
        (["callbacks.l2_mask.rate=nan"], r"callbacks\.l2_mask\.rate: got nan"),
        (
            ["callbacks.region_mean_mask.parameter=layers.hidden.weight"],
            r"parameter: .*nearest: .*layers\.hidden1\.weight",
        ),
        (["callbacks.region_mean_mask.image_shape=[14,14]"], r"image_shape: .*height \* width = 784"),
        (["trainer.max_epochs=1"], r"trainer\.max_epochs: got 1; accepted: null, or at least the 3 epochs"),
        (["callbacks.region_mean_mask.start_epoch=1"], r"region_mean_mask\.start_epoch: got 1; .*dense_epochs=2"),
        (["dense_epochs=0"], "dense_epochs: got 0"),
        (["seed=abc"], "seed: got 'abc'"),
        (["~callbacks.curves"], "callbacks: .*curves"),
        (["trainer.precision=12"], r"trainer\.precision: got 12; accepted: .*bf16-mixed.* \| null"),
        (["ckpt_path=nowhere.ckpt"], r"ckpt_path: got 'nowhere\.ckpt'; accepted: a file that exists"),
    ],
)
def test_a_config_error_stops_before_training(short_run, overrides, message):
    with pytest.raises(ArgumentError, match=message):
        short_run(*overrides).go()


def test_a_checkpoint_of_another_model_is_refused(short_run):
    run = short_run()
    run.go()
    checkpoint = list_checkpoints(run.folder / "checkpoints")[-1]
    with pytest.raises(ArgumentError, match=r"of another model \(layers\.hidden2\.bias: \(50,\)\)"):
        short_run("model.sizes=[784,100,40,10]", f"ckpt_path={checkpoint}").go()


def test_a_folder_in_use_or_of_another_run_is_refused(short_run, tmp_path):
    folder = f"run_dir={tmp_path / 'mine'}"
    with (
        locked(tmp_path / "mine", "run_dir", wait=False),
        pytest.raises(ArgumentError, match=r"run_dir: .*in use by another process"),
    ):
        short_run(folder).go()
    short_run(folder).go()
    with pytest.raises(ArgumentError, match=r"which holds run .* while this is"):
        short_run(folder, "seed=7").go()


def test_an_unwritable_folder_is_refused(short_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"run_dir: .*a folder that can be written"):
        short_run(f"run_dir={tmp_path / 'file' / 'run'}").go()


def test_a_run_on_a_chosen_gpu_of_several_is_the_run_that_was_asked_for(short_run, monkeypatch):
    """Seen on machines with two GPUs or more, where every job of a sweep failed."""
    from prunekit.app import phases

    built = []

    def on_the_cpu(config, *arguments, **named):
        built.append(config["trainer"]["devices"])
        return build_trainer({**config, "trainer": {**config["trainer"], "devices": 1}}, *arguments, **named)

    build_trainer = phases.build_trainer
    monkeypatch.setattr("prunekit.app.phases.build_trainer", on_the_cpu)
    monkeypatch.setattr("prunekit.app.dense.build_trainer", on_the_cpu)
    monkeypatch.setattr("prunekit.app.rehearsal.build_trainer", on_the_cpu)
    run = short_run()
    run.use_gpu(1)
    run.go()
    assert built == [[1]] * 4  # the check, the rehearsal, the dense training, the pruning
    assert OmegaConf.load(run.folder / "config.yaml").trainer.devices == 1
    assert short_run().config_hash == run.config_hash
