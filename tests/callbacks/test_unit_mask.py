"""unit_mask on a LightningModule and data that are not prunekit's."""

import pytest
import pytorch_lightning as pl
import torch
from prunekit.reuse import SharedScores
from prunekit.units.removal import kept_units, unit_mask, unit_parameters
from safetensors.torch import load_file

from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ConfigError
from prunekit.masks import Mask
from prunekit.units.compensation import compensate
from prunekit.units.moments import OutputMoments
from tests.callbacks.lightning import trainer
from tests.callbacks.units import NAMES, Reader, SaveAfter, Sequences, fit, states


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("criterion", [TransferEntropy(), Entropy(), L1Norm(), Random(3)], ids=lambda c: c.name)
def test_units_go_in_the_order_of_their_scores(criterion, order, tmp_path):
    mask = UnitMask(criterion, 0.5, order, **NAMES, start_epoch=2)
    module, _ = fit(tmp_path, [mask], 2)
    dense, _ = fit(tmp_path / "dense", [], 2)
    scores = load_file(tmp_path / "scores.safetensors")[criterion.name]
    kept = kept_units(scores, 6, order)
    h = states(module)
    assert (h[..., ~kept] == 0).all()
    assert not (h[..., kept] == 0).all(0).all(0).any()
    for name, parameter in module.named_parameters():
        if name not in mask.parameters:
            assert torch.equal(parameter, dict(dense.named_parameters())[name])
    assert mask.report() == {
        "criterion": criterion.name, "order": order, "rate": 0.5, "compensation": "none",
        "units": {"count": 12, "removed": 6},
    }  # fmt: skip
    assert mask.achieved() == {"net.memory.units": 0.5}


def test_scores_are_those_of_the_whole_training_data_at_the_event(tmp_path):
    module, _ = fit(tmp_path, [UnitMask(TransferEntropy(), 0.0, **NAMES, start_epoch=2)], 2)
    from prunekit.units.series import Recorder

    recorder = Recorder(module.net["memory"], module.net["say"])
    recorder.run(module, [Sequences().data.tensors])
    expected = TransferEntropy().scores(module.net["memory"], recorder.series()).values
    assert torch.equal(load_file(tmp_path / "scores.safetensors")["transfer_entropy"], expected)
    assert expected.abs().sum() > 0


def moments(module):
    h = states(module).transpose(0, 1)
    return OutputMoments.of(h)


def test_compensation_changes_what_reads_the_units_and_nothing_else(tmp_path):
    mask = UnitMask(Random(3), 0.5, **NAMES, compensation="linear", start_epoch=2)
    module, _ = fit(tmp_path, [mask], 2)
    dense, _ = fit(tmp_path / "dense", [], 2)
    kept = mask._kept
    assert mask.report()["compensation"] == "linear"
    compensate(dense.net["memory"], [dense.net["say"]], moments(dense), kept)
    unit_mask(dense.net["memory"], NAMES["lstm"], kept).apply(dense)
    plain, _ = fit(tmp_path / "plain", [UnitMask(Random(3), 0.5, **NAMES, start_epoch=2)], 2)
    changed = set()
    for name, parameter in module.named_parameters():
        assert torch.allclose(parameter, dict(dense.named_parameters())[name], rtol=1e-5, atol=1e-6)
        if not torch.equal(parameter, dict(plain.named_parameters())[name]):
            changed.add(name)
    assert changed == {"net.memory.weight_hh_l1", "net.memory.bias_hh_l1", "net.say.weight", "net.say.bias"}


def test_compensation_takes_the_dense_networks_moments_where_others_left_them(tmp_path, monkeypatch):
    def make():
        mask = UnitMask(Reconstruction(), 0.5, "ascending", **NAMES, compensation="linear", start_epoch=2)
        mask.shared_scores = SharedScores(tmp_path / "shared")
        return mask

    one, _ = fit(tmp_path / "a", [make()], 2)
    assert len(list((tmp_path / "shared").rglob("*.safetensors"))) == 2
    monkeypatch.setattr("prunekit.callbacks.scoring._record", None)  # no pass is made
    other, _ = fit(tmp_path / "b", [make()], 2)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, dict(other.named_parameters())[name])
    next((tmp_path / "shared").rglob("moments.safetensors")).write_bytes(b"x")
    with pytest.raises(ConfigError, match="not callable"):
        make().select(*selectable(tmp_path / "c", other))


def selectable(folder, module):
    """A module in a trainer, and its full mask, outside a fit."""
    done = trainer(folder, [], 0)
    done.fit(module, Sequences())
    return module, Mask.full(module, unit_parameters(module.net["memory"], NAMES["lstm"]))


class Alike(Criterion):
    name, needs_series = "alike", False

    def scores(self, lstm, series):
        return Scores(torch.zeros(lstm.hidden_size, dtype=torch.float64))


def test_a_criterion_that_tells_no_unit_from_another_is_named(tmp_path, caplog):
    fit(tmp_path, [UnitMask(Alike(), 0.5, **NAMES, start_epoch=1)], 1)
    assert "alike: all units have the same score" in caplog.text


class Watch(pl.Callback):
    """After every step, removed units give exactly 0."""

    def __init__(self, mask):
        self.mask, self.steps, self.removed = mask, 0, []

    def on_train_batch_end(self, trainer, module, *_):
        if self.mask.mask:
            kept = self.mask._kept
            assert (states(module)[..., ~kept] == 0).all()
            self.steps += 1
            self.removed.append(int((~kept).sum()))


def test_rounds_with_retraining_hold_their_units_and_remove_more_each_time(tmp_path):
    arguments = {"rounds": 2, "retrain_epochs": 2, "start_epoch": 1, "compensation": "linear"}
    mask = UnitMask(Entropy(), 0.75, "ascending", **NAMES, **arguments)
    watch = Watch(mask)
    fit(tmp_path, [mask, watch], 5, Reader(torch.optim.AdamW, lr=0.05, weight_decay=0.1))
    assert watch.steps == 12
    assert watch.removed == [6] * 6 + [9] * 6  # 1 - 0.25 ** 0.5, then 0.75
    assert mask.report()["units"]["removed"] == 9


@pytest.mark.parametrize("compensation", ["none", "linear"])
def test_a_run_resumes_to_the_same_units_and_weights(compensation, tmp_path):
    def make():
        arguments = {"rounds": 2, "retrain_epochs": 2, "start_epoch": 1, "compensation": compensation}
        return UnitMask(TransferEntropy(), 0.75, **NAMES, **arguments)

    whole, _ = fit(tmp_path / "a", [make()], 5)
    fit(tmp_path / "b", [make(), SaveAfter(3)], 5)
    resumed, _ = fit(tmp_path / "c", [make()], 5, ckpt_path=tmp_path / "b" / "a.ckpt")
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, dict(resumed.named_parameters())[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UnitMask(Random(0), 1.5), r"callbacks\.unit_mask\.rate: got 1.5"),
        (lambda: UnitMask(Random(0), 0.5, "up"), r"callbacks\.unit_mask\.order: got 'up'"),
        (
            lambda: UnitMask(Reconstruction(), 0.5, "descending"),
            r"unit_mask\.order: got 'descending'; accepted: ascending for reconstruction",
        ),
        (
            lambda: UnitMask(Random(0), 0.5, compensation="ridge"),
            r"compensation: got 'ridge'; accepted: one of 'none', 'linear'",
        ),
        (lambda: UnitMask(Random(0), 0.5, ridge=0.0), r"callbacks\.unit_mask\.ridge: got 0.0"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
