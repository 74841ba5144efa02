"""Weights of neighbours: how strongly each point belongs to the neighbourhood of another (UMAP's fuzzy sets)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["memberships"]

_ROUNDS = 64
_TOLERANCE = 1e-5
_SMALLEST = 1e-3
"""A width below this share of the mean distance is raised to it."""


def memberships(distance: Tensor) -> Tensor:
    """Turn distances to neighbours into strengths of membership, 1 for the nearest.

    exp(-(d - rho_i) / sigma_i), where rho_i is the least distance above zero, and sigma_i is such that the strengths of
    a point add up to log2(K + 1): McInnes, Healy and Melville, arXiv:1802.03426, algorithms 3 and 4. The numbers are
    those of ``umap.umap_.fuzzy_simplicial_set`` before its union, which counts the point itself among K + 1. That
    function was weighed: it compiles itself for half a minute in each process, and knows no CUDA.

    Parameters
    ----------
    distance
        To the K neighbours of each point, nearest first, the point itself left out; shape (N, K), K >= 1.

    Returns
    -------
    Tensor
        Shape (N, K), float64, from 0 to 1.

    Examples
    --------
    >>> memberships(torch.tensor([[1.0, 2.0, 3.0]])).sum().round(decimals=4)
    tensor(2., dtype=torch.float64)
    """
    wide = distance.double()
    n, k = wide.shape
    nearest = wide.masked_fill(wide <= 0, torch.inf).amin(1)
    nearest = nearest.masked_fill(torch.isinf(nearest), 0)  # all neighbours at the same place
    beyond = (wide - nearest[:, None]).clamp(min=0)
    width = _widths(beyond, math.log2(k + 1))
    mean = wide.sum(1) / (k + 1)
    overall = mean.mean() if n else mean.sum()
    width = torch.maximum(width, _SMALLEST * torch.where(nearest > 0, mean, overall))
    return torch.where(beyond > 0, torch.exp(-beyond / width[:, None].clamp(min=torch.finfo(wide.dtype).tiny)), 1.0)


def _widths(beyond: Tensor, target: float) -> Tensor:
    """Halve intervals until the strengths of each row add up to the target."""
    low = beyond.new_zeros(len(beyond))
    high = torch.full_like(low, torch.inf)
    middle = torch.ones_like(low)
    for _ in range(_ROUNDS):
        total = torch.exp(-beyond / middle[:, None]).sum(1)
        open_ = (total - target).abs() >= _TOLERANCE
        high = torch.where(open_ & (total > target), middle, high)
        low = torch.where(open_ & (total <= target), middle, low)
        halved = torch.where(torch.isinf(high), middle * 2, (low + high) / 2)
        middle = torch.where(open_, halved, middle)
    return middle
