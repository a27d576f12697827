"""unit_mask and unit_curve on a LightningModule and data that are not prunekit's."""

import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from callbacks.curves import Curves
from callbacks.measure import accuracy
from callbacks.unit_curve import Removal, UnitCurve
from callbacks.unit_mask import UnitMask
from prunekit.errors import ConfigError
from prunekit.figures.units import draw_scatter, draw_scores
from prunekit.masks import Mask
from prunekit.runs.reuse import SharedScores
from prunekit.units.compensation import compensate
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.criteria.entropy import Entropy
from prunekit.units.criteria.l1_norm import L1Norm
from prunekit.units.criteria.random import Random
from prunekit.units.criteria.reconstruction import Reconstruction
from prunekit.units.criteria.transfer_entropy import TransferEntropy
from prunekit.units.moments import OutputMoments
from prunekit.units.removal import kept_units, unit_mask, unit_parameters
from tests.callbacks.lightning import Foreign, TheirData, trainer

UNITS = 12


class Reader(Foreign):
    """Another user's LSTM classifier, with other names, two layers and time first."""

    def __init__(self, optimizer=torch.optim.Adam, **arguments):
        super().__init__(optimizer, **arguments)
        self.net = nn.ModuleDict({"memory": nn.LSTM(3, UNITS, 2), "say": nn.Linear(UNITS, 3)})

    def forward(self, x):
        return self.net["say"](self.net["memory"](x.transpose(0, 1))[0][-1])


class Sequences(TheirData):
    """Ninety sequences of three classes."""

    def inputs(self, y, generator):
        x = torch.randn(90, 6, 3, generator=generator)
        x[torch.arange(90), :, y] += 1.0
        return x


NAMES = {"lstm": "net.memory", "head": "net.say"}


def states(module):
    h = []
    hook = module.net["memory"].register_forward_hook(lambda m, i, o: h.append(o[0]))
    with torch.no_grad():
        module(Sequences().data.tensors[0])
    hook.remove()
    return h[0]


def fit(tmp_path, callbacks, epochs, module=None, ckpt_path=None):
    module = module or Reader(lr=0.05)
    done = trainer(tmp_path, callbacks, epochs)
    done.fit(module, Sequences(), ckpt_path=ckpt_path, weights_only=True)
    return module, done


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
    monkeypatch.setattr("callbacks.scoring._record", None)  # no pass is made
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


class SaveAfter(pl.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch + 1 == self.epochs:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/a.ckpt")


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


CRITERIA = {"transfer_entropy": TransferEntropy(), "random": Random(0)}
RATES = [0.0, 0.5, 0.75, 1.0]


def test_a_curve_is_what_removing_units_one_setting_at_a_time_gives(tmp_path):
    curve = UnitCurve(CRITERIA, RATES, **NAMES)
    module, _ = fit(tmp_path, [curve], 2)
    assert len(curve.rows) == 2 * 2 * 4
    assert json.loads((tmp_path / "unit_curve.json").read_text()) == curve.rows
    scores = load_file(tmp_path / "unit_scores.safetensors")
    x, y = Sequences().data.tensors
    for row in curve.rows:
        kept = kept_units(scores[row["criterion"]], row["removed"], row["order"])
        with torch.no_grad(), Removal(module, NAMES["lstm"]) as removal:
            removal.keep(kept)
            right = int((module(x).argmax(1) == y).sum())
        assert row["test_acc"] == right / 90
        assert row["removed"] == round(row["rate"] * UNITS)
    by_rate = {rate: {r["test_acc"] for r in curve.rows if r["rate"] == rate} for rate in RATES}
    assert len(by_rate[0.0]) == len(by_rate[1.0]) == 1
    assert len(by_rate[0.5] | by_rate[0.75]) > 1
    assert curve.report() == {"unit_curve": curve.rows}


def test_points_of_a_compensated_curve_are_those_of_single_runs(tmp_path):
    criteria = {"reconstruction": Reconstruction(), "random": Random(0)}
    curve = UnitCurve(criteria, [0.0, 0.5, 0.75], **NAMES, compensation="linear")
    fit(tmp_path / "curve", [curve], 2)
    lines = {(row["criterion"], row["order"]) for row in curve.rows}
    assert lines == {("reconstruction", "ascending"), ("random", "ascending"), ("random", "descending")}
    for row in curve.rows:
        where = tmp_path / f"{row['criterion']}{row['order']}{row['rate']}"
        criterion, names = criteria[row["criterion"]], {**NAMES, "compensation": "linear", "start_epoch": 2}
        module, done = fit(where, [UnitMask(criterion, row["rate"], row["order"], **names)], 2)
        assert row["test_acc"] == accuracy(done, module, "test"), row
    assert len({row["test_acc"] for row in curve.rows}) > 2


@pytest.mark.parametrize("compensation", ["none", "linear"])
def test_a_curve_leaves_the_network_as_it_was(compensation, tmp_path):
    plain, _ = fit(tmp_path / "plain", [], 2)
    module, _ = fit(tmp_path / "curve", [UnitCurve(CRITERIA, RATES, **NAMES, compensation=compensation)], 2)
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, dict(module.named_parameters())[name])


def test_a_curve_comes_before_any_pruning_and_once(tmp_path):
    curve = UnitCurve(CRITERIA, RATES, **NAMES)
    mask = UnitMask(Random(0), 0.5, **NAMES, start_epoch=2)
    fit(tmp_path / "both", [mask, curve, Curves()], 2)
    alone = UnitCurve(CRITERIA, RATES, **NAMES)
    fit(tmp_path / "alone", [alone, Curves()], 2)
    assert curve.rows == alone.rows


def test_rows_on_disk_are_not_measured_again(tmp_path, monkeypatch):
    whole = UnitCurve(CRITERIA, RATES, **NAMES)
    fit(tmp_path / "a", [whole], 2)
    calls = []

    def count(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return accuracy(*arguments)

    monkeypatch.setattr("callbacks.unit_curve.accuracy", count)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "b", [UnitCurve(CRITERIA, RATES, **NAMES)], 2)
    finished = json.loads((tmp_path / "b" / "unit_curve.json").read_text())
    assert finished == whole.rows[: len(finished)]
    assert len(finished) >= 4
    calls.clear()
    monkeypatch.setattr("callbacks.unit_curve.accuracy", lambda *a: calls.append(1) or accuracy(*a))
    again = UnitCurve(CRITERIA, RATES, **NAMES)
    fit(tmp_path / "b", [again], 2)
    assert again.rows == whole.rows
    assert len(calls) <= 16 - len(finished)


def test_tensorboard_overlays_one_run_a_criterion_and_order(tmp_path):
    from pytorch_lightning.loggers import TensorBoardLogger

    curve = UnitCurve(CRITERIA, RATES, **NAMES)
    for _ in range(2):  # the second time over the first's events
        (tmp_path / "unit_curve.json").unlink(missing_ok=True)
        done = trainer(tmp_path, [curve], 1, logger=TensorBoardLogger(tmp_path, "", ""))
        done.fit(Reader(lr=0.05), Sequences())
    for name in CRITERIA:
        for order in ("ascending", "descending"):
            shown = EventAccumulator(str(tmp_path / "units" / f"{name}_{order}"))
            shown.Reload()
            points = [(s.step, s.value) for s in shown.Scalars("accuracy/units_removed")]
            rows = [r for r in curve.rows if (r["criterion"], r["order"]) == (name, order)]
            assert [step for step, _ in points] == [0, 50, 75, 100]
            assert [value for _, value in points] == pytest.approx([row["test_acc"] for row in rows])
    pictures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert pictures == {"unit_curve", "scores", "states", "scatter"}


def test_equal_scores_are_drawn_too():
    scores = {"transfer_entropy": np.zeros(5), "entropy": np.arange(5.0)}
    assert "constant" in draw_scatter(scores, "transfer_entropy").axes[0].get_title()
    assert len(draw_scores(scores).axes) == 2


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
        (
            lambda: UnitCurve({"r": Reconstruction()}, RATES, ["descending"]),
            r"unit_curve\.orders: got \['descending'\]; accepted: an order that r makes sense in",
        ),
        (lambda: UnitCurve({}, RATES), r"callbacks\.unit_curve: .*at least one of each"),
        (lambda: UnitCurve(CRITERIA, [2.0]), r"callbacks\.unit_curve\.rates: got 2.0"),
        (lambda: UnitCurve(CRITERIA, RATES, ["up"]), r"callbacks\.unit_curve\.orders: got 'up'"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "make", [lambda **n: UnitMask(Entropy(), 0.5, **n), lambda **n: UnitCurve(CRITERIA, RATES, **n)]
)
def test_names_that_are_not_the_models_are_refused_before_training(make, tmp_path):
    module = Reader()
    with pytest.raises(
        ConfigError, match=r"\.lstm: got 'lstm'; accepted: the name of an nn\.LSTM.*; there: net\.memory"
    ):
        make().check(module)
    with pytest.raises(ConfigError, match=r"\.head: got 'head'; accepted: the part of the model.*net\.say"):
        make(lstm="net.memory").check(module)
    linear = make(**NAMES)
    linear.compensation = "linear"
    module.net["say"] = nn.Sequential(nn.Tanh(), nn.Linear(UNITS, 3))
    with pytest.raises(ConfigError, match=r"\.head: got 'net\.say, where net\.say\.0 is between net\.memory and net"):
        linear.check(module)
    make(**NAMES).check(module)
    module.net["memory"] = nn.LSTM(3, 4, bidirectional=True)
    with pytest.raises(ConfigError, match="one direction and without projection"):
        make(**NAMES).check(module)
