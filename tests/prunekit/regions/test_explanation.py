"""Explanations of images with several channels; those of plain images are tested from a run to its files."""

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.regions.evidence import deeplift, find_chain
from prunekit.regions.explanation import Subject, compare_methods, explain_classes, explain_decisions, picture
from prunekit.regions.faithfulness import faithfulness
from prunekit.regions.segmentation import Signed

SHAPE = (3, 4, 5)


@pytest.fixture
def subject():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(60, 7), nn.Sigmoid(), nn.Linear(7, 3))
    weights = network[0].weight.detach().numpy().reshape(7, *SHAPE)
    return Subject(find_chain(network, "0.weight"), Signed()(weights, np.ones_like(weights, dtype=bool)))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, *SHAPE, generator=generator)
    return x * (x > 0.5), torch.arange(30) % 3


def test_a_decision_has_its_best_regions_and_maps_that_add_up(subject, images):
    x, y = (part[:4] for part in images)
    arrays, decisions = explain_decisions(subject, x, y, most=3)
    logits = subject.chain.logits(x.flatten(1)).detach().double()
    for i, decision in enumerate(decisions):
        assert (decision.true, decision.predicted) == (i % 3, int(logits[i].argmax()))
        assert decision.other == int(logits[i].argsort(descending=True)[1])
        assert sum(decision.probabilities) < 1
        assert decision.probabilities[0] == pytest.approx(float(logits[i].softmax(0).max()), abs=1e-6)
        own = arrays["region_evidence"][i, :, decision.predicted]
        assert [region.evidence for region in decision.regions] == own.topk(3).values.tolist()
        for region, number in zip(decision.regions, own.topk(3).indices.tolist(), strict=True):
            assert region.pixels.shape == (4, 5)
            there = (subject.labels == number + 1).any((1, 2, 3))
            assert np.flatnonzero(there).tolist() == [region.neuron]
            assert (region.pixels == (subject.labels[region.neuron] == number + 1).any(0)).all()
        for each, name in zip(decision.evidence, (decision.predicted, decision.other), strict=True):
            by_hand = deeplift(subject.chain, x[i : i + 1].flatten(1), torch.tensor([name])).view(SHAPE)
            np.testing.assert_allclose(each, by_hand[0] + by_hand[1] + by_hand[2], atol=1e-12)
            assert each.sum() == pytest.approx(float(arrays["region_evidence"][i, :, name].sum()))
        assert decision.image.shape == (4, 5, 3)


def test_a_mistake_is_held_against_the_true_class(subject, images):
    x, y = images
    arrays, decisions = explain_decisions(subject, x, y, most=1, mistakes=True)
    assert [decision.other for decision in decisions] == y.tolist()
    shares = subject.chain.logits(x.flatten(1)).detach().double().softmax(1)
    assert [decision.probabilities[1] for decision in decisions] == pytest.approx(
        [float(own[label]) for own, label in zip(shares, y, strict=True)], abs=1e-6
    )
    by_hand = deeplift(subject.chain, x.flatten(1), y).view(-1, *SHAPE).sum(1)
    torch.testing.assert_close(arrays["evidence_for_other"], by_hand)


def test_classes_are_means_over_their_images(subject, images):
    x, y = images
    for label, (mean, evidence) in enumerate(explain_classes(subject, x, y)):
        np.testing.assert_allclose(mean, picture(x[y == label].mean(0)), rtol=1e-6)
        arrays, _ = explain_decisions(subject, x[y == label], y[y == label], most=1)
        of_class = arrays["region_evidence"][:, :, label].sum(1).mean()
        assert float(evidence.sum()) == pytest.approx(float(of_class))


def test_all_methods_begin_and_end_at_the_same_accuracies(subject, images):
    x, y = images
    found = dict(compare_methods(subject, x, y))
    assert {"DeepLIFT by region", "DeepLIFT", "gradient x input", "brightness", "random"} <= set(found)
    accuracy = float((subject.predict(x) == y).double().mean())
    black = float((subject.predict(torch.zeros_like(x)) == y).double().mean())
    for curves in found.values():
        assert (float(curves.deletion[0]), float(curves.deletion[-1])) == (accuracy, black)
        assert (float(curves.insertion[0]), float(curves.insertion[-1])) == (black, accuracy)
    # A pixel is a place in all channels.
    order = deeplift(subject.chain, x.flatten(1), subject.predict(x)).view(30, 3, 20).sum(1)
    expected = faithfulness(lambda x: subject.chain.logits(x.flatten(1)), x.view(30, 3, 20), y, order)
    assert torch.equal(found["DeepLIFT"].deletion, expected.deletion)
    assert torch.equal(found["DeepLIFT"].insertion, expected.insertion)


def test_the_size_of_batches_does_not_matter(subject, images, monkeypatch):
    def all_of_it():
        curves = dict(compare_methods(subject, *images))
        means = [(*map(torch.as_tensor, found),) for found in explain_classes(subject, *images)]
        return torch.cat([torch.cat(tuple(found)) for found in curves.values()]), means

    curves, means = all_of_it()
    monkeypatch.setattr("prunekit.regions.explanation.BATCH", 7)
    again, means_again = all_of_it()
    assert torch.equal(curves, again)
    torch.testing.assert_close(means, means_again)


def test_a_class_without_images_is_left_out(subject, images):
    x, y = images
    assert len(list(explain_classes(subject, x[y != 1], y[y != 1]))) == 2
