"""What unit_mask and unit_curve both ask of a model."""

import pytest
from torch import nn

from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.criteria.entropy import Entropy
from prunekit.errors import ArgumentError
from tests.callbacks.units import CRITERIA, NAMES, RATES, UNITS, Reader


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
