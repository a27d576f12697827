"""What unit_mask and unit_curve both ask of a model."""

import pytest
import torch
from torch import nn

from prunekit.cache import Cache
from prunekit.callbacks.scoring import score
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.errors import ArgumentError
from prunekit.masks import Mask
from tests.callbacks.units import CRITERIA, NAMES, RATES, UNITS, Reader, fit


@pytest.mark.parametrize(
    "make", [lambda **n: UnitMask(Entropy(), 0.5, **n), lambda **n: UnitCurve(CRITERIA, RATES, **n)]
)
def test_names_that_are_not_the_models_are_refused_before_training(make, tmp_path):
    module = Reader()
    with pytest.raises(
        ArgumentError, match=r"^lstm: got 'lstm'; accepted: the name of an nn\.LSTM.*; recurrent ones: net\.memory"
    ):
        make().check(module)
    with pytest.raises(ArgumentError, match=r"^head: got 'head'; accepted: the part of the model.*net\.say"):
        make(lstm="net.memory").check(module)
    linear = make(**NAMES, compensation="linear")
    module.net["say"] = nn.Sequential(nn.Tanh(), nn.Linear(UNITS, 3))
    with pytest.raises(ArgumentError, match=r"^head: got 'net\.say, where net\.say\.0 is between net\.memory and net"):
        linear.check(module)
    make(**NAMES).check(module)
    module.net["memory"] = nn.LSTM(3, 4, bidirectional=True)
    with pytest.raises(ArgumentError, match="the last layer of one direction"):
        make(**NAMES).check(module)


def test_scores_are_kept_under_the_device_that_makes_them(tmp_path, monkeypatch):
    """After a fit the network is on the CPU, and goes to the trainer's device only to be scored."""
    asked = []

    class Known(Cache):
        def get(self, inputs, make, share=None):
            asked.append(inputs["device"])
            return {"values": torch.rand(UNITS)}

    module, trainer = fit(tmp_path, [], 1)
    monkeypatch.setattr(type(trainer.strategy), "root_device", property(lambda _: torch.device("cuda")))
    mask = UnitMask(Entropy(), 0.5, **NAMES)
    score(
        module,
        mask.grouping,
        mask.grouping(module, Mask.full(module, mask.grouping.parameters(module))),
        {"entropy": Entropy()},
        cache=Known(),
        watch=False,
    )
    assert (asked, module.device.type) == (["cuda"], "cpu")
