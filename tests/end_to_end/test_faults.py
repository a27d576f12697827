"""Files that lie, disks that are full, and the table of wrong input."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from prunekit.app.checkpoint_file import read_checkpoint
from prunekit.app.door import describe
from prunekit.app.train import run_once
from prunekit.callbacks.checkpoints import list_checkpoints
from prunekit.errors import ArgumentError
from prunekit.files import write_json, write_whole
from tests.conftest import SHORT, compose_config


class Malice:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


def test_a_malicious_checkpoint_is_refused_and_does_not_run(short_run, tmp_path):
    trace = tmp_path / "it ran"
    plain, zipped = tmp_path / "plain.ckpt", tmp_path / "zipped.ckpt"
    plain.write_bytes(pickle.dumps(Malice(trace), protocol=2))
    torch.save({"state_dict": Malice(trace)}, zipped)
    for path in (plain, zipped):
        with pytest.raises(ArgumentError, match="damaged or unsafe to load"):
            short_run(f"ckpt_path={path}")
    assert not trace.exists()
    pickle.loads(plain.read_bytes())
    assert trace.exists()  # it would have


def test_a_malicious_checkpoint_in_a_runs_own_folder_is_named_and_left_out(short_run, tmp_path, caplog):
    trace = tmp_path / "it ran"
    extra = ("callbacks.region_mean_mask.rounds=2",)
    run = short_run(*extra)
    results = run.go()
    (run.folder / "results.json").unlink()
    newest = list_checkpoints(run.folder / "checkpoints")[-1]
    torch.save({"state_dict": Malice(trace)}, newest)
    assert short_run(*extra).go()["metrics"] == results["metrics"]
    assert newest.name in caplog.text
    assert not trace.exists()


def test_a_damaged_dense_network_is_trained_again(short_run, caplog):
    run = short_run()
    metrics = run.go()["metrics"]
    (dense,) = (run.home / "dense").iterdir()
    (dense / "dense.ckpt").write_bytes(b"half a file")
    assert short_run("force=true").go()["metrics"] == metrics
    assert "dense.ckpt" in caplog.text
    assert read_checkpoint(dense / "dense.ckpt").epochs_done == 2


@pytest.mark.parametrize("content", ["", "{", '{"metrics": {'])
def test_a_damaged_results_file_is_named(short_run, content):
    run = short_run()
    run.go()
    (run.folder / "results.json").write_text(content)
    with pytest.raises(ArgumentError, match=r"results\.json is damaged .* delete it and run the same command again"):
        short_run().go()
    short_run("force=true").go()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="in the middle"):
        write_whole(path, lambda file: (file.write(b"half"), (_ for _ in ()).throw(RuntimeError("in the middle"))[0]))
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [found.name for found in path.parent.iterdir()] == ["a.json"]


def full_after(monkeypatch, files):
    """A disk that is full when what follows the first ``files`` files is written to it."""
    path_open, count = Path.open, [0]

    def opened(path, mode="r", *arguments, **keywords):
        def full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        file = path_open(path, mode, *arguments, **keywords)
        if mode == "xb":  # what is written whole
            count[0] += 1
            if count[0] > files:
                file.flush = full
        return file

    monkeypatch.setattr("prunekit.files.Path.open", opened)


@pytest.mark.slow
@pytest.mark.parametrize("files", range(1, 8))
def test_a_full_disk_ends_clearly_and_loses_nothing(short_run, monkeypatch, files):
    expected = short_run("run_dir=null", "seed=5", "reuse=false").go()["metrics"]
    extra = ("seed=5", "callbacks.checkpoints.keep=3")
    run = short_run(*extra)
    with monkeypatch.context() as patch:
        full_after(patch, files)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run.go()
    assert describe(caught.value).startswith("cannot read or write: [Errno 28] No space left on device: '")
    everything = list(run.home.rglob("*.ckpt"))
    assert [read_checkpoint(path).path for path in everything] == everything
    assert list(run.home.rglob("*.part")) == []
    assert short_run(*extra).go()["metrics"] == expected


def test_the_door_prints_one_message_and_exits_with_2(capsys, tmp_path, monkeypatch):
    config = compose_config(*SHORT, "callbacks.l2_mask.rate=2", f"paths.runs_dir={tmp_path}")
    with pytest.raises(SystemExit) as stop:
        run_once(config)
    assert stop.value.code == 2
    message = "error: callbacks.l2_mask.rate: got 2; accepted: a number from 0 to 1\n"
    assert capsys.readouterr().err == message
    monkeypatch.setenv("PRUNEKIT_TRACEBACK", "1")
    with pytest.raises(ArgumentError):
        run_once(config)


WRONG = {
    "a string for a number": (
        ["callbacks.l2_mask.rate=much"],
        r"callbacks\.l2_mask\.rate: got 'much'; accepted: float",
    ),
    "a number for a list": (["model.sizes=784"], r"model\.sizes: got 784; accepted: .*Sequence"),
    "true for a number": (["data.batch_size=true"], r"data\.batch_size: got True; accepted: int"),
    "a float for a whole number": (["callbacks.region_mean_mask.rounds=1.5"], r"rounds: got 1\.5; accepted: int"),
    "an argument that is not there": (["+model.depth=3"], r"model\.depth: got 3; accepted: only sizes, optimizer"),
    "a class that is not there": (
        ["model._target_=prunekit.models.Net"],
        r"model\._target_: got .*the path of a class",
    ),
    "an optimizer's value": (["model.optimizer.lr=-1"], r"a first step failed: ValueError: Invalid learning rate: -1"),
    "too few outputs": (["model.sizes=[784,100,5]"], r"a first step failed: .*"),
    "images that do not fit": (["data.size=20"], r"a first step failed: .*shapes cannot be multiplied"),
    "no batches": (["trainer.limit_train_batches=0"], r"trainer\.limit_train_batches: got 0; accepted: null"),
    "a name that is a path": (["name=a/b"], r"name: got 'a/b'; accepted: letters"),
    "a word for a switch": (["force=perhaps"], r"force: got 'perhaps'; accepted: bool"),
    "a batch no rank can have": (["data.batch_size=5000"], r"data\.batch_size: got 5000; accepted: at most the 1293"),
    "averaging over an event": (
        ["+callbacks.ema._target_=pytorch_lightning.callbacks.EMAWeightAveraging"],
        r"callbacks: got 'EMAWeightAveraging, which averages weights from before the last pruning event'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named_before_anything_is_trained(case, short_run):
    overrides, message = WRONG[case]
    with pytest.raises(ArgumentError, match=message):
        short_run(*overrides).go()
