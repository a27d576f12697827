"""What a mistyped key or a refused command is told, and that nothing is left of it."""

import logging
import re
import sys

import pytest
from hydra.errors import HydraException

from prunekit.app import extract, train
from prunekit.app.sweep import Sweep
from prunekit.app.typed_keys import dashed, told, unknown_key
from prunekit.errors import ArgumentError
from tests.conftest import compose_config


def command(monkeypatch, capsys, *words, main=train.main):
    monkeypatch.setattr(sys, "argv", ["prunekit", *words])
    monkeypatch.setattr(Sweep, "folder", None)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["callbacks.l2_mask.rat=0.5"],
         r"^error: callbacks\.l2_mask\.rat: got '0\.5'; .*nearest: callbacks\.l2_mask\.rate,"),
        (["backbone.weights=x", "experiment=ucf101_te"],
         r"^error: backbone\.weights: .*nearest: data\.backbone\.weights"),
        (["experimnt=digits_region"], r"^error: experimnt: got 'digits_region'; .*nearest: experiment(,|$)"),
        (["seeed=1"], r"^error: seeed: got '1'; .*nearest: seed"),
        (["callbacks.unit_mask.rate=0.5"],
         r"^error: callbacks\.unit_mask\.rate: .*a callback of digits_region: .*; \+callbacks=unit_mask adds it"),
        (["~callbacks.foo"], r"^error: callbacks\.foo: .*a callback of digits_region"),
        (["callbacks.l2_msk.rate=1"], r"callbacks\.l2_msk\.rate: .*nearest: callbacks\.l2_mask$"),
        (["experiment=mnist_regio"], r"^error: experiment: got 'mnist_regio'; accepted: nearest: mnist_region"),
        (["callbacks.l2_mask.rat=0.5", "seeed=1"], r"^error: callbacks\.l2_mask\.rat: got '0\.5'; .*--cfg job"),
        (["-m", "callbacks.l2_mask.rat=0.5,0.6"], r"^error: callbacks\.l2_mask\.rat: .*nearest"),
        (["--seed", "3"], r"^error: --seed: got '3'; accepted: keys without dashes.*: seed=3; options: "),
        (["--data.batch-size=3"], r"^error: --data\.batch-size: got '3'; .*: data\.batch_size=3; "),
        (["--rate"], r"^error: --rate: got 'VALUE'"),
        (["seed", "3"], r"^error: seed: got 'no value'; accepted: a key and its value as one word, such as seed=VALUE"),
        (["callbacks.l2_mask.rate=0.1,0.2"], r"Ambiguous value .*\n.*\n.*\n.*--multirun"),
    ],
)  # fmt: skip
def test_a_mistyped_key_is_answered_with_what_was_meant(words, message, monkeypatch, capsys, tmp_path):
    error = command(monkeypatch, capsys, *words, f"paths.runs_dir={tmp_path / 'runs'}")
    assert re.search(message, error.strip(), re.MULTILINE), error
    assert "+callbacks.l2_mask.rat" not in error
    assert list(tmp_path.iterdir()) == []


def test_help_begins_with_what_one_types_and_options_of_hydra_stay(monkeypatch, capsys):
    assert dashed(["-m", "--cfg", "job", "--multirun", "--config-dir=x", "--config-dir", "y", "seed=3"]) is None
    monkeypatch.setattr(sys, "argv", ["prunekit", "experiment=mnist_explain", "--help"])
    with pytest.raises(SystemExit) as stop:
        train.main()
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("prunekit train key=value ...      a run")
    assert "powered by" not in printed
    assert re.search(r"^  digits_region +what does each neuron of a small classifier look at, on data", printed, re.M)
    assert "experiment: digits_region, hmdb51_dense" in printed
    assert "Keys and values of experiment=mnist_explain" in printed


def test_the_way_that_is_offered_works():
    assert compose_config("+callbacks=unit_mask", "callbacks.unit_mask.rate=0.5").callbacks.unit_mask.rate == 0.5
    assert "+callbacks" not in str(unknown_key("callbacks.unit_mask", ["~callbacks.unit_mask"]))


def test_extract_has_help_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prunekit", "--help"])
    extract.main()
    assert capsys.readouterr().out.startswith("prunekit extract key=value")


def test_extract_tells_it_as_well(monkeypatch, capsys):
    assert "nearest: data.frames" in command(monkeypatch, capsys, "data=ucf101", "data.frame=3", main=extract.main)


def test_what_is_not_known_is_told_as_hydra_does():
    assert told(HydraException("something"), []) == "something"


@pytest.mark.parametrize(
    "overrides",
    [
        ["callbacks.l2_mask.rate=1.5"], ["trainer.max_epochs=1"], ["callbacks.region_mean_mask.image_shape=[14,14]"],
        ["ckpt_path=last"], ["data.validation=2"],
    ],
)  # fmt: skip
def test_a_refused_command_leaves_no_folder(overrides, short_run, tmp_path):
    with pytest.raises(ArgumentError):
        short_run(*overrides).go()
    assert not (tmp_path / "runs").exists()


def test_a_refused_command_leaves_what_was_there(short_run, tmp_path):
    short_run().go()
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArgumentError):
        short_run("callbacks.l2_mask.rate=1.5").go()
    assert sorted(tmp_path.rglob("*")) == files
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArgumentError):
        short_run(f"run_dir={tmp_path / 'mine'}", "callbacks.l2_mask.rate=1.5").go()
    assert (tmp_path / "mine").is_dir()


def test_a_part_that_no_callback_reads_is_said(new_run, caplog):
    new_run("criterion=entropy")
    assert "criterion=prunekit.criteria.entropy.Entropy changes nothing: no callback reads it" in caplog.text
    caplog.clear()
    for words in (("experiment=synthetic_te", "criterion=entropy"), ("experiment=mnist_explain",), ()):
        new_run(*words)
    assert caplog.text == ""


def test_a_layer_of_which_nothing_is_left_is_said(short_run, caplog):
    caplog.set_level(logging.WARNING, "prunekit")
    short_run("callbacks.l2_mask.rate=1", "~callbacks.region_mean_mask").go()
    assert "l2_mask: nothing is left of layers.hidden1.weight" in caplog.text
