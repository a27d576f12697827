"""Linear compensation: the kept units say what the removed ones would have said, as far as a linear map can.

Over training clips the removed units' outputs are regressed on the kept ones' and a constant, h_r ~ A h_k + b, by ridge
regression in closed form. What reads h_r through weights W_r then reads W_r A h_k + W_r b instead: A goes into the
weights that read h_k, b into the bias. No network is trained.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunekit.errors import ArgumentError
from prunekit.gpu import float64
from prunekit.units.moments import Moments, OutputMoments

RIDGE = 1e-4
LEAST_RIDGE = 1e-12  # below it rounding decides


class Fit(NamedTuple):
    """h_r ~ A h_k + b: A ``(removed, kept)`` and b ``(removed,)``, float64."""

    coefficients: Tensor
    constant: Tensor


def check_ridge(ridge: float) -> float:
    """Accept a finite number that is large enough to keep least squares away from rounding.

    Raises:
        ArgumentError: otherwise.
    """
    if isinstance(ridge, bool) or not LEAST_RIDGE <= ridge < float("inf"):
        raise ArgumentError("ridge", ridge, f"a number of at least {LEAST_RIDGE:g}, such as 0.0001")
    return ridge


def fit(moments: Moments, kept: Tensor, removed: Tensor, ridge: float = RIDGE, constant: bool = True) -> Fit:
    """Ridge-regress removed units on kept ones: A = C_rk (C_kk + ridge * m I)^-1, b = mean_r - A mean_k.

    C is the covariance, m the mean of its diagonal, so that the ridge does not depend on the outputs' scale.

    Args:
        moments: of all units.
        kept: ``(k,)`` int64, indices of units.
        removed: ``(r,)`` int64.
        ridge: above 0.
        constant: whether there is a b; if not, C is taken about 0.

    Example:
        >>> h = torch.rand(50, 1, dtype=torch.float64) @ torch.tensor([[1.0, 2.0]], dtype=torch.float64) + 3
        >>> found = fit(Moments.of(h), torch.tensor([0]), torch.tensor([1]), ridge=1e-9)
        >>> round(found.coefficients.item(), 3), round(found.constant.item(), 3)
        (2.0, -3.0)
    """
    covariance = moments.covariance(about_zero=not constant)
    among_kept = covariance[kept][:, kept]
    # Above 0 even where no output varies.
    among_kept.diagonal().add_((ridge * covariance.diagonal().mean()).clamp(min=torch.finfo(torch.float64).tiny))
    coefficients = torch.linalg.solve(among_kept, covariance[kept][:, removed]).T
    mean = moments.mean()
    intercept = mean[removed] - coefficients @ mean[kept] if constant else torch.zeros_like(mean[removed])
    return Fit(coefficients, intercept)


@torch.no_grad()
def fold(weight: Tensor, bias: Tensor | None, found: Fit, kept: Tensor, removed: Tensor) -> None:
    """Have a layer read kept units instead of removed ones, in place.

    Args:
        weight: ``(m, units)``, of which the columns of kept units change.
        bias: ``(m,)``; None if the fit has no constant.
        found: the fit.
        kept: as it was fitted.
        removed: as it was fitted.
    """
    given = float64(weight[:, removed])
    weight[:, kept] += (given @ found.coefficients.to(given.device)).to(weight)
    if bias is not None:
        bias += (given @ found.constant.to(given.device)).to(bias)


class Reading(NamedTuple):
    """What reads units: weights ``(rows, units)`` that share memory with a parameter, and the bias of these rows.

    Attributes:
        weight: a column a unit.
        bias: ``(rows,)``; None if there is none, when a fit has no constant.
        fed_back: whether it reads what units gave one step before, 0 at the first step.
    """

    weight: Tensor
    bias: Tensor | None
    fed_back: bool = False


@torch.no_grad()
def make_up(readings: Sequence[Reading], moments: OutputMoments, kept: Tensor, gone: Tensor, ridge: float) -> None:
    """Have all that reads some units read those that stay instead of those that go, in place.

    Args:
        readings: all there are.
        moments: of the units' outputs over training sequences, before anything is removed.
        kept: ``(units,)`` bool.
        gone: ``(units,)`` bool, those that go now.
        ridge: relative to the outputs' mean variance, above 0.
    """
    if not gone.any():
        return
    stay, go = kept.nonzero().flatten(), gone.nonzero().flatten()
    fits: dict[tuple[bool, bool], Fit] = {}
    for weight, bias, fed_back in readings:
        key = fed_back, bias is not None
        if key not in fits:
            seen = moments.fed_back if fed_back else moments.read
            fits[key] = fit(seen, stay, go, ridge, constant=bias is not None)
        fold(weight, bias, fits[key], stay, go)


def compensate(
    layer: nn.RNNBase,
    readers: Sequence[nn.Linear],
    moments: OutputMoments,
    kept: Tensor,
    before: Tensor | None = None,
    ridge: float = RIDGE,
) -> None:
    """Change what reads the units of a recurrent layer's last layer, so that some of them can go.

    Recurrent weights follow a fit over h_-1 .. h_T-2, where h_-1 = 0, and readers one over h_0 .. h_T-1. The rows of
    removed units are left for a mask to clear. Where a layer has no bias its fit has no constant.

    Args:
        layer: of one direction, no projection, called without states to start with.
        readers: all layers that read its outputs, or means of them over steps.
        moments: of its outputs over training clips, before anything is removed.
        kept: ``(units,)`` bool, True = kept.
        before: ``(units,)`` bool, the units there were; None for all.
        ridge: relative to the outputs' mean variance, above 0.
    """
    last = f"_l{layer.num_layers - 1}"
    bias = layer.get_parameter(f"bias_hh{last}") if layer.bias else None
    own = Reading(layer.get_parameter(f"weight_hh{last}"), bias, fed_back=True)
    readings = [own, *(Reading(reader.weight, reader.bias) for reader in readers)]
    make_up(readings, moments, kept, ~kept if before is None else before & ~kept, ridge)
