from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.pruning import Pruning
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.criteria.magnitude import Magnitude
from prunekit.errors import ArgumentError
from prunekit.groups import Groups, Weights
from prunekit.masks import all_weights, find_parameter
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
        (lambda: L2Mask([FIRST], 1.5), r"^rate: got 1\.5"),
        (lambda: L2Mask([FIRST], 0.5, rounds=0), r"^rounds: got 0"),
        (lambda: L2Mask([FIRST], 0.5, rounds=2), r"^retrain_epochs: got 0.*2 rounds"),
        (lambda: RegionMeanMask(FIRST, [6, 12], 0.4, of="both"), r"^of: got 'both'.*'weights'"),
        (
            lambda: RegionMeanMask(FIRST, [6, 12], 0.4, index="median"),
            r"^index: got 'median'.*'saliency'",
        ),
        (lambda: RegionMeanMask(FIRST, [6, 12], 0.4, scope="layer"), r"^scope: got 'layer'.*'neuron'"),
        (lambda: RegionMeanMask(FIRST, [72], 0.4), r"^image_shape: got \[72\]"),
    ],
)
def test_wrong_arguments_are_refused_on_construction(make, message):
    with pytest.raises(ArgumentError, match=message):
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
        (
            L2Mask([FIRST], 0.5, rounds=3, retrain_epochs=2),
            r"start_epoch: got '0, and max_epochs=2'; accepted: trainer\.max_epochs of 6 or more",
        ),
    ],
)
def test_what_does_not_fit_the_module_is_refused_before_training(callback, message, tmp_path):
    module = Theirs(lr=0.01)
    before = find_parameter(module, FIRST).clone()
    with pytest.raises(ArgumentError, match=message):
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
    with pytest.raises(ArgumentError, match=r"averages weights from before .*starts after epoch 3"):
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
    with pytest.raises(ArgumentError, match=r"got 'body\.first\.weight, which is not finite'; .*does not diverge"):
        trainer(tmp_path, [mask], 3).fit(Theirs(lr=1e30), datamodule=TheirData())


def test_ranks_that_choose_other_masks_are_noticed(tmp_path, monkeypatch):
    fit = trainer(tmp_path, [L2Mask([FIRST], 0.5)], 1)
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    monkeypatch.setattr(fit.strategy, "broadcast", lambda sent: (sent[0][::-1], sent[1]))
    with pytest.raises(RuntimeError, match="chose another mask than rank 0"):
        fit.fit(Theirs(lr=0.01), datamodule=TheirData())


class Short(Criterion):
    name = "short"

    def scores(self, module, groups, seen):
        return Scores(torch.zeros(len(groups) - 1))


class NoNumbers(Criterion):
    name = "no numbers"

    def scores(self, module, groups, seen):
        return Scores(torch.full((len(groups),), torch.nan))


class Forgetful(Weights):
    """Says that nothing is gone, and puts all that is first."""

    def __call__(self, module, mask):
        groups = super().__call__(module, mask)
        return Groups(groups.numbers, groups.sizes, groups.within, torch.zeros_like(groups.gone))


class Backwards(Magnitude):
    def scores(self, module, groups, seen):
        return Scores(-super().scores(module, groups, seen).values)


@pytest.mark.parametrize(("criterion", "message"), [(Short(), "scores are a Tensor"), (NoNumbers(), "scores are NaN")])
def test_scores_that_are_none_are_noticed(criterion, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, [Pruning(Weights([FIRST]), criterion, 0.5)], 1).fit(Theirs(lr=0.01), datamodule=TheirData())


def test_no_grouping_can_bring_weights_back(tmp_path):
    masks = [L2Mask([FIRST], 0.5), Pruning(Forgetful([FIRST]), Backwards(), 0.25)]
    module = Theirs(lr=0.01)
    trainer(tmp_path, [*masks, Watch()], 2).fit(module, datamodule=TheirData())
    assert masks[0].mask.removed() == 576
    assert masks[1].mask.removed() == 576 + 288
    assert torch.equal(find_parameter(module, FIRST) == 0, ~masks[1].mask[FIRST])


def share_of_zeros(module, name):
    return float((find_parameter(module, name) == 0).float().mean())


def test_two_callbacks_of_one_class_prune_their_own_shares_exactly(tmp_path):
    names = [FIRST, "body.last.weight"]
    module, masks = Theirs(lr=0.01), [L2Mask([name], 0.125, start_epoch=1) for name in names]
    trainer(tmp_path, [*masks, Watch()], 3).fit(module, datamodule=TheirData())
    for name, mask in zip(names, masks, strict=True):
        assert share_of_zeros(module, name) == mask.mask.sparsity(name) == 0.125


def test_two_callbacks_of_the_same_weights_do_not_add_up(tmp_path):
    module, masks = Theirs(lr=0.01), [L2Mask(None, 0.1, name=name) for name in ("one", "two")]
    trainer(tmp_path, masks, 1).fit(module, datamodule=TheirData())
    total = sum(find_parameter(module, name).numel() for name in all_weights(module))
    assert [mask.mask.removed() for mask in masks] == [round(0.1 * total)] * 2
    zeros = sum(int((find_parameter(module, name) == 0).sum()) for name in all_weights(module))
    assert zeros == round(0.1 * total)


def test_two_callbacks_that_nothing_tells_apart_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `L2Mask`"):
        trainer(tmp_path, [L2Mask(None, 0.1), L2Mask(None, 0.2)], 1)


def test_a_training_too_short_for_the_first_event_is_refused_at_its_start(tmp_path):
    mask, module = L2Mask([FIRST], 0.5, start_epoch=3), Theirs(lr=0.01)
    before = find_parameter(module, FIRST).clone()
    message = r"start_epoch: got '3, and max_steps=5 of 3 steps an epoch'; accepted: an epoch that the training reach"
    with pytest.raises(ArgumentError, match=message):
        trainer(tmp_path, [mask], 9, max_steps=5).fit(module, datamodule=TheirData())
    assert torch.equal(find_parameter(module, FIRST), before)
    trainer(tmp_path, [mask], 9, max_steps=9).fit(module, datamodule=TheirData())
    assert share_of_zeros(module, FIRST) == 0.5


def test_a_training_that_is_stopped_before_an_event_says_so(tmp_path, caplog):
    class Stop(pl.callbacks.EarlyStopping):
        def on_train_epoch_end(self, trainer, module):
            trainer.should_stop = trainer.current_epoch == 1

        def on_validation_end(self, trainer, module):
            """Nothing is monitored."""

        def setup(self, trainer, module, stage):
            """Likewise."""

    late, rounds = L2Mask([FIRST], 0.5, start_epoch=3), L2Mask(["body.last.weight"], 0.5, 2, 2)
    trainer(tmp_path, [late, rounds, Stop("loss")], 9).fit(Theirs(lr=0.01), datamodule=TheirData())
    said = [record.getMessage() for record in caplog.records if record.name == "prunekit"]
    assert not late.mask
    assert "l2_mask: training has ended after 2 epochs, and 0 of 1 rounds are pruned: the next was due after 3" in said
    assert not [words for words in said if "of 2 rounds" in words]  # its second was due at the end


class Frozen(Theirs):
    def __init__(self, optimizer=torch.optim.SGD, **arguments):
        super().__init__(optimizer, **arguments)
        self.body["first"].requires_grad_(False)


def test_frozen_weights_are_pruned_and_stay_as_they_were(tmp_path):
    module = Frozen(lr=0.01)
    before = find_parameter(module, FIRST).clone()
    regions = RegionMeanMask(FIRST, [6, 12], 0.4, index="saliency", start_epoch=1)
    trainer(tmp_path, [L2Mask(None, 0.5), regions, Watch()], 3).fit(module, datamodule=TheirData())
    kept = regions.mask[FIRST]
    assert torch.equal(find_parameter(module, FIRST), before * kept)
    assert 0.4 <= 1 - kept.float().mean() < 1


def test_a_checkpoint_whose_mask_nobody_would_hold_is_refused(tmp_path):
    first = trainer(tmp_path, [L2Mask([FIRST], 0.5, name="one")], 2)
    first.fit(Theirs(lr=0.01), datamodule=TheirData())
    first.save_checkpoint(tmp_path / "a.ckpt")

    def go_on(callbacks):
        trainer(tmp_path, callbacks, 4).fit(
            module := Theirs(lr=0.01), datamodule=TheirData(), ckpt_path=tmp_path / "a.ckpt", weights_only=True
        )
        return module

    with (
        pytest.warns(UserWarning, match="Please add the following callbacks"),
        pytest.raises(ArgumentError, match=r"^ckpt_path: got .of a network that L2Mask.*'one'.* has pruned"),
    ):
        go_on([L2Mask([FIRST], 0.5, name="other")])
    assert share_of_zeros(go_on([L2Mask([FIRST], 0.5, name="one")]), FIRST) == 0.5
