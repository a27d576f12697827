import math

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from prunekit.metrics import ACCURACY, NLL, PADDING, PERPLEXITY, Metric, metric_of


def test_perplexity_over_batches_of_different_sizes_with_padding():
    torch.manual_seed(0)
    meter, logits, tokens = PERPLEXITY.make(), torch.randn(6, 5, 11), torch.randint(11, (6, 5))
    tokens[4:, 2:] = PADDING
    for part in ([0, 1, 2, 3], [4], [5]):
        meter.update(logits[part], tokens[part])
    wanted = math.exp(cross_entropy(logits.double().flatten(0, 1), tokens.flatten(), ignore_index=PADDING))
    assert float(meter.compute()) == pytest.approx(wanted, rel=1e-6)


def test_a_probability_that_float32_rounds_to_0_is_not_infinite():
    meter = PERPLEXITY.make()
    meter.update(torch.tensor([[[0.0, 200.0]]]), torch.tensor([[0]]))
    assert float(meter.compute()) == pytest.approx(math.exp(200), rel=1e-6)
    meter = PERPLEXITY.make()
    meter.update(torch.tensor([[[0.0, 2000.0]]]), torch.tensor([[0]]))
    assert math.isfinite(float(meter.compute()))  # so that it can be written down


def test_nll_is_summed_over_keys_and_averaged_over_steps():
    torch.manual_seed(0)
    meter, logits, rolls = NLL.make(), torch.randn(3, 4, 88), (torch.rand(3, 4, 88) > 0.9).float()
    rolls[2, 1:] = PADDING
    meter.update(logits[:2], rolls[:2])
    meter.update(logits[2:], rolls[2:])
    there = rolls[..., 0] >= 0
    total = binary_cross_entropy_with_logits(logits[there].double(), rolls[there].double(), reduction="sum")
    assert float(meter.compute()) == pytest.approx(float(total) / int(there.sum()), rel=1e-6)


def test_only_a_metric_of_ours_is_taken_for_one():
    theirs, ours = nn.Linear(1, 1), nn.Linear(1, 1)
    theirs.metric, ours.metric = nn.Identity(), Metric("wer", "word errors")
    assert metric_of(theirs) is ACCURACY
    assert metric_of(ours).key == "wer"
