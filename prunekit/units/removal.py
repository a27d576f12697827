"""Which units of an LSTM go, or single gates of units, and what goes with them."""

import torch
from torch import Tensor, nn

from prunekit.errors import check_choice
from prunekit.masks import Mask, lowest

ORDERS = ("ascending", "descending")
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def unit_parameters(lstm: nn.LSTM, name: str) -> list[str]:
    """The names of the last layer's parameters that have a row for each gate of each unit.

    Args:
        lstm: as found in its model.
        name: its name there.

    Example:
        >>> unit_parameters(nn.LSTM(2, 3, num_layers=2, bias=False), "net.lstm")
        ['net.lstm.weight_ih_l1', 'net.lstm.weight_hh_l1']
    """
    layer = lstm.num_layers - 1
    return [f"{name}.{kind}_l{layer}" for kind in KINDS if hasattr(lstm, f"{kind}_l{layer}")]


def kept_units(scores: Tensor, k: int, order: str, before: Tensor | None = None) -> Tensor:
    """Keep all but ``k`` units: those removed before go first, then the order's first; ties by index.

    Args:
        scores: ``(units,)``, without NaN.
        k: units to be gone, those removed before included.
        order: ``ascending`` removes the lowest scores first, ``descending`` the highest.
        before: ``(units,)`` bool, True = kept so far; None if all are.

    Returns:
        ``(units,)`` bool, True = kept.

    Raises:
        ConfigError: if the order is neither.
        ValueError: if a score is NaN.

    Example:
        >>> kept_units(torch.tensor([3.0, 1.0, 2.0]), 1, "ascending").tolist()
        [True, False, True]
        >>> kept_units(torch.tensor([3.0, 1.0, 2.0]), 2, "descending").tolist()
        [False, True, False]
    """
    check_choice("order", order, ORDERS)
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().sum())} of {len(scores)} scores are NaN")
    # Ranks instead of scores: what is removed already comes before any of them, infinite ones included.
    ranks = torch.empty(len(scores), dtype=torch.int64)
    ranks[torch.sort(scores.cpu(), stable=True, descending=order == "descending").indices] = torch.arange(len(scores))
    if before is not None:
        ranks = torch.where(before, ranks, ranks - len(scores))
        k = max(k, int((~before).sum()))
    return ~lowest(ranks, k)


def gate_mask(lstm: nn.LSTM, name: str, kept: Tensor) -> Mask:
    """The mask that removes gates: of each its row of W_ih, W_hh, b_ih and b_hh.

    Args:
        lstm: as found in its model.
        name: its name there.
        kept: ``(4 * units,)`` bool, True = kept.

    Example:
        >>> mask = gate_mask(nn.LSTM(2, 1), "lstm", torch.tensor([True, False, True, True]))
        >>> mask["lstm.weight_ih_l0"].tolist()
        [[True, True], [False, False], [True, True], [True, True]]
    """
    shapes = {full: getattr(lstm, full.rpartition(".")[2]).shape for full in unit_parameters(lstm, name)}
    return Mask({full: kept.cpu().view(-1, *[1] * (len(s) - 1)).expand(s) for full, s in shapes.items()})


def gates_kept(mask: Mask, name: str) -> Tensor:
    """The gates of which anything is kept, ``(4 * units,)`` bool, from the mask of one of the LSTM's parameters."""
    rows = mask[name]
    return rows.view(len(rows), -1).any(1)


def unit_mask(lstm: nn.LSTM, name: str, kept: Tensor) -> Mask:
    """The mask that removes units: of each its rows of all four gates, weights and biases, so that its output is 0.

    With all of these at 0 the gates are sigmoid(0), the candidate tanh(0) = 0, so the cell stays at its 0 and
    ``h_j = sigmoid(0) tanh(0) = 0`` at every step. The columns that read ``h_j`` may keep their weights.

    Args:
        lstm: as found in its model.
        name: its name there.
        kept: ``(units,)`` bool, True = kept.

    Example:
        >>> mask = unit_mask(nn.LSTM(2, 3), "lstm", torch.tensor([True, False, True]))
        >>> mask["lstm.bias_ih_l0"].view(4, 3).all(0).tolist(), mask.sparsity()
        ([True, False, True], 0.3333333333333333)
    """
    return gate_mask(lstm, name, kept.repeat(4))


def units_kept(mask: Mask, name: str) -> Tensor:
    """The units of which anything is kept, ``(units,)`` bool, from the mask of one of the LSTM's parameters."""
    return gates_kept(mask, name).view(4, -1).any(0)


def saved_share(inputs: int, units: int, removed: int, grain: str = "unit") -> float:
    """The share of a layer's multiply-adds that need no longer be done.

    A unit takes its four rows and its column of W_hh along; a gate is one row, and only what computes no empty rows
    saves it.

    Args:
        inputs: of the layer.
        units: of the layer.
        removed: units or gates gone.
        grain: ``unit`` or ``gate``.

    Example:
        >>> saved_share(inputs=2, units=2, removed=1), saved_share(inputs=2, units=2, removed=4, grain="gate")
        (0.625, 0.5)
    """
    if grain == "gate":
        return removed / (4 * units)
    left = units - removed
    return 1 - left * (inputs + left) / (units * (inputs + units))
