"""The heterograph: a DGL container with named nodes, known provenance, and one definition of being in order.

Every edge type is held compressed by one side, in which edge ids count 0, 1, 2, ...; a reverse edge type shares arrays
and edge data with the type it reverses, so that both directions cost as much as one. DGL makes the other side when it
is first asked for and keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs import _dgl
from heteromics.graphs._dgl import By, Compressed, DGLHeteroGraph, EdgeType
from heteromics.graphs._validation import graph_problems, pair_problems, part_problems
from heteromics.graphs.kinds import Data, Feature, Kind, known_kind, register

if TYPE_CHECKING:
    from heteromics.graphs.card import Card

__all__ = ["By", "Compressed", "EdgeType", "Feature", "HeteroGraph", "Kind", "known_kind", "register"]


class HeteroGraph:
    """A DGL heterograph with the names of its nodes and where it came from.

    Make one with a builder, :meth:`from_compressed`, :meth:`from_edges` or :meth:`load`, or wrap a DGL graph.

    Parameters
    ----------
    graph
        The container.
    kind
        Which builder's rules it follows, such as ``"cell_feature"``; another word means the general rules only.
    names
        Node type -> unique names, one per node.
    meta
        Anything JSON can hold: builder, parameters, provenance, what did not join.
    reverse
        Reverse edge type -> the edge type it reverses; edge e of the two joins the same nodes.

    Attributes
    ----------
    dgl : DGLHeteroGraph
        Usable by any DGL code as it is.
    kind, names, meta, reverse

    Examples
    --------
    >>> graph = HeteroGraph.from_edges(
    ...     {("gene", "near", "peak"): ([0, 1, 1], [1, 1, 0])},
    ...     names={"gene": ["A", "B"], "peak": ["p", "q"]},
    ...     edata={("gene", "near", "peak"): {"distance": torch.tensor([5, 7, 9])}},
    ... )
    >>> graph
    HeteroGraph(kind='custom', gene 2, peak 2; gene-near-peak 3)
    >>> graph.edata(("gene", "near", "peak"))["distance"].tolist()
    [5, 9, 7]
    >>> graph.index("gene", ["B"])
    array([1])
    """

    def __init__(
        self,
        graph: DGLHeteroGraph,
        *,
        names: Mapping[str, Iterable[str]],
        kind: str = "custom",
        meta: Mapping[str, Any] | None = None,
        reverse: Mapping[EdgeType, EdgeType] | None = None,
    ) -> None:
        self.dgl = graph
        self.kind = kind
        self.names: dict[str, NDArray[np.str_]] = {ntype: _as_names(listed) for ntype, listed in names.items()}
        self.meta: dict[str, Any] = dict(meta or {})
        self.reverse: dict[EdgeType, EdgeType] = dict(reverse or {})
        self._rows: dict[str, dict[str, int]] = {}

    @classmethod
    def from_compressed(
        cls,
        edges: Mapping[EdgeType, Compressed],
        *,
        names: Mapping[str, Iterable[str]],
        ndata: Mapping[str, Data] | None = None,
        edata: Mapping[EdgeType, Data] | None = None,
        kind: str = "custom",
        meta: Mapping[str, Any] | None = None,
        reverse: Mapping[EdgeType, EdgeType] | None = None,
    ) -> HeteroGraph:
        """Build from compressed edges; arrays and data are shared, not copied.

        Parameters
        ----------
        edges
            Edge type -> :class:`Compressed`. Reverse types are not among them.
        names
            Node type -> names; their number is the number of nodes.
        ndata, edata
            Tensors by type and name, the first axis counting nodes or edges.
        kind, meta
            See :class:`HeteroGraph`.
        reverse
            New edge types that reverse one of ``edges`` and share its arrays and data.

        Raises
        ------
        GraphError
            When sizes, node numbers or data do not fit; all problems are listed.
        """
        named = {ntype: _as_names(listed) for ntype, listed in names.items()}
        sizes = {ntype: len(listed) for ntype, listed in named.items()}
        ndata, edata, reverse = ndata or {}, edata or {}, dict(reverse or {})
        _refuse(part_problems(edges, sizes, ndata, edata, reverse), f"The parts of a {kind} graph do not fit")
        every = dict(edges)
        for turned, origin in reverse.items():
            part = edges[origin]
            every[turned] = Compressed("src" if part.by == "dst" else "dst", part.indptr, part.indices)
        graph = cls(_dgl.heterograph(every, sizes), names=named, kind=kind, meta=meta, reverse=reverse)
        for ntype, features in ndata.items():
            graph.dgl.nodes[ntype].data.update(features)
        for etype in every:
            graph.dgl.edges[etype].data.update(edata.get(reverse.get(etype, etype), {}))
        return graph

    @classmethod
    def from_edges(
        cls,
        edges: Mapping[EdgeType, tuple[Any, Any]],
        *,
        names: Mapping[str, Iterable[str]],
        ndata: Mapping[str, Data] | None = None,
        edata: Mapping[EdgeType, Data] | None = None,
        kind: str = "custom",
        meta: Mapping[str, Any] | None = None,
        reverse: Mapping[EdgeType, EdgeType] | None = None,
    ) -> HeteroGraph:
        """Build from pairs (sources, destinations) in any order; edges and their data are sorted by source.

        Parameters
        ----------
        edges
            Edge type -> two integer arrays of shape (E,).
        names, ndata, edata, kind, meta, reverse
            As in :meth:`from_compressed`; edge data in the order of the pairs given.

        Raises
        ------
        GraphError
            As in :meth:`from_compressed`.
        """
        named = {ntype: _as_names(listed) for ntype, listed in names.items()}
        parts: dict[EdgeType, Compressed] = {}
        problems: list[str] = []
        data: dict[EdgeType, Data] = dict(edata or {})
        for etype, pair in edges.items():
            src, dst = map(_as_nodes, pair)
            sizes = [len(named.get(ntype, ())) for ntype in (etype[0], etype[2])]
            found = pair_problems(etype, src, dst, sizes, data.get(etype, {}))
            problems += found
            if not found:
                order = torch.argsort(src * max(sizes[1], 1) + dst, stable=True)
                indptr = torch.cat([src.new_zeros(1), torch.bincount(src, minlength=sizes[0]).cumsum(0)])
                parts[etype] = Compressed("src", indptr, dst[order])
                data[etype] = {name: tensor[order] for name, tensor in data.get(etype, {}).items()}
        _refuse(problems, f"The edges of a {kind} graph do not fit")
        return cls.from_compressed(parts, names=named, ndata=ndata, edata=data, kind=kind, meta=meta, reverse=reverse)

    @property
    def ntypes(self) -> list[str]:
        """Node types, sorted."""
        return list(self.dgl.ntypes)

    @property
    def canonical_etypes(self) -> list[EdgeType]:
        """Edge types as (source type, name, destination type), sorted."""
        return list(self.dgl.canonical_etypes)

    def num_nodes(self, ntype: str) -> int:
        """Return the number of nodes of a type."""
        return int(self.dgl.num_nodes(self._ntype(ntype)))

    def num_edges(self, etype: EdgeType) -> int:
        """Return the number of edges of a type."""
        return int(self.dgl.num_edges(self._etype(etype)))

    def ndata(self, ntype: str) -> Data:
        """Return the features of a node type by name, first axis = nodes. Write through ``graph.dgl``."""
        return MappingProxyType(dict(self.dgl.nodes[self._ntype(ntype)].data))

    def edata(self, etype: EdgeType) -> Data:
        """Return the features of an edge type by name, first axis = edge ids. Write through ``graph.dgl``."""
        return MappingProxyType(dict(self.dgl.edges[self._etype(etype)].data))

    def adjacency(self, etype: EdgeType, by: By = "src") -> tuple[Tensor, Tensor, Tensor]:
        """Return one edge type compressed by source or by destination.

        Parameters
        ----------
        etype
            (source type, name, destination type).
        by
            ``"src"``: one row per source, listing destinations. ``"dst"``: the other way.

        Returns
        -------
        indptr, indices, eids
            Row bounds (rows + 1,), nodes of the other side (E,), and the edge id of each entry (E,), in the graph's id
            type. Not to be written to: they are the graph's own memory. The side that is not stored is made once; a
            reverse type uses that of the type it reverses.

        Raises
        ------
        GraphError
            For an edge type that is not in the graph, or another ``by``.
        """
        if by not in ("src", "dst"):
            raise GraphError(f"adjacency: found by={by!r}, expected 'src' or 'dst'.")
        etype = self._etype(etype)
        if etype in self.reverse:
            return _dgl.compressed(self.dgl, self.reverse[etype], "src" if by == "dst" else "dst")
        return _dgl.compressed(self.dgl, etype, by)

    def stored(self, etype: EdgeType) -> tuple[Compressed, Tensor | None]:
        """Return one edge type in the form in which it is held, without making another.

        Parameters
        ----------
        etype
            (source type, name, destination type).

        Returns
        -------
        compressed, eids
            Row bounds and nodes of the other side, by source or by destination, and the edge id of each entry; None
            where entries are edges 0, 1, 2, ... They are the graph's own memory.
        """
        etype = self._etype(etype)
        part, eids = _dgl.stored(self.dgl, self.reverse.get(etype, etype))
        if etype in self.reverse:
            part = Compressed("src" if part.by == "dst" else "dst", part.indptr, part.indices)
        return part, eids

    def index(self, ntype: str, names: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of named nodes, int64, in the order asked for.

        Raises
        ------
        GraphError
            Naming those that are not in the graph.
        """
        ntype = self._ntype(ntype)
        rows = self._rows.setdefault(ntype, {})
        if not rows:
            rows.update(zip(self.names[ntype].tolist(), range(len(self.names[ntype])), strict=True))
        asked = [str(name) for name in names]
        found = np.fromiter((rows.get(name, -1) for name in asked), dtype=np.int64, count=len(asked))
        if unknown := np.flatnonzero(found < 0).tolist():
            raise GraphError(
                f"{len(unknown)} of {len(asked)} names are not among the {len(rows)} nodes of type '{ntype}': "
                f"{some(asked[row] for row in unknown)}.\n"
                f"  The graph has: {some(self.names[ntype])}."
            )
        return found

    @property
    def card(self) -> Card:
        """Counts, degrees, isolated nodes, coverage per chromosome, provenance and bytes, as of now."""
        from heteromics.graphs.card import make_card

        return make_card(self)

    def validate(self) -> HeteroGraph:
        """Check everything and return the graph itself.

        Names (one per node, unique), node numbers of edges, finite features and weights, reverse types, a ``meta`` that
        JSON can hold, and what the graph's kind requires.

        Raises
        ------
        GraphError
            With all problems at once, in its message and in ``problems``.
        """
        _refuse(graph_problems(self), f"This {self.kind} graph is not valid")
        return self

    def save(self, folder: Path | str) -> Path:
        """Write the graph to a folder; see :func:`heteromics.graphs.save_graph`."""
        from heteromics.graphs.io import save_graph

        return save_graph(self, folder)

    @classmethod
    def load(cls, folder: Path | str) -> HeteroGraph:
        """Read a graph folder; see :func:`heteromics.graphs.load_graph`."""
        from heteromics.graphs.io import load_graph

        return load_graph(folder)

    def _ntype(self, ntype: str) -> str:
        if ntype not in self.dgl.ntypes:
            raise GraphError(f"no node type {ntype!r} in this {self.kind} graph; it has {', '.join(self.ntypes)}.")
        return ntype

    def _etype(self, etype: EdgeType) -> EdgeType:
        if tuple(etype) not in self.dgl.canonical_etypes:
            known = ", ".join(map(str, self.canonical_etypes))
            raise GraphError(f"no edge type {etype!r} in this {self.kind} graph; it has {known}.")
        return etype[0], etype[1], etype[2]

    def __repr__(self) -> str:
        nodes = ", ".join(f"{ntype} {self.num_nodes(ntype)}" for ntype in self.ntypes)
        edges = ", ".join(f"{'-'.join(etype)} {self.num_edges(etype)}" for etype in self.canonical_etypes)
        return f"HeteroGraph(kind={self.kind!r}, {nodes}; {edges})"


def _as_nodes(side: Any) -> Tensor:
    """Take node numbers of any integer form as int64; other numbers stay as they are, to be refused."""
    given = side if isinstance(side, Tensor) else torch.from_numpy(np.array(side))
    return given.long() if not given.numel() or not given.is_floating_point() else given


def _as_names(names: Iterable[str]) -> NDArray[np.str_]:
    return np.asarray(names if isinstance(names, np.ndarray) else list(names), dtype=str)


def _refuse(problems: Sequence[str], what: str) -> None:
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise GraphError(f"{what}: {len(problems)} problem{'s' * (len(problems) > 1)}.{listed}", problems)
