"""Compressed edges of one side of a relation, their checks and the kernels that run on them."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from heteromics.errors import GraphError

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
_INT32_MOST = np.iinfo(np.int32).max
_COLUMNS_AT_ONCE = 64  # of the dense factor on the CPU; measured at width 256, 66,000 x 14,000: 3 times faster than all
_OFTEN = 32  # entries per column from which cutting the dense factor pays for copying it
_MOST_GATHERED = 1 << 24  # numbers gathered at a time by the sum in fixed order


class Side:
    """Edges grouped by the nodes of one side, with values derived from them once and kept.

    ``order`` tells where each entry stands on the opposite side: values here are values there ``[order]``; None until
    it is asked for. The entries of the side that ``leads`` number the edges.
    """

    __slots__ = ("_inverse_degree", "_values", "indices", "indptr", "leads", "order", "weight")

    def __init__(
        self,
        indptr: Tensor,
        indices: Tensor,
        weight: Tensor | None,
        order: Tensor | None = None,
        leads: bool = True,
    ) -> None:
        self.indptr = indptr
        self.indices = indices
        self.weight = weight
        self.order = order
        self.leads = leads
        self._values: dict[torch.dtype, Tensor] = {}
        self._inverse_degree: dict[torch.dtype, Tensor] = {}

    def values(self, dtype: torch.dtype) -> Tensor:
        """Return the stored weights, or ones, as ``dtype``, shape (nnz,)."""
        if dtype not in self._values:
            ones = torch.ones(len(self.indices), dtype=dtype, device=self.indices.device)
            self._values[dtype] = ones if self.weight is None else self.weight.to(dtype)
        return self._values[dtype]

    def inverse_degree(self, dtype: torch.dtype) -> Tensor:
        """Return one over the number of stored edges of each row, 1 for an empty row, shape (rows, 1)."""
        if dtype not in self._inverse_degree:
            self._inverse_degree[dtype] = self.indptr.diff().clamp(min=1).to(dtype).reciprocal()[:, None]
        return self._inverse_degree[dtype]

    def to(self, device: torch.device, dtype: torch.dtype | None) -> Side:
        weight = None if self.weight is None else self.weight.to(device=device, dtype=dtype)
        order = None if self.order is None else self.order.to(device)
        return Side(self.indptr.to(device), self.indices.to(device), weight, order, self.leads)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


@functools.cache
def _hear_beta_notice() -> None:
    """Let torch say once per process, unheard, that its CSR tensors are in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1), check_invariants=False)


def _csr(side: Side, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """View the arrays as a torch sparse CSR tensor; the arrays were checked when the relation was built."""
    _hear_beta_notice()
    return torch.sparse_csr_tensor(side.indptr, side.indices, values.contiguous(), shape, check_invariants=False)


def multiply(side: Side, values: Tensor, h: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sparse (rows, columns) times dense (columns, D).

    On CUDA cuSPARSE may add in another order on every run; where ``torch.use_deterministic_algorithms`` is on,
    :func:`multiply_in_order` takes its place. On the CPU each row is added up by one thread, in order.
    """
    if not len(values) or not h.shape[1]:
        return h.new_zeros(shape[0], h.shape[1])
    if h.device.type != "cpu" and torch.are_deterministic_algorithms_enabled():
        return multiply_in_order(side, values, h)
    matrix, h = _csr(side, values, shape), h.contiguous()
    with torch.autocast(h.device.type, enabled=False):
        if h.device.type != "cpu":
            return matrix @ h
        if not torch.backends.mkl.is_available() or side.indices.dtype != torch.int32:  # MKL here counts in int32
            return torch.sparse.mm(matrix, h, "sum")
        whole = h.shape[1] <= _COLUMNS_AT_ONCE or len(values) < _OFTEN * shape[1]
        columns = h.shape[1] if whole else _COLUMNS_AT_ONCE
        out = h.new_zeros(shape[0], h.shape[1])  # ``matrix @ h`` would allocate twice
        for into, some in zip(out.split(columns, 1), h.split(columns, 1), strict=True):
            torch.addmm(into, matrix, some.contiguous(), beta=0, out=into)
        return out


def multiply_in_order(side: Side, values: Tensor, h: Tensor) -> Tensor:
    """Sparse times dense, each row added up in an order that depends on the matrix alone: same bits on every run.

    Slower than :func:`multiply`. At most 2 ** 24 products (or one edge) are held at a time, and beside the result one
    row for every so many edges.
    """
    edges, step = len(values), max(_MOST_GATHERED // h.shape[1], 1)
    starts = torch.arange(0, edges, step, device=h.device, dtype=side.indptr.dtype)
    cuts = torch.unique(torch.cat([side.indptr, starts]))  # pieces of rows, none of which crosses a start
    first = torch.searchsorted(cuts, starts).tolist()
    pieces = []
    for begin, piece, last in zip(range(0, edges, step), first, [*first[1:], len(cuts) - 1], strict=True):
        product = h.index_select(0, side.indices[begin : begin + step]).mul_(values[begin : begin + step, None])
        pieces.append(_sums(product, cuts[piece : last + 1] - begin))
    return _sums(torch.cat(pieces), torch.searchsorted(cuts, side.indptr))


def _sums(values: Tensor, offsets: Tensor) -> Tensor:
    return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, initial=0, unsafe=True)


def sample(side: Side, left: Tensor, right: Tensor, shape: tuple[int, int]) -> Tensor:
    """``(left @ right.T)`` at the stored edges alone, shape (nnz,): no dense product and no E x D array."""
    if not len(side.indices) or not left.shape[1]:
        return left.new_zeros(len(side.indices))
    pattern = _csr(side, side.values(left.dtype), shape)
    with torch.autocast(left.device.type, enabled=False):
        return torch.sparse.sampled_addmm(pattern, left.contiguous(), right.contiguous().T, beta=0.0).values()


def as_tensor(values: Any) -> Tensor:
    """Share memory where possible; a read-only NumPy array is copied."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()
    return torch.as_tensor(values)


def checked_side(indptr: Tensor, indices: Tensor, shape: tuple[int, int], weight: Any) -> Side:
    """Check that the arrays are a CSR matrix of ``shape``: the kernels trust them and would read beyond the memory."""
    rows, columns = shape
    for name, array in (("indptr", indptr), ("indices", indices)):
        if array.ndim != 1 or (array.numel() and array.dtype not in _INTEGERS):
            raise GraphError(f"{name} has shape {tuple(array.shape)} and type {array.dtype}; expected signed integers.")
    edges = len(indices)
    if len(indptr) != rows + 1:
        raise GraphError(f"indptr has {len(indptr):,} entries; {rows:,} rows need {rows + 1:,}.")
    if int(indptr[0]) != 0 or int(indptr[-1]) != edges or bool((indptr.diff() < 0).any()):
        raise GraphError(
            f"indptr must rise from 0 to the number of edges, {edges:,}; it goes from {int(indptr[0]):,} to "
            f"{int(indptr[-1]):,} with {int((indptr.diff() < 0).sum()):,} falls."
        )
    least, most = map(int, torch.aminmax(indices)) if edges else (0, -1)
    if least < 0 or most >= columns:
        outside = int(((indices < 0) | (indices >= columns)).sum())
        raise GraphError(
            f"{outside:,} of {edges:,} indices lie outside [0, {columns:,}), the range of the columns: found "
            f"{least:,} to {most:,}."
        )
    dtype = torch.int32 if max(rows, columns, edges) <= _INT32_MOST else torch.int64
    if weight is not None:
        weight = as_tensor(weight).detach().to(indices.device)
        if weight.shape != (edges,):
            raise GraphError(f"weight has shape {tuple(weight.shape)}; each of the {edges:,} edges needs one number.")
        weight = weight if weight.is_floating_point() else weight.to(torch.float32)
    return Side(indptr.to(dtype).contiguous(), indices.to(dtype).contiguous(), weight)


def inverse(order: Tensor) -> Tensor:
    """Return the permutation that undoes ``order``."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), dtype=order.dtype, device=order.device)
    return back


def transpose(side: Side, shape: tuple[int, int]) -> Side:
    """Group the same edges by the opposite nodes, in order within each; the one sort in the life of a relation.

    With weights of its own, the CPU brings these over and leaves positions for :func:`order_of_transpose`: half the
    fresh memory, which takes as long as the sort.
    """
    weight, dtype = side.weight, side.indices.dtype
    if side.indices.device.type == "cpu":
        carried = weight if weight is not None and weight.dtype in (torch.float32, torch.float64) else None
        matrix = _turned(side, _positions(side) if carried is None else carried.numpy(), shape)
        indptr, indices, data = (torch.from_numpy(each) for each in (matrix.indptr, matrix.indices, matrix.data))
        indptr, indices = indptr.to(dtype), indices.to(dtype)
        if carried is not None:
            return Side(indptr, indices, data, leads=False)
        return Side(indptr, indices, None if weight is None else weight.index_select(0, data), data, leads=False)
    order = order_of_transpose(side, shape)
    counts = torch.bincount(side.indices, minlength=shape[1])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(dtype)
    row = torch.arange(shape[0], dtype=dtype, device=order.device)
    indices = torch.repeat_interleave(row, side.indptr.diff()).index_select(0, order)
    return Side(indptr, indices, None if weight is None else weight.index_select(0, order), order, leads=False)


def order_of_transpose(side: Side, shape: tuple[int, int]) -> Tensor:
    """Where the entries of the transposed side stand on this one, shape (nnz,), of the type of the indices."""
    if side.indices.device.type != "cpu":
        return side.indices.sort(stable=True).indices.to(side.indices.dtype)
    return torch.from_numpy(_turned(side, _positions(side), shape).data)


def _positions(side: Side) -> np.ndarray:
    return np.arange(len(side.indices), dtype=side.indices.numpy().dtype)


def _turned(side: Side, values: np.ndarray, shape: tuple[int, int]) -> Any:
    """Bring values to the other side: SciPy counts where torch sorts."""
    return sp.csr_array((values, side.indices.numpy(), side.indptr.numpy()), shape=shape).tocsc()
