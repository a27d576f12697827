"""unit_curve on a LightningModule and data that are not prunekit's."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prunekit.callbacks.curves import Curves
from prunekit.callbacks.measure import accuracy
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.errors import ArgumentError
from prunekit.figures.units import draw_scatter, draw_scores
from prunekit.units.grouping import Units
from tests.callbacks.lightning import trainer
from tests.callbacks.units import CRITERIA, NAMES, RATES, UNITS, Reader, Sequences, fit, without_first


def rows_in(folder):
    return json.loads((folder / "unit_curve.json").read_text())["rows"]


def test_a_curve_is_what_removing_units_one_setting_at_a_time_gives(tmp_path):
    curve = UnitCurve(CRITERIA, RATES, **NAMES)
    module, _ = fit(tmp_path, [curve], 2)
    assert len(curve.rows) == 2 * 2 * 4
    assert rows_in(tmp_path) == curve.rows
    scores = load_file(tmp_path / "unit_scores.safetensors")
    x, y = Sequences().data.tensors
    for row in curve.rows:
        kept = without_first(scores[row["criterion"]], row["removed"], row["order"])
        without = deepcopy(module)
        Units(NAMES["lstm"]).mask(without, ~kept).apply(without)
        with torch.no_grad():
            right = int((without(x).argmax(1) == y).sum())
        assert row["test_acc"] == right / 90
        assert row["removed"] == round(row["rate"] * UNITS)
    by_rate = {rate: {r["test_acc"] for r in curve.rows if r["rate"] == rate} for rate in RATES}
    assert len(by_rate[0.0]) == len(by_rate[1.0]) == 1
    assert len(by_rate[0.5] | by_rate[0.75]) > 1
    assert curve.report() == {"rows": curve.rows}


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


@pytest.mark.parametrize("compensation", ["none", "linear", "closed_loop"])
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

    monkeypatch.setattr("prunekit.callbacks.unit_curve.value_of", count)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "b", [UnitCurve(CRITERIA, RATES, **NAMES)], 2)
    finished = rows_in(tmp_path / "b")
    assert finished == whole.rows[: len(finished)]
    assert len(finished) >= 4
    calls.clear()
    monkeypatch.setattr("prunekit.callbacks.unit_curve.value_of", lambda *a: calls.append(1) or accuracy(*a))
    again = UnitCurve(CRITERIA, RATES, **NAMES)
    fit(tmp_path / "b", [again], 2)
    assert again.rows == whole.rows
    assert len(calls) <= 16 - len(finished)


def test_rows_of_another_network_in_the_same_folder_are_measured_anew(tmp_path):
    fit(tmp_path, [UnitCurve(CRITERIA, RATES, **NAMES)], 2)
    before = rows_in(tmp_path)
    again, alone = (UnitCurve(CRITERIA, RATES, **NAMES) for _ in range(2))
    fit(tmp_path, [again], 0, Reader(lr=0.05))  # as it is made
    fit(tmp_path / "alone", [alone], 0, Reader(lr=0.05))
    assert rows_in(tmp_path) == again.rows == alone.rows
    assert again.rows != before


def test_rows_of_another_setting_in_the_same_folder_are_measured_anew(tmp_path):
    fit(tmp_path, [UnitCurve({"random": Random(0)}, RATES, **NAMES)], 2)
    again, alone = (UnitCurve({"random": Random(1)}, RATES, **NAMES, compensation="linear") for _ in range(2))
    fit(tmp_path, [again], 2)
    fit(tmp_path / "alone", [alone], 2)
    assert again.rows == alone.rows


def test_errors_of_scoring_name_the_curves_arguments(tmp_path):
    class Unpacked(Reader):
        def forward(self, x):
            return super().forward(x) + 0 * super().forward(x)

    curve = UnitCurve({"te": CRITERIA["transfer_entropy"]}, RATES, **NAMES)
    with pytest.raises(ArgumentError, match=r"^criteria: got 'te on a Unpacked: .*call its layer once") as caught:
        fit(tmp_path, [curve], 1, Unpacked(lr=0.05))
    assert caught.value.owner is curve


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
        (
            lambda: UnitCurve({"r": Reconstruction()}, RATES, ["descending"]),
            r"^orders: got \['descending'\]; accepted: an order that r makes sense in",
        ),
        (lambda: UnitCurve({}, RATES), r"^criteria: got {}; accepted: at least one"),
        (lambda: UnitCurve(CRITERIA, [2.0]), r"^rates: got 2.0"),
        (lambda: UnitCurve(CRITERIA, RATES, ["up"]), r"^orders: got 'up'"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
