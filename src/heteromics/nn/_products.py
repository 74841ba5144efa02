"""The products of a relation as autograd functions: every gradient is again a sparse product over the stored edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heteromics.nn._compressed import compute_dtype, multiply, sample
from heteromics.nn._dropout import dropped

if TYPE_CHECKING:
    from heteromics.nn.relation import Relation


@dataclass(frozen=True, slots=True)
class Dropout:
    """A share of the edges to drop, and the seed that says which."""

    share: float
    seed: int

    def of(self, values: Tensor, relation: Relation) -> Tensor:
        """Drop among values in the CSR order of a relation."""
        return dropped(values, relation._numbers(), self.share, self.seed) if self.share else values


class SpMM(torch.autograd.Function):
    """``A @ h`` whose backward pass uses the edges as grouped by source, and drops the same edges."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor | None, relation: Relation, mean: bool, dropout: Dropout) -> Tensor:
        ctx.relation, ctx.mean, ctx.dropout, ctx.like = relation, mean, dropout, h.dtype
        needs_h, needs_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(h if needs_weight else None, weight if needs_h or needs_weight else None)
        dtype = compute_dtype(h.dtype)
        side = relation._by_dst
        values = side.values(dtype) if weight is None else weight.to(dtype)
        out = multiply(side, dropout.of(values, relation), h.to(dtype), relation.shape)
        if mean:
            out *= side.inverse_degree(dtype)
        return out.to(h.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        h, weight = ctx.saved_tensors
        relation: Relation = ctx.relation
        dtype = compute_dtype(ctx.like)
        grad = grad.to(dtype)
        if ctx.mean:
            grad = grad * relation._by_dst.inverse_degree(dtype)
        grad_h = grad_weight = None
        if ctx.needs_input_grad[0]:
            side = relation._by_src
            values = (
                side.values(dtype) if weight is None else weight.to(dtype).index_select(0, relation._order_to_src())
            )
            grad_h = multiply(side, ctx.dropout.of(values, relation.T), grad, relation.shape[::-1]).to(ctx.like)
        if ctx.needs_input_grad[1]:
            side = relation._by_dst
            grad_weight = ctx.dropout.of(sample(side, grad, h.to(dtype), relation.shape), relation).to(weight.dtype)
        return grad_h, grad_weight, None, None, None


class SDDMM(torch.autograd.Function):
    """Dot products along the edges; both gradients are sparse products."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, relation: Relation) -> Tensor:
        ctx.relation = relation
        ctx.save_for_backward(left, right)
        dtype = compute_dtype(left.dtype)
        return sample(relation._by_dst, left.to(dtype), right.to(dtype), relation.shape).to(left.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        left, right = ctx.saved_tensors
        relation: Relation = ctx.relation
        dtype = compute_dtype(left.dtype)
        grad = grad.to(dtype)
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = multiply(relation._by_dst, grad, right.to(dtype), relation.shape).to(left.dtype)
        if ctx.needs_input_grad[1]:
            grad = grad.index_select(0, relation._order_to_src())
            grad_right = multiply(relation._by_src, grad, left.to(dtype), relation.shape[::-1]).to(left.dtype)
        return grad_left, grad_right, None


class Permute(torch.autograd.Function):
    """Reorder; the gradient gathers by the inverse order instead of scattering."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return values.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return Permute.apply(grad, inverse, order), None, None
