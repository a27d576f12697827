from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.pruning import PruningObserver, current_mask
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.errors import ConfigError
from prunekit.masks import Mask, all_weights, find_parameter
from tests.callbacks.lightning import TheirData, Theirs, trainer

FIRST = "body.first.weight"


class Watch(PruningObserver):
    """Asserts after every step that nothing removed is anything but +0.0, and notes the events."""

    def __init__(self):
        self.events, self.steps = [], 0

    def after_pruning(self, trainer, module, event):
        self.events.append((event.name, event.round, event.epoch))
        assert not (event.after[FIRST] & ~event.before[FIRST]).any()

    def on_train_batch_end(self, trainer, module, *_):
        for name, kept in current_mask(trainer).items():
            removed = find_parameter(module, name)[~kept]
            assert (removed == 0).all()
            assert not removed.signbit().any()
            self.steps += len(removed) > 0


OPTIMIZERS = {
    "momentum": partial(Theirs, torch.optim.SGD, lr=0.05, momentum=0.9),
    "nesterov": partial(Theirs, torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": partial(Theirs, torch.optim.Adam, lr=0.01),
    "adamw": partial(Theirs, torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": partial(Theirs, torch.optim.RMSprop, lr=0.01, momentum=0.5),
}
TRAINERS = {
    "plain": {},
    "accumulated and clipped": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "double": {"precision": "64-true"},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("setting", TRAINERS)
def test_no_removed_weight_is_ever_non_zero(optimizer, setting, tmp_path):
    """Over 100 held steps here; the slow test below takes 1,000."""
    assert_held(optimizer, setting, tmp_path, epochs=35)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("setting", TRAINERS)
def test_no_removed_weight_is_ever_non_zero_over_1000_steps(optimizer, setting, tmp_path):
    assert_held(optimizer, setting, tmp_path, epochs=336)


def assert_held(optimizer, setting, tmp_path, epochs):
    watch = Watch()
    callbacks = [
        L2Mask(None, rate=0.5, start_epoch=2),
        RegionMeanMask(FIRST, [6, 12], rate=0.4, rounds=2, retrain_epochs=3, start_epoch=2),
        watch,
    ]
    module = OPTIMIZERS[optimizer]()
    started = {name: parameter.clone() for name, parameter in module.named_parameters()}
    trainer(tmp_path, callbacks, epochs, **TRAINERS[setting]).fit(module, datamodule=TheirData())
    assert watch.steps >= 3 * (epochs - 2)
    assert watch.events == [("l2_mask", 1, 2), ("region_mean_mask", 1, 2), ("region_mean_mask", 2, 5)]
    for name, kept in (callbacks[0].mask & callbacks[1].mask).items():
        weight = find_parameter(module, name)
        assert (weight[~kept] == 0).all()
        assert (weight[kept] != started[name].to(weight.dtype)[kept]).float().mean() > 0.9  # the kept ones train on


def test_exact_counts_over_all_weights_together(tmp_path):
    module = Theirs(lr=0.01)
    mask = L2Mask(None, rate=0.3, start_epoch=1)
    trainer(tmp_path, [mask], 1).fit(module, datamodule=TheirData())
    assert set(mask.mask) == set(all_weights(module))
    total = sum(find_parameter(module, name).numel() for name in mask.mask)
    assert mask.mask.removed() == round(0.3 * total)
    assert sum(int((find_parameter(module, name) == 0).sum()) for name in mask.mask) == round(0.3 * total)
    kept = torch.cat([find_parameter(module, name).abs()[kept] for name, kept in mask.mask.items()])
    assert kept.min() > 0


def test_iterative_magnitude_pruning_removes_the_same_share_each_round(tmp_path):
    sparsities = []

    class Note(PruningObserver):
        def after_pruning(self, trainer, module, event):
            assert not (event.after[FIRST] & ~event.before[FIRST]).any()
            sparsities.append(event.after.sparsity(FIRST))

    mask = L2Mask([FIRST], rate=0.875, rounds=3, retrain_epochs=1)
    trainer(tmp_path, [mask, Note()], 3).fit(Theirs(lr=0.01), datamodule=TheirData())
    assert sparsities == [0.5, 0.75, 0.875]


def test_without_retraining_the_event_comes_at_the_end_of_the_fit(tmp_path):
    watch, module = Watch(), Theirs(lr=0.01)
    trainer(tmp_path, [L2Mask([FIRST], 0.5, start_epoch=2), watch], 2).fit(module, datamodule=TheirData())
    assert watch.events == [("l2_mask", 1, 2)]
    assert (find_parameter(module, FIRST) == 0).float().mean() == 0.5


def test_after_the_fit_the_module_is_free(tmp_path):
    module = Theirs(lr=0.01)
    trainer(tmp_path, [L2Mask([FIRST], 0.5, start_epoch=1)], 2).fit(module, datamodule=TheirData())
    assert (find_parameter(module, FIRST) == 0).float().mean() == 0.5
    trainer(tmp_path, [], 1).fit(module, datamodule=TheirData())
    assert (find_parameter(module, FIRST) == 0).float().mean() < 0.5


def test_a_checkpoint_is_that_of_the_plain_model_and_loads_without_pickle(tmp_path):
    fit = trainer(tmp_path, [L2Mask([FIRST], 0.5, start_epoch=1)], 2)
    fit.fit(Theirs(lr=0.01), datamodule=TheirData())
    fit.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == set(Theirs().state_dict())
    Theirs().load_state_dict(checkpoint["state_dict"])


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_resumed_fit_ends_bitwise_where_the_whole_one_does(stop, optimizer, tmp_path):
    def callbacks():
        return [
            L2Mask([FIRST], 0.5, start_epoch=2),
            RegionMeanMask(FIRST, [6, 12], 0.3, rounds=2, retrain_epochs=2, start_epoch=2),
        ]

    class SaveAt(pl.callbacks.Checkpoint):
        def on_train_epoch_end(self, trainer, module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch + 1}.ckpt")

    whole = OPTIMIZERS[optimizer]()
    masks = callbacks()
    trainer(tmp_path, [*masks, SaveAt()], 6, enable_checkpointing=True).fit(whole, datamodule=TheirData())
    resumed = OPTIMIZERS[optimizer]()
    again = callbacks()
    trainer(tmp_path, again, 6).fit(
        resumed, datamodule=TheirData(), ckpt_path=tmp_path / f"{stop}.ckpt", weights_only=True
    )
    assert [callback.mask for callback in masks] == [callback.mask for callback in again]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L2Mask([FIRST], 1.5), r"callbacks\.l2_mask\.rate: got 1\.5"),
        (lambda: L2Mask([FIRST], 0.5, rounds=0), r"callbacks\.l2_mask\.rounds: got 0"),
        (lambda: L2Mask([FIRST], 0.5, rounds=2), r"callbacks\.l2_mask\.retrain_epochs: got 0.*2 rounds"),
        (lambda: RegionMeanMask(FIRST, [6, 12], 0.4, of="both"), r"region_mean_mask\.of: got 'both'.*'weights'"),
        (
            lambda: RegionMeanMask(FIRST, [6, 12], 0.4, index="median"),
            r"region_mean_mask\.index: got 'median'.*'saliency'",
        ),
        (lambda: RegionMeanMask(FIRST, [6, 12], 0.4, scope="layer"), r"region_mean_mask\.scope: got 'layer'.*'neuron'"),
        (lambda: RegionMeanMask(FIRST, [72], 0.4), r"region_mean_mask\.image_shape: got \[72\]"),
    ],
)
def test_wrong_arguments_are_refused_on_construction(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (L2Mask(["body.frist.weight"], 0.5), r"parameters: got 'body.frist.weight'.*nearest: body\.first\.weight"),
        (RegionMeanMask("body.first", [6, 12], 0.4), r"parameter: got 'body\.first'.*nearest: body\.first"),
        (RegionMeanMask(FIRST, [28, 28], 0.4), r"image_shape: got '\[28, 28\] for .*height \* width = 72"),
        (RegionMeanMask("stem.weight", [3, 4], 0.4), r"image_shape: .*height \* width = 9"),
        (RegionMeanMask(FIRST, [3, 6, 12], 0.4), r"image_shape: .*channels \* height \* width = 72"),
        (RegionMeanMask("stem.bias", [1, 2], 0.4), r"image_shape: .*a matrix, a row a neuron"),
        (RegionMeanMask("stem.weight", [3, 3], 0.4, index="saliency"), r"index: got 'saliency with stem.weight'"),
        (L2Mask([FIRST], 0.5, rounds=3, retrain_epochs=2), r"trainer\.max_epochs: got 2; accepted: 6 or more"),
    ],
)
def test_what_does_not_fit_the_module_is_refused_before_training(callback, message, tmp_path):
    module = Theirs(lr=0.01)
    before = find_parameter(module, FIRST).clone()
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path, [callback], 2).fit(module, datamodule=TheirData())
    assert torch.equal(find_parameter(module, FIRST), before)


class EveryStep(WeightAveraging):
    def __init__(self, first_step):
        super().__init__()
        self.first_step = first_step

    def should_update(self, step_idx=None, epoch_idx=None):
        return step_idx is not None and step_idx >= self.first_step


@pytest.mark.parametrize(
    "averaging",
    [
        lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=0.5),
        lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=3),
        EMAWeightAveraging,
        lambda: EMAWeightAveraging(update_starting_at_epoch=3),
        lambda: EveryStep(first_step=9),
    ],
)
def test_averaging_from_before_the_last_event_is_refused(averaging, tmp_path):
    mask = L2Mask([FIRST], 0.5, rounds=2, retrain_epochs=2, start_epoch=1)  # events after epochs 1 and 3
    with pytest.raises(ConfigError, match=r"averages weights from before .*starts after epoch 3"):
        trainer(tmp_path, [mask, averaging()], 9).fit(Theirs(lr=0.01), datamodule=TheirData())


@pytest.mark.parametrize(
    "averaging",
    [
        lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=5),
        lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=0.8),
        lambda: EMAWeightAveraging(update_starting_at_step=10),
        lambda: EveryStep(first_step=10),
    ],
)
def test_averaging_from_after_the_last_event_is_exact(averaging, tmp_path):
    mask = L2Mask([FIRST], 0.5, rounds=2, retrain_epochs=2, start_epoch=1)
    module = Theirs(lr=0.01)
    trainer(tmp_path, [mask, averaging()], 9).fit(module, datamodule=TheirData())
    weight = find_parameter(module, FIRST)
    assert (weight[~mask.mask[FIRST]] == 0).all()
    assert (weight[mask.mask[FIRST]] != 0).all()


def test_weights_that_diverged_are_named(tmp_path):
    mask = L2Mask([FIRST], 0.5, start_epoch=2)
    with pytest.raises(ConfigError, match=r"model\.optimizer: .*body\.first\.weight is not finite after 2 epochs"):
        trainer(tmp_path, [mask], 3).fit(Theirs(lr=1e30), datamodule=TheirData())


def test_ranks_that_choose_other_masks_are_noticed(tmp_path, monkeypatch):
    fit = trainer(tmp_path, [L2Mask([FIRST], 0.5)], 1)
    monkeypatch.setattr(fit.strategy, "broadcast", lambda digest: digest[::-1])
    with pytest.raises(RuntimeError, match="chose another mask than rank 0"):
        fit.fit(Theirs(lr=0.01), datamodule=TheirData())


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (lambda mask: Mask({}), r"gave a mask of \[\], not of \['body\.first\.weight'\]"),
        (lambda mask: Mask.full(Theirs(), [FIRST]), "no subset of the one before"),
        (lambda mask: Mask({FIRST: mask[FIRST][0]}), "no subset of the one before"),
    ],
)
def test_a_subclass_cannot_bring_weights_back(select, message, tmp_path):
    class Wrong(L2Mask):
        def select(self, module, mask):
            return select(mask)

    masks = [L2Mask([FIRST], 0.5), Wrong([FIRST], 0.5)]
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, masks, 1).fit(Theirs(lr=0.01), datamodule=TheirData())
