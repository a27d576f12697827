"""From a finished run to an explanation of its network."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from prunekit.app.explain import AREAS, ARRAYS, _subject, explain, main
from prunekit.data_modules.digits import Digits
from prunekit.data_modules.in_memory import Arrays
from prunekit.errors import ArgumentError
from prunekit.regions.faithfulness import area, has_captum
from prunekit.regions.labels import region_neurons
from tests.conftest import go_and_keep

METHODS = {"DeepLIFT by region", "DeepLIFT", "gradient x input", "brightness", "random"}
METHODS |= {"integrated gradients"} if has_captum() or os.environ.get("CI") else set()
FIGURES = {"decisions.png", "mistakes.png", "classes.png", "faithfulness.png"}


@pytest.fixture
def finished(short_run):
    """A run of regions cut by watershed, and its final network."""
    run = short_run("segmentation=watershed", "callbacks.region_mean_mask.floor=true", "dense_epochs=5",
                    "model.optimizer.lr=1.0", "trainer.limit_train_batches=1.0")  # fmt: skip
    run.module, run.data = go_and_keep(run)
    return run


def test_an_explanation_adds_up_to_what_the_network_of_the_run_says(finished, capsys):
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}
    main([str(finished.folder), "--images", "3", "5", "340"])
    printed = capsys.readouterr().out
    out = finished.folder / "explain"
    after = {
        path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file() and out not in path.parents
    }
    assert after == before
    arrays, areas = load_file(out / ARRAYS), json.loads((out / AREAS).read_text())
    assert (out / ARRAYS).stat().st_mode == (out / AREAS).stat().st_mode
    x, y = finished.data.arrays.test_x, finished.data.arrays.test_y
    with torch.no_grad():
        logits = finished.module.eval()(x[[3, 5, 340]]).double()
        black = finished.module(torch.zeros_like(x[:1])).double()[0]
    centred = logits - logits.mean(1, keepdim=True)
    assert arrays["images"].tolist() == [3, 5, 340]
    sums = arrays["region_evidence"].sum(1) + (black - black.mean())
    torch.testing.assert_close(sums, centred, atol=1e-5, rtol=0)
    best = logits.argmax(1)
    assert (arrays["predicted"] == best).all()
    own = centred[torch.arange(3), best] - (black - black.mean())[best]
    torch.testing.assert_close(arrays["evidence_for_predicted"].sum((1, 2)), own, atol=1e-5, rtol=0)
    # The regions are those of the weights that are left.
    weights = finished.module.layers.hidden1.weight.detach().view(-1, 28, 28)
    assert ((arrays["labels"] > 0) == (weights != 0)).all()
    assert arrays["region_evidence"].shape == (3, len(region_neurons(arrays["labels"].numpy().astype(np.int64))), 10)
    # The class means are means, and areas are areas of the curves.
    assert arrays["class_evidence"].shape == (10, 28, 28)
    metrics = finished.go()["metrics"]
    accuracies = {"dense": metrics["dense/test_acc"], "pruned": metrics["final/test_acc"]}
    assert min(accuracies.values()) > 0.8
    assert accuracies["dense"] != accuracies["pruned"]
    assert set(areas) == {"dense", "pruned"}
    for network, methods in areas.items():
        assert set(methods) == METHODS
        for method, both in methods.items():
            assert method in printed or method == "integrated gradients"  # which may be over two lines
            curves = {kind: arrays[f"{kind}.{network}.{method.replace(' ', '_')}"] for kind in both}
            assert both == {kind: area(curve) for kind, curve in curves.items()}
            assert curves["deletion"][0] == curves["insertion"][-1]
            assert float(curves["deletion"][0]) == pytest.approx(accuracies[network])
        for method in ("DeepLIFT by region", "DeepLIFT"):
            if network == "pruned" or method == "DeepLIFT":
                assert methods[method]["deletion"] < methods["random"]["deletion"] - 0.05
                assert methods[method]["insertion"] > methods["random"]["insertion"] + 0.05
    assert areas["dense"] != areas["pruned"]
    for name in FIGURES:
        assert imread(out / name).std() > 0.01, name
    events = EventAccumulator(str(out))
    events.Reload()
    assert {f"explain/{name.removesuffix('.png')}" for name in FIGURES} == set(events.Tags()["images"])
    assert [s.step for s in events.Scalars("deletion/pruned.random")][:3] == [0, 5, 10]
    assert (y.unique() == torch.arange(10)).all()


@pytest.mark.slow
def test_an_explanation_is_replaced_and_nothing_else_is(finished, tmp_path):
    out = tmp_path / "out"
    first = explain(finished.folder, out)
    assert load_file(out / ARRAYS)["images"].tolist() == [
        int((finished.data.arrays.test_y == label).nonzero()[0]) for label in range(10)
    ]
    (out / "old").touch()
    assert explain(finished.folder, out, [0]) == first
    assert not (out / "old").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArgumentError, match=r"out: .*no explanation"):
        explain(finished.folder, tmp_path / "mine")
    with pytest.raises(ArgumentError, match=r"--images: got \[360\]; accepted: numbers of test images, 0 to 359"):
        explain(finished.folder, out, [360])


@pytest.mark.slow
def test_a_run_on_flat_images_that_lack_a_class_in_other_precision(new_run, tmp_path, monkeypatch):
    whole = Digits.load

    def without_threes(self):
        train_x, train_y, test_x, test_y = whole(self)[:4]
        return Arrays(train_x.flatten(1), train_y, test_x.flatten(1)[test_y != 3], test_y[test_y != 3])

    monkeypatch.setattr(Digits, "load", without_threes)
    run = new_run(
        "dense_epochs=1", "trainer.precision=bf16-true", "~callbacks.region_mean_mask.segmentation",
        "model.activation=relu",
        "callbacks.region_mean_mask.retrain_epochs=0", "trainer.limit_train_batches=12", "~callbacks.heatmaps",
    )  # fmt: skip
    run.go()
    monkeypatch.setattr("prunekit.app.explain.has_captum", lambda: False)
    monkeypatch.setattr("prunekit.regions.explanation.has_captum", lambda: False)
    areas = explain(run.folder, tmp_path / "out")
    assert set(areas["pruned"]) == METHODS - {"integrated gradients"}
    arrays = load_file(tmp_path / "out" / ARRAYS)
    assert len(arrays["images"]) == len(arrays["class_evidence"]) == 9


@pytest.mark.slow
def test_without_the_dense_checkpoint_the_pruned_network_is_explained(finished, tmp_path, caplog):
    (dense,) = (finished.home / "dense").rglob("dense.ckpt")
    dense.unlink()
    assert set(explain(finished.folder, tmp_path / "out", [0])) == {"pruned"}
    assert "the dense network's checkpoint is gone" in caplog.text


@pytest.mark.slow
def test_a_run_that_pruned_weights_one_by_one_is_explained_too(new_run, tmp_path):
    run = new_run(
        "experiment=mnist_magnitude", "data=digits", "dense_epochs=2", "trainer.limit_train_batches=12",
        "callbacks.l2_mask.rounds=1", "callbacks.l2_mask.retrain_epochs=0",
    )  # fmt: skip
    run.go()
    areas = explain(run.folder, tmp_path / "out", [1])
    assert set(areas) == {"dense", "pruned"}


def test_what_an_image_is_says_a_callback_of_any_name_one_that_prunes_first():
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    drawn = {"image_shape": [2, 2], "parameter": "0.weight"}
    wrong = {"image_shape": [3, 1], "parameter": "2.weight", "rate": 0.5}
    pruned = {"image_shape": [4, 1], "parameter": "0.weight", "rate": 0.5}
    config = {"callbacks": {"a": {"rate": 0.5}, "b": drawn, "c": wrong, "d": pruned}}
    assert _subject(SimpleNamespace(module=module, config=config), Path("run")) is pruned
    del config["callbacks"]["d"]
    assert _subject(SimpleNamespace(module=module, config=config), Path("run")) is drawn


def test_what_cannot_be_explained_is_refused(new_run, miniature, short_run, tmp_path):
    with pytest.raises(ArgumentError, match=r"run: .*the folder of a finished run"):
        explain(tmp_path, tmp_path / "out")
    run = new_run("experiment=synthetic_dense", "model.units=8", "model.hidden=4", "dense_epochs=1",
                  "~callbacks.sample_frames", *miniature("synthetic_dense"))  # fmt: skip
    run.go()
    with pytest.raises(ArgumentError, match="a callback that has image_shape and parameter, which say what"):
        explain(run.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    other = short_run("callbacks.region_mean_mask.parameter=layers.hidden2.weight",
                      "callbacks.region_mean_mask.image_shape=[10,10]")  # fmt: skip
    other.go()
    with pytest.raises(ArgumentError, match="not of the first of its linear layers"):
        explain(other.folder, tmp_path / "out")
