"""Evidence adds up: each term is computed here by itself, in plain loops and by the network's own forward pass."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.models.mlp import Mlp
from prunekit.regions.evidence import ELEMENTWISE, NEAR, Regions, deeplift, find_chain, slopes
from prunekit.regions.segmentation import Connected, Signed, Watershed

CLASSES = 4


def network(function=nn.Sigmoid, sizes=(30, 8, 6, CLASSES), bias=True):
    torch.manual_seed(3)
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias), function()]
    return nn.Sequential(nn.Flatten(), *layers[:-1]).eval()


def images(n=7):
    x = torch.rand(n, 5, 6, generator=torch.Generator().manual_seed(1))
    return x * (x > 0.4)  # some pixels are black


def masked(weights, rate=0.5):
    kept = np.abs(weights) > np.quantile(np.abs(weights), rate)
    return weights * kept, kept


@pytest.mark.parametrize("kind", [Connected(), Signed(2), Watershed()])
@pytest.mark.parametrize("function", [*ELEMENTWISE, partial(nn.ReLU, inplace=True)])
def test_region_evidence_and_remainder_add_up_to_the_logits(function, kind):
    net = network(function)
    layer = net[1]
    weights, kept = masked(layer.weight.detach().numpy().reshape(8, 5, 6))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights).view(8, 30))
        logits, black = net(images()).double(), net(torch.zeros(1, 5, 6)).double()[0]
    chain = find_chain(net, "1.weight")
    found = slopes(chain, images().flatten(1))
    evidence = Regions(kind(weights, kept), layer).evidence(found, images().flatten(1))
    centred, remainder = logits - logits.mean(1, keepdim=True), black - black.mean()
    np.testing.assert_allclose(evidence.sum(1) + remainder.numpy(), centred.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.logits, centred, atol=1e-5)
    np.testing.assert_allclose(found.remainder, remainder, atol=1e-5)


def test_in_double_precision_nothing_is_lost():
    net = network(nn.Tanh).double()
    found = slopes(find_chain(net, "1.weight"), images().double().flatten(1))
    with torch.no_grad():
        logits = net(images().double())
    whole = np.ones((8, 5, 6), dtype=bool)
    weights = net[1].weight.detach().numpy().reshape(8, 5, 6)
    evidence = Regions(Connected()(weights, whole), net[1]).evidence(found, images().double().flatten(1))
    sums = evidence.sum(1) + found.remainder.numpy()
    np.testing.assert_allclose(sums, (logits - logits.mean(1, keepdim=True)).numpy(), rtol=0, atol=1e-13)


def test_each_regions_evidence_is_the_stated_formula():
    net = network()
    chain, x = find_chain(net, "1.weight"), images(3)
    weights, kept = masked(net[1].weight.detach().numpy().reshape(8, 5, 6))
    labels = Signed()(weights, kept)
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(weights).view(8, 30))
    evidence = Regions(labels, net[1]).evidence(slopes(chain, x.flatten(1)), x.flatten(1))
    w1, w2, w3 = (net[i].weight.detach().double().numpy() for i in (1, 3, 5))
    b1, b2 = (net[i].bias.detach().double().numpy() for i in (1, 3))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for i, image in enumerate(x.double().numpy()):
        z1, z1_black = w1 @ image.ravel() + b1, b1
        z2, z2_black = w2 @ sigmoid(z1) + b2, w2 @ sigmoid(z1_black) + b2
        s1 = (sigmoid(z1) - sigmoid(z1_black)) / (z1 - z1_black)
        s2 = (sigmoid(z2) - sigmoid(z2_black)) / (z2 - z2_black)
        to_logits = w3 @ np.diag(s2) @ w2 @ np.diag(s1)
        for region in range(1, labels.max() + 1):
            neuron = int(np.argwhere(labels == region)[0, 0])
            taken_in = (weights.astype(float)[neuron] * image)[labels[neuron] == region].sum()
            expected = to_logits[:, neuron] * taken_in
            np.testing.assert_allclose(evidence[i, region - 1], expected - expected.mean(), atol=1e-12)


def test_pixels_and_regions_are_two_ways_to_add_up_the_same():
    net, x = network(), images()
    chain, flat = find_chain(net, "1.weight"), x.flatten(1)
    found = slopes(chain, flat)
    single = np.arange(1, 241).reshape(8, 5, 6)  # every weight a region
    each = Regions(single, net[1]).evidence(found, flat)
    classes = torch.arange(len(x)) % CLASSES
    of_pixels = deeplift(chain, flat, classes)
    by_pixel = each.reshape(len(x), 8, 30, CLASSES).sum(1)[np.arange(len(x)), :, classes]
    np.testing.assert_allclose(of_pixels.detach(), by_pixel, atol=1e-12)
    assert (of_pixels[flat == 0] == 0).all()


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require", "ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("function", [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Softplus])
def test_pixels_have_what_captums_deeplift_gives_them(function):
    attr = pytest.importorskip("captum.attr")
    net, x = network(function).double(), images().flatten(1).double()
    chain, classes = find_chain(net, "1.weight"), torch.arange(len(x)) % CLASSES
    centre = nn.Linear(CLASSES, CLASSES, bias=False).double()
    with torch.no_grad():
        centre.weight.copy_(torch.eye(CLASSES) - 1 / CLASSES)
    theirs = attr.DeepLift(nn.Sequential(*net, centre), eps=NEAR).attribute(x, torch.zeros_like(x[:1]), target=classes)
    torch.testing.assert_close(deeplift(chain, x, classes), theirs.detach(), rtol=0, atol=1e-12)


def test_regions_are_spread_over_what_they_see():
    net = network(sizes=(30, 2, CLASSES))
    labels = np.zeros((2, 5, 6), dtype=np.int64)
    labels[0, 0, :4], labels[1, :2, 0], labels[1, 4, 4] = 1, 2, 3
    x = torch.zeros(1, 5, 6)
    x[0, 0, 0], x[0, 0, 2], x[0, 1, 0], x[0, 3, 3] = 0.5, 1.0, 0.1, 1.0
    spread = Regions(labels, net[1]).spread(np.array([[4.0, -3.0, 7.0]]), x.flatten(1)).view(5, 6)
    expected = torch.zeros(5, 6, dtype=torch.float64)
    expected[0, 0], expected[0, 2], expected[1, 0] = 2 - 1.5, 2, -1.5  # the third region sees nothing
    assert torch.equal(spread, expected)


def test_slopes_of_one_class_an_image_are_among_those_of_all():
    chain, x = find_chain(network(), "1.weight"), images().flatten(1)
    classes = torch.arange(len(x)) % CLASSES
    whole, one = slopes(chain, x), slopes(chain, x, classes)
    torch.testing.assert_close(one.classes[:, 0], whole.classes[torch.arange(len(x)), classes], rtol=0, atol=1e-15)
    assert torch.equal(one.logits, whole.logits)
    assert slopes(chain, x[:0]).classes.shape == (0, CLASSES, 8)


def test_a_linear_network_gives_what_its_weights_say_and_a_black_image_nothing():
    linear = nn.Sequential(nn.Linear(4, 3))
    chain = find_chain(linear, "0.weight")
    x = torch.tensor([[1.0, 2.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    found = slopes(chain, x)
    evidence = deeplift(chain, x, torch.tensor([2, 1]))
    w = linear[0].weight.detach().double()
    torch.testing.assert_close(evidence[0], (w[2] - w.mean(0)) * x[0].double())
    assert (evidence[1] == 0).all()
    torch.testing.assert_close(found.logits[1], found.remainder)


def test_a_neuron_that_is_the_same_for_black_has_its_tangent():
    net = network()
    with torch.no_grad():
        net[1].weight[0] = 0
    found = slopes(find_chain(net, "1.weight"), images().flatten(1))
    assert found.classes.isfinite().all()
    inner = torch.zeros(1, 30, dtype=torch.float64, requires_grad=True)
    tiny = images(1).flatten(1).double() * 1e-9  # so near to black that lines are tangents
    near = slopes(find_chain(net.double(), "1.weight"), tiny)
    logits = net(inner)[0]
    gradient = torch.autograd.grad(logits[0] - logits.mean(), inner)[0]
    torch.testing.assert_close(near.classes[0, 0] @ net[1].weight, gradient[0], rtol=1e-5, atol=1e-9)


def test_our_mlp_is_such_a_chain():
    mlp = Mlp([30, 8, CLASSES], torch.optim.SGD, activation="relu").eval()
    chain = find_chain(mlp, "layers.hidden1.weight")
    with torch.no_grad():
        torch.testing.assert_close(chain.logits(images().flatten(1)), mlp(images()))


@pytest.mark.parametrize(
    ("module", "parameter", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1), nn.Linear(3, 2)), "0.weight", "Softmax is neither"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), "0.weight", "BatchNorm1d is neither"),
        (nn.Sequential(nn.Sigmoid(), nn.Linear(4, 3)), "1.weight", "Sigmoid is neither"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), "2.weight", "not of the first"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "0.weight", "outputs are changed"),
        (nn.Sequential(nn.Linear(4, 3)), "0.bias", "no weight of a layer"),
        (nn.Linear(4, 3), "weight", r"no weight of a layer in an nn\.Sequential"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), "2.weight", "Conv2d is neither"),
    ],
)
def test_what_is_no_chain_is_refused(module, parameter, message):
    with pytest.raises(ValueError, match=message):
        find_chain(module, parameter)
