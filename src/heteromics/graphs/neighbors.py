"""Graphs of cells that lie near each other: within one modality, or mutual nearest neighbours across two.

The second is the graph of GRACE ("Towards Realistic Multimodal Single-Cell Data Matching"): cells of two modalities
in one space, joined where each is among the k nearest of the other, and its second order. The array cores are
:func:`heteromics.graphs.knn.nearest_neighbors`, ``_mutual`` and ``_shared_space``; a model that refreshes its graph
from embeddings on a GPU calls the first, :func:`mutual_pairs` and :func:`second_order` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics import __version__
from heteromics.errors import GraphError
from heteromics.graphs._connectivity import memberships
from heteromics.graphs._mutual import PathCounts, SparsePairs, in_either, mutual_pairs, second_order
from heteromics.graphs._neighbor_cells import Cells, batches, codes, embedding, in_one_space, same_cells, training_mask
from heteromics.graphs.kinds import Feature, Kind, register
from heteromics.graphs.knn import Choose, Method, Metric, Neighbors, nearest_neighbors
from heteromics.graphs.schema import Compressed, EdgeType, HeteroGraph

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["NEIGHBORS", "cell_neighbors", "mutual_neighbors", "mutual_pairs", "second_order"]

NEIGHBORS = ("cell", "neighbors", "cell")
Weighting = Literal["umap", "one"]
SecondOrder = Literal["none", "pair", "bipartite"]
Find = Callable[..., Neighbors]

_NEAR = {"distance": Feature(torch.float32), "weight": Feature(torch.float32), "mutual": Feature(torch.bool)}
_USUAL = ("rna", "atac", "protein", "methylation")
_PAIRS = [(one, other) for one in _USUAL for other in _USUAL if one != other]
register(Kind("cell_neighbors", nodes={"cell": {}}, edges={NEIGHBORS: _NEAR}))
register(
    Kind(
        "mutual_neighbors",
        nodes={},
        edges={},
        optional_nodes={f"{name}_cell": {"training": Feature(torch.bool)} for name in _USUAL},
        optional_edges={
            **{(f"{a}_cell", "mutual", f"{b}_cell"): {"distance": Feature(torch.float32)} for a, b in _PAIRS},
            **{(f"{a}_cell", "second_order", f"{b}_cell"): {"paths": Feature(torch.int32)} for a, b in _PAIRS},
            **{(f"{name}_cell", "neighbors", f"{name}_cell"): _NEAR for name in _USUAL},
        },
    )
)


def cell_neighbors(
    adata: AnnData,
    k: int = 15,
    *,
    rep: str | NDArray[Any] | Tensor = "X_pca",
    metric: Metric = "euclidean",
    batch: str | None = None,
    choose: Choose = "any",
    weighting: Weighting = "umap",
    method: Method = "exact",
    seed: int = 0,
    obs: Sequence[str] = (),
) -> HeteroGraph:
    """Join each cell with its nearest cells in an embedding.

    Parameters
    ----------
    adata
        Cells. ``X`` is not looked at.
    k
        Nearest other cells, the cell itself not counted (scanpy's ``n_neighbors`` counts it: its 15 is 14 here).
    rep
        Key of ``obsm``, or the embedding itself, (N, D), one row per cell. Nothing is done to it.
    metric, choose, method, seed
        As in :func:`heteromics.graphs.knn.nearest_neighbors`; ``choose="each"`` takes k of every batch (BBKNN).
    batch
        Column of ``obs`` with the batch that ``choose`` goes by, kept on cells as codes.
    weighting
        ``"umap"``: strength of connection as scanpy's ``connectivities``, the union of what the two cells say (McInnes
        et al., arXiv:1802.03426). ``"one"``: 1 each.
    obs
        Columns of ``obs`` kept on cells as codes, -1 where there is no value; words in ``meta["categories"]``.

    Returns
    -------
    HeteroGraph
        Kind ``"cell_neighbors"``. Edges ``(cell, neighbors, cell)`` both ways wherever one is among the nearest of the
        other, with ``distance``, ``weight`` float32, and ``mutual``, whether each is among the nearest of the other.

    Raises
    ------
    MissingLayer
        For a key or column that is not there.
    DuplicateNames, DataError, GraphError
        For cells of one name, points or batches that cannot be searched, unknown words.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> cells = AnnData(obsm={"X_pca": np.array([[0.0], [1.0], [3.0]])})
    >>> graph = cell_neighbors(cells, k=1, weighting="one")
    >>> graph
    HeteroGraph(kind='cell_neighbors', cell 3; cell-neighbors-cell 4)
    >>> graph.edata(NEIGHBORS)["distance"].tolist(), graph.edata(NEIGHBORS)["mutual"].tolist()
    ([1.0, 1.0, 2.0, 2.0], [True, True, False, False])
    """
    cells = Cells("cell", adata, embedding(adata, rep, "rep"))
    if weighting not in ("umap", "one"):
        raise GraphError(f"cell_neighbors: found weighting={weighting!r}, expected 'umap' or 'one'.")
    if choose != "any" and batch is None:
        raise GraphError(f"cell_neighbors: choose={choose!r} needs `batch`, a column of obs; found None.")
    ndata, categories = codes([cells], dict.fromkeys([*obs, *([batch] if batch else [])]))
    (of_batch,) = batches([cells], batch) if choose != "any" else (None,)
    find = partial(_find, metric=metric, method=method, seed=seed)
    found = find(cells.points, k=k, batch=of_batch, choose=choose)
    part, data = _near(found, weighting)
    return HeteroGraph.from_compressed(
        {NEIGHBORS: part},
        names={"cell": cells.names},
        ndata=ndata,
        edata={NEIGHBORS: data},
        kind="cell_neighbors",
        meta={
            "builder": "cell_neighbors",
            "heteromics": __version__,
            "parameters": {
                "k": k,
                "metric": metric,
                "batch": batch,
                "choose": choose,
                "weighting": weighting,
                "method": method,
                "seed": seed,
                "rep": rep if isinstance(rep, str) else "given",
            },
            "dimensions": cells.points.shape[1],
            "categories": categories,
        },
    )


def mutual_neighbors(
    left: AnnData,
    right: AnnData,
    k: int = 5,
    *,
    modalities: tuple[str, str] = ("rna", "atac"),
    rep: str | tuple[NDArray[Any] | Tensor, NDArray[Any] | Tensor] | None = None,
    n_components: int = 30,
    training: tuple[str, str] | None = None,
    metric: Metric = "cosine",
    batch: str | None = None,
    second: SecondOrder = "none",
    within: int = 0,
    method: Method = "exact",
    seed: int = 0,
    obs: Sequence[str] = ("batch", "cell_type"),
    keep_embedding: bool = False,
) -> HeteroGraph:
    """Join cells of two modalities where each is among the k nearest of the other.

    Parameters
    ----------
    left, right
        Cells of the two modalities; the same cells, some in common, or none.
    k
        Nearest cells of the other modality that count; 5 in GRACE.
    modalities
        Their names; node types are ``<name>_cell``.
    rep
        Key of ``obsm`` on both sides, or the two embeddings, in *one* space, as of a model that embeds both. None
        makes one of ``X`` (normalised, such as log1p) over the features that both have by name, for an RNA and a
        gene-level second view (:func:`heteromics.graphs._shared_space.shared_space`).
    n_components
        Dimensions of the space that is made; of no matter with ``rep``.
    training
        Column of ``obs`` and the value that training cells have in it: the space is fitted on those. None: all cells.
    metric
        ``"cosine"`` as in GRACE, or ``"euclidean"``.
    batch
        Column of ``obs`` on both sides; only cells of the same batch are joined. None: any.
    second
        Also join neighbours of the second order that are not joined already: ``"bipartite"``, A A^T A, for any cells;
        ``"pair"``, A A, where left cell and right cell of one name are a pair: both sides must have the same cells,
        and ``right`` is brought into the order of ``left``. See :func:`second_order`.
    within
        Also join each cell with so many nearest cells of its own modality, as :func:`cell_neighbors` does. 0: none.
    method, seed
        As in :func:`heteromics.graphs.knn.nearest_neighbors`; the seed is also that of the space.
    obs
        Columns kept on cells as codes where they are there, over the words of both sides; -1 where there is no value.
    keep_embedding
        Keep the points that were searched, ``embedding`` float32 on cells.

    Returns
    -------
    HeteroGraph
        Kind ``"mutual_neighbors"``. Nodes ``<name>_cell``, with ``training`` bool where a space was made. Edges
        ``mutual`` both ways with ``distance`` float32, ``second_order`` both ways with ``paths`` int32, the number of
        ways, and ``neighbors``. ``meta["match"]`` counts the cells without a mutual neighbour (``alone``) and, for a
        space that was made, the features that are not shared.

    Raises
    ------
    GraphError
        When the embeddings are not of one width, no feature is shared, the pair reading finds cells without a pair, or
        a column of ``obs`` has the name of what is made.
    MissingLayer, DuplicateNames, DataError
        For what is not there or cannot be searched.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> rna = AnnData(obsm={"X_joint": np.array([[0.0, 1.0], [1.0, 0.0]])})
    >>> atac = AnnData(obsm={"X_joint": np.array([[1.0, 0.1], [2.0, 0.0], [0.2, 1.0]])})
    >>> graph = mutual_neighbors(rna, atac, k=1, rep="X_joint")
    >>> graph
    HeteroGraph(kind='mutual_neighbors', atac_cell 3, rna_cell 2; atac_cell-mutual-rna_cell 2, \
rna_cell-mutual-atac_cell 2)
    >>> graph.meta["match"]["atac_cell"]
    {'cells': 3, 'alone': 1}
    """
    if second not in ("none", "pair", "bipartite") or len(set(modalities)) != 2 or within < 0:
        raise GraphError(
            f"mutual_neighbors: found second={second!r}, modalities={modalities!r} and within={within}, expected "
            "'none', 'pair' or 'bipartite', two different names, and 0 or more."
        )
    match: dict[str, Any] = {}
    if second == "pair":
        right, rep, match["pairs"] = same_cells(left, right, rep, modalities)
    trained = [training_mask(side, training, name) for side, name in zip((left, right), modalities, strict=True)]
    points, match["features"] = in_one_space((left, right), modalities, rep, n_components, trained, seed)
    sides = [
        Cells(f"{name}_cell", data, points_of)
        for name, data, points_of in zip(modalities, (left, right), points, strict=True)
    ]
    present = [name for name in dict.fromkeys(obs) if any(name in side.data.obs for side in sides)]
    made = [*(["training"] if rep is None else []), *(["embedding"] if keep_embedding else [])]
    if taken := sorted(set(made) & set(present)):
        raise GraphError(
            f"mutual_neighbors: obs names {', '.join(taken)}, which is what the graph itself keeps on cells. "
            "Fix: rename the column."
        )
    ndata, categories = codes(sides, present, absent_ok=True)
    find = partial(_find, metric=metric, method=method, seed=seed)
    pairs = _mutual(sides, k, find, batch)
    edges, edata, reverse = _cross_edges(sides, pairs, second)
    for side, mask in zip(sides, trained, strict=True):
        if rep is None:
            ndata.setdefault(side.ntype, {})["training"] = torch.from_numpy(mask)
        if keep_embedding:
            ndata.setdefault(side.ntype, {})["embedding"] = side.points.to("cpu", torch.float32, copy=True)
        if within:
            etype = (side.ntype, "neighbors", side.ntype)
            edges[etype], edata[etype] = _near(find(side.points, k=within), "umap")
    reached = (pairs.indptr.diff() > 0, torch.bincount(pairs.indices, minlength=pairs.shape[1]) > 0)
    match |= {
        side.ntype: {"cells": len(side.names), "alone": int((~found).sum())}
        for side, found in zip(sides, reached, strict=True)
    }
    return HeteroGraph.from_compressed(
        edges,
        names={side.ntype: side.names for side in sides},
        ndata=ndata,
        edata=edata,
        kind="mutual_neighbors",
        meta={
            "builder": "mutual_neighbors",
            "heteromics": __version__,
            "parameters": {
                "k": k,
                "metric": metric,
                "batch": batch,
                "second": second,
                "within": within,
                "method": method,
                "seed": seed,
                "modalities": list(modalities),
                "n_components": n_components if rep is None else None,
                "rep": "shared features" if rep is None else rep if isinstance(rep, str) else "given",
            },
            "dimensions": sides[0].points.shape[1],
            "categories": categories,
            "match": {what: counted for what, counted in match.items() if counted},
        },
        reverse=reverse,
    )


def _find(queries: Tensor, targets: Tensor | None = None, **options: Any) -> Neighbors:
    """Search where the points are, and bring the answer to the host, where graphs are made."""
    found = nearest_neighbors(queries, targets, **options, progress=True)
    return Neighbors(found.indices.cpu(), found.distance.cpu())


def _mutual(sides: Sequence[Cells], k: int, find: Find, batch: str | None) -> SparsePairs:
    left, right = sides
    if batch is None:
        return mutual_pairs(find(left.points, right.points, k=k), find(right.points, left.points, k=k))
    of_left, of_right = batches(sides, batch)
    forward = find(left.points, right.points, k=k, batch=of_left, target_batch=of_right, choose="within")
    backward = find(right.points, left.points, k=k, batch=of_right, target_batch=of_left, choose="within")
    return mutual_pairs(forward, backward)


def _cross_edges(
    sides: Sequence[Cells], pairs: SparsePairs, second: SecondOrder
) -> tuple[dict[EdgeType, Compressed], dict[EdgeType, dict[str, Tensor]], dict[EdgeType, EdgeType]]:
    left, right = (side.ntype for side in sides)
    first: EdgeType = (left, "mutual", right)
    edges = {first: Compressed("src", pairs.indptr, pairs.indices)}
    edata = {first: {"distance": pairs.distance.float()}}
    if second != "none":
        further: PathCounts = second_order(pairs, second)
        etype: EdgeType = (left, "second_order", right)
        edges[etype] = Compressed("src", further.indptr, further.indices)
        edata[etype] = {"paths": further.paths.int()}
    return edges, edata, {(right, etype[1], left): etype for etype in edges}


def _near(found: Neighbors, weighting: Weighting) -> tuple[Compressed, dict[str, Tensor]]:
    """Edges within one set of cells, both ways, and their data."""
    indptr, indices, forward, backward = in_either(found)
    strength = memberships(found.distance) if weighting == "umap" else torch.ones_like(found.distance)
    own, other = (torch.where(slot >= 0, strength.flatten()[slot], 0.0) for slot in (forward, backward))
    data = {
        "distance": found.distance.flatten()[torch.maximum(forward, backward)].float(),
        "weight": (own + other - own * other).float(),
        "mutual": (forward >= 0) & (backward >= 0),
    }
    return Compressed("src", indptr, indices), data
