"""Cells and features joined by every non-zero value: the graph of scMoGNN.

Wen, H. et al. "Graph Neural Networks for Multimodal Single-Cell Data Integration", KDD 2022,
doi:10.1145/3534678.3539213, and its public code (OmicsML/dance): edges and their weights are the non-zero values of the
matrix, in both directions; genes of a pathway are joined by edges weighted by the cosine of their values; each cell
carries statistics averaged over its batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from heteromics import __version__
from heteromics.errors import DataError, EmptyCells, GraphError, MissingLayer, some
from heteromics.graphs._members import pathway_members
from heteromics.graphs._pathways import clique_pairs, pair_cosine, symmetric_edges
from heteromics.graphs._statistics import STATISTICS, cell_statistics, group_means
from heteromics.graphs.hashing import store_marks
from heteromics.graphs.kinds import Feature, Kind, register
from heteromics.graphs.schema import Compressed, HeteroGraph

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["EXPRESSED_BY", "EXPRESSES", "PATHWAY", "cell_feature"]

EXPRESSES = ("cell", "expresses", "feature")
EXPRESSED_BY = ("feature", "expressed_by", "cell")
PATHWAY = ("feature", "pathway", "feature")
Weighting = Literal["cosine", "one"]
Expect = Literal["counts", "normalised"]

_WEIGHT = {"weight": Feature(torch.float32)}
KIND = register(
    Kind(
        "cell_feature",
        nodes={
            "cell": {"statistics": Feature(torch.float32, 2), "batch": Feature(torch.int64)},
            "feature": {"degree": Feature(torch.int64)},
        },
        edges={EXPRESSES: _WEIGHT, EXPRESSED_BY: _WEIGHT},
        optional_edges={PATHWAY: {**_WEIGHT, "shared": Feature(torch.int32)}},
    )
)


def cell_feature(
    rna: AnnData,
    *,
    pathways: Any = None,
    training_cells: Iterable[str] | NDArray[np.bool_] | None = None,
    threshold: float = 0.1,
    weighting: Weighting = "cosine",
    obs: Sequence[str] | None = None,
    expect: Expect = "normalised",
) -> HeteroGraph:
    """Build the cell-feature graph of one modality.

    Parameters
    ----------
    rna
        Cells x features; ``X`` holds the values that become edge weights. Sparse is best; nothing here makes it dense.
    pathways
        Genes that belong together, for feature-feature edges: a table with columns ``gene_id`` and ``pathway_id``, or
        ``gene_a`` and ``gene_b`` (its rows are the pairs); an open prior store; or gene sets by name. Genes are found
        by ``var_names``, ``gene_id``, ``gene_ids`` or ``symbol`` in ``var``, with and without version. None makes none.
    training_cells
        Names, or a mask over the cells, of those that pathway weights may be computed from. None: all cells.
    threshold
        Pathway edges with ``|weight| <= threshold`` are left out; 0.1 is that of the paper's improved run. -1 keeps
        all.
    weighting
        ``"cosine"`` of the two genes' values over the training cells, or ``"one"`` for weights of one (none left out).
    obs
        Columns of ``obs`` kept on cells as codes (their words go to ``meta["categories"]``). The first one is the
        batch: it is kept as ``batch``, and statistics are averaged over its groups. None: ``("batch",)`` where there is
        such a column. Empty: all cells are one batch.
    expect
        ``"normalised"``: any finite values. ``"counts"``: whole numbers >= 0.

    Returns
    -------
    HeteroGraph
        Nodes ``cell`` with ``statistics`` (N, 9) float32 (:func:`heteromics.graphs._statistics.cell_statistics`)
        and ``batch`` int64; ``feature`` with ``degree`` int64, the number of cells that express it. Edges ``expresses``
        and ``expressed_by`` share one compressed matrix and one ``weight`` float32. Edges ``pathway`` both ways,
        no loops, with ``weight`` float32 and ``shared`` int32, the number of sets that hold both genes (as many
        parallel edges has the published graph). The graph shares no memory with ``rna``.

    Raises
    ------
    NotCounts, DataError
        For values that are not as expected, with their number and place.
    DuplicateNames
        For cells or features of the same name.
    EmptyCells
        For cells without a value.
    MissingLayer
        For an ``obs`` column that is not there.
    GraphError
        For training cells that are not in the data, or pathways that fit no feature.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> cells = AnnData(sparse.csr_matrix(np.array([[1, 2, 0], [0, 3, 4]], np.float32)))
    >>> cells.var_names = ["A", "B", "C"]
    >>> sets = pd.DataFrame({"gene_id": ["A", "B", "C"], "pathway_id": ["p", "p", "q"]})
    >>> cell_feature(cells, pathways=sets)
    HeteroGraph(kind='cell_feature', cell 2, feature 3; cell-expresses-feature 4, feature-expressed_by-cell 4, \
feature-pathway-feature 2)
    """
    if weighting not in ("cosine", "one"):
        raise GraphError(f"cell_feature: found weighting={weighting!r}, expected 'cosine' or 'one'.")
    names = _checked_names(rna)
    values = _checked_values(rna, names["cell"], expect)
    codes, categories, columns = _codes(rna, obs)
    training = _training_mask(training_cells, names["cell"])
    indices = torch.from_numpy(values.indices)
    edges = {EXPRESSES: Compressed("src", torch.from_numpy(values.indptr), indices)}
    edata = {EXPRESSES: {"weight": torch.from_numpy(values.data)}}
    meta: dict[str, Any] = {
        "builder": "cell_feature",
        "heteromics": __version__,
        "parameters": {"expect": expect, "obs": columns, "training_cells": int(training.sum())},
        "explicit_zeros_dropped": values.zeros,
        "statistics": list(STATISTICS),
        "categories": categories,
        "provenance": _provenance(rna, pathways),
    }
    if pathways is not None:
        meta["parameters"] |= {"threshold": threshold, "weighting": weighting}
        edges[PATHWAY], edata[PATHWAY], match = _pathway_edges(
            rna, names["feature"], pathways, values, training, threshold if weighting == "cosine" else None
        )
        meta["match"] = {"pathways": match}
    statistics = cell_statistics(values.indptr, values.data, values.n_features)
    averages = group_means(statistics, codes["batch"], len(categories["batch"]))
    cell = {name: torch.from_numpy(code) for name, code in codes.items()}
    return HeteroGraph.from_compressed(
        edges,
        names=names,
        ndata={
            "cell": {**cell, "statistics": torch.from_numpy(averages.astype(np.float32))},
            "feature": {"degree": torch.bincount(indices, minlength=values.n_features)},
        },
        edata=edata,
        kind="cell_feature",
        meta=meta,
        reverse={EXPRESSED_BY: EXPRESSES},
    )


class _Values(NamedTuple):
    """The non-zero values by cell, in arrays of their own, and how many stored zeros were left out."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    data: NDArray[np.float32]
    n_features: int
    zeros: int


def _checked_names(rna: AnnData) -> dict[str, NDArray[np.str_]]:
    from heteromics.data.checks import check_unique_names

    check_unique_names(rna.obs_names, "cells (obs_names)", fix="add the batch or sample to the names.")
    check_unique_names(rna.var_names, "features (var_names)", fix="name them by identifiers, or sum the repeats.")
    return {"cell": np.asarray(rna.obs_names, dtype=str), "feature": np.asarray(rna.var_names, dtype=str)}


def _checked_values(rna: AnnData, cells: NDArray[np.str_], expect: Expect) -> _Values:
    from heteromics.data.checks import check_counts, check_finite

    if expect not in ("counts", "normalised"):
        raise GraphError(f"cell_feature: found expect={expect!r}, expected 'counts' or 'normalised'.")
    matrix = rna.X
    if matrix is None:
        raise MissingLayer("cell_feature: X is empty. Fix: copy the layer that holds the values to X.")
    csr = sparse.csr_array(matrix)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    (check_counts if expect == "counts" else check_finite)(csr, "X")
    nonzero = csr.data != 0
    zeros = nonzero.size - int(np.count_nonzero(nonzero))
    kept = nonzero if zeros else slice(None)
    bounds = np.concatenate([[0], np.cumsum(nonzero)])[csr.indptr] if zeros else csr.indptr
    empty = np.flatnonzero(np.diff(bounds) == 0)
    if empty.size:
        raise EmptyCells(
            f"X: {empty.size} of {len(cells)} cells have no value but zero: {some(cells[empty])}.\n"
            "  Fix: remove them, for example adata = adata[adata.X.getnnz(axis=1) > 0].copy()."
        )
    idtype = np.int32 if csr.nnz <= np.iinfo(np.int32).max else np.int64
    indptr, indices = np.array(bounds, dtype=idtype), np.array(csr.indices[kept], dtype=idtype)
    return _Values(indptr, indices, np.array(csr.data[kept], dtype=np.float32), csr.shape[1], zeros)


def _codes(
    rna: AnnData, obs: Sequence[str] | None
) -> tuple[dict[str, NDArray[np.int64]], dict[str, list[str]], list[str]]:
    """Codes and their words by name, the first column under the name ``batch``, and the columns they came from."""
    columns = [name for name in ("batch",) if name in rna.obs] if obs is None else list(obs)
    if missing := [name for name in columns if name not in rna.obs]:
        raise MissingLayer(
            f"obs has no column {some(missing)}; it has {some(rna.obs.columns, 8) or 'none'}.\n"
            "  Fix: name a column that is there, or pass obs=() to treat all cells as one batch."
        )
    codes = {"batch": np.zeros(rna.n_obs, dtype=np.int64)}
    categories = {"batch": ["all"]}
    for place, name in enumerate(columns):
        column = rna.obs[name]
        if unknown := int(column.isna().sum()):
            raise DataError(f"obs['{name}']: {unknown} of {len(column)} cells have no value. Fix: fill or drop them.")
        words, code = np.unique(column.astype(str).to_numpy(str), return_inverse=True)
        kept_as = name if place else "batch"
        codes[kept_as], categories[kept_as] = code.astype(np.int64), words.tolist()
    return codes, categories, columns


def _training_mask(training_cells: Any, cells: NDArray[np.str_]) -> NDArray[np.bool_]:
    if training_cells is None:
        return np.ones(len(cells), dtype=bool)
    given = np.asarray(training_cells if hasattr(training_cells, "dtype") else list(training_cells))
    if given.dtype == bool:
        if given.shape != cells.shape:
            raise GraphError(
                f"training_cells: found a mask of shape {given.shape}, expected {cells.shape}: one per cell."
            )
        mask = given
    else:
        given = given.astype(str)
        if unknown := sorted(set(given.tolist()) - set(cells.tolist())):
            raise GraphError(
                f"training_cells: {len(unknown)} of {given.size} names are not among the {len(cells)} cells: "
                f"{some(unknown)}.\n  The data have: {some(cells)}."
            )
        mask = np.isin(cells, given)
    if not mask.any():
        raise GraphError(f"training_cells: none of {len(cells)} cells is for training, expected one or more.")
    return mask


def _pathway_edges(
    rna: AnnData,
    features: NDArray[np.str_],
    pathways: Any,
    values: _Values,
    training: NDArray[np.bool_],
    threshold: float | None,
) -> tuple[Compressed, dict[str, Tensor], dict[str, Any]]:
    """Edges between features, their data and what joined; without a threshold all weights are one."""
    keys = {"var_names": features.tolist()}
    keys |= {name: rna.var[name].astype(str).tolist() for name in ("gene_id", "gene_ids", "symbol") if name in rna.var}
    membership, match = pathway_members(pathways, keys)
    a, b, shared = clique_pairs(membership)
    weight = np.ones(len(a), dtype=np.float32)
    if threshold is not None:
        shape = (len(training), values.n_features)
        whole = sparse.csr_array((values.data, values.indices, values.indptr), shape=shape)
        weight = pair_cosine(whole if training.all() else whole[training], a, b)
        kept = np.abs(weight) > threshold
        match["pairs_below_threshold"] = int(kept.size - kept.sum())
        a, b, shared, weight = a[kept], b[kept], shared[kept], weight[kept]
    data = {"weight": weight, "shared": shared.astype(np.int32)}
    indptr, indices, data = symmetric_edges(a, b, data, values.n_features)
    part = Compressed("src", torch.from_numpy(indptr), torch.from_numpy(indices))
    return part, {name: torch.from_numpy(array) for name, array in data.items()}, match


def _provenance(rna: AnnData, pathways: Any) -> dict[str, Any]:
    """Say where the values and the pathways came from, as far as they say so themselves."""
    known = rna.uns.get("heteromics", {})
    found = {"data": {key: str(value) for key, value in known.items()}} if known else {}
    info = getattr(pathways, "info", None)
    if isinstance(info, Mapping):
        found["priors"] = store_marks(info)
    return found
