"""Models that are not prunekit's: each is pruned exactly, or refused before training."""

import pytest
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import nn

from prunekit.callbacks.pruning import Pruning
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.magnitude import Magnitude
from prunekit.criteria.random import Random
from prunekit.criteria.saliency import Saliency
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.groups import Weights
from prunekit.units.grouping import Gates, Units
from prunekit.units.repair import Linear
from tests.strangers.exact import Dense, Reader, assert_refused, fit, removed_exactly, silent_units


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
