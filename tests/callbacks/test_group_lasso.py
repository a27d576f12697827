"""Groups that are drawn to 0 together."""

import pytest
import torch

from prunekit.callbacks.group_lasso import GroupLasso, proximal_scale
from prunekit.errors import ArgumentError
from prunekit.groups import Weights
from prunekit.units.compaction import compact, difference
from prunekit.units.grouping import Units
from prunekit.units.leftovers import alive
from prunekit.units.links import recurrent_link
from tests.callbacks.lightning import TheirData, Theirs, trainer
from tests.callbacks.units import NAMES, Reader, Sequences

UNITS = Units(NAMES["lstm"])


def test_the_scale_is_the_proximal_operator_of_the_penalty():
    """It minimises |v - w|^2 / 2 + strength * sqrt(n) |v|, seen by trying others."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        w = torch.randn(6, generator=generator).double()
        strength = float(torch.rand((), generator=generator))
        v = w * proximal_scale(w.norm()[None], torch.tensor([6.0]).sqrt().double(), strength)

        def loss(x, w=w, strength=strength):
            return float((x - w).square().sum() / 2 + strength * 6**0.5 * x.norm())

        for _ in range(50):
            assert loss(v) <= loss(v + 0.05 * torch.randn(6, generator=generator).double()) + 1e-12
        assert loss(v) <= loss(torch.zeros(6).double()) + 1e-12


def test_a_step_scales_each_unit_by_its_own_norm(tmp_path):
    plain, drawn = Reader(), Reader()
    drawn.load_state_dict(plain.state_dict())
    trainer(tmp_path / "plain", [], 1, limit_train_batches=1).fit(plain, datamodule=Sequences())
    trainer(tmp_path / "drawn", [GroupLasso(UNITS, 0.5)], 1, limit_train_batches=1).fit(drawn, datamodule=Sequences())
    names = UNITS.parameters(plain)
    rows = [plain.get_parameter(name).detach().view(4, 12, -1) for name in names]
    norms = torch.stack([row.square().sum((0, 2)) for row in rows]).sum(0).sqrt()
    count = sum(4 * row.shape[2] for row in rows)
    rate = plain.optimizers().param_groups[0]["lr"]
    scale = (1 - rate * 0.5 * count**0.5 / norms).clamp(min=0)
    for name, row in zip(names, rows, strict=True):
        torch.testing.assert_close(drawn.get_parameter(name).view(4, 12, -1), row * scale[:, None])
    others = set(dict(plain.named_parameters())) - set(names)
    assert all(torch.equal(plain.get_parameter(name), drawn.get_parameter(name)) for name in others)


def test_the_stronger_the_narrower_and_what_is_0_is_cut_out(tmp_path):
    widths = []
    for strength in (0.0, 9.0, 30.0):
        module = Reader()
        trainer(tmp_path / str(strength), [GroupLasso(UNITS, strength)], 6).fit(module, datamodule=Sequences())
        layer = module.get_submodule(NAMES["lstm"])
        widths.append(int(alive(layer)[-1].sum()))
    assert widths[0] == 12 > widths[1] > widths[2] == 0
    made = compact(module, [recurrent_link(module, NAMES["lstm"], NAMES["head"])]).module
    assert made.net["say"].in_features == 1  # torch has no layer of width 0
    (x, _), *_ = Sequences().train_dataloader()
    assert difference(module.eval()(x), made.eval()(x)) <= 1e-6


def test_gradients_that_are_accumulated_are_one_step(tmp_path):
    folders = {}
    for accumulated in (1, 3):
        module = Theirs(lr=0.0)
        trainer(tmp_path / str(accumulated), [GroupLasso(Weights(["body.last.weight"]), 0.1)], 1,
                accumulate_grad_batches=accumulated).fit(module, datamodule=TheirData())  # fmt: skip
        folders[accumulated] = module.body["last"].weight.detach().clone()
    assert torch.equal(folders[1], folders[3])  # a learning rate of 0 draws nothing


@pytest.mark.parametrize("strength", [-1, float("nan"), float("inf"), True, "much"])
def test_wrong_strengths_are_refused(strength):
    with pytest.raises(ArgumentError, match="strength: got"):
        GroupLasso(UNITS, strength)


def test_a_module_without_the_layer_is_refused_before_training(tmp_path):
    with pytest.raises(ArgumentError, match="layer: got"):
        trainer(tmp_path, [GroupLasso(UNITS, 0.1)], 1).fit(Theirs(lr=0.1), datamodule=TheirData())
