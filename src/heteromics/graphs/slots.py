"""Edges of a graph in the slots of AnnData and MuData: ``obsp`` and ``varp``, in the order of their cells and features.

In every slot, row i lists what node i receives from: rows are destinations and columns sources, as in
:class:`heteromics.nn.Relation` and in the slots of scanpy and squidpy, whose row i holds the neighbours of cell i. For
edges that go both ways it makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs.spatial import ADJOINS

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from heteromics.graphs.schema import EdgeType, HeteroGraph

__all__ = ["Slots", "to_anndata", "to_mudata", "to_obsp"]

Axis = Literal["obs", "var"]
_PAIRS = {"obs": "obsp", "var": "varp"}


class Slots(NamedTuple):
    """What was written, and what was not.

    Attributes
    ----------
    written
        Slot, such as ``obsp['adjoins_distance']`` (of a modality: ``rna.varp['regulates_weight']``) -> entries.
    left_out
        Edge type or data -> why it has no slot.
    unmatched
        Node type -> ``nodes`` that are not in the data, and ``rows`` of the data that are not in the graph.
    """

    written: dict[str, int]
    left_out: dict[str, str]
    unmatched: dict[str, dict[str, int]]


class _Home(NamedTuple):
    """Where the nodes of a type stand: a table, its label in front of slots, its axis, the row of each node or -1."""

    table: Any
    label: str
    axis: Axis
    rows: NDArray[np.int64]


def to_obsp(graph: HeteroGraph, adata: AnnData, *, key_added: str = "spatial", partial: bool = False) -> Slots:
    """Write a spatial graph as squidpy does, so that its functions run on it.

    Parameters
    ----------
    graph
        Of kind ``"spatial"``.
    adata
        Its cells, in any order; it is written to.
    key_added
        Beginning of the slots' names.
    partial
        Allow cells that only one of the two has; they are counted in the return value.

    Returns
    -------
    Slots
        ``obsp["spatial_connectivities"]`` (ones, float32; loops are on the diagonal) and ``obsp["spatial_distances"]``
        (float64, in the unit of the graph; on a grid float32, the number of the ring; loops and cells at one place have
        no entry, as in squidpy) were written; ``uns["spatial_neighbors"]`` names them with the graph's parameters.

    Raises
    ------
    GraphError
        For a graph of another kind; for cells that only one of the two has, unless ``partial``.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from heteromics.graphs import spatial_radius
    >>> cells = AnnData(obsm={"spatial": np.array([[0.0, 0], [3, 4], [30, 40]])})
    >>> to_obsp(spatial_radius(cells, 5.0, unit="as_given"), cells).written
    {"obsp['spatial_connectivities']": 2, "obsp['spatial_distances']": 2}
    >>> cells.obsp["spatial_distances"].toarray().tolist()
    [[0.0, 5.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if ADJOINS not in graph.canonical_etypes:
        raise GraphError(f"to_obsp: this {graph.kind} graph has no edges {ADJOINS}. Fix: use to_anndata.")
    home, unmatched = _home(graph, "cell", adata, "", "obs", partial=partial)
    data = graph.edata(ADJOINS)
    distance = data["ring"].numpy().astype(np.float32) if "ring" in data else data["distance"].numpy().astype(float)
    ones = np.ones(distance.size, np.float32)
    matrices = {
        name: _matrix(graph, ADJOINS, home.rows, home.rows, adata.n_obs, values)
        for name, values in (("connectivities", ones), ("distances", distance))
    }
    matrices["distances"].eliminate_zeros()
    keys = {name: f"{key_added}_{name}" for name in matrices}
    for name, matrix in matrices.items():
        adata.obsp[keys[name]] = matrix
    adata.uns[f"{key_added}_neighbors"] = {
        **{f"{name}_key": key for name, key in keys.items()},
        "params": _squidpy_parameters(graph),
    }
    return Slots({f"obsp['{keys[name]}']": int(matrix.nnz) for name, matrix in matrices.items()}, {}, unmatched)


def to_anndata(
    graph: HeteroGraph,
    adata: AnnData,
    *,
    cells: str | None = None,
    features: str | None = None,
    partial: bool = False,
) -> Slots:
    """Write edges between cells to ``obsp``, and edges between features to ``varp``.

    Parameters
    ----------
    graph
        Any graph.
    adata
        Cells and features by name, in any order; it is written to. A slot of the same name is replaced.
    cells, features
        Node types that are its cells and its features. None: the one type whose nodes have names among ``obs_names``,
        and among ``var_names``.
    partial
        Allow nodes that are not in the data (their edges are left out), and cells that are not in the graph.

    Returns
    -------
    Slots
        For edges ``(cell, neighbors, cell)`` with data ``distance``, ``obsp["neighbors_distance"]`` was written, in the
        type of the data (half precision as float32), zeros kept; without any data, ones under
        ``neighbors_connectivities``. What has no slot is named: edges between cells and features (they are values of
        ``X``), reverse types, data with several axes.

    Raises
    ------
    GraphError
        When no node type joins the data or several do; for nodes that are not in the data, unless ``partial``; for
        parallel edges, which a matrix cannot hold.

    Examples
    --------
    >>> import torch
    >>> from anndata import AnnData
    >>> from heteromics.graphs import HeteroGraph
    >>> regulates = ("gene", "regulates", "gene")
    >>> graph = HeteroGraph.from_edges(
    ...     {regulates: ([0], [1])}, names={"gene": ["TF", "A"]}, edata={regulates: {"sign": torch.tensor([-1])}}
    ... )
    >>> data = AnnData(np.zeros((1, 3)))
    >>> data.var_names = ["A", "B", "TF"]
    >>> to_anndata(graph, data).written
    {"varp['regulates_sign']": 1}
    >>> data.varp["regulates_sign"].toarray()[0].tolist()  # what A receives from
    [0, 0, -1]
    """
    homes: dict[str, _Home] = {}
    unmatched: dict[str, dict[str, int]] = {}
    named: dict[Axis, str | None] = {"obs": cells, "var": features}
    for axis, chosen in named.items():
        index = getattr(adata, f"{axis}_names")
        ntype = chosen or _only([one for one in graph.ntypes if _shares(graph, one, index)], axis)
        if ntype is not None:
            homes[ntype], missing = _home(graph, ntype, adata, "", axis, partial=partial)
            unmatched |= missing
    if not homes:
        raise GraphError(
            f"to_anndata: no node of {', '.join(graph.ntypes)} is among the {adata.n_obs:,} cells and {adata.n_vars:,} "
            f"features of the data.\n  Cells: {some(adata.obs_names)}. Features: {some(adata.var_names)}."
        )
    return _write(graph, homes, unmatched)


def to_mudata(graph: HeteroGraph, mdata: MuData, *, partial: bool = False) -> Slots:
    """Write edges within a modality to its slots, and edges across modalities to those of the whole.

    Parameters
    ----------
    graph
        Any graph.
    mdata
        Written to. Node type ``rna_cell`` is the cells of modality ``rna``, other types of cells are those of the
        whole; a type of features belongs to the modality that has its names.
    partial
        As in :func:`to_anndata`.

    Returns
    -------
    Slots
        As of :func:`to_anndata`: edges between cells of one modality are in its ``obsp``, others in that of the
        whole; edges between features of one modality are in its ``varp``, others, such as of genes and peaks, in that
        of the whole.

    Raises
    ------
    GraphError
        As :func:`to_anndata`; for features whose names several modalities have.
    """
    homes: dict[str, _Home] = {}
    unmatched: dict[str, dict[str, int]] = {}
    for ntype in graph.ntypes:
        if (found := _in_mudata(graph, ntype, mdata)) is not None:
            homes[ntype], missing = _home(graph, ntype, *found, partial=partial)
            unmatched |= missing
    if not homes:
        raise GraphError(
            f"to_mudata: no node of {', '.join(graph.ntypes)} is among the {mdata.n_obs:,} cells and {mdata.n_vars:,} "
            f"features of modalities {', '.join(mdata.mod)}."
        )
    return _write(graph, homes, unmatched, mdata)


def _in_mudata(graph: HeteroGraph, ntype: str, mdata: MuData) -> tuple[Any, str, Axis] | None:
    own = ntype.removesuffix("_cell")
    if own in mdata.mod and own != ntype:
        return mdata.mod[own], f"{own}.", "obs"
    if _shares(graph, ntype, mdata.obs_names):
        return mdata, "", "obs"
    having = [name for name, data in mdata.mod.items() if _shares(graph, ntype, data.var_names)]
    if len(having) > 1:
        raise GraphError(
            f"to_mudata: nodes '{ntype}' have names in {len(having)} modalities: {', '.join(having)}. "
            "Fix: give features names of their own, or write to one modality with to_anndata."
        )
    return (mdata.mod[having[0]], f"{having[0]}.", "var") if having else None


def _shares(graph: HeteroGraph, ntype: str, index: Any) -> bool:
    return bool(index.isin(graph.names[ntype]).any())


def _only(candidates: list[str], axis: Axis) -> str | None:
    if len(candidates) > 1:
        what = "cells" if axis == "obs" else "features"
        raise GraphError(
            f"to_anndata: {len(candidates)} node types have names among {axis}_names: {', '.join(candidates)}. "
            f"Fix: name the one that is the {what}, such as {what}='{candidates[0]}'."
        )
    return candidates[0] if candidates else None


def _home(
    graph: HeteroGraph, ntype: str, table: Any, label: str, axis: Axis, *, partial: bool
) -> tuple[_Home, dict[str, dict[str, int]]]:
    """Find the row of each node; say how many of either side have no partner."""
    if ntype not in graph.names:
        raise GraphError(f"no node type {ntype!r} in this {graph.kind} graph; it has {', '.join(graph.ntypes)}.")
    index, names = getattr(table, f"{axis}_names"), graph.names[ntype]
    if not index.is_unique:
        raise GraphError(f"{label}{axis}_names are not unique. Fix: data.{axis}_names_make_unique().")
    rows = index.get_indexer(names).astype(np.int64)
    lost = np.flatnonzero(rows < 0)
    bare = len(index) - (len(names) - lost.size)
    what = "cells" if axis == "obs" else "features"
    if lost.size and (not partial or lost.size == len(names)):
        raise GraphError(
            f"{lost.size:,} of {len(names):,} nodes '{ntype}' are not among the {len(index):,} {what} of the data: "
            f"{some(names[lost])}.\n  The data have: {some(index)}.\n"
            "  Fix: take the data that the graph was built from, or pass partial=True to leave these nodes out."
        )
    if bare and axis == "obs" and not partial:
        raise GraphError(
            f"{bare:,} of {len(index):,} cells of the data are not among the nodes '{ntype}' of the graph: "
            f"{some(index[~index.isin(names)])}.\n"
            "  Fix: take the data that the graph was built from, or pass partial=True to give these cells no edges."
        )
    return _Home(table, label, axis, rows), {ntype: {"nodes": int(lost.size), "rows": bare}}


def _write(
    graph: HeteroGraph, homes: Mapping[str, _Home], unmatched: dict[str, dict[str, int]], whole: Any = None
) -> Slots:
    slots = Slots({}, {}, unmatched)
    made: list[tuple[Any, str, str, sparse.csr_matrix]] = []
    for etype in graph.canonical_etypes:
        said = "-".join(etype)
        src, dst = homes.get(etype[0]), homes.get(etype[2])
        if etype in graph.reverse:
            slots.left_out[said] = f"the reverse of {'-'.join(graph.reverse[etype])}"
        elif src is None or dst is None:
            slots.left_out[said] = f"nodes '{etype[0] if src is None else etype[2]}' are not in the data"
        elif src.axis != dst.axis:
            slots.left_out[said] = "edges between cells and features are values of X"
        else:
            if src.table is not dst.table:
                src, dst = (_in_whole(graph, ntype, whole, src.axis) for ntype in (etype[0], etype[2]))
            made += _matrices(graph, etype, src, dst, slots)
    for table, attribute, key, matrix in made:
        getattr(table, attribute)[key] = matrix
    return slots


def _in_whole(graph: HeteroGraph, ntype: str, whole: Any, axis: Axis) -> _Home:
    index = getattr(whole, f"{axis}_names")
    if not index.is_unique:
        raise GraphError(f"{axis}_names of the whole MuData are not unique. Fix: give features names of their own.")
    return _Home(whole, "", axis, index.get_indexer(graph.names[ntype]).astype(np.int64))


def _matrices(
    graph: HeteroGraph, etype: EdgeType, src: _Home, dst: _Home, slots: Slots
) -> Iterator[tuple[Any, str, str, sparse.csr_matrix]]:
    """Yield the slots of one edge type, as table, attribute, key and matrix, and note them."""
    relation, attribute = etype[1], _PAIRS[src.axis]
    data = {name: _as_values(tensor) for name, tensor in graph.edata(etype).items()}
    for name in [name for name, values in data.items() if values.ndim != 1]:
        slots.left_out[f"{'-'.join(etype)}, {name}"] = (
            f"{data.pop(name).ndim} axes, a slot takes one value for each edge"
        )
    if not graph.edata(etype):
        data = {"connectivities": np.ones(graph.num_edges(etype), np.float32)}
    size = len(getattr(src.table, f"{src.axis}_names"))
    for name, values in data.items():
        key = f"{relation}_{name}"
        slot = f"{src.label}{attribute}['{key}']"
        if slot in slots.written:
            raise GraphError(f"two edge types called '{relation}' belong into {slot}. Fix: rename one of them.")
        matrix = _matrix(graph, etype, src.rows, dst.rows, size, values)
        slots.written[slot] = int(matrix.nnz)
        yield src.table, attribute, key, matrix


def _as_values(tensor: Tensor) -> NDArray[Any]:
    """Return data as an array; SciPy has no matrices of half precision, so that these become float32."""
    tensor = tensor.detach()
    return (tensor if tensor.dtype not in (torch.float16, torch.bfloat16) else tensor.float()).numpy()


def _matrix(
    graph: HeteroGraph,
    etype: EdgeType,
    src_rows: NDArray[np.int64],
    dst_rows: NDArray[np.int64],
    size: int,
    values: NDArray[Any],
) -> sparse.csr_matrix:
    """Put one value for each edge at (row of its destination, row of its source)."""
    src, dst = (nodes.numpy() for nodes in graph.dgl.edges(etype=etype, order="eid"))
    column, row = src_rows[src], dst_rows[dst]
    there = (row >= 0) & (column >= 0)
    kept = values[there]
    places = sparse.coo_matrix((np.arange(kept.size), (row[there], column[there])), shape=(size, size)).tocsr()
    if places.nnz < kept.size:
        raise GraphError(
            f"edges {etype}: {kept.size - places.nnz:,} of {kept.size:,} are parallel to another, and a slot has one "
            "value for each pair. Fix: add parallel edges up before."
        )
    return sparse.csr_matrix((kept[places.data], places.indices, places.indptr), shape=(size, size))


def _squidpy_parameters(graph: HeteroGraph) -> dict[str, Any]:
    """Word the parameters as squidpy does, and add the unit."""
    known = graph.meta.get("parameters", {})
    grid = graph.meta.get("builder") == "spatial_grid"
    words = {"k": "n_neighbors", "n_neighbors": "n_neighbors", "n_rings": "n_rings", "radius": "radius", "unit": "unit"}
    said = {words[name]: value for name, value in known.items() if name in words}
    return {"coord_type": "grid" if grid else "generic", "transform": None, **said}
