"""One edge type as a pair of compressed matrices, and its sparse-dense product with gradients.

A :class:`Relation` keeps the edges twice, grouped by destination (CSR) and grouped by source (CSR of the transpose), so
that neither the forward nor the backward product ever sorts or transposes. Both products go through the sparse kernels
of torch: MKL on the CPU, with a wide dense factor cut into columns that stay in cache; cuSPARSE on CUDA. Weighed and
left aside: ``dgl.ops.u_mul_e_sum`` (scatters in the backward pass), autograd of torch sparse CSR tensors (transposes on
every backward pass); both agree with this module in the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import scipy.sparse as sp
import torch
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.nn._compressed import Side, as_tensor, checked_side, inverse, order_of_transpose, transpose
from heteromics.nn._dropout import checked_seed
from heteromics.nn._products import SDDMM, Dropout, Permute, SpMM
from heteromics.nn.segments import segment_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from heteromics.graphs import HeteroGraph

    Array = NDArray[Any] | Tensor

__all__ = ["Relation"]


class Relation:
    """Edges from source nodes to destination nodes, held by destination and by source.

    Rows are destinations, columns are sources: ``relation.spmm(h)`` is the message passing ``A @ h``. The object is
    immutable; what it was built from is shared where the types allow it and must not be changed afterwards. Build it
    with :meth:`from_csr`, :meth:`from_scipy` or :meth:`from_graph`. Parallel edges are kept and add up.

    Attributes
    ----------
    shape
        ``(n_dst, n_src)``.
    nnz
        Number of stored edges E.
    indptr, indices
        CSR by destination, shapes (n_dst + 1,) and (E,), int32 where E and both sizes fit, else int64.
    weight
        Edge weights in CSR order, shape (E,), floating, or None for a relation of ones.

    Examples
    --------
    >>> import torch
    >>> from heteromics.nn import Relation
    >>> relation = Relation.from_csr([0, 2, 2, 3], [0, 1, 1], shape=(3, 2), weight=[1.0, 2.0, 3.0])
    >>> h = torch.tensor([[1.0], [10.0]])
    >>> relation.spmm(h).tolist()
    [[21.0], [0.0], [30.0]]
    >>> relation.T.spmm(torch.ones(3, 1)).tolist()
    [[1.0], [5.0]]
    """

    __slots__ = ("_by_dst", "_by_src", "shape")

    def __init__(self, by_dst: Side, by_src: Side, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._by_dst = by_dst
        self._by_src = by_src

    @classmethod
    def from_csr(
        cls, indptr: Array | list[int], indices: Array | list[int], shape: tuple[int, int], weight: Any = None
    ) -> Relation:
        """Build from compressed rows.

        Parameters
        ----------
        indptr
            Row bounds, shape (n_dst + 1,), integers from 0 to E, never falling.
        indices
            Source of every edge, shape (E,), integers in [0, n_src). Any order within a row.
        shape
            ``(n_dst, n_src)``.
        weight
            Edge weights in the same order, shape (E,); kept in their floating type, other types become float32.
            They are constants of the relation: pass a learnt weight to :meth:`spmm` instead.

        Raises
        ------
        GraphError
            The arrays do not describe a matrix of this shape.
        """
        by_dst = checked_side(as_tensor(indptr), as_tensor(indices), shape, weight)
        return cls(by_dst, transpose(by_dst, shape), shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> Relation:
        """Build from a SciPy sparse matrix or array, rows = destinations, its values as weights.

        Parameters
        ----------
        matrix
            Any SciPy sparse format, shape (n_dst, n_src). Explicit zeros stay edges. Floating values keep their type,
            others become float32.

        Examples
        --------
        >>> import scipy.sparse as sp
        >>> Relation.from_scipy(sp.csr_array([[0, 2.0], [1.0, 0]]))
        Relation(2 x 2, 2 edges, weighted, cpu)
        """
        if not sp.issparse(matrix):
            raise GraphError(f"found {type(matrix).__name__}, expected a SciPy sparse matrix or array.")
        csr = matrix.tocsr()  # type: ignore[attr-defined]
        return cls.from_csr(csr.indptr, csr.indices, csr.shape, csr.data)

    @classmethod
    def from_graph(cls, graph: HeteroGraph, etype: tuple[str, str, str], weight: str | None = "weight") -> Relation:
        """Take one edge type of a graph: the form it is stored in is shared, the other is made once, here alone.

        Parameters
        ----------
        graph
            The heterograph.
        etype
            ``(source type, name, destination type)``.
        weight
            Name of the edge data used as weights, shape (E,), or None for a relation of ones.

        Raises
        ------
        GraphError
            The edge type or the edge data are not in the graph.
        """
        data = graph.edata(etype)
        if weight is not None and weight not in data:
            raise GraphError(
                f"Edges {etype} have no data called '{weight}'; they have: {', '.join(data) or 'none'}.\n"
                f"  Fix: name one of these, or pass weight=None for a relation of ones."
            )
        part, eids = graph.stored(etype)
        values = None if weight is None else data[weight] if eids is None else data[weight].index_select(0, eids)
        shape = (graph.num_nodes(etype[2]), graph.num_nodes(etype[0]))
        size = shape if part.by == "dst" else shape[::-1]
        first = checked_side(part.indptr, part.indices, size, values)
        second = transpose(first, size)
        return cls(first, second, shape) if part.by == "dst" else cls(second, first, shape)

    @property
    def nnz(self) -> int:
        """Number of stored edges."""
        return len(self._by_dst.indices)

    @property
    def indptr(self) -> Tensor:
        """Row bounds by destination, shape (n_dst + 1,)."""
        return self._by_dst.indptr

    @property
    def indices(self) -> Tensor:
        """Source of every edge in CSR order, shape (nnz,)."""
        return self._by_dst.indices

    @property
    def weight(self) -> Tensor | None:
        """Stored weights in CSR order, shape (nnz,), or None."""
        return self._by_dst.weight

    @property
    def device(self) -> torch.device:
        """Where the edges are."""
        return self._by_dst.indices.device

    @property
    def T(self) -> Relation:  # noqa: N802, as in NumPy
        """The reversed relation, shape (n_src, n_dst). Costs nothing: both share all arrays."""
        return Relation(self._by_src, self._by_dst, self.shape[::-1])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Relation:
        """Move to a device and cast the weights.

        Parameters
        ----------
        device
            Target; the present one by default.
        dtype
            Floating type of the weights; theirs by default. Indices keep their type.

        Returns
        -------
        Relation
            Itself where nothing changes.
        """
        target = torch.device(device) if device is not None else self.device
        if target == self.device and (dtype is None or self.weight is None or self.weight.dtype == dtype):
            return self
        return Relation(self._by_dst.to(target, dtype), self._by_src.to(target, dtype), self.shape)

    def spmm(
        self,
        h: Tensor,
        weight: Tensor | None = None,
        reduce: Literal["sum", "mean"] = "sum",
        dropout: float = 0.0,
        seed: int | None = None,
    ) -> Tensor:
        """Gather source features along the edges: ``out[i] = reduce over edges (i, j) of w_ij h[j]``.

        Parameters
        ----------
        h
            Features of the source nodes, shape (n_src, D), floating. float32 and float64 are computed as they are;
            bfloat16 and float16 are summed in float32 and rounded once at the end.
        weight
            Weights in CSR order in place of the stored ones, shape (nnz,), of any type: dropped-out or learnt ones.
        reduce
            ``sum``, or ``mean``: the sum over the number of stored edges of the row, whatever their weights.
            A row without edges is 0 in both.
        dropout
            Share of the edges to leave out, in [0, 1); the weights of the others are divided by ``1 - dropout``. A
            dropped edge still counts in the mean, as with weights put through ``torch.nn.functional.dropout``.
            No mask is kept: the backward pass finds the same edges again from the seed.
        seed
            Which edges are dropped: a function of the seed and the number of the edge alone, the same on every device.
            Edges are numbered as they stood where the relation was built from: in CSR order, or, with
            :meth:`from_graph`, as the graph stores them, by source or by destination. The transpose drops the same
            ones. Drawn from torch's generator (``torch.manual_seed``) when None.

        Returns
        -------
        Tensor
            Shape (n_dst, D), type and device of ``h``. The gradient reaches ``h`` and, where asked for, ``weight``
            (a sampled product over the edges; no E x D array). The gradient itself cannot be differentiated again.

        Raises
        ------
        GraphError
            Shapes that do not fit the relation, tensors on other devices, or a share outside [0, 1).

        Notes
        -----
        Same bits on every run on the CPU, and on CUDA where ``torch.use_deterministic_algorithms(True)`` was called.
        """
        if h.ndim != 2 or h.shape[0] != self.shape[1] or not h.is_floating_point():
            raise GraphError(
                f"spmm: h has shape {tuple(h.shape)} and type {h.dtype}; this relation of "
                f"{self.shape[1]:,} sources and {self.shape[0]:,} destinations needs floating ({self.shape[1]}, D)."
                + ("\n  Fix: use relation.T to go the other way." if h.shape[:1] == self.shape[:1] else "")
            )
        if weight is not None and weight.shape != (self.nnz,):
            raise GraphError(
                f"spmm: weight has shape {tuple(weight.shape)}; each of the {self.nnz:,} edges needs one number."
            )
        if reduce not in ("sum", "mean"):
            raise GraphError(f"spmm: reduce is {reduce!r}; known are 'sum' and 'mean'.")
        for name, tensor in (("h", h), ("weight", weight)):
            self._check_device("spmm", name, tensor)
        drop = Dropout(dropout, checked_seed(dropout, seed))
        return SpMM.apply(h, weight, self, reduce == "mean", drop)

    def sddmm(self, left: Tensor, right: Tensor) -> Tensor:
        """Score every edge by a dot product: ``out[e] = left[i] . right[j]`` for edge e = (i, j).

        Parameters
        ----------
        left
            Features of the destination nodes, shape (n_dst, D), floating.
        right
            Features of the source nodes, shape (n_src, D), floating.

        Returns
        -------
        Tensor
            Shape (nnz,) in CSR order, the wider type of the two, without the stored weights. Neither an E x D nor an
            n_dst x n_src array is formed. The gradient reaches both inputs and cannot be differentiated again.

        Raises
        ------
        GraphError
            Shapes that do not fit the relation, integers, or tensors on other devices.

        Examples
        --------
        >>> relation = Relation.from_csr([0, 1, 2], [1, 0], shape=(2, 2))
        >>> relation.sddmm(torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [7.0]])).tolist()
        [7.0, 10.0]
        """
        rows, columns = self.shape
        if left.ndim != 2 or right.shape != (columns, left.shape[1]) or len(left) != rows:
            raise GraphError(
                f"sddmm: left has shape {tuple(left.shape)} and right {tuple(right.shape)}; this relation needs "
                f"({rows}, D) and ({columns}, D)."
            )
        dtype = torch.promote_types(left.dtype, right.dtype)
        if not dtype.is_floating_point:
            raise GraphError(f"sddmm: left and right are {left.dtype} and {right.dtype}; expected floating numbers.")
        for name, tensor in (("left", left), ("right", right)):
            self._check_device("sddmm", name, tensor)
        return SDDMM.apply(left.to(dtype), right.to(dtype), self)

    def reverse_values(self, values: Tensor) -> Tensor:
        """Bring edge values from the order of this relation into that of ``relation.T``, with gradient.

        Parameters
        ----------
        values
            Shape (nnz, ...), in CSR order.

        Returns
        -------
        Tensor
            The same values in the CSR order of the reversed relation: the ``weight`` to pass to its ``spmm``.

        Raises
        ------
        GraphError
            Not one value for each edge, or values on another device.
        """
        if values.shape[:1] != (self.nnz,):
            raise GraphError(
                f"reverse_values: found shape {tuple(values.shape)}; each of the {self.nnz:,} edges needs one row."
            )
        self._check_device("reverse_values", "values", values)
        return Permute.apply(values, self._order_to_src(), self.T._order_to_src())

    def take(self, chosen: Tensor) -> Relation:
        """Return the relation with some of its edges, without their weights.

        Parameters
        ----------
        chosen
            Positions of edges in CSR order, shape (n,), int64: those of one destination after those of the one before,
            in any order within it. Edges keep the order given.

        Raises
        ------
        GraphError
            A destination that comes before that of an earlier edge.

        Examples
        --------
        >>> relation = Relation.from_csr([0, 2, 3], [0, 1, 1], (2, 2))
        >>> relation.take(torch.tensor([1, 2])).indices.tolist()
        [1, 1]
        """
        row = segment_ids(self.indptr).index_select(0, chosen)
        if (back := int((row.diff() < 0).sum())) > 0:
            raise GraphError(f"take: {back:,} of {len(row):,} edges go back to a destination before. Fix: sort chosen.")
        degree = torch.bincount(row, minlength=self.shape[0])
        indptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        return Relation.from_csr(indptr, self.indices.index_select(0, chosen), self.shape)

    def _check_device(self, what: str, name: str, tensor: Tensor | None) -> None:
        if tensor is not None and tensor.device != self.device:
            raise GraphError(
                f"{what}: {name} is on {tensor.device}, the relation on {self.device}.\n"
                f"  Fix: relation = relation.to('{tensor.device}')"
            )

    def _order_to_src(self) -> Tensor:
        """Return where each edge by source stands by destination, shape (nnz,); made when first asked for."""
        dst, src = self._by_dst, self._by_src
        if dst.order is None and src.order is None:
            if src.leads:
                dst.order = order_of_transpose(src, self.shape[::-1])
            else:
                src.order = order_of_transpose(dst, self.shape)
        if src.order is None:
            assert dst.order is not None
            src.order = inverse(dst.order)
        return src.order

    def _numbers(self) -> Tensor | None:
        """Return the number of the edge of every entry by destination, shape (nnz,); None where they stand in order."""
        return None if self._by_dst.leads else self.T._order_to_src()

    def __repr__(self) -> str:
        kind = "of ones" if self.weight is None else "weighted"
        return f"Relation({self.shape[0]} x {self.shape[1]}, {self.nnz} edges, {kind}, {self.device})"
