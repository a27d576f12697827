import logging
import re
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import prunekit.callbacks.confusion
from prunekit.callbacks import measure
from prunekit.callbacks.confusion import Confusion
from prunekit.callbacks.curves import Curves, Known
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.heatmaps import Heatmaps
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.measure import accuracy
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.data_modules.digits import Digits
from prunekit.errors import ArgumentError
from prunekit.figures.confusion import draw_confusion
from prunekit.measuring import Outcome, confusion_counts
from prunekit.models.mlp import Mlp
from tests.callbacks.lightning import TheirData, Theirs, trainer

FIRST = "body.first.weight"


def test_chance_among_very_many_classes_takes_no_table_of_all_pairs():
    """A vocabulary of 300,000 words would have 720 GB of these."""
    classes = torch.tensor([299_999, 7, 7, -100])
    taken = Outcome(predicted=torch.zeros_like(classes), classes=classes, number=300_000)
    assert measure.chance_of(Trainer(logger=False, accelerator="cpu"), taken) == (pytest.approx(2 / 3), 3)


def test_chance_is_the_share_of_the_most_common_class_on_test_data(tmp_path):
    digits, curves = Digits(10, 0.1, seed=0), Curves()
    trainer(tmp_path, [curves], 1, limit_val_batches=None).fit(
        Mlp([784, 5, 10], partial(torch.optim.SGD, lr=0.1)), datamodule=digits
    )
    classes = torch.cat([y for _, y in digits.test_dataloader()])
    assert curves.chance == (pytest.approx(int(classes.bincount().max()) / len(classes)), len(classes))


def test_runs_with_lightnings_own_logger_do_not_write_over_each_others_files(tmp_path):
    for number in range(2):
        fit = trainer(tmp_path, [Curves(), Confusion()], 2, logger=TensorBoardLogger(tmp_path), limit_val_batches=None)
        fit.fit(Mlp([784, 5, 10], partial(torch.optim.SGD, lr=0.1)), datamodule=Digits(10, 0.1, seed=number))
    left = {path.relative_to(tmp_path).parent.as_posix() for path in tmp_path.rglob("*.png")}
    assert left == {f"lightning_logs/version_{number}/figures" for number in range(2)}
    one, other = (np.load(tmp_path / "lightning_logs" / f"version_{number}" / "confusion.npy") for number in range(2))
    assert not np.array_equal(one, other)


def test_accuracy_is_that_of_lightnings_own_test_loop(tmp_path):
    digits = Digits(10, 0.1, seed=0, eval_batch_size=77)
    mlp = Mlp([784, 20, 10], partial(torch.optim.SGD, lr=0.1))
    fit = trainer(tmp_path, [], 2, limit_val_batches=None)
    fit.fit(mlp, datamodule=digits)
    assert mlp.training
    measured = accuracy(fit, mlp, "test")
    assert mlp.training
    assert fit.test(mlp, datamodule=digits, verbose=False)[0]["test/acc"] == pytest.approx(measured, abs=1e-6)
    assert fit.validate(mlp, datamodule=digits, verbose=False)[0]["val/acc"] == pytest.approx(
        accuracy(fit, mlp, "validation"), abs=1e-6
    )


def run_with_pictures(tmp_path):
    curves = Curves()
    callbacks = [
        L2Mask([FIRST], 0.5, start_epoch=2),
        RegionMeanMask(FIRST, [6, 12], 0.4, rounds=2, retrain_epochs=1, start_epoch=2),
        Heatmaps(FIRST, [6, 12], max_neurons=5),
        curves,
    ]
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(tmp_path, callbacks, 4, logger=logger).fit(Theirs(lr=0.01), datamodule=TheirData())
    return curves, callbacks


def test_curves_hold_a_row_an_epoch_and_a_record_an_event(tmp_path):
    curves, (l2, regions, *_) = run_with_pictures(tmp_path)
    weights = 18 + 72 * 16 + 48
    assert [row["epoch"] for row in curves.rows] == [1, 2, 3, 4]
    after = (l2.mask & regions.mask).removed() / weights
    assert [row["sparsity"] for row in curves.rows][:2] == [0, 0]
    assert curves.rows[3]["sparsity"] == after
    assert [(e["name"], e["round"], e["epoch"], e["data"]) for e in curves.events] == [
        ("l2_mask", 1, 2, "validation"),
        ("region_mean_mask", 1, 2, "validation"),
        ("region_mean_mask", 2, 3, "validation"),
    ]
    assert curves.events[0]["sparsity"] == 576 / weights
    assert curves.events[0]["acc_before"] == curves.rows[1]["accuracy"]
    assert curves.events[1]["acc_before"] == curves.events[0]["acc_after"]
    assert curves.events[2]["acc_before"] == curves.rows[2]["accuracy"]
    assert curves.final_test == curves.rows[3]["accuracy"]  # TheirData tests on what it validates on


class Again(PruningObserver):
    """Measures what Curves has measured."""

    def __init__(self, curves):
        self.curves, self.checked = curves, 0

    def after_pruning(self, trainer, module, event):
        assert self.curves.events[-1]["acc_after"] == accuracy(trainer, module, "validation")
        assert self.curves.events[-1]["test_acc"] == accuracy(trainer, module, "test")
        self.checked += 1

    def on_fit_end(self, trainer, pl_module):
        assert self.curves.final_test == accuracy(trainer, pl_module, "test")
        self.checked += 1


def test_what_curves_know_is_true_of_the_network_as_it_is(tmp_path):
    curves = Curves()
    masks = [L2Mask([FIRST], 0.9, start_epoch=2), RegionMeanMask(FIRST, [6, 12], 0.9, start_epoch=2)]
    for epochs in (2, 3):  # events that end the fit, and events within it
        again = Again(curves)
        trainer(tmp_path, [*masks, curves, again], epochs).fit(Theirs(lr=0.01), datamodule=TheirData())
        assert again.checked == 3
        assert curves.events[0]["acc_after"] != curves.events[1]["acc_after"]
        curves = Curves()
        masks = [L2Mask([FIRST], 0.9, start_epoch=2), RegionMeanMask(FIRST, [6, 12], 0.9, start_epoch=2)]


def test_tensorboard_shows_curves_events_and_pictures(tmp_path):
    curves, _ = run_with_pictures(tmp_path)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    steps = [(scalar.step, scalar.value) for scalar in events.Scalars("accuracy/validation")]
    assert [step for step, _ in steps] == [1, 2, 2, 2, 3, 3, 4]  # two events after epoch 2, one after epoch 3
    assert steps[3][1] == pytest.approx(curves.events[1]["acc_after"])
    assert [scalar.step for scalar in events.Scalars("loss/train")] == [1, 2, 3, 4]
    tags = set(events.Tags()["images"])
    kinds = [f"{kind}/{name}" for kind in ("weights", "regions", "kept", "rates") for name in ("l2_mask",)]
    assert tags >= {*kinds, "weights/dense", "regions/region_mean_mask", "curves"}
    assert [image.step for image in events.Images("kept/region_mean_mask")] == [2, 3]


def test_pictures_are_saved_as_png_and_shown_once(tmp_path):
    run_with_pictures(tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    expected = {f"epoch002-l2_mask-round1-{kind}.png" for kind in ("weights", "regions", "kept", "rates")}
    assert names >= expected | {"epoch002-dense-weights.png", "curves.png"}
    assert len(names) == 1 + 4 * 3 + 1
    for name in names:
        assert imread(tmp_path / "figures" / name).std() > 0.01, name


def test_the_history_of_a_checkpoint_is_shown_again(tmp_path):
    curves, (_, _, heatmaps, _) = run_with_pictures(tmp_path)
    state, shown = curves.state_dict(), heatmaps.state_dict()
    for path in tmp_path.glob("events.*"):
        path.unlink()
    again, pictures = Curves(), Heatmaps(FIRST, [6, 12])
    again.load_state_dict(state)
    pictures.load_state_dict(shown)
    fit = trainer(tmp_path, [pictures, again], 0, logger=TensorBoardLogger(tmp_path, name="", version=""))
    fit.fit(Theirs(lr=0.01), datamodule=TheirData())
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("accuracy/validation")] == [1, 2, 2, 2, 3, 3, 4]
    assert [image.step for image in events.Images("kept/region_mean_mask")] == [2, 3]


def test_where_nothing_is_held_out_test_data_is_measured_and_labelled_so(tmp_path):
    curves = Curves()
    callbacks = [L2Mask(None, 0.5, start_epoch=1), curves]
    mlp = Mlp([784, 20, 10], partial(torch.optim.SGD, lr=0.1))
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(tmp_path, callbacks, 1, logger=logger).fit(mlp, datamodule=Digits(10, 0.0, seed=0))
    assert curves.events[0]["data"] == "test"
    assert curves.events[0]["acc_after"] == curves.events[0]["test_acc"] == curves.final_test
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert "accuracy/test" in events.Tags()["scalars"]
    assert "accuracy/validation" not in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("heatmaps", "message"),
    [
        (Heatmaps("body.frist.weight", [6, 12]), r"^parameter: .*nearest: body\.first\.weight"),
        (Heatmaps(FIRST, [5, 5]), r"^image_shape: .*height \* width = 72"),
    ],
)
def test_heatmaps_of_what_is_not_there_are_refused_before_training(heatmaps, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        trainer(tmp_path, [heatmaps], 1).fit(Theirs(lr=0.01), datamodule=TheirData())


def test_a_matrix_of_many_classes_takes_no_more_memory_than_itself_in_deterministic_mode(monkeypatch):
    predicted, classes = torch.arange(3000) % 1000, torch.arange(3000) % 7
    asked = []
    bincount = torch.bincount
    monkeypatch.setattr(torch, "arange", lambda *a, **k: pytest.fail("torchmetrics repeats it for every sample"))
    monkeypatch.setattr(torch, "bincount", lambda cells, **k: asked.append(len(cells)) or bincount(cells, **k))
    torch.use_deterministic_algorithms(True)
    try:
        counts = confusion_counts(Outcome(predicted, classes, 1000), 1000)
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [3000]
    assert counts[3, 3] == sum(i % 1000 == i % 7 == 3 for i in range(3000))
    assert counts.sum() == 3000
    assert counts[7:].sum() == 0


def test_a_class_that_no_logit_is_of_is_refused():
    with pytest.raises(ArgumentError, match=r"^predict: got 'class 5 with 3 logits'"):
        confusion_counts(Outcome(torch.tensor([0]), torch.tensor([5]), 3), 3)


def test_the_title_counts_samples_of_the_part_and_a_matrix_too_large_is_left_out(tmp_path, monkeypatch, caplog):
    titles = []
    draw = prunekit.callbacks.confusion.draw_confusion
    monkeypatch.setattr("prunekit.callbacks.confusion.draw_confusion", lambda *a: titles.append(draw(*a)) or titles[-1])
    confusion = Confusion()
    trainer(tmp_path, [Curves(), confusion], 1).fit(Theirs(lr=0.01), datamodule=TheirData())
    assert re.fullmatch(r"\d+ of 90 test samples right \(\d+\.\d%\)", titles[0].get_suptitle())
    (tmp_path / "confusion.npy").unlink()
    monkeypatch.setattr("prunekit.callbacks.confusion.CLASSES_UP_TO", 2)
    with caplog.at_level(logging.WARNING, "prunekit"):
        trainer(tmp_path, [Curves(), confusion], 1).fit(Theirs(lr=0.01), datamodule=TheirData())
    assert "no confusion matrix of 3 classes" in caplog.text
    assert not (tmp_path / "confusion.npy").exists()


@pytest.mark.parametrize("names", [["x" * 70, "b"], ["a", "b"], None])
def test_long_names_leave_room_for_the_matrix(names):
    left, _, width, _ = draw_confusion(np.eye(2, dtype=np.int64), names).axes[0].get_position().bounds
    assert 0.2 < width < 1 - left


@pytest.mark.parametrize("known", [Known(True, (2, 0.25)), None])
def test_what_is_known_of_a_dense_network_is_not_measured(tmp_path, known):
    state = {"rows": [{"epoch": 2, "loss": 0.0, "accuracy": 0.125, "sparsity": 0.0}], "events": [], "loss": 0.0}
    curves = Curves(known=known)
    curves.load_state_dict({**state, "dense_test_acc": None, "batches": 0})
    one = trainer(tmp_path, [L2Mask([FIRST], 0.5, start_epoch=0), curves], 1)
    one.fit_loop.epoch_progress.current.processed = one.fit_loop.epoch_progress.current.completed = 2
    one.fit(Theirs(lr=0.01), datamodule=TheirData())
    assert (curves.events[0]["acc_before"] == 0.125, curves.dense_test == 0.25) == (known is not None,) * 2
