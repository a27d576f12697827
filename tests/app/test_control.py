"""Controls: what is trained in place of a pruned network, where it lies in a report, and what cannot be one."""

import csv

import pytest
import torch

from prunekit.app.control import (
    AS_MANY_EPOCHS,
    CONTROLS,
    DISTILLED,
    DISTILLED_RETRAINING,
    LOW_RANK,
    OF_DENSE,
    SCRATCH,
    SCRATCH_RETRAINING,
    SINGLE_WEIGHTS,
    TAUGHT,
    controlled,
    teacher_of,
)
from prunekit.app.errors import ConfigError
from prunekit.app.identity import dense_hash
from prunekit.app.rebuild import rebuild
from prunekit.app.report import report
from prunekit.app.reports.collect import collect
from prunekit.app.results import summary_table
from prunekit.errors import ArgumentError

MASK = {"lstm": "lstm", "rate": 0.75, "rounds": 2, "retrain_epochs": 3, "order": "ascending"}


def config(control, mask=MASK, **model):
    callbacks = {"unit_mask": mask, "unit_curve": {"lstm": "lstm"}, "curves": {}} if mask else {"curves": {}}
    return {
        "control": control, "dense_epochs": 5, "criterion": {"_target_": "x"}, "model": {"units": 10, **model},
        "callbacks": callbacks,
    }  # fmt: skip


def test_sizes_and_epochs():
    found = {control: controlled(config(control)) for control in CONTROLS if control not in OF_DENSE}
    assert {c: (f["model"]["units"], f["dense_epochs"]) for c, f in found.items()} == {
        SCRATCH: (2, 11), SCRATCH_RETRAINING: (2, 6), AS_MANY_EPOCHS: (10, 11), DISTILLED: (2, 11),
        DISTILLED_RETRAINING: (2, 6),
    }  # fmt: skip
    assert all(each["criterion"] is None for each in found.values())
    left = {control: list(each["callbacks"]) for control, each in found.items()}
    assert left == {control: ["curves", *(["teacher"] if control in TAUGHT else [])] for control in found}
    given = config(None)
    assert controlled(given) is given
    again = config(SCRATCH)
    controlled(again)
    assert again == config(SCRATCH)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (config("dense"), "control: got 'dense'; accepted: one of 'scratch'"),
        (config(AS_MANY_EPOCHS, None), "control: got 'as_many_epochs'; accepted: null: there is nothing pruned"),
        (config(SCRATCH, None), "control: got 'scratch'; accepted: null, or with callbacks.unit_mask"),
        (config(SCRATCH, MASK | {"rate": 1.0}), r"callbacks.unit_mask.rate: got 1.0; accepted: a rate that leaves"),
        (config(SCRATCH, MASK | {"rate": "a"}), r"callbacks.unit_mask.rate: got 'a'"),
        (config(SCRATCH, MASK | {"granularity": "gate"}), r"granularity: got 'gate'; accepted: unit"),
        (config(SCRATCH, layers=2), "model.layers: got 'several layers"),
        (config(SCRATCH, MASK | {"layers": "every"}, layers=2), "model.layers: got 'several layers"),
        (config(SCRATCH_RETRAINING, MASK | {"retrain_epochs": 0}), r"retrain_epochs: got 0; accepted: 1 or more"),
        (config(LOW_RANK), r"retrain_epochs: got 3; accepted: 0 with control=low_rank"),
        (config(LOW_RANK, MASK | {"retrain_epochs": 0, "granularity": "gate"}), r"granularity: got 'gate'"),
    ],
)
def test_what_cannot_be_a_control_is_refused(given, message):
    with pytest.raises((ConfigError, ArgumentError), match=message):
        controlled(given)


def test_several_layers_that_lose_as_many_units_are_a_narrower_stack():
    mask = MASK | {"layers": "every", "scope": "within"}
    assert controlled(config(SCRATCH, mask, layers=2, directions=2))["model"]["units"] == 2


def test_controls_lie_beside_criteria_and_are_held_against_the_same_dense_network(new_run, miniature, tmp_path):
    small = (
        "experiment=synthetic_te", "model.units=8", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames",
        "~callbacks.unit_curve", "callbacks.unit_mask.retrain_epochs=1", *miniature("synthetic_te"),
    )  # fmt: skip
    runs = {
        (control, criterion): new_run(*small, f"control={control}", f"criterion={criterion}")
        for control in ("null", *(each for each in CONTROLS if each != LOW_RANK))
        for criterion in ("entropy", "random")
    }
    results = {key: run.go() for key, run in runs.items()}
    assert new_run(*small, "criterion=entropy").config_hash == runs["null", "entropy"].config_hash
    assert len({run.folder for run in runs.values()}) == 14
    # What is trained does not depend on the criterion: a dense network, two from scratch, two taught, one for longer.
    assert len(list((runs["null", "random"].home / "dense").iterdir())) == 6
    of = {control: results[control, "random"] for control, _ in runs}
    assert [of[control]["training"]["epochs"] for control in of] == [3, 3, 1, 3, 1, 3, 3]
    assert (
        of[SCRATCH]["training"]["macs"] * 3
        == of[SCRATCH]["training"]["epochs"] * 3 * of[SCRATCH_RETRAINING]["training"]["macs"]
    )
    assert of[SCRATCH]["parameters"]["dense"] == of["null"]["parameters"]["compact"]
    assert of[AS_MANY_EPOCHS]["parameters"]["dense"] == of["null"]["parameters"]["dense"]
    # As many weights are 0 as are not there where units were cut out; biases stay.
    single, dense, small = (
        of[SINGLE_WEIGHTS],
        rebuild(runs["null", "random"].folder),
        rebuild(runs[SCRATCH, "random"].folder),
    )
    sizes = [sum(p.numel() for p in each.module.parameters() if p.dim() > 1) for each in (dense, small)]
    assert single["parameters"]["dense"] - single["parameters"]["nonzero"] == sizes[0] - sizes[1]
    assert single["metrics"]["dense/test_acc"] == of["null"]["metrics"]["dense/test_acc"]
    folder = runs["null", "random"].folder.parent
    assert collect(folder).problems == []
    report(folder, tmp_path / "report")
    with (tmp_path / "report" / "results.csv").open() as file:
        rows = {row["criterion"]: row for row in csv.DictReader(file)}
    names = {"from scratch", "from scratch, as long as retraining", "not pruned, as many epochs", "entropy", "random"}
    names |= {"from scratch, taught", "from scratch, taught, as long as retraining", "as many single weights"}
    assert set(rows) == names
    assert {float(row["dense_test_acc"]) for row in rows.values()} == {of["null"]["metrics"]["dense/test_acc"]}
    assert float(rows["from scratch"]["final_test_acc"]) == of[SCRATCH]["metrics"]["final/test_acc"]
    assert (tmp_path / "report" / "training.png").exists()
    text = (tmp_path / "report" / "report.md").read_text()
    apart = 100 * (of["null"]["metrics"]["final/test_acc"] - of[SCRATCH]["metrics"]["final/test_acc"])
    section = text.split("## Points of accuracy against from scratch, paired by seed")[1].split("##")[0]
    assert f"| random | descending | 1 | {apart:.1f} |" in section.replace("-0.0", "0.0")
    made = rebuild(runs[SCRATCH, "random"].folder)
    assert made.module.lstm.hidden_size == 4
    shown = {control: list(summary_table(of[control]).columns[0].cells)[:1] for control in CONTROLS if control in of}
    assert shown == {c: ["dense" if c in OF_DENSE else CONTROLS[c]] for c in shown}


def test_the_teacher_is_the_dense_network_of_the_run_that_is_pruned():
    given = config(DISTILLED) | {"dense_callbacks": ["curves"], "seed": 3}
    found = controlled(given)
    teacher = teacher_of(found)
    assert (teacher["model"], teacher["dense_epochs"], teacher["seed"]) == ({"units": 10}, 5, 3)
    assert (teacher["callbacks"], teacher["dense_callbacks"]) == ({"curves": {}}, ["curves"])
    assert found["dense_callbacks"] == ["curves", "teacher"]
    assert teacher_of(controlled(config(SCRATCH))) is None
    same = {**given, "model": {"units": 10}}
    other = {**given, "model": {"units": 9}}  # of which as many stay
    ids = [dense_hash({**controlled(each), "trainer": {}, "data": {}}, "f", "cpu") for each in (given, same, other)]
    assert ids[0] == ids[1] != ids[2]


def test_a_taught_control_says_what_the_dense_network_says(new_run, miniature):
    small = (
        "experiment=synthetic_te", "model.units=8", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames",
        "~callbacks.unit_curve", "callbacks.unit_mask.retrain_epochs=28", *miniature("synthetic_te"),
    )  # fmt: skip
    pruned, run = new_run(*small), new_run(*small, f"control={DISTILLED}")
    found = run.go()
    (dense,) = {path.name for path in (run.home / "dense").iterdir()} - {found["network"]["dense"].split("/")[-2]}
    results = pruned.go()
    assert results["network"]["dense"].split("/")[-2] == dense
    of_small, of_dense = (each["macs"]["dense"] for each in (found, results))
    assert found["macs"]["teacher"] == of_dense
    assert found["training"]["macs"] == found["training"]["samples"] * (30 * of_small + 2 * of_dense)
    assert found["callbacks"]["teacher"] == {"taught": True}
    own, scratch = rebuild(run.folder), new_run(*small, "control=scratch")
    scratch.go()
    teacher, plain = rebuild(pruned.folder), rebuild(scratch.folder)
    teacher.module.load_state_dict(teacher.dense)
    own.data.prepare_data()
    own.data.setup()
    batch = next(iter(own.data.train_dataloader()))[0]
    with torch.no_grad():
        wanted, taught, alone = (each.module.eval()(batch) for each in (teacher, own, plain))
    assert (taught - wanted).norm() < 0.5 * (alone - wanted).norm()


def test_as_many_single_weights_go_from_the_same_dense_network():
    mask = MASK | {"layers": "every", "scope": "within", "compensation": "linear", "criterion": {"_target_": "x"}}
    found = controlled(config(SINGLE_WEIGHTS, mask | {"start_epoch": 5}))
    assert (found["model"]["units"], found["dense_epochs"]) == (10, 5)
    of_units = {"rate": 0.75, "lstm": "lstm", "layers": "every", "rounds": 2, "retrain_epochs": 3, "start_epoch": 5}
    assert {
        key: value for key, value in found["callbacks"]["weights_of_units"].items() if key != "_target_"
    } == of_units
    with pytest.raises(ConfigError, match="granularity: got 'gate'; accepted: unit"):
        controlled(config(SINGLE_WEIGHTS, MASK | {"granularity": "gate"}))


def test_the_same_dense_network_at_low_rank_takes_no_more_than_the_pruned_one(new_run, miniature, tmp_path):
    small = (
        "experiment=synthetic_te", "model.units=8", "model.hidden=8", "dense_epochs=2", "~callbacks.sample_frames",
        "~callbacks.unit_curve", *miniature("synthetic_te"),
    )  # fmt: skip
    pruned, low = (new_run(*small, f"control={each}") for each in ("null", LOW_RANK))
    results = [run.go() for run in (pruned, low)]
    assert results[0]["metrics"]["dense/test_acc"] == results[1]["metrics"]["dense/test_acc"]
    assert results[0]["training"] == results[1]["training"]
    assert results[1]["control"] == {"name": LOW_RANK, "order": "descending", "rate": 0.5}
    kept = rebuild(low.folder).module
    cut = rebuild(pruned.folder).module
    ranks, budget = (results[1]["callbacks"]["low_rank_weights"][key] for key in ("ranks", "budget"))
    assert list(ranks) == ["lstm.0", "head.hidden"]
    lost = 4 * 8 * (512 + 8) - 4 * 4 * (512 + 4) + 4 * 8  # a head of 8 reads 4 units less
    whole = sum(p.numel() for name, p in kept.named_parameters() if name in ("lstm.weight_ih_l0", "lstm.weight_hh_l0"))
    assert budget == whole + kept.head.hidden.weight.numel() - lost
    joined = torch.cat([kept.lstm.weight_ih_l0, kept.lstm.weight_hh_l0], 1).detach()
    assert torch.linalg.matrix_rank(joined, rtol=1e-5) == ranks["lstm.0"] < 32
    assert not torch.equal(kept.lstm.weight_ih_l0, cut.lstm.weight_ih_l0)
    report(low.folder.parent, tmp_path / "report")
    with (tmp_path / "report" / "results.csv").open() as file:
        rows = {row["criterion"] for row in csv.DictReader(file)}
    assert CONTROLS[LOW_RANK] in rows


def test_the_dense_network_is_held_against_regions_too(short_run, tmp_path):
    """For all epochs of a run that prunes something else than units; the report has a row for it, and its dense one."""
    shared = ("callbacks.l2_mask.rounds=2", "callbacks.l2_mask.retrain_epochs=1")
    pruned, run = short_run(*shared), short_run(*shared, f"control={AS_MANY_EPOCHS}")
    both = [each.go() for each in (pruned, run)]
    assert both[0]["training"] == both[1]["training"]
    assert both[1]["control"] == {"name": AS_MANY_EPOCHS}
    assert both[1]["events"] == []
    assert next(iter(summary_table(both[1]).columns[0].cells)) == "not pruned, as many epochs"
    rows = dict(zip(*(list(column.cells) for column in summary_table(both[0]).columns), strict=True))
    assert rows["epochs of the dense network / in the end"] == f"2 / {both[0]['training']['epochs']}"
    report(pruned.folder.parent, tmp_path / "report")
    with (tmp_path / "report" / "results.csv").open() as file:
        rows = {row["control"]: row for row in csv.DictReader(file)}
    dense, final = ({c: float(row[f"{when}_test_acc"]) for c, row in rows.items()} for when in ("dense", "final"))
    assert dense[AS_MANY_EPOCHS] == dense[""] == both[0]["metrics"]["dense/test_acc"]
    assert final[AS_MANY_EPOCHS] == both[1]["metrics"]["final/test_acc"]
    table = (tmp_path / "report" / "report.md").read_text()
    assert "| none: pruned | " in table
    assert " nan |" not in table
