"""Ways of cutting, ranking and flooring reach the mask; regions are in checkpoints; saliency sees the training data."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from prunekit.calibration import Calibration
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.heatmaps import Heatmaps
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.errors import ArgumentError
from prunekit.figures.neurons import draw_regions
from prunekit.masks import find_parameter
from prunekit.regions.saliency import weight_saliency
from prunekit.regions.segmentation import Connected, Signed, Watershed
from tests.callbacks.lightning import TheirData, Theirs, trainer
from tests.callbacks.regions import remove_regions

FIRST = "body.first.weight"
SHAPE = (2, 6, 6)  # what the convolution gives


class Before(PruningObserver):
    """Notes the weights and their saliencies just before each event of regions, and the mask after it."""

    def __init__(self):
        self.seen, self.masks = [], []

    def before_pruning(self, trainer, module):
        data = [(x, y) for x, y in TheirData(90).train_dataloader()]
        total, samples = weight_saliency(module.eval(), module.body["first"], Calibration(data))
        module.train()
        weights = find_parameter(module, FIRST).detach().clone()
        self.seen.append((weights.numpy().reshape(-1, *SHAPE), (total / samples).numpy().reshape(-1, *SHAPE)))

    def after_pruning(self, trainer, module, event):
        if event.name == "region_mean_mask" and FIRST in event.after:
            before, after = (mask[FIRST].numpy().reshape(-1, *SHAPE) for mask in (event.before, event.after))
            self.masks.append((self.seen[-1], before, after))


@pytest.mark.parametrize(
    "arguments",
    [
        {"segmentation": Connected(2), "index": "sum", "of": "regions", "scope": "neuron"},
        {"segmentation": Signed(), "index": "max", "floor": True},
        {"segmentation": Watershed(0.5), "index": "saliency", "scope": "neuron", "floor": True},
        {"index": "saliency", "of": "regions"},
        {"index": "sum", "scope": "neuron", "floor": True},  # without it most neurons would die
    ],
    ids=range(5),
)
def test_each_event_is_a_round_of_the_pure_function(arguments, tmp_path):
    watch = Before()
    regions = RegionMeanMask(FIRST, list(SHAPE), 0.4, rounds=2, retrain_epochs=1, start_epoch=1, **arguments)
    trainer(tmp_path, [L2Mask([FIRST], 0.6, start_epoch=1), regions, watch], 3).fit(
        Theirs(lr=0.01), datamodule=TheirData()
    )
    assert len(watch.masks) == 2
    for (weights, saliency), before, after in watch.masks:
        expected = remove_regions(weights, before, 0.4, saliency=saliency, **arguments)
        assert (after == expected.kept).all()
        assert 0 < after.sum() < before.sum()
    assert (regions.labels.view(-1, *SHAPE).numpy() == expected.labels).all()
    sizes = np.bincount(expected.labels[after], minlength=1)[1:]
    found = regions.report()["neurons"]
    assert found["regions"] == (sizes > 0).sum() == (~expected.gone).sum()
    assert found["median_region"] == np.median(sizes[sizes > 0])
    if arguments.get("floor"):
        assert found["alive"] == 16


def test_what_is_reported_survives_a_resume(tmp_path):
    def callback():
        return RegionMeanMask(FIRST, list(SHAPE), 0.4, segmentation=Watershed(), retrain_epochs=2, start_epoch=1)

    class SaveAt(pl.callbacks.Checkpoint):
        def on_train_epoch_end(self, trainer, module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch + 1}.ckpt")

    whole, again = callback(), callback()
    trainer(tmp_path, [whole, SaveAt()], 3, enable_checkpointing=True).fit(Theirs(lr=0.01), datamodule=TheirData())
    trainer(tmp_path, [again], 3).fit(
        Theirs(lr=0.01), datamodule=TheirData(), ckpt_path=tmp_path / "2.ckpt", weights_only=True
    )
    assert again.report() == whole.report()
    assert torch.equal(again.labels, whole.labels)


def test_saliency_is_of_the_network_at_rest(tmp_path):
    modes = []

    class Noting(Theirs):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    class Alone(RegionMeanMask):
        def _prune(self, trainer, module, before):
            modes.clear()
            pruned = super()._prune(trainer, module, before)
            assert modes == [False] * 3  # batches
            return pruned

    callback, module = Alone(FIRST, list(SHAPE), 0.4, index="saliency"), Noting(lr=0.01)
    trainer(tmp_path, [callback], 1).fit(module, datamodule=TheirData())
    assert callback.mask
    assert module.training


def test_saliency_of_a_layer_that_sees_no_matrix_is_refused(tmp_path):
    class Wide(Theirs):
        def forward(self, x):
            return self.body["last"](torch.relu(self.body["first"](self.stem(x[:, None]).flatten(1)[:, None])))[:, 0]

    callback = RegionMeanMask(FIRST, list(SHAPE), 0.4, index="saliency")
    with pytest.raises(ArgumentError, match=r"^index: got 'saliency on a Wide: .*than a matrix"):
        trainer(tmp_path, [callback], 1).fit(Wide(lr=0.01), datamodule=TheirData())


def test_channels_are_drawn_side_by_side_with_the_regions_that_went(tmp_path, monkeypatch):
    drawn = []

    def note(labels, kept, title):
        drawn.append((labels, kept))
        return draw_regions(labels, kept, title)

    monkeypatch.setattr("prunekit.callbacks.heatmaps.draw_regions", note)
    regions, watch = RegionMeanMask(FIRST, list(SHAPE), 0.4, segmentation=Signed()), Before()
    callbacks = [
        L2Mask([FIRST, "body.last.weight"], 0.2),
        # Another layer's regions have nothing to do with these pictures, whichever prunes first.
        RegionMeanMask("body.last.weight", [4, 4], 0.4),
        regions,
        L2Mask([FIRST], 0.9),
        Heatmaps(FIRST, list(SHAPE), Signed()),
        watch,
    ]
    module = Theirs(lr=0.01)
    trainer(tmp_path, callbacks, 1).fit(module, datamodule=TheirData())
    (weights, _), before, _ = next(event for event in watch.masks if (event[1] != event[2]).any())
    went = remove_regions(weights, before, 0.4, segmentation=Signed())
    by_hand = [np.concatenate(list(went.labels[neuron]), axis=1) for neuron in range(16)]
    shown = [labels for labels, _ in drawn]
    assert (shown[2] == np.stack(by_hand)).all()  # of the third event
    # What went one by one leaves regions of the weights that are left.
    left = find_parameter(module, FIRST).detach().numpy().reshape(-1, *SHAPE)
    expected = Signed()(left, left != 0)
    assert (shown[-1] == np.concatenate([expected[:, 0], expected[:, 1]], axis=2)).all()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = ("weights", "regions", "kept", "rates")
    events = ("epoch000-region_mean_mask-round1", "epoch000-l2_mask-round1")
    assert len(drawn) == 4
    assert names == {"epoch000-dense-weights.png", *(f"{event}-{kind}.png" for event in events for kind in kinds)}
