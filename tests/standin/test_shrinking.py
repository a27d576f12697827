"""Networks on a device made smaller there, as on the CPU; GRUs are what the stand-in has no kernel for."""

import copy

import pytest
import torch

from prunekit.gpu import float64
from prunekit.shrinking import shrink
from tests.strangers.recurrent import STEPS, Plan, Stranger

pytestmark = pytest.mark.standin


@pytest.mark.parametrize("plan", [
    Plan("lstm", 2, bidirectional=True), Plan("lstm", packed=True, readout="mean"), Plan("rnn", readout="attention"),
], ids=["two ways", "packed", "rnn"])  # fmt: skip
def test_what_is_left_is_the_cpus_but_for_rounding(plan, device):
    torch.manual_seed(0)
    net = Stranger(plan)
    batches = [torch.randn(16, STEPS, 3) for _ in range(8)]
    theirs = shrink(net, batches, rate=0.5, show=False)
    ours = shrink(copy.deepcopy(net).to(device), [batch.to(device) for batch in batches], rate=0.5, show=False)
    assert {parameter.device for parameter in ours.module.parameters()} == {device}
    assert ours.rows == theirs.rows
    x = torch.randn(8, STEPS, 3)
    with torch.no_grad():
        one, other = theirs(x), float64(ours(x.to(device))).cpu()
    torch.testing.assert_close(other.to(one), one, rtol=1e-3, atol=1e-4)
