"""The four gates of each unit of an LSTM, removed one by one: what a removed gate becomes is a constant.

With x_t the inputs, h the outputs and (i, f, g, o) the gates of unit j,

    i_t = sigmoid(z^i_t),  f_t = sigmoid(z^f_t),  g_t = tanh(z^g_t),  o_t = sigmoid(z^o_t),
    z^k_t = W^k_ih x_t + b^k_ih + W^k_hh h_{t-1} + b^k_hh,
    c_t = f_t c_{t-1} + i_t g_t,  h_t = o_t tanh(c_t).

A removed gate k of unit j no longer looks at anything: its rows of W_ih and W_hh are 0, and its activation is, at every
step, the mean that it had over the training clips. b_hh is 0 there, and b_ih what the activation makes that mean of.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

GATES = ("input", "forget", "candidate", "output")  # in the order of an nn.LSTM's rows
CANDIDATE = GATES.index("candidate")
EDGE = 1e-6  # a mean nearer than this to the end of an activation's range would need an infinite bias


def check_gates(lstm: nn.Module) -> None:
    """Refuse a layer whose gates cannot be seen or held.

    Raises:
        ValueError: if it is no LSTM, has several layers or directions, or no biases, which hold the constants.
    """
    if not isinstance(lstm, nn.LSTM) or lstm.bidirectional:
        raise ValueError("which is no nn.LSTM of one direction")
    if lstm.num_layers > 1:
        raise ValueError("an LSTM of several layers: what the last one's gates read is not seen")
    if not lstm.bias:
        raise ValueError("an LSTM without biases, which are what holds a removed gate's constant")


def gate_activations(lstm: nn.RNNBase, x: Tensor, h: Tensor) -> Tensor:
    """What all gates do at every step.

    Args:
        lstm: one layer, one direction, no projection.
        x: its inputs, ``(clips, T, inputs)``.
        h: the outputs that it gave, ``(clips, T, units)``.

    Returns:
        ``(clips, T, 4 * units)``, gate by gate in the order of :data:`GATES`; the candidate's in (-1, 1), others in
        (0, 1).
    """
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
    get = lstm.get_parameter
    z = linear(x, get("weight_ih_l0"), get("bias_ih_l0")) + linear(before, get("weight_hh_l0"), get("bias_hh_l0"))
    parts = list(z.chunk(4, 2))
    return torch.cat([part.tanh() if n == CANDIDATE else part.sigmoid() for n, part in enumerate(parts)], 2)


def on_one_scale(activations: Tensor) -> Tensor:
    """Gate activations ``(..., 4 * units)``, all of them in [-1, 1] as units' outputs are: 2 a - 1 for a sigmoid."""
    parts = list(activations.chunk(4, -1))
    return torch.cat([part if n == CANDIDATE else 2 * part - 1 for n, part in enumerate(parts)], -1)


def gate_constants(name: str, removed: Tensor, means: Tensor) -> dict[str, Tensor]:
    """What the entries of removed gates become, where that is not 0.

    Args:
        name: of the LSTM in its model; empty if it is the model.
        removed: ``(4 * units,)`` bool, the gates that become constants.
        means: ``(4 * units,)`` float64, the mean activations.

    Returns:
        For b_ih the biases of these gates, logit(mean) or atanh(mean), 0 elsewhere.
    """
    parts = list(means.cpu().double().chunk(4))
    inverse = torch.cat(
        [
            part.clamp(EDGE - 1, 1 - EDGE).atanh() if n == CANDIDATE else part.clamp(EDGE, 1 - EDGE).logit()
            for n, part in enumerate(parts)
        ]
    )
    bias = torch.where(removed.cpu(), inverse, torch.zeros_like(inverse))
    return {f"{name}.bias_ih_l0".removeprefix("."): bias}
