from functools import partial

import pytest
import torch

from prunekit.errors import ArgumentError
from prunekit.models.mlp import Mlp

SGD = partial(torch.optim.SGD, lr=0.1)


def test_layers_activation_and_initialisation():
    torch.manual_seed(0)
    mlp = Mlp([784, 400, 50, 10], SGD)
    assert [type(layer).__name__ for layer in mlp.layers] == ["Linear", "Sigmoid", "Linear", "Sigmoid", "Linear"]
    weight = mlp.layers.hidden1.weight
    assert weight.std().item() == pytest.approx(784**-0.5, rel=0.02)
    assert not mlp.layers.hidden1.bias.any()
    xavier = Mlp([784, 400, 50, 10], SGD, initialisation="xavier").layers.hidden1
    assert xavier.weight.abs().max().item() == pytest.approx((6 / 1184) ** 0.5, rel=0.01)
    assert Mlp([784, 400, 10], SGD, "relu", "torch").layers.hidden1.bias.any()


def test_the_loss_is_softmax_cross_entropy():
    mlp = Mlp([4, 3], SGD)
    x, y = torch.rand(5, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    expected = -torch.log_softmax(mlp(x), 1)[torch.arange(5), y].mean()
    torch.testing.assert_close(mlp.training_step((x, y)), expected)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"sizes": [784]}, "^sizes"),
        ({"sizes": [784, 0, 10]}, "^sizes"),
        ({"sizes": [784, "a", 10]}, "^sizes"),
        ({"sizes": [784, 10], "activation": "gelu"}, "^activation"),
        ({"sizes": [784, 10], "initialisation": "zeros"}, "^initialisation"),
    ],
)
def test_wrong_arguments_name_their_key(arguments, key):
    with pytest.raises(ArgumentError, match=key):
        Mlp(optimizer=SGD, **arguments)
