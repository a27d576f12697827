"""unit_mask on a LightningModule and data that are not prunekit's."""

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import nn

from prunekit.cache import Cache
from prunekit.calibration import Calibration, Seen
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.criterion import Criterion, Scores
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.units.compensation import compensate
from prunekit.units.grouping import Units
from prunekit.units.moments import OutputMoments
from prunekit.units.series import Recorder
from tests.callbacks.units import NAMES, UNITS, Reader, SaveAfter, Sequences, fit, kept, states, without_first


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("criterion", [TransferEntropy(), Entropy(), L1Norm(), Random(3)], ids=lambda c: c.name)
def test_units_go_in_the_order_of_their_scores(criterion, order, tmp_path):
    mask = UnitMask(criterion, 0.5, order, **NAMES, start_epoch=2)
    module, _ = fit(tmp_path, [mask], 2)
    dense, _ = fit(tmp_path / "dense", [], 2)
    scores = load_file(tmp_path / "scores.safetensors")[criterion.name]
    left = without_first(scores, 6, order)
    h = states(module)
    assert torch.equal(kept(mask, module), left)
    assert (h[..., ~left] == 0).all()
    assert not (h[..., left] == 0).all(0).all(0).any()
    for name, parameter in module.named_parameters():
        if name not in mask.mask:
            assert torch.equal(parameter, dict(dense.named_parameters())[name])
    assert mask.report() == {
        "criterion": criterion.name, "order": order, "rate": 0.5, "repair": "none", "compensation": "none",
        "units": {"count": 12, "removed": 6},
    }  # fmt: skip
    assert mask.achieved() == {"net.memory.units": 0.5}


def test_scores_are_those_of_the_whole_training_data_at_the_event(tmp_path):
    module, _ = fit(tmp_path, [UnitMask(TransferEntropy(), 0.0, **NAMES, start_epoch=2)], 2)
    recorder = Recorder(module.net["memory"], module.net["say"])
    given = Calibration([Sequences().data.tensors])
    recorder.run(module, given)
    series, _, _ = recorder.series(given)
    expected = TransferEntropy().scores(module, None, Seen(series)).values
    assert torch.equal(load_file(tmp_path / "scores.safetensors")["transfer_entropy"], expected)
    assert expected.abs().sum() > 0


def moments(module):
    h = states(module).transpose(0, 1)
    return OutputMoments.of(h)


def test_compensation_changes_what_reads_the_units_and_nothing_else(tmp_path):
    mask = UnitMask(Random(3), 0.5, **NAMES, compensation="linear", start_epoch=2)
    module, _ = fit(tmp_path, [mask], 2)
    dense, _ = fit(tmp_path / "dense", [], 2)
    left = kept(mask, module)
    assert mask.report()["compensation"] == "linear"
    compensate(dense.net["memory"], [dense.net["say"]], moments(dense), left)
    Units(NAMES["lstm"]).mask(dense, ~left).apply(dense)
    plain, _ = fit(tmp_path / "plain", [UnitMask(Random(3), 0.5, **NAMES, start_epoch=2)], 2)
    changed = set()
    for name, parameter in module.named_parameters():
        assert torch.allclose(parameter, dict(dense.named_parameters())[name], rtol=1e-5, atol=1e-6)
        if not torch.equal(parameter, dict(plain.named_parameters())[name]):
            changed.add(name)
    assert changed == {"net.memory.weight_hh_l1", "net.memory.bias_hh_l1", "net.say.weight", "net.say.bias"}


def test_compensation_takes_the_dense_networks_moments_where_others_left_them(tmp_path, monkeypatch):
    def make():
        more = {"compensation": "linear", "start_epoch": 2, "cache": Cache(tmp_path / "shared")}
        return UnitMask(Reconstruction(), 0.5, "ascending", **NAMES, **more)

    one, _ = fit(tmp_path / "a", [make()], 2)
    assert len(list((tmp_path / "shared").rglob("*.safetensors"))) == 2

    def only_the_first(*_, batches=None):  # of which it is seen that it could be scored
        if batches is None:
            raise TypeError("a whole pass")

    monkeypatch.setattr("prunekit.callbacks.scoring._observe", only_the_first)
    other, _ = fit(tmp_path / "b", [make()], 2)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, dict(other.named_parameters())[name])
    for damaged in (tmp_path / "shared").glob("*.safetensors"):
        whole = damaged.read_bytes()
        damaged.write_bytes(b"x")
        with pytest.raises(ArgumentError, match="a whole pass"):
            fit(tmp_path / "c", [make()], 2)
        damaged.write_bytes(whole)


def test_masks_of_units_and_of_gates_both_say_their_setting(tmp_path):
    class OneLayer(Reader):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.net["memory"] = nn.LSTM(3, UNITS)

    fine = UnitMask(Random(0), 0.5, "ascending", **NAMES, granularity="gate")
    coarse = UnitMask(Entropy(), 0.25, **NAMES)
    fit(tmp_path, [fine, coarse], 1, OneLayer(lr=0.05))
    assert (fine.report()["criterion"], fine.report()["gates"]["removed"]) == ("random", 24)
    assert (coarse.report()["criterion"], coarse.report()["units"]["removed"]) == ("entropy", 3)


class Alike(Criterion):
    name = "alike"

    def scores(self, module, groups, seen):
        return Scores(torch.zeros(len(groups), dtype=torch.float64))


def test_a_criterion_that_tells_no_unit_from_another_is_named(tmp_path, caplog):
    fit(tmp_path, [UnitMask(Alike(), 0.5, **NAMES, start_epoch=1)], 1)
    assert "alike: all units have the same score" in caplog.text


class Watch(pl.Callback):
    """After every step, removed units give exactly 0."""

    def __init__(self, mask):
        self.mask, self.steps, self.removed = mask, 0, []

    def on_train_batch_end(self, trainer, module, *_):
        if self.mask.mask:
            gone = ~kept(self.mask, module)
            assert (states(module)[..., gone] == 0).all()
            self.steps += 1
            self.removed.append(int(gone.sum()))


def test_rounds_with_retraining_hold_their_units_and_remove_more_each_time(tmp_path):
    arguments = {"rounds": 2, "retrain_epochs": 2, "start_epoch": 1, "compensation": "linear"}
    mask = UnitMask(Entropy(), 0.75, "ascending", **NAMES, **arguments)
    watch = Watch(mask)
    fit(tmp_path, [mask, watch], 5, Reader(torch.optim.AdamW, lr=0.05, weight_decay=0.1))
    assert watch.steps == 12
    assert watch.removed == [6] * 6 + [9] * 6  # 1 - 0.25 ** 0.5, then 0.75
    assert mask.report()["units"]["removed"] == 9


@pytest.mark.parametrize("compensation", ["none", "linear", "closed_loop"])
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
        (lambda: UnitMask(Random(0), 1.5), r"^rate: got 1.5"),
        (lambda: UnitMask(Random(0), 0.5, "up"), r"^order: got 'up'"),
        (
            lambda: UnitMask(Reconstruction(), 0.5, "descending"),
            r"^order: got 'descending'; accepted: ascending for reconstruction",
        ),
        (
            lambda: UnitMask(Random(0), 0.5, compensation="ridge"),
            r"^compensation: got 'ridge'; accepted: one of 'none', 'linear', 'closed_loop'",
        ),
        (lambda: UnitMask(Random(0), 0.5, ridge=0.0), r"^ridge: got 0.0"),
        (lambda: UnitMask(Random(0), 0.5, ridge=1e-16), r"^ridge: got 1e-16; accepted: a number of at least 1e-12"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
