"""Units of all layers and directions of the sequence model, on each of its tasks."""

from functools import partial

import pytest
import torch

from prunekit.callbacks.checkpoints import Checkpoints, list_checkpoints
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.measure import value_of
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.standard_deviation import StandardDeviation
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.data_modules.piano_rolls import PianoRolls
from prunekit.data_modules.ptb import PennTreebank
from prunekit.data_modules.spoken_digits import SpokenDigits
from prunekit.errors import ArgumentError
from prunekit.models.sequence_model import SequenceModel
from tests.callbacks.lightning import trainer
from tests.data_modules.tasks import write_all

CRITERIA = {
    "reconstruction": Reconstruction(), "standard_deviation": StandardDeviation(), "entropy": Entropy(),
    "l1_norm": L1Norm(), "random": Random(0),
}  # fmt: skip
SAVED = {"enable_checkpointing": True}
KINDS = {
    "digits": {"directions": 2, "cell": "gru", "dropout": 0.1},
    "words": {"task": "tokens", "readout": "each", "embedding": 6, "carried": True, "dropout": 0.1, "layers": 2},
    "rolls": {"task": "vectors", "readout": "each", "cell": "lstm"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    write_all(root)
    made = {
        "digits": lambda: SpokenDigits(str(root), batch_size=10, seed=0, frames=16, bands=12, eval_batch_size=10),
        "words": lambda: PennTreebank(str(root), batch_size=4, seed=0, steps=6),
        "rolls": lambda: PianoRolls(str(root), "jsb", batch_size=5, seed=0, eval_batch_size=5),
    }
    return {name: make() for name, make in made.items()}


def model(data, task):
    torch.manual_seed(0)
    arguments = data[task].model_arguments()
    sizes = {name: arguments[name] for name in ("inputs", "outputs")}
    return SequenceModel(**sizes, optimizer=partial(torch.optim.Adam, lr=0.01), units=8, **KINDS[task])


def mask(**changes):
    settings = {"rate": 0.5, "order": "ascending", "lstm": "recurrent", "layers": "every", "scope": "within"}
    return UnitMask(**{"criterion": Reconstruction(), "start_epoch": 2, **settings, **changes})


def fit(tmp_path, data, task, *callbacks, epochs=2, ckpt_path=None, **arguments):
    module, curves = model(data, task), Curves()
    done = trainer(tmp_path, [*callbacks, curves], epochs, **arguments)
    done.fit(module, data[task], ckpt_path=ckpt_path, weights_only=True)
    return module, done, curves


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_half_of_each_layers_units_go_by_each_criterion(criterion, task, data, tmp_path):
    pruning = mask(criterion=CRITERIA[criterion], compensation="closed_loop")
    module, done, curves = fit(tmp_path, data, task, pruning)
    gone = pruning.grouping(module, pruning.mask).gone.view(-1, 8)
    assert gone.sum(1).tolist() == [4] * len(gone)
    assert len(gone) == {"digits": 2, "words": 2, "rolls": 1}[task]
    batch = next(iter(data[task].test_dataloader()))
    states = []
    module.recurrent.register_forward_hook(lambda *call: states.append(call[2]))
    predict = module.eval().predictor()
    with torch.no_grad():
        for _ in range(2):  # with states that are carried on, too
            predict(module, batch)
    width = len(gone) if module._backwards else 1
    for h, _ in states:
        assert (h[..., gone[-width:].flatten()] == 0).all()
        assert (h[..., ~gone[-width:].flatten()] != 0).any()
    (event,) = curves.events
    key = {"digits": "acc", "words": "ppl", "rolls": "nll"}[task]
    assert curves.metric.key == key
    assert event[f"test_{key}"] == curves.final_test == value_of(done, module, "test")
    assert curves.dense_test != curves.final_test or task == "digits"


@pytest.mark.parametrize("compensation", ["none", "linear", "closed_loop"])
@pytest.mark.parametrize("task", KINDS)
def test_a_curve_says_of_every_layer_what_pruning_gives(task, compensation, data, tmp_path):
    named = {**CRITERIA, "transfer_entropy": TransferEntropy()}
    how = {"lstm": "recurrent", "layers": "every", "scope": "within", "compensation": compensation}
    curve = UnitCurve(named, rates=[0.0, 0.5], orders=["ascending"], **how)
    _, _, dense = fit(tmp_path / "curve", data, task, curve)
    key = dense.metric.key
    values = {(row["criterion"], row["rate"]): row[f"test_{key}"] for row in curve.rows}
    assert len(values) == 2 * len(named)
    assert {value for (_, rate), value in values.items() if rate == 0} == {dense.final_test}
    for name in ("reconstruction", "transfer_entropy"):
        pruned = fit(tmp_path / name, data, task, mask(criterion=named[name], compensation=compensation))[2]
        assert values[name, 0.5] == pytest.approx(pruned.final_test, rel=1e-6)
        assert "saved" not in curve.rows[0]


@pytest.mark.parametrize("task", ["words", "rolls"])
def test_closed_loop_makes_up_for_a_good_part_of_what_goes(task, data, tmp_path):
    found = {
        how: fit(tmp_path / how, data, task, mask(compensation=how, start_epoch=6), epochs=6)[2]
        for how in ("none", "closed_loop")
    }
    dense, cut, repaired = (found[how].final_test for how in ("none", "none", "closed_loop"))
    dense = found["none"].dense_test
    assert dense == found["closed_loop"].dense_test
    assert dense < cut
    assert repaired - dense < 0.7 * (cut - dense)


def test_padded_steps_are_not_looked_at(data, tmp_path):
    pruning = mask(criterion=Entropy())
    seen = []
    observe = pruning.grouping.observe
    pruning.grouping.observe = lambda *given: seen.append(observe(*given)) or seen[-1]
    fit(tmp_path, data, "rolls", pruning)
    steps = int((data["rolls"].arrays.train_y - 1).sum())
    assert int(seen[-1].outputs.counts(2).sum()) == 8 * steps


def test_an_epoch_goes_on_from_its_middle_with_the_states_carried(data, tmp_path):
    saving = Checkpoints(every_n_steps=5, keep=100)
    module, whole, curves = fit(
        tmp_path, data, "words", mask(start_epoch=1, retrain_epochs=2), saving, epochs=3, **SAVED
    )
    steps = whole.global_step // 3
    checkpoints = {path.name.split("step")[1]: path for path in list_checkpoints(tmp_path / "checkpoints")}
    for number in (steps // 2 // 5 * 5, (steps + steps // 2) // 5 * 5):
        path = checkpoints[f"{number:08}.ckpt"]
        assert number % steps
        again, _, seen = fit(
            tmp_path / str(number), data, "words", mask(start_epoch=1, retrain_epochs=2),
            Checkpoints(every_n_steps=5, keep=100), epochs=3, ckpt_path=path, **SAVED,
        )  # fmt: skip
        assert all(torch.equal(one, other) for one, other in zip(module.parameters(), again.parameters(), strict=True))
        assert seen.rows == curves.rows
        assert seen.final_test == curves.final_test


def test_what_does_not_go_with_every_layer_is_refused(data, tmp_path):
    for changes, argument in (
        ({"granularity": "gate"}, "granularity"),
        ({"layers": "all"}, "layers"),
        ({"scope": "each"}, "scope"),
    ):
        with pytest.raises(ArgumentError, match=f"^{argument}: "):
            mask(**changes)
    with pytest.raises(ArgumentError, match=r"^lstm: got 'lstm'; accepted: recurrent layers, .*recurrent"):
        fit(tmp_path, data, "rolls", mask(lstm="lstm"))
    with pytest.raises(ArgumentError, match=r"^criterion.correction|^correction: got 'surrogate'"):
        fit(tmp_path, data, "rolls", mask(criterion=TransferEntropy(correction="surrogate")))
