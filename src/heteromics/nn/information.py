"""Mutual information between two sets of vectors: pulled up by InfoNCE, pressed down by CLUB.

Sources: InfoNCE, van den Oord et al. 2018, arXiv:1807.03748, in the symmetric form of Radford et al. 2021 (CLIP,
arXiv:2103.00020); CLUB, Cheng et al. 2020, ICML, arXiv:2006.12013.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from heteromics.errors import ModelError
from heteromics.nn._compressed import compute_dtype

__all__ = ["Club", "club_bound", "symmetric_infonce"]

_BLOCK = 1 << 22


def symmetric_infonce(left: Tensor, right: Tensor, log_scale: Tensor | float) -> Tensor:
    """Loss of telling which row of one side belongs to which of the other, both ways, averaged.

    Parameters
    ----------
    left, right
        Row i of both belongs together, shape (N, D); scaled to length one here.
    log_scale
        Logarithm of the factor on the cosines, a scalar; log(1 / 0.07) is the usual start.

    Returns
    -------
    Tensor
        A scalar in nats; log N is chance. Differentiable once. Computed in float32 at least, under autocast too.
        Memory is O(block x N), not N x N.

    Raises
    ------
    ModelError
        When the shapes differ or there is no row.

    Examples
    --------
    >>> symmetric_infonce(torch.eye(2), torch.eye(2), 0.0).item()  # log(1 + exp(-1))
    0.3132616...
    """
    if left.shape != right.shape or left.ndim != 2 or not len(left):
        raise ModelError(
            f"found shapes {tuple(left.shape)} and {tuple(right.shape)}, expected two equal (N, D), N > 0."
        )
    dtype = compute_dtype(torch.promote_types(left.dtype, right.dtype))
    scale = torch.as_tensor(log_scale, dtype=dtype, device=left.device).reshape(()).exp()
    return _SymmetricInfoNCE.apply(normalize(left.to(dtype), dim=1), normalize(right.to(dtype), dim=1), scale)


class _SymmetricInfoNCE(torch.autograd.Function):
    """Two logsumexps over blocks of rows; the backward makes each block once more."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
        by_row = left.new_empty(len(left))
        by_column = left.new_full((len(left),), -torch.inf)
        for rows in _row_blocks(len(left)):
            logits = scale * _products(left[rows], right.T)
            by_row[rows] = logits.logsumexp(1)
            by_column = torch.logaddexp(by_column, logits.logsumexp(0))
        ctx.save_for_backward(left, right, scale, by_row, by_column)
        together = scale * (left * right).sum(1)
        return (0.5 * (by_row + by_column) - together).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right, scale, by_row, by_column = ctx.saved_tensors
        share = upstream / len(left)
        to_left, to_right = -scale * right, -scale * left
        to_scale = -(left * right).sum()
        for rows in _row_blocks(len(left)):
            cosine = _products(left[rows], right.T)
            chance = 0.5 * ((scale * cosine - by_row[rows, None]).exp() + (scale * cosine - by_column).exp())
            to_left[rows] += scale * _products(chance, right)
            to_right += scale * _products(chance.T, left[rows])
            to_scale += (chance * cosine).sum()
        return share * to_left, share * to_right, share * to_scale


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Multiply matrices as they are: half precision moves logits by more than the loss of a good fit."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other


def _row_blocks(rows: int) -> list[slice]:
    step = max(1, _BLOCK // rows)
    return [slice(first, first + step) for first in range(0, rows, step)]


def club_bound(
    mean: Tensor, log_variance: Tensor, values: Tensor, *, negatives: Literal["all", "permuted"] = "all"
) -> Tensor:
    """Contrastive upper bound of the mutual information of u and v, given a Gaussian q(v | u).

    Parameters
    ----------
    mean, log_variance
        Of q(v | u_i) for each row i, shape (N, D).
    values
        v, shape (N, D).
    negatives
        ``all``: the average over all N^2 pairs, exact. ``permuted``: each row against one row at random, as several
        public codes do; unbiased and noisier (torch's global generator).

    Returns
    -------
    Tensor
        A scalar in nats: mean_i log q(v_i | u_i) - mean_ij log q(v_j | u_i). Computed in float32 at least.

    Raises
    ------
    ModelError
        When the shapes differ, there is no row, or the negatives are none of the two.

    Notes
    -----
    For a Gaussian the mean over j is closed: mean_j (v_j - m)^2 = (mean v - m)^2 + var v. So all pairs cost O(N D),
    and terms in the log-variance alone cancel.

    Examples
    --------
    >>> v = torch.tensor([[0.0], [2.0]])
    >>> club_bound(v, torch.zeros(2, 1), v).item()  # 0 - mean of (0, -2, -2, 0)
    1.0
    """
    if not mean.shape == log_variance.shape == values.shape or values.ndim != 2 or not len(values):
        shapes = ", ".join(str(tuple(one.shape)) for one in (mean, log_variance, values))
        raise ModelError(f"found shapes {shapes}, expected three equal (N, D), N > 0.")
    if negatives not in ("all", "permuted"):
        raise ModelError(f"found negatives {negatives!r}, expected 'all' or 'permuted'.")
    mean, log_variance, values = (one.to(compute_dtype(one.dtype)) for one in (mean, log_variance, values))
    precision = (-log_variance).exp()
    if negatives == "all":
        centre = values.mean(0)
        spread = (values - centre).square().mean(0)
        apart = (centre - mean).square() + spread
    else:
        apart = (values[torch.randperm(len(values), device=values.device)] - mean).square()
    return 0.5 * (precision * (apart - (values - mean).square())).sum(1).mean()


class Club(nn.Module):
    """The bound of :func:`club_bound` with its own Gaussian network q(v | u).

    The bound holds only while q fits. So fit q by ``q_loss`` on its own optimiser, in steps between those of the model
    (its inputs are detached here), and add ``forward`` to the loss of the model, where q itself gets no gradient.

    Parameters
    ----------
    width_u, width_v
        Sizes of u and v.
    hidden
        Width of the two hidden layers of each of its two networks.
    """

    def __init__(self, width_u: int, width_v: int, hidden: int = 128) -> None:
        super().__init__()
        self.mean = _network(width_u, hidden, width_v)
        self.log_variance = nn.Sequential(_network(width_u, hidden, width_v), nn.Tanh())

    def q_loss(self, u: Tensor, v: Tensor) -> Tensor:
        """Negative log-likelihood of v under q(v | u), up to a constant, averaged over rows; reaches q alone."""
        u, v = u.detach(), v.detach()
        log_variance = self.log_variance(u)
        return 0.5 * (log_variance + (v - self.mean(u)).square() * (-log_variance).exp()).sum(1).mean()

    def forward(self, u: Tensor, v: Tensor, negatives: Literal["all", "permuted"] = "all") -> Tensor:
        """Return the bound, a scalar; its gradient reaches u and v, not q."""
        mean, log_variance = (
            torch.func.functional_call(network, {k: w.detach() for k, w in network.named_parameters()}, (u,))
            for network in (self.mean, self.log_variance)
        )
        return club_bound(mean, log_variance, v, negatives=negatives)


def _network(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
    )
