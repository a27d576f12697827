import pytest
import torch
from torch import nn

from prunekit.regions.faithfulness import (
    area,
    centred_logit,
    faithfulness,
    gradient_times_input,
    has_captum,
    integrated_gradients,
)


def bright(x):
    """Class 1 if the first two pixels together are bright, else class 0."""
    return torch.stack([torch.full((len(x),), 1.0), x[:, :2].sum(1)], dim=1)


def test_curves_counted_by_hand():
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 1.0, 0.0]])
    y = torch.tensor([1, 1])
    best = torch.tensor([[9.0, 8.0, 1.0, 1.0], [0.0, 5.0, -1.0, 7.0]])
    found = faithfulness(bright, x, y, best, steps=4)
    # The first has 4 pixels, of which 0 to 4 go; the second has 2, of which 0, 0 (rounded to even), 1, 2 (1.5), 2 go.
    assert found.deletion.tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert found.insertion.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    worst = faithfulness(bright, x, y, -best, steps=4)
    assert worst.deletion.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert worst.insertion.tolist() == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_black_pixels_take_no_part_whatever_their_evidence():
    x, y = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([1])
    one, other = (
        faithfulness(bright, x, y, torch.tensor([[black, 2.0, 1.0]]), steps=2) for black in (-torch.inf, torch.inf)
    )
    assert one.deletion.tolist() == other.deletion.tolist() == [1.0, 0.0, 0.0]


def test_a_pixel_goes_in_all_its_channels():
    x = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])  # two channels of two pixels

    def network(x):
        assert x.shape == (1, 2, 2)
        return torch.stack([x[:, 1, 0], x[:, 0, 1]], dim=1)

    found = faithfulness(network, x, torch.tensor([0]), torch.tensor([[2.0, 1.0]]), steps=2)
    assert found.deletion.tolist() == [1.0, 0.0, 1.0]


def test_better_evidence_has_a_smaller_and_a_larger_area():
    torch.manual_seed(0)
    network = nn.Linear(12, 3, bias=False).eval()
    x = torch.rand(200, 12)
    y = network(x).argmax(1)
    evidence = gradient_times_input(network, x, y)
    good, chance = (faithfulness(network, x, y, order, steps=6) for order in (evidence, torch.rand(200, 12)))
    bad = faithfulness(network, x, y, -evidence, steps=6)
    assert area(good.deletion) < area(chance.deletion) - 0.1 < area(bad.deletion) - 0.2
    assert area(good.insertion) > area(chance.insertion) + 0.1 > area(bad.insertion) + 0.2


def test_the_rivals_explain_the_centred_logit_and_integrated_gradients_add_up_to_it():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3)).eval()
    x, classes = torch.rand(4, 6), torch.tensor([0, 1, 2, 1])
    logits = network(x).detach()
    target = centred_logit(network, classes)
    torch.testing.assert_close(target(x).detach(), logits[torch.arange(4), classes] - logits.mean(1))
    inner = x.clone().requires_grad_()
    torch.testing.assert_close(
        gradient_times_input(network, x, classes), torch.autograd.grad(target(inner).sum(), inner)[0] * x
    )
    if not has_captum():
        pytest.skip("captum is an extra")
    found = integrated_gradients(network, x, classes)
    assert not found.requires_grad
    torch.testing.assert_close(found.sum(1), (target(x) - target(torch.zeros_like(x))).detach(), atol=1e-5, rtol=0)


def test_wrong_input_is_refused():
    x, y = torch.ones(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"images \(2, 3\), classes \(2,\), evidence \(2, 4\)"):
        faithfulness(bright, x, y, torch.ones(2, 4))
    with pytest.raises(ValueError, match="NaN"):
        faithfulness(bright, x, y, torch.full((2, 3), torch.nan))
