"""What the protocols of matching read from a bipartite graph: paired cells, their types and batches, and the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heteromics.data.splits import TRAIN, Codes, check_groups_apart, hold_out, split_cells
from heteromics.errors import DataError, some
from heteromics.graphs._attributes import attribute_table, summaries
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.tasks.pairs import UNKNOWN, Int, labelled

if TYPE_CHECKING:
    from scipy import sparse

    from heteromics.graphs import HeteroGraph

LEFT_OUT = np.int8(-1)
_PLURAL = {"cell_type": "cell types", "batch": "batches"}


def paired_rows(graph: HeteroGraph) -> tuple[Int, NDArray[np.str_]]:
    """Return the cells of a bipartite graph that have both profiles: rows (n, 2) and types (n,), in RNA order.

    The type of a cell without one is ``"unknown"``.

    Raises
    ------
    DataError
        When no name is in both modalities, or the RNA profiles have no cell types.
    """
    rows = paired_cells(graph)
    return rows, _words(graph, rows[:, 0], "cell_type")


def paired_cells(graph: HeteroGraph) -> Int:
    """Return the cells of a bipartite graph that have both profiles, with or without types: rows (n, 2), in RNA order.

    Raises
    ------
    DataError
        When no name is in both modalities.
    """
    place = {name: row for row, name in enumerate(graph.names["atac_cell"].tolist())}
    other = np.array([place.get(name, -1) for name in graph.names["rna_cell"].tolist()], dtype=np.int64)
    first = np.flatnonzero(other >= 0)
    if not first.size:
        raise DataError(
            f"no cell has both profiles: rna has {some(graph.names['rna_cell'])}, "
            f"atac {some(graph.names['atac_cell'])}. Fix: give both modalities the same obs_names."
        )
    return np.stack([first, other[first]], axis=1)


def batches_of(graph: HeteroGraph, rows: Int) -> NDArray[np.str_]:
    """Return the batch of each paired cell, rows (n, 2), as named in the graph, shape (n,).

    Raises
    ------
    DataError
        When the graph has no batches, or some of these cells have none.
    """
    batches = _words(graph, rows[:, 0], "batch")
    if missing := int((~labelled(batches)).sum()):
        raise DataError(f"{missing:,} of {len(rows):,} cells have no batch. Fix: name it, or leave these cells out.")
    return batches


def _words(graph: HeteroGraph, rows: Int, what: str) -> NDArray[np.str_]:
    if what not in graph.ndata("rna_cell"):
        raise DataError(f"the graph has no {_PLURAL[what]}. Fix: bipartite(..., {what}='COLUMN') with a column of obs.")
    code = graph.ndata("rna_cell")[what].numpy()[rows]
    return np.array([*graph.meta["categories"][what], UNKNOWN])[code]


def split_paired(
    graph: HeteroGraph,
    by: str = "cell",
    *,
    test: Sequence[str] = (),
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int,
) -> Codes:
    """Split the paired cells of a graph by cell, by whole batches or by whole cell types.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`, with the column that ``by`` names.
    by
        ``"cell"``; ``"batch"`` or ``"cell_type"``: no batch, or type, is in two parts.
    test
        Batches or types to test on, as in :func:`heteromics.data.hold_out`; the validation share is then drawn among
        the cells of the others. Empty: drawn.
    shares
        Of training, validation and test; of validation alone where ``test`` names groups.
    seed
        The same seed gives the same split.

    Returns
    -------
    ndarray
        Per cell of :func:`paired_rows` 0 training, 1 validation, 2 test, int8; by cell type -1, left out, for cells
        without a type, which may be of any.

    Raises
    ------
    DataError
        For an unknown ``by`` or group, or too few groups.
    """
    rows, types = paired_rows(graph)
    names = graph.names["rna_cell"][rows[:, 0]]
    if by not in ("cell", "batch", "cell_type") or (by == "cell" and len(test)):
        raise DataError(
            f"found by={by!r} with {len(test)} groups to test on; expected 'cell' with none, 'batch' or 'cell_type'."
        )
    if by == "cell":
        return split_cells(names, shares=shares, seed=seed)
    groups = batches_of(graph, rows) if by == "batch" else types
    known = labelled(groups)
    codes = np.full(len(rows), LEFT_OUT)
    if len(test):
        codes[known] = hold_out(groups[known], test=test, validation=shares[1], seed=seed)
    else:
        codes[known] = split_cells(names[known], shares=shares, seed=seed, groups=groups[known])
    check_groups_apart(codes[known], groups[known], by)
    return codes


def counts(graph: HeteroGraph, etype: tuple[str, str, str]) -> sparse.csr_array:
    """Return the weights of one edge type as a sparse matrix, cells x features."""
    from scipy import sparse

    indptr, indices, order = graph.adjacency(etype)
    weight = graph.edata(etype)["weight"][order.long()]
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    return sparse.csr_array((weight.numpy(), indices.numpy(), indptr.numpy()), shape=shape)


def with_training_cells(graph: HeteroGraph, codes: ArrayLike) -> HeteroGraph:
    """Return the graph with attributes made of the training cells of a split, as if it had been built for it.

    Means, variances and shares are made anew from the counts on the edges; other attributes, edges and names are those
    of the graph, which is not changed.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite`.
    codes
        Part of each cell of :func:`paired_rows`, shape (n,): training where 0.

    Raises
    ------
    DataError
        When codes are not one per paired cell, or none is 0.
    """
    from heteromics.graphs import HeteroGraph

    rows, _ = paired_rows(graph)
    training = np.asarray(codes) == TRAIN
    if training.shape != (len(rows),) or not training.any():
        raise DataError(
            f"found {np.size(codes)} codes for {len(rows)} paired cells, {int(training.sum())} of them training (0); "
            "expected one per cell, and some to train on."
        )
    fresh = HeteroGraph.from_compressed(
        {etype: graph.stored(etype)[0] for etype in graph.canonical_etypes},
        names=graph.names,
        ndata={ntype: dict(graph.ndata(ntype)) for ntype in graph.ntypes},
        edata={etype: _in_stored_order(graph, etype) for etype in graph.canonical_etypes},
        kind=graph.kind,
        meta={**graph.meta, "training_cells": {}},
    )
    for column, (etype, side) in enumerate(((EXPRESSES, "gene"), (OPENS, "peak"))):
        chosen = np.zeros(graph.num_nodes(etype[0]), dtype=bool)
        chosen[rows[training, column]] = True
        found = summaries(counts(graph, etype), chosen)
        table = graph.ndata(side)["attributes"].clone()
        for place, name in enumerate(graph.meta["attribute_names"][side]):
            if name in found:
                _, values = attribute_table(
                    found, [name], len(table), name, standardise=graph.meta.get("standardised", True)
                )
                table[:, place] = torch.from_numpy(values[:, 0])
        fresh.dgl.nodes[side].data["attributes"] = table
        fresh.dgl.nodes[etype[0]].data["training"] = torch.from_numpy(chosen)
        fresh.meta["training_cells"][etype[0]] = int(chosen.sum())
    return fresh


def _in_stored_order(graph: HeteroGraph, etype: Any) -> dict[str, torch.Tensor]:
    """Edge data in the order in which the edges are held."""
    _, order = graph.stored(etype)
    data = graph.edata(etype)
    return {name: values if order is None else values[order.long()] for name, values in data.items()}
