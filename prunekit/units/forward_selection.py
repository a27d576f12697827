"""Greedy forward selection of the units that least squares does best with."""

import numpy as np
import torch
from torch import Tensor


def forward_selection(covariance: Tensor, wanted: Tensor, ridge: float) -> Tensor:
    """Order units so that each is the one that, with those before it, best predicts what the units feed.

    With C the covariance of all units and Y = M h what they feed, the squared error of predicting Y linearly from
    units S is tr(M E M^T), where E = C - C_:S (C_SS)^-1 C_S: is what is left of C. Taking unit j in changes E by the
    rank-1 update E - e_j e_j^T / E_jj, e_j its column j, and lowers the error by |M e_j|^2 / E_jj; the unit with the
    largest such gain is taken next (block orthogonal matching pursuit, as all rows of Y share the units). A ridge on
    the diagonal of C keeps E_jj away from 0.

    E itself is never formed: its factor L, with E = C - L L^T, grows by a column a step, and so do Q L and C Q L for
    Q = M^T M, so that the first steps, which matter most, cost least.

    Args:
        covariance: C, ``(n, n)`` float64.
        wanted: Q = M^T M, ``(n, n)`` float64.
        ridge: above 0, relative to the mean of C's diagonal.

    Returns:
        ``(n,)`` int64, the units in the order in which they are taken; of equal gains the lower index.

    Source: Pati, Rezaiifar and Krishnaprasad, Orthogonal matching pursuit, Asilomar 1993.

    Example:
        >>> covariance = torch.diag(torch.tensor([1.0, 9.0, 4.0], dtype=torch.float64))
        >>> forward_selection(covariance, torch.eye(3, dtype=torch.float64), ridge=1e-6)
        tensor([1, 2, 0])
    """
    n = len(covariance)
    c = covariance.clone()
    least = (ridge * covariance.diagonal().mean()).clamp(min=torch.finfo(torch.float64).tiny)
    c.diagonal().add_(least)
    qc = wanted @ c
    cqc = c @ qc
    # Transposed, so that what there is of them lies together.
    factor, q_factor, cq_factor = (torch.zeros(n, n, dtype=torch.float64) for _ in range(3))
    left, gains = c.diagonal().clone(), cqc.diagonal().clone()  # of E, and of E Q E
    order = torch.empty(n, dtype=torch.int64)
    free = np.ones(n, dtype=np.bool_)
    for step in range(n):
        # Finite, so that where rounding has made all gains infinite it is still a free unit that is taken.
        unit = int(np.where(free, np.nan_to_num((gains / left).numpy()), -np.inf).argmax())
        order[step], free[unit] = unit, False
        known, scale = factor[:step, unit], left[unit].sqrt()
        column = (c[unit] - known @ factor[:step]) / scale
        q_column = (qc[:, unit] - known @ q_factor[:step]) / scale
        cq_column = (cqc[unit] - known @ cq_factor[:step]) / scale
        eq_column = cq_column - (factor[:step] @ q_column) @ factor[:step]
        gains += column * (column * (column @ q_column) - 2 * eq_column)
        left.sub_(column.square()).clamp_(min=least)  # which it is above, but for rounding
        factor[step], q_factor[step], cq_factor[step] = column, q_column, cq_column
    return order
