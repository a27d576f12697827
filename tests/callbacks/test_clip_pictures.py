"""The callbacks that show clips: frames, and which classes are taken for which."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.image import imread
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.callbacks.confusion import Confusion
from prunekit.callbacks.measure import TEST, accuracy, confusion
from prunekit.callbacks.sample_frames import SampleFrames
from prunekit.errors import ConfigError
from prunekit.figures.confusion import draw_confusion
from tests.callbacks.lightning import TheirData, Theirs, trainer


class Witness(pl.Callback):
    def on_train_end(self, trainer, module):
        self.matrix, self.accuracy = confusion(trainer, module, TEST), accuracy(trainer, module, TEST)
        batches = list(trainer.datamodule.test_dataloader())
        with torch.no_grad():
            self.predicted = torch.cat([module(x).argmax(1) for x, _ in batches])
        self.true = torch.cat([y for _, y in batches])


def test_the_confusion_matrix_is_sklearns_and_its_trace_the_accuracy(tmp_path):
    witness = Witness()
    trainer(tmp_path, [witness], 1).fit(Theirs(), TheirData())
    classes = len(witness.matrix)
    expected = confusion_matrix(witness.true, witness.predicted, labels=range(classes))
    assert np.array_equal(witness.matrix.numpy(), expected)
    assert witness.matrix.trace() / witness.matrix.sum() == pytest.approx(witness.accuracy)
    assert len(set(witness.true.tolist())) > 1


def test_a_run_leaves_the_matrix_and_both_pictures(new_run, miniature):
    run = new_run("experiment=synthetic_dense", "dense_epochs=1", *miniature("synthetic_dense"))
    results = run.go()
    matrix = np.load(run.folder / "confusion.npy", allow_pickle=False)
    assert matrix.shape == (6, 6)
    assert matrix.sum() == results["data"]["test_clips"] == 24
    assert matrix.trace() / 24 == pytest.approx(results["metrics"]["dense/test_acc"])
    frames = imread(run.folder / "figures" / "frames.png")
    assert frames.shape[0] > frames.shape[1] / 2
    assert frames[..., :3].std() > 0.05
    shown = EventAccumulator(str(run.folder))
    shown.Reload()
    assert {"frames", "confusion", "curves"} <= set(shown.Tags()["images"])


def test_names_are_left_out_where_there_are_too_many():
    figure = draw_confusion(np.eye(50, dtype=np.int64), None)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == []
    assert [text.get_text() for text in draw_confusion(np.array([[3, 1], [0, 2]]), ["a", "b"]).axes[0].texts] == [
        "3", "1", "2",
    ]  # fmt: skip


def test_frames_of_data_without_clips_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"callbacks\.sample_frames: got 'with TheirData'; accepted: data made of clips"
    ):
        trainer(tmp_path, [SampleFrames()], 1).fit(Theirs(), TheirData())


@pytest.mark.parametrize("make", [lambda: Confusion(-1), lambda: SampleFrames(0), lambda: SampleFrames(1, 0)])
def test_wrong_values_are_named(make):
    with pytest.raises(ConfigError, match=r"\w+: got"):
        make()
