"""``resume=FOLDER``, what a run says when it goes on, and what it refuses to go on from."""

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from prunekit.app.life import Run
from prunekit.app.resume import resumed
from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.curves import Curves
from prunekit.errors import ArgumentError
from tests.conftest import SHORT, compose_config

MORE = ("callbacks.region_mean_mask.rounds=2", "seed=4", "reuse=false")


class Killed(BaseException):
    """What a kill looks like from inside."""


def cut(run, monkeypatch, after):
    """Run until so many epochs are saved."""
    save = Checkpoints._save

    def save_and_die(self, trainer, epochs):
        save(self, trainer, epochs)
        if epochs == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_save", save_and_die)
        with pytest.raises(Killed):
            run.go()


def go_on(folder, *typed, trust=()):
    words = [f"resume={folder}", *typed]
    return Run(resumed(compose_config(*words, *([f"trust=[{','.join(trust)}]"] if trust else [])), words))


@pytest.mark.parametrize(("after", "words"), [(1, "epoch 1 of 2"), (3, "epoch 3 of 4")])
def test_a_run_goes_on_from_its_folder_alone_and_says_from_where(
    short_run, tmp_path, monkeypatch, caplog, after, words
):
    caplog.set_level(logging.INFO, "prunekit")
    whole = short_run(*MORE, f"run_dir={tmp_path / 'whole'}").go()
    cut(run := short_run(*MORE), monkeypatch, after)
    caplog.clear()
    again = go_on(run.folder.with_name(run.config_hash[:6]))
    assert (again.folder, again.config_hash) == (run.folder, run.config_hash)
    results = again.go()
    assert results["metrics"] == whole["metrics"]
    assert re.search(f"resumed: training goes on after {words}, from .*ckpt", caplog.text)
    caplog.clear()
    assert go_on(run.folder).go() == results
    assert "this run had finished: nothing is trained" in caplog.text
    assert "force" not in caplog.text


def test_what_was_typed_beside_it_is_said_or_refused(short_run):
    run = short_run(*MORE)
    run.go()
    for same in ("seed=4", "callbacks.region_mean_mask.rounds=2", "experiment=digits_region", "threads=1"):
        assert go_on(run.folder, same).folder == run.folder
    for other in ("seed=5", "callbacks.l2_mask.rate=0.1", "experiment=mnist_region", "data=mnist", "force=true"):
        with pytest.raises(ArgumentError, match=rf"^resume: got '.*, together with {other}'; accepted: resume=FOLDER"):
            go_on(run.folder, other)


def test_a_folder_that_is_no_run_or_was_changed_is_refused(short_run, tmp_path):
    with pytest.raises(ArgumentError, match=r"^resume: got '.*nowhere'; accepted: the folder of a run"):
        go_on(tmp_path / "nowhere")
    run = short_run(*MORE)
    run.go()
    config = run.folder / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("seed: 4", "seed: 5"))
    with pytest.raises(ArgumentError, match=r"^resume: got .*is not the one that it was run with"):
        go_on(run.folder)
    config.write_text("a: [")
    with pytest.raises(ArgumentError, match=r"^resume: got .*damaged"):
        go_on(run.folder)
    config.write_text("a: 1")
    with pytest.raises(ArgumentError, match=r"^resume: got .*which is no run's"):
        go_on(run.folder)


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("callbacks.curves.predict", {"_target_": "os.system", "_partial_": True}),
        ("callbacks.mine", {"_target_": "evil.Callback"}),
        ("model", {"_target_": "evil.Model"}),
        ("trainer.plugins", [{"_target_": "evil.Plugin"}]),
        ("trainer._target_", "evil.Trainer"),
        ("logger", {"_target_": "evil.Logger"}),
        ("callbacks.l2_mask._target_", "prunekit.callbacks.checkpoints.torch.load"),
    ],
)
def test_code_of_a_strangers_folder_is_not_run_unless_it_is_trusted(key, node, short_run, tmp_path, monkeypatch):
    from prunekit.app.config import resolve
    from prunekit.app.identity import config_hash

    run = short_run(*MORE)
    run.folder.mkdir(parents=True)
    stored = OmegaConf.create(run._text)
    OmegaConf.update(stored, key, node, merge=False)
    del stored["config_hash"]
    stored["config_hash"] = config_hash(resolve(OmegaConf.create(OmegaConf.to_container(stored)))[1])
    OmegaConf.save(stored, run.folder / "config.yaml")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ArgumentError, match=r"^resume: got .*whose config builds .*add trust=\["):
        go_on(run.folder)
    assert not (tmp_path / "ran").exists()
    if "evil" in str(node):
        assert go_on(run.folder, trust=["evil"]).folder == run.folder


def test_seconds_are_those_of_all_processes(short_run, monkeypatch):
    run = short_run(*MORE)
    cut(run, monkeypatch, 1)
    clock = iter(range(0, 10**9, 1000))
    slow = SimpleNamespace(perf_counter=lambda: float(next(clock)))
    monkeypatch.setattr("prunekit.callbacks.checkpoints.time", slow)
    cut(run, monkeypatch, 2)
    cut(run, monkeypatch, 3)
    monkeypatch.undo()
    rows = []
    load = Curves.load_state_dict
    monkeypatch.setattr(
        Curves, "load_state_dict", lambda self, state: rows.append(state["seconds"]) or load(self, state)
    )
    seconds = short_run(*MORE).go()["seconds"]
    assert seconds["train"] > 2000
    assert 0 < seconds["prune"] < 100
    assert 0 < rows[-1] < seconds["test"] < 100


def test_a_checkpoint_of_other_epochs_is_refused_and_one_of_other_settings_recorded(short_run, caplog):
    long = short_run("dense_epochs=5")
    long.go()
    dense = next((long.home / "dense").glob("*/dense.ckpt"))
    with pytest.raises(ArgumentError, match=r"^dense_epochs: got '2, while .* for 5 epochs .*accepted: 5, or"):
        short_run(f"ckpt_path={dense}").go()
    other = short_run("dense_epochs=5", "model.optimizer.lr=0.2", f"ckpt_path={dense}").go()
    assert other["start"]["differs"] == {"model.optimizer.lr": [0.1, 0.2]}
    assert (other["start"]["epochs"], other["start"]["checkpoint"]) == (5, str(dense))
    assert "is of other settings (model.optimizer.lr: 0.1 there, 0.2 here)" in caplog.text
    same = short_run("dense_epochs=5", f"ckpt_path={list_checkpoints(long.folder / 'checkpoints')[-1]}")
    assert "start" not in same.go()


def test_force_deletes_runs_and_nothing_else(short_run, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years")
    with pytest.raises(ArgumentError, match=r"^force: got .*thesis\.txt and no run"):
        short_run(f"run_dir={home}", "force=true").go()
    assert (home / "thesis.txt").read_text() == "years"


def test_errors_do_not_offer_to_throw_work_away(short_run, tmp_path):
    folder = f"run_dir={tmp_path / 'mine'}"
    short_run(folder).go()
    with pytest.raises(ArgumentError) as caught:
        short_run(folder, "seed=7").go()
    assert "force" not in str(caught.value)
    assert "resume=FOLDER alone goes on" in str(caught.value)


def test_a_resumed_run_is_typed_in_one_word(tmp_path, capsys, monkeypatch):
    """Through the command itself."""
    from prunekit.app import train

    paths = [f"paths.runs_dir={tmp_path / 'runs'}", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
    monkeypatch.setattr("sys.argv", ["prunekit", *SHORT, "~callbacks.heatmaps", *paths])
    train._hydra_main()
    folder = Path(re.search(r"all results: (.*)/results\.json", capsys.readouterr().out)[1])
    (folder / "results.json").unlink()
    monkeypatch.setattr("sys.argv", ["prunekit", f"resume={folder}"])
    train._hydra_main()
    assert f"all results: {folder}/results.json" in capsys.readouterr().out
    assert json.loads((folder / "results.json").read_text())["experiment"] == "digits_region"
