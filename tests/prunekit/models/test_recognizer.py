import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from prunekit.errors import ArgumentError
from prunekit.models.backbone import FrameEncoder
from prunekit.models.recognizer import Recognizer

ADAM = partial(torch.optim.Adam, lr=0.01)


def make(**changes):
    torch.manual_seed(0)
    arguments = {"inputs": 5, "classes": 3, "optimizer": ADAM, "units": 7, "hidden": 4}
    return Recognizer(**{**arguments, **changes}).double()


def clips(n=4, steps=6):
    return torch.randn(n, steps, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(net, x):
    """The LSTM's outputs, from its equations; gates in torch's order i, f, g, o."""
    w = dict(net.lstm.named_parameters())
    h = c = torch.zeros(len(x), 7, dtype=x.dtype)
    outputs = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, 1)


def head_by_hand(net, h):
    hidden, output = net.head.hidden, net.head.output
    return (h @ hidden.weight.T + hidden.bias).clamp(min=0) @ output.weight.T + output.bias


def test_states_readouts_and_steps_follow_the_equations():
    x = clips()
    for readout in ("last", "mean"):
        net = make(readout=readout)
        h = by_hand(net, x)
        assert torch.allclose(net.states(x), h, atol=1e-12)
        read = h[:, -1] if readout == "last" else h.mean(1)
        assert torch.allclose(net(x), head_by_hand(net, read), atol=1e-12)
        assert torch.allclose(net.read(net.states(x)), net(x), atol=0)
        assert torch.allclose(net.steps(x), head_by_hand(net, h), atol=1e-12)
    assert torch.allclose(make().steps(x)[:, -1], make()(x), atol=1e-12)


@pytest.mark.parametrize("regularized", ["recurrent", "all"])
@pytest.mark.parametrize("regularization", ["l1", "l2", "l2_squared"])
def test_the_loss_is_cross_entropy_plus_strength_times_penalty(regularization, regularized):
    net = make(regularization=regularization, regularized=regularized, strength=0.3)
    x, y = clips(), torch.tensor([0, 1, 2, 0])
    every = {"recurrent": net.lstm, "all": net}[regularized].parameters()
    values = [v for parameter in every for v in parameter.flatten().tolist()]
    assert len(values) == {"recurrent": 4 * 7 * (5 + 7 + 2), "all": 4 * 7 * 14 + 32 + 15}[regularized]
    squares = sum(v * v for v in values)
    penalty = {"l1": sum(map(abs, values)), "l2": math.sqrt(squares), "l2_squared": squares}[regularization]
    loss = net.training_step((x, y))
    assert loss.item() == pytest.approx(cross_entropy(net(x), y).item() + 0.3 * penalty, abs=1e-12)
    loss.backward()
    plain = make()
    plain.training_step((x, y)).backward()
    w = net.lstm.weight_hh_l0
    slope = {"l1": w.sign(), "l2": w / math.sqrt(squares), "l2_squared": 2 * w}[regularization]
    assert torch.allclose(w.grad, plain.lstm.weight_hh_l0.grad + 0.3 * slope, atol=1e-12)
    head = torch.equal(net.head.output.weight.grad, plain.head.output.weight.grad)
    assert head == (regularized == "recurrent")


def test_strengths_by_default_and_of_zero():
    assert [make(regularization=kind).strength for kind in ("l1", "l2", "l2_squared")] == [1e-5, 1e-2, 1e-4]
    assert make(regularization="l1", strength=0.0).penalty() == 0.0
    assert make().penalty() == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": -0.1}, r"^strength: got -0.1; accepted: null, or a number of 0 or more"),
        ({"strength": float("nan")}, r"^strength: got nan"),
        ({"readout": "first"}, r"^readout: got 'first'; accepted: one of 'last', 'mean'"),
        ({"regularization": "l3"}, r"^regularization: got 'l3'"),
        ({"regularized": "head"}, r"^regularized: got 'head'"),
        ({"units": 0}, r"^units: got 0"),
        ({"layers": 0}, r"^layers: got 0"),
        ({"classes": 0}, r"^classes: got 0"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(ArgumentError, match=message):
        make(**changes)


def test_layers_and_the_optimizer():
    net = make(layers=2)
    assert net(clips()).shape == (4, 3)
    optimizer = net.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert sum(p.numel() for p in optimizer.param_groups[0]["params"]) == sum(p.numel() for p in net.parameters())


def test_frames_go_through_the_backbone():
    backbone = FrameEncoder("untrained", "", trainable=True).freeze()
    net = Recognizer(512, 3, ADAM, units=7, hidden=4, backbone=backbone)
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(net.states(frames), net.lstm(backbone(frames))[0])
    assert len(net.configure_optimizers().param_groups[0]["params"]) == 8  # the frozen backbone's are not among them
