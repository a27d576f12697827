"""Models, data, loggers and loops that are not prunekit's: each is pruned exactly, or refused before training."""

import math
from collections.abc import Iterator

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.pruning import Pruning
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.magnitude import Magnitude
from prunekit.criteria.random import Random
from prunekit.criteria.saliency import Saliency
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.groups import Weights
from prunekit.held_mask import HeldMask
from prunekit.masks import all_weights, find_parameter
from prunekit.pruning import prune
from prunekit.units.grouping import Gates, Units
from prunekit.units.repair import Linear
from tests.callbacks.lightning import TheirData, Theirs, trainer

IMAGES, CLASSES = TheirData().data.tensors
UNITS = 8


class Exact(PruningObserver):
    """Asserts after every batch that what is removed is exactly 0, or what it is held at, and what is kept is not."""

    def __init__(self):
        self.batches, self.events = 0, 0

    def after_pruning(self, trainer, module, event):
        self.events += 1
        self.on_train_batch_end(trainer, module)

    def on_train_batch_end(self, trainer, module, *_):
        mask = current_mask(trainer)
        for name, kept in mask.items():
            weight = find_parameter(module, name).detach()
            assert torch.equal(weight[~kept], mask.held.get(name, torch.zeros_like(weight)).to(weight)[~kept])
            assert (weight[kept] != 0).all() or "bias" in name
        self.batches += bool(mask)


def fit(folder, module, callbacks, *data, epochs=4, expected=9, **arguments):
    """Train with callbacks that prune when one epoch is done, and three more; the watch saw it."""
    watch = Exact()
    done = trainer(folder, [*callbacks, watch], epochs, **arguments)
    done.fit(module, *(data or [TheirData()]))
    assert watch.events >= sum(isinstance(callback, Pruning) for callback in callbacks)
    assert watch.batches >= expected
    return module


def removed_exactly(module, mask, rate):
    """The mask removes the share of all its entries to a single one, and these are what is 0."""
    total = sum(kept.numel() for kept in mask.values())
    zeros = sum(int((find_parameter(module, name) == 0).sum()) for name in mask)
    return zeros == mask.removed() == round(rate * total) and 0 < zeros < total


def loader(*tensors, **arguments):
    return DataLoader(TensorDataset(*(tensors or (IMAGES, CLASSES))), 30, **arguments)


@pytest.fixture
def l2():
    return L2Mask(None, 0.3, start_epoch=1)


# Models


class Dense(Theirs):
    """With parts that most have: dropout, batch norm, a convolution."""

    def __init__(self, optimizer=torch.optim.Adam, lr=0.01, **arguments):
        super().__init__(optimizer, lr=lr, **arguments)
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.3))


def test_convolutions_and_batch_norm_and_dropout(l2, tmp_path):
    module = fit(tmp_path, Dense(), [l2])
    assert set(l2.mask) == {"stem.0.weight", "body.first.weight", "body.last.weight"}  # a norm has no weights to prune
    assert removed_exactly(module, l2.mask, 0.3)


def test_units_of_a_linear_layer(tmp_path):
    mask = Pruning(Units("body.first"), L1Norm(), 0.5, start_epoch=1)
    module = fit(tmp_path, Dense(), [mask])
    assert int((module.body["first"](torch.randn(5, 72)) == 0).all(0).sum()) == 8


@pytest.mark.parametrize(
    ("grouping", "criterion", "message"),
    [
        (
            Units("stem.0"),
            L1Norm(),
            r"^layer: got 'stem\.0'; accepted: the name of an nn\.LSTM.*; recurrent ones: none",
        ),
        (Units("body.first"), Entropy(), r"^layer: got 'body\.first'; accepted: .* else a criterion of weights alone"),
        (
            Weights(["body.frist.weight"]),
            Magnitude(),
            r"^parameters: got 'body\.frist\.weight'; .*nearest: body\.first",
        ),
        (Weights(), Entropy(), "^criterion: got 'one that looks at outputs'; accepted: one of weights alone"),
        (Units("body.first"), Saliency(), "^criterion: got 'one that looks at saliency'; accepted: .* each unit does"),
    ],
)
def test_what_does_not_fit_a_model_is_refused(grouping, criterion, message, tmp_path):
    assert_refused(lambda: Pruning(grouping, criterion, 0.5, start_epoch=1), Dense(), message, tmp_path)


def assert_refused(make, module, message, folder, *data, **arguments):
    """Before a single step, in one line."""
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    with pytest.raises(ArgumentError, match=message) as caught:
        trainer(folder, [make()], 4, **arguments).fit(module, *(data or [TheirData()]))
    assert "\n" not in str(caught.value)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])


class HalfFrozen(Dense):
    def __init__(self):
        super().__init__()
        self.body["first"].requires_grad_(False)


def test_frozen_parts(l2, tmp_path):
    module = HalfFrozen()
    before = module.body["first"].weight.clone()
    fit(tmp_path, module, [l2])
    assert removed_exactly(module, l2.mask, 0.3)
    assert torch.equal(module.body["first"].weight, before * l2.mask["body.first.weight"])


def test_parts_that_are_unfrozen_after_they_were_pruned(l2, tmp_path):
    class WithBackbone(Dense):
        def __init__(self):
            super().__init__()
            self.backbone = self.body["first"]

        def configure_optimizers(self):
            return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=0.01, momentum=0.9)

    module = WithBackbone()
    before = module.backbone.weight.clone()
    unfreeze = BackboneFinetuning(unfreeze_backbone_at_epoch=2, backbone_initial_lr=0.01)
    fit(tmp_path, module, [l2, unfreeze], epochs=5)
    assert removed_exactly(module, l2.mask, 0.3)
    kept = l2.mask["backbone.weight" if "backbone.weight" in l2.mask else "body.first.weight"]
    assert (module.backbone.weight != before)[kept].float().mean() > 0.9  # they did train on


class Reader(Theirs):
    """Reads an image row by row."""

    def __init__(self, kind=nn.GRU, **layer):
        super().__init__(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
        self.memory, self.say = kind(6, UNITS, batch_first=True, **layer), nn.LazyLinear(3)
        self.drop = nn.Dropout(0.5)
        self(IMAGES[:1])

    def forward(self, x):
        return self.say(self.drop(self.memory(x)[0])[:, -1])


def silent_units(module):
    """Those whose output is exactly 0 at every step."""
    with torch.no_grad():
        return (module.memory(IMAGES)[0] == 0).all(0).all(0)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("criterion", [TransferEntropy(), L1Norm(), Random(0)], ids=lambda each: each.name)
def test_recurrent_layers_with_dropout_behind_them(kind, criterion, tmp_path):
    mask = UnitMask(criterion, 0.25, lstm="memory", head="say", start_epoch=1)
    module = fit(tmp_path, Reader(kind), [mask])
    assert torch.equal(silent_units(module), mask.grouping(module, mask.mask).gone)
    assert int(silent_units(module).sum()) == 2
    assert mask.report()["units"] == {"count": 8, "removed": 2}


def test_scores_do_not_depend_on_dropout(tmp_path):
    masks = [UnitMask(TransferEntropy(), 0.5, lstm="memory", head="say") for _ in range(2)]
    for number, mask in enumerate(masks):
        module = Reader()
        torch.manual_seed(number)
        fit(tmp_path / str(number), module, [mask], epochs=1, expected=1)
    assert masks[0].mask == masks[1].mask


def test_rounds_of_a_gru_whose_units_are_compensated(tmp_path):
    rounds = {"rounds": 2, "retrain_epochs": 1, "start_epoch": 1}
    mask = Pruning(Units("memory", "say"), Entropy(), 0.75, repair=Linear(), **rounds)
    module = fit(tmp_path, Reader(), [mask])
    assert int(silent_units(module).sum()) == 6


def test_units_of_all_layers_in_both_directions_by_their_weights(tmp_path):
    mask = Pruning(Units("memory", every=True), L1Norm(), 0.25, scope="within", start_epoch=1)
    module = fit(tmp_path, Reader(num_layers=2, bidirectional=True), [mask])
    assert mask.report()["units"] == {"count": 32, "removed": 8}
    assert int(silent_units(module).sum()) == 4  # of the last layer, two in each direction


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (lambda: Pruning(Gates("memory"), L1Norm(), 0.5), {}, r"^layer: got 'memory, .*accepted: for gates an LSTM"),
        (
            lambda: UnitMask(Entropy(), 0.5, lstm="memory", head="say"),
            {"bidirectional": True},
            r"^lstm: got 'memory, of two directions'; accepted: the last layer of one direction",
        ),
        (
            lambda: UnitMask(Entropy(), 0.5, lstm="memory", head="say"),
            {"kind": nn.LSTM, "proj_size": 4},
            r"^lstm: got 'memory'; accepted: a layer without projection",
        ),
        (lambda: UnitMask(Entropy(), 0.5, lstm="memory"), {}, r"^head: got 'head'; accepted: the part of the model"),
    ],
)
def test_recurrent_layers_that_cannot_be_pruned_are_refused(make, layer, message, tmp_path):
    assert_refused(make, Reader(**layer), message, tmp_path)


# Data


def test_a_plain_dataloader(l2, tmp_path):
    assert removed_exactly(fit(tmp_path, Dense(), [l2], loader(shuffle=True), loader()), l2.mask, 0.3)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator:
        return zip(IMAGES, CLASSES, strict=True)


def streams():
    return [DataLoader(Stream(), 30)] * 2  # Lightning warns of a validation_step without data


def test_a_stream_of_unknown_length(l2, tmp_path):
    assert removed_exactly(fit(tmp_path, Dense(), [l2], *streams()), l2.mask, 0.3)


def test_a_stream_and_a_number_of_steps(l2, tmp_path, caplog):
    arguments = {"epochs": -1, "max_steps": 8, "expected": 5}
    assert removed_exactly(fit(tmp_path, Dense(), [l2], *streams(), **arguments), l2.mask, 0.3)
    late = L2Mask(None, 0.3, start_epoch=9)
    trainer(tmp_path, [late], -1, max_steps=4).fit(Dense(), *streams())
    assert "and 0 of 1 rounds are pruned: the next was due after 9" in caplog.text


class Dicts(Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return {"pixels": IMAGES[index], "label": CLASSES[index]}


class OfDicts(Reader):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch["pixels"], batch["label"]), batch_idx)


class DictData(TheirData):
    def train_dataloader(self):
        return DataLoader(Dicts(), 30)

    val_dataloader = train_dataloader


def predict_dict(module, batch):
    return module(batch["pixels"]), batch["label"]


def test_batches_that_are_dicts(l2, tmp_path):
    assert removed_exactly(fit(tmp_path, OfDicts(), [l2], DictData()), l2.mask, 0.3)


def test_batches_that_are_dicts_looked_at_by_a_criterion(tmp_path):
    one, other = (
        UnitMask(TransferEntropy(), 0.25, lstm="memory", head="say", start_epoch=1, predict=how)
        for how in (predict_dict, None)
    )
    module = fit(tmp_path / "dicts", OfDicts(), [one], DictData())
    assert int(silent_units(module).sum()) == 2
    fit(tmp_path / "tuples", Reader(), [other])
    assert one.mask == other.mask


def test_batches_that_are_dicts_are_refused_where_nothing_says_how_to_take_them(tmp_path):
    message = "^predict: got 'none, while a batch is a dict'; accepted: a function"
    pruning = UnitMask(Entropy(), 0.25, lstm="memory", head="say")
    assert_refused(lambda: pruning, OfDicts(), message, tmp_path, DictData())


# Loggers and loops


class AnyLogger(Logger):
    """Takes hyperparameters with any other arguments, as that of Weights & Biases does."""

    def __init__(self, **kwargs):
        super().__init__()
        self.kwargs, self.metrics = kwargs, []

    name, version = "any", 0

    def log_hyperparams(self, params, **kwargs):
        """Nothing to keep."""

    def log_metrics(self, metrics, step=None):
        self.metrics.append(metrics)


class Logging(Dense):
    def training_step(self, batch, batch_idx):
        self.log("loss", loss := super().training_step(batch, batch_idx))
        return loss


def wandb_logger(folder):
    pytest.importorskip("wandb", reason="wandb is not installed")
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(save_dir=folder, offline=True)


@pytest.mark.parametrize(
    "make", [CSVLogger, lambda folder: AnyLogger(project="p", tags=["a"]), wandb_logger], ids=["csv", "any", "wandb"]
)
def test_loggers(make, l2, tmp_path):
    units = Pruning(Units("body.first"), L1Norm(), 0.25, start_epoch=1)
    logger = make(tmp_path)
    fit(tmp_path, Logging(), [l2, units], logger=logger)
    assert l2.mask.removed() == round(0.3 * sum(kept.numel() for kept in l2.mask.values()))
    # Beside the logger's files, where these are a run's own.
    folder = tmp_path / "lightning_logs" / "version_0" if isinstance(logger, CSVLogger) else tmp_path
    assert list(tmp_path.rglob("scores.safetensors")) == [folder / "scores.safetensors"]
    if isinstance(logger, AnyLogger):
        assert len(logger.metrics) == 12


def test_two_callbacks_of_one_class(tmp_path):
    names = ["body.first.weight", "body.last.weight"]
    masks = [L2Mask([name], 0.25, start_epoch=1) for name in names]
    module = fit(tmp_path, Dense(), masks)
    assert all(removed_exactly(module, mask.mask, 0.25) for mask in masks)


def test_accumulated_and_clipped_gradients(l2, tmp_path):
    arguments = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}
    module = fit(tmp_path, Dense(torch.optim.SGD, momentum=0.9), [l2], **arguments)
    assert removed_exactly(module, l2.mask, 0.3)


class TwoOptimizers(Dense):
    """Steps two optimizers by itself, one of them every other batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self):
        parts = [[*self.stem.parameters()], [*self.body.parameters()]]
        return [
            torch.optim.SGD(parts[0], lr=0.01, momentum=0.9, weight_decay=0.1),
            torch.optim.Adam(parts[1], lr=0.01, weight_decay=0.1),
        ]

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        for number, optimizer in enumerate(self.optimizers()):
            if number == 0 or batch_idx % 2:
                optimizer.zero_grad()
        self.manual_backward(loss)
        for number, optimizer in enumerate(self.optimizers()):
            if number == 0 or batch_idx % 2:
                optimizer.step()


def test_two_optimizers(l2, tmp_path):
    module = TwoOptimizers()
    before = {name: find_parameter(module, name).clone() for name in all_weights(module)}
    fit(tmp_path, module, [l2])
    assert removed_exactly(module, l2.mask, 0.3)
    for name, weight in before.items():
        assert (find_parameter(module, name) != weight)[l2.mask[name]].float().mean() > 0.9, name


class Sequential(nn.Module):
    """No LightningModule."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.memory, self.say = nn.GRU(6, UNITS, batch_first=True), nn.Linear(UNITS, 3)

    def forward(self, x):
        return self.say(self.memory(x)[0][:, -1])


def steps(module, optimizer, count=10):
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(IMAGES), CLASSES).backward()
        optimizer.step()


def test_a_model_and_a_loop_without_lightning():
    module = Sequential()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    steps(module, optimizer)
    pruned = prune(module, Units("memory", "say"), TransferEntropy(), 0.5, loader(), repair=Linear())
    assert int(silent_units(module).sum()) == 4
    assert torch.equal(silent_units(module), pruned.goes)
    held = HeldMask(pruned.mask, module, [optimizer])
    steps(module, optimizer)
    assert torch.equal(silent_units(module), pruned.goes)
    further = prune(module, Weights(), Magnitude(), 0.6, mask=pruned.mask)
    held.release()
    held = HeldMask(pruned.mask & further.mask, module, [optimizer])
    steps(module, optimizer)
    weights = all_weights(module)
    zeros = sum(int((find_parameter(module, name) == 0).sum()) for name in weights)
    assert zeros == math.floor(0.5 + 0.6 * sum(find_parameter(module, name).numel() for name in weights))
    assert torch.equal(silent_units(module) & pruned.goes, pruned.goes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Units("memory"), Entropy(), 0.5), r"^batches: got None; accepted: batches of training data: outputs have to"),
        ((Units("memory", "say"), TransferEntropy(), 0.5, [IMAGES]), "success at each step wants one class for each"),
        ((Units("memory"), Entropy(), 1.5, [IMAGES]), r"^rate: got 1\.5"),
        ((Units("other"), Entropy(), 0.5, [IMAGES]), r"^layer: got 'other'; accepted: .*recurrent ones: memory"),
        ((Gates("memory"), L1Norm(), 0.5), r"^layer: got 'memory, .*accepted: for gates an LSTM"),
    ],
)
def test_what_does_not_fit_a_model_without_lightning_is_refused(arguments, message):
    module = Sequential()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        prune(module, *arguments)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training


def test_a_seed_of_a_stranger_is_left_alone(l2, tmp_path):
    """Pruning by weights draws no random number, so that what comes after is what it would have been."""
    states = []
    for callbacks in ([], [l2]):
        pl.seed_everything(1, verbose=False)
        trainer(tmp_path, callbacks, 2).fit(Dense(), TheirData())
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
