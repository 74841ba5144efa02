"""Reductions over consecutive segments of an array, without padding and without loops.

Segment ``s`` of ``values`` is ``values[offsets[s]:offsets[s + 1]]``, as in compressed rows; segments may be empty.
The reductions rest on ``torch.segment_reduce``, which, unlike scattering, adds in the same order on every run and on
every device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heteromics.errors import GraphError
from heteromics.nn._compressed import compute_dtype

__all__ = [
    "segment_ids",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sort",
    "segment_sum",
    "segment_topk",
]


def segment_ids(offsets: Tensor) -> Tensor:
    """Return the segment of every entry, shape (E,), int64.

    Examples
    --------
    >>> segment_ids(torch.tensor([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    sizes = offsets.diff()
    return torch.repeat_interleave(torch.arange(len(sizes), device=offsets.device), sizes)


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Add the entries of each segment; an empty segment gives 0.

    Parameters
    ----------
    values
        Shape (E, ...), floating. bfloat16 and float16 are summed in float32.
    offsets
        Segment bounds, shape (S + 1,), integers from 0 to E, never falling.

    Returns
    -------
    Tensor
        Shape (S, ...), differentiable once.

    Raises
    ------
    GraphError
        The offsets do not cover the values, or the values are no floating numbers.

    Examples
    --------
    >>> segment_sum(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 2, 2, 3])).tolist()
    [3.0, 0.0, 5.0]
    """
    _check_floating(values, offsets)
    return _reduce(values, offsets, "sum")


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Average the entries of each segment; an empty segment gives 0. Arguments as in :func:`segment_sum`.

    Examples
    --------
    >>> segment_mean(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 2, 2, 3])).tolist()
    [1.5, 0.0, 5.0]
    """
    _check_floating(values, offsets)
    sizes = offsets.diff().clamp(min=1).to(compute_dtype(values.dtype))
    total = _reduce(values.to(sizes.dtype), offsets, "sum")
    return (total / sizes.reshape(-1, *[1] * (values.ndim - 1))).to(values.dtype)


def segment_max(values: Tensor, offsets: Tensor) -> Tensor:
    """Take the largest entry of each segment; an empty segment gives -inf. Arguments as in :func:`segment_sum`.

    Equal largest entries share the gradient.

    Examples
    --------
    >>> segment_max(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 2, 2, 3])).tolist()
    [2.0, -inf, 5.0]
    """
    _check_floating(values, offsets)
    return _reduce(values, offsets, "max")


def segment_softmax(scores: Tensor, offsets: Tensor) -> Tensor:
    """Softmax over each segment.

    Parameters
    ----------
    scores
        Logits, shape (E, ...), floating. bfloat16 and float16 are computed in float32.
    offsets
        Segment bounds, shape (S + 1,), integers from 0 to E, never falling.

    Returns
    -------
    Tensor
        Weights of shape (E, ...) that sum to 1 over each segment that is not empty; differentiable once.
        Logits may be large: the largest of each segment is taken off first.

    Raises
    ------
    GraphError
        The offsets do not cover the scores, or the scores are no floating numbers.

    Examples
    --------
    >>> segment_softmax(torch.tensor([0.0, 0.0, 7.0]), torch.tensor([0, 2, 2, 3])).tolist()
    [0.5, 0.5, 1.0]
    """
    _check_floating(scores, offsets)
    return _SegmentSoftmax.apply(scores, offsets)


def segment_sort(scores: Tensor, offsets: Tensor, descending: bool = False) -> Tensor:
    """Find the order that sorts each segment; equal scores stay in the order they come in.

    Parameters
    ----------
    scores
        Shape (E,). NaN ranks above all numbers, as in ``torch.sort``.
    offsets
        Segment bounds, shape (S + 1,), integers from 0 to E, never falling.
    descending
        Largest first.

    Returns
    -------
    Tensor
        Positions in ``scores``, int64, shape (E,): segment after segment, so that ``scores[order]`` has the same
        offsets.

    Raises
    ------
    GraphError
        The offsets do not cover the scores, or the scores are no vector.

    Examples
    --------
    >>> segment_sort(torch.tensor([3.0, 1.0, 3.0, 2.0]), torch.tensor([0, 3, 4])).tolist()
    [1, 0, 2, 3]
    """
    _check(scores, offsets)
    if scores.ndim != 1:
        raise GraphError(f"segment_sort needs a vector; got shape {tuple(scores.shape)}.")
    order = scores.detach().sort(descending=descending, stable=True).indices
    return order[segment_ids(offsets)[order].sort(stable=True).indices]


def segment_topk(scores: Tensor, offsets: Tensor, k: int) -> Tensor:
    """Find the ``min(k, size)`` largest entries of each segment.

    Parameters
    ----------
    scores
        Shape (E,). NaN ranks above all numbers, as in ``torch.topk``.
    offsets
        Segment bounds, shape (S + 1,), integers from 0 to E, never falling.
    k
        Most entries to keep per segment, at least 0.

    Returns
    -------
    Tensor
        Positions in ``scores``, int64: segment after segment, within one by falling score, and of equal scores the
        earlier position first.

    Raises
    ------
    GraphError
        The offsets do not cover the scores, the scores are no vector, or ``k`` is negative.

    Examples
    --------
    >>> segment_topk(torch.tensor([1.0, 3.0, 3.0, 2.0]), torch.tensor([0, 3, 4]), k=2).tolist()
    [1, 2, 3]
    """
    if scores.ndim != 1 or k < 0:
        raise GraphError(f"segment_topk needs a vector and k >= 0; got shape {tuple(scores.shape)} and k = {k}.")
    order = segment_sort(scores, offsets, descending=True)
    rank = torch.arange(len(scores), device=scores.device) - offsets[segment_ids(offsets)]
    return order[rank < k]


class _SegmentSoftmax(torch.autograd.Function):
    """Softmax over segments; keeps its output alone for the backward pass."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, offsets: Tensor) -> Tensor:
        ids = segment_ids(offsets)
        values = scores.to(compute_dtype(scores.dtype))
        top = _reduce(values, offsets, "max")
        weight = (values - top.index_select(0, ids)).exp_()
        weight /= _reduce(weight, offsets, "sum").index_select(0, ids)
        weight = weight.to(scores.dtype)
        ctx.save_for_backward(weight, offsets, ids)
        return weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        weight, offsets, ids = ctx.saved_tensors
        weighted = weight * grad
        return weighted - weight * _reduce(weighted, offsets, "sum").index_select(0, ids), None


def _reduce(values: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    values = values.contiguous()
    if not values.numel():
        empty = 0.0 if reduce == "sum" else -torch.inf
        return values.sum() + values.new_full((len(offsets) - 1, *values.shape[1:]), empty)
    initial = 0 if reduce == "sum" else None
    wide = values.to(compute_dtype(values.dtype))
    return torch.segment_reduce(wide, reduce, offsets=offsets, axis=0, initial=initial, unsafe=True).to(values.dtype)


def _check(values: Tensor, offsets: Tensor) -> None:
    bounds = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (-1, -1)
    if bounds != (0, len(values)) or bool((offsets.diff() < 0).any()):
        raise GraphError(
            f"Segment offsets must rise from 0 to the number of entries, {len(values):,}; found {len(offsets):,} "
            f"offsets from {bounds[0]:,} to {bounds[1]:,} with {int((offsets.diff() < 0).sum()):,} falls."
        )


def _check_floating(values: Tensor, offsets: Tensor) -> None:
    if not values.is_floating_point():
        raise GraphError(
            f"Found {values.dtype}; segments are reduced in floating numbers. Fix: pass values.float() or .double()."
        )
    _check(values, offsets)
