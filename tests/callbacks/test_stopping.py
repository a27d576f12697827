"""A fit that a signal asks to stop: it saves where it can be gone on with, and else goes on from what is there."""

import signal

import pytest
import pytorch_lightning as pl

from prunekit import stopping
from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.pruning import Pruning
from prunekit.criteria.magnitude import Magnitude
from prunekit.groups import Weights
from prunekit.stopping import Stopped
from tests.callbacks.lightning import TheirData, Theirs, trainer
from tests.callbacks.test_checkpoints import Resumable, Shuffled


class Ask(pl.Callback):
    """Asks for a stop in a batch of all the fit's."""

    def __init__(self, batch):
        self.left = batch

    def on_train_batch_start(self, *_):
        self.left -= 1
        if not self.left:
            assert stopping._asked.held
            stopping._asked.first = signal.SIGTERM


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.setattr(stopping, "_asked", stopping._Asked())


def stop_in(folder, data, batch, **arguments):
    one = trainer(folder, [Ask(batch), Checkpoints(keep=9)], 3, enable_checkpointing=True, **arguments)
    with pytest.raises(Stopped) as stop:
        one.fit(Theirs(lr=0.1), datamodule=data)
    assert stop.value.code == 128 + signal.SIGTERM
    names = [path.name for path in list_checkpoints(folder / "checkpoints")]
    assert stop.value.start == (str(folder / "checkpoints" / names[-1]) if names else None)
    assert not stopping._asked.held
    return names


@pytest.mark.parametrize(
    ("batch", "names"),
    [(2, ["epoch0000-step00000002.ckpt"]), (3, ["epoch0001-step00000003.ckpt"]),
     (4, ["epoch0001-step00000003.ckpt", "epoch0001-step00000004.ckpt"])],
)  # fmt: skip
def test_the_step_is_saved_where_the_batches_say_where_they_are(batch, names, tmp_path):
    assert stop_in(tmp_path, Resumable(30, 0.0, seed=0), batch) == names


@pytest.mark.parametrize(("batch", "epochs"), [(2, 0), (3, 1), (5, 1)])
@pytest.mark.parametrize("data", [TheirData, Shuffled])
def test_of_other_batches_only_whole_epochs_are_saved(data, batch, epochs, tmp_path):
    assert stop_in(tmp_path, data(), batch) == ["epoch0001-step00000003.ckpt"][:epochs]


def test_gradients_that_are_accumulated_are_waited_for(tmp_path):
    names = stop_in(tmp_path, Resumable(10, 0.0, seed=0), 3, accumulate_grad_batches=2)
    assert names == ["epoch0000-step00000002.ckpt"]


def test_a_fit_that_is_asked_nothing_holds_nothing_back_afterwards(tmp_path):
    trainer(tmp_path, [Checkpoints()], 1, enable_checkpointing=True).fit(Theirs(lr=0.1), datamodule=TheirData())
    assert not stopping._asked.held


def test_a_signal_in_the_middle_of_scoring_is_obeyed_there(tmp_path):
    seen = []

    class Asked(Magnitude):
        def scores(self, module, groups, found):
            assert not stopping._asked.held
            seen.append("begun")
            stopping._hear(signal.SIGTERM, None)
            seen.append("went on")
            return super().scores(module, groups, found)

    prune = Pruning(Weights(), Asked(), 0.5, start_epoch=1)
    one = trainer(tmp_path, [prune, Checkpoints()], 2, enable_checkpointing=True)
    with pytest.raises(Stopped):
        one.fit(Theirs(lr=0.1), datamodule=TheirData())
    assert seen == ["begun"]
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["epoch0001-step00000003.ckpt"]
