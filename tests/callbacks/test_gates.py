"""unit_mask and unit_curve with granularity=gate, alone and together with units."""

import pytest
import torch
from torch import nn

from prunekit.callbacks.measure import accuracy
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.transfer_entropy import TransferEntropy
from prunekit.errors import ArgumentError
from prunekit.units.gates import gate_activations
from tests.callbacks.units import NAMES, UNITS, Reader, SaveAfter, Sequences, fit, kept


class OneLayer(Reader):
    def __init__(self, optimizer=torch.optim.Adam, **arguments):
        super().__init__(optimizer, **arguments)
        torch.manual_seed(0)
        self.net["memory"] = nn.LSTM(3, UNITS)


def activations(module):
    """Of all training data, (clips, T, 4 * units)."""
    seen = []
    hook = module.net["memory"].register_forward_hook(lambda m, i, o: seen.extend([i[0], o[0]]))
    with torch.no_grad():
        module(Sequences().data.tensors[0])
    hook.remove()
    x, h = (each.transpose(0, 1) for each in seen)
    return gate_activations(module.net["memory"], x, h).detach()


def run(tmp_path, callbacks, epochs, ckpt_path=None, optimizer=torch.optim.Adam, **arguments):
    module = OneLayer(optimizer, **(arguments or {"lr": 0.05}))
    return fit(tmp_path, callbacks, epochs, module, ckpt_path)


def gates(criterion, rate, order="ascending", **arguments):
    return UnitMask(criterion, rate, order, **NAMES, granularity="gate", **arguments)


@pytest.mark.parametrize("criterion", [TransferEntropy(), Entropy(), L1Norm(), Random(3)], ids=lambda c: c.name)
def test_gates_become_their_means_over_the_training_data(criterion, tmp_path):
    mask = gates(criterion, 0.5, start_epoch=2)
    module, _ = run(tmp_path / "a", [mask], 2)
    dense, _ = run(tmp_path / "b", [], 2)
    means, now = activations(dense).double().mean((0, 1)), activations(module)
    gone = ~kept(mask, module)
    assert int(gone.sum()) == 2 * UNITS
    assert torch.allclose(now[..., gone].double(), means[gone].expand_as(now[..., gone]), atol=2e-6)
    assert now[..., ~gone].std((0, 1)).min() > 1e-4
    lstm = module.net["memory"]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
        assert (lstm.get_parameter(name)[gone] == 0).all()
    assert mask.report()["gates"] == {"count": 4 * UNITS, "removed": 2 * UNITS}
    assert mask.achieved() == {"net.memory.gates": 0.5}


def test_constants_are_held_through_rounds_of_retraining(tmp_path):
    mask = gates(Entropy(), 0.75, rounds=2, retrain_epochs=2, start_epoch=1)
    module, _ = run(tmp_path, [mask], 5, optimizer=torch.optim.AdamW, lr=0.05, weight_decay=0.3)
    gone, bias = ~kept(mask, module), module.net["memory"].bias_ih_l0
    assert int(gone.sum()) == 3 * UNITS
    held = mask.mask.held["net.memory.bias_ih_l0"].float()
    assert torch.equal(bias[gone], held[gone])
    assert (held[gone] != 0).all()
    assert (held[~gone] == 0).all()
    one = gates(Entropy(), 0.75, rounds=2, retrain_epochs=2, start_epoch=1)
    run(tmp_path / "first", [one, SaveAfter(2)], 5, optimizer=torch.optim.AdamW, lr=0.05, weight_decay=0.3)
    state = torch.load(tmp_path / "first" / "a.ckpt", weights_only=True)["callbacks"][one.state_key]
    first, early = ~state["mask"]["net.memory.bias_hh_l0"], state["held"]["net.memory.bias_ih_l0"].float()
    assert 0 < int(first.sum()) < int(gone.sum())
    assert torch.equal(bias[first], early[first])  # what the first round made constant stays that constant


@pytest.mark.parametrize("gates_first", [True, False])
def test_units_and_gates_together(gates_first, tmp_path):
    first, second = {"start_epoch": 1, "retrain_epochs": 1}, {"start_epoch": 2, "retrain_epochs": 1}
    fine = gates(Entropy(), 0.5, **(first if gates_first else second))
    coarse = UnitMask(L1Norm(), 0.25, "ascending", **NAMES, **(second if gates_first else first))
    module, _ = run(tmp_path, [fine, coarse], 3)
    dead = ~kept(coarse, module)
    assert int(dead.sum()) == UNITS // 4
    x = Sequences().data.tensors[0].transpose(0, 1)
    h = module.net["memory"](x)[0]
    assert (h[..., dead] == 0).all()
    assert not (h[..., ~dead] == 0).all(0).all(0).any()
    now = activations(module)
    constant = now.std((0, 1)) < 1e-6
    assert (constant[dead.repeat(4)]).all()
    living = int(constant[~dead.repeat(4)].sum())
    assert living > 0
    removed = int((~kept(fine, module)).sum())
    if gates_first:
        assert removed == 2 * UNITS
    else:
        assert removed == living + 4 * int(dead.sum()) == 2 * UNITS  # gates of removed units count as gone


def test_units_of_constant_gates_alone_are_still_there_to_be_removed(tmp_path):
    fine = gates(Random(0), 0.9, start_epoch=1)
    coarse = UnitMask(Random(1), 0.5, "ascending", **NAMES, start_epoch=1, compensation="linear")
    module, _ = run(tmp_path, [fine, coarse], 1)
    assert kept(fine, module).view(4, UNITS).any(0).sum() < UNITS - 1  # some have no gate of their own left
    h = module.net["memory"](Sequences().data.tensors[0].transpose(0, 1))[0]
    assert int((h == 0).all(0).all(0).sum()) == UNITS // 2 == coarse.report()["units"]["removed"]
    for done, again in ((fine, gates(Random(0), 0.9)), (coarse, UnitMask(Random(1), 0.5, **NAMES))):
        again.load_state_dict(done.state_dict())
        assert torch.equal(kept(again, module), kept(done, module))
        assert again.achieved() == done.achieved()
    rows = coarse.mask["net.memory.weight_ih_l0"].any(1).view(4, UNITS).any(0)
    assert rows.sum() < kept(coarse, module).sum()  # the mask alone does not say


def test_a_run_with_both_resumes_to_the_same_network(tmp_path):
    def make():
        fine = gates(TransferEntropy(), 0.5, rounds=2, retrain_epochs=1, start_epoch=1)
        return [fine, UnitMask(Entropy(), 0.25, "ascending", **NAMES, start_epoch=2, retrain_epochs=2)]

    whole, _ = run(tmp_path / "a", make(), 4)
    for epochs in (1, 2, 3):
        run(tmp_path / str(epochs), [*make(), SaveAfter(epochs)], 4)
        resumed, _ = run(tmp_path / f"{epochs} again", make(), 4, ckpt_path=tmp_path / str(epochs) / "a.ckpt")
        for name, parameter in whole.named_parameters():
            assert torch.equal(parameter, dict(resumed.named_parameters())[name]), (epochs, name)


def test_points_of_a_curve_are_those_of_single_runs(tmp_path):
    criteria = {"entropy": Entropy(), "random": Random(0), "reconstruction": Reconstruction()}
    curve = UnitCurve(criteria, [0.0, 0.5, 0.9], **NAMES, granularity="gate")
    module, _ = run(tmp_path / "curve", [curve], 2)
    plain, _ = run(tmp_path / "plain", [], 2)
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, dict(module.named_parameters())[name])
    assert {row["criterion"] for row in curve.rows} == {"entropy", "random"}  # the third has no scores of gates
    for row in curve.rows:
        mask = gates(criteria[row["criterion"]], row["rate"], row["order"], start_epoch=2)
        module, done = run(tmp_path / f"{row['criterion']}{row['order']}{row['rate']}", [mask], 2)
        assert row["test_acc"] == accuracy(done, module, "test"), row
        assert row["saved"] == row["removed"] / (4 * UNITS) == int((~kept(mask, module)).sum()) / (4 * UNITS)
    assert len({row["test_acc"] for row in curve.rows}) > 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gates(Entropy(), 0.5, compensation="linear"), "^compensation: got 'linear'; accepted: none"),
        (lambda: gates(Reconstruction(), 0.5), "^criterion: got 'reconstruction'; accepted: one that scores each gate"),
        (lambda: UnitMask(Entropy(), 0.5, granularity="row"), "granularity: got 'row'"),
        (
            lambda: UnitCurve({"r": Reconstruction()}, [0.5], granularity="gate"),
            "^granularity: got 'gate'; accepted: what one of the criteria scores",
        ),
        (lambda: gates(Entropy(), 0.5).check(Reader()), "net.memory, an LSTM of several layers"),
    ],
)  # fmt: skip
def test_what_gates_cannot_be_is_said(make, message):
    with pytest.raises(ArgumentError, match=message.replace(".", r"\.")):
        make()
