"""Cells, genes, proteins and peaks with what is known of how they belong together: the graph of scMoFormer.

Tang, W. et al. "Single-Cell Multimodal Prediction via Transformers", CIKM 2023, doi:10.1145/3583780.3615061, and its
public code (OmicsML/scMoFormer): cells and genes are joined by every non-zero value, genes and proteins by the links of
STRING, genes to the proteins they code for; cells carry a truncated SVD of the expression, genes the sum of it over
cells. Peaks, and the links from genes to them and from transcription factors to genes, are an addition of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from heteromics import __version__
from heteromics._progress import Steps, steps
from heteromics.errors import DataError, GraphError, MissingModality, some
from heteromics.graphs import _dgl
from heteromics.graphs._cell_values import check_form, read_values, training_mask
from heteromics.graphs._multiomics_features import cell_svd, feature_profiles
from heteromics.graphs._multiomics_joins import (
    Placed,
    PlacedProteins,
    encoded,
    place_genes,
    place_peaks,
    place_proteins,
)
from heteromics.graphs._prior_edges import EDGES, Joined, available, check_tables, prior_edges
from heteromics.graphs.hashing import store_marks
from heteromics.graphs.kinds import Feature, Kind, register
from heteromics.graphs.schema import Compressed, EdgeType, HeteroGraph

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.priors import PriorStore

__all__ = ["multiomics", "training_messages"]

EXPRESSES, EXPRESSED_BY = ("cell", "expresses", "gene"), ("gene", "expressed_by", "cell")
OPENS, OPENED_BY = ("cell", "opens", "peak"), ("peak", "opened_by", "cell")
GENE_GENE, PROTEIN_PROTEIN, REGULATES = EDGES["gene_gene"], EDGES["protein_protein"], EDGES["tf_gene"]
ENCODES, ENCODED_BY = EDGES["gene_protein"], ("protein", "encoded_by", "gene")
REACHES, REACHED_BY = EDGES["gene_peak"], ("peak", "reaches", "gene")
REVERSES: dict[EdgeType, EdgeType] = {
    EXPRESSES: EXPRESSED_BY,
    OPENS: OPENED_BY,
    ENCODES: ENCODED_BY,
    REACHES: REACHED_BY,
}

_WEIGHT = {"weight": Feature(torch.float32)}
_NEAR = {**_WEIGHT, "distance": Feature(torch.int64)}
_FEATURE = {"svd": Feature(torch.float32, 2), "chrom": Feature(torch.int32), "store_row": Feature(torch.int64)}
KIND = register(
    Kind(
        "multiomics",
        nodes={"cell": {"svd": Feature(torch.float32, 2), "training": Feature(torch.bool)}, "gene": _FEATURE},
        edges={EXPRESSES: _WEIGHT, EXPRESSED_BY: _WEIGHT},
        optional_nodes={"peak": _FEATURE},
        optional_edges={
            OPENS: _WEIGHT,
            OPENED_BY: _WEIGHT,
            GENE_GENE: _WEIGHT,
            PROTEIN_PROTEIN: _WEIGHT,
            REACHES: _NEAR,
            REACHED_BY: _NEAR,
            REGULATES: {**_WEIGHT, "sign": Feature(torch.int8)},
        },
    )
)


def multiomics(
    data: Mapping[str, AnnData],
    store: PriorStore,
    *,
    edges: Sequence[str] | None = None,
    min_score: Mapping[str, float] | None = None,
    sources: Mapping[str, Sequence[str]] | None = None,
    training_cells: Iterable[str] | NDArray[np.bool_] | None = None,
    inductive: bool = True,
    n_components: int = 128,
    expect: Literal["counts", "normalised"] = "normalised",
    seed: int = 0,
) -> HeteroGraph:
    """Build the graph of cells, genes, proteins and peaks, with the links that a prior store knows.

    Parameters
    ----------
    data
        By modality. ``rna`` is needed: its ``X``, in memory or backed, holds the values that become edge weights.
        ``protein`` gives protein nodes: of it only the names are read. ``atac`` gives peak nodes; its cells are those
        of ``rna``, in any order.
    store
        With table ``gene``, and ``peak`` for ``atac``.
    edges
        Tables of the store to make edges from, among ``gene_gene``, ``protein_protein``, ``gene_protein``,
        ``gene_peak`` and ``tf_gene``. None: all that the store has and whose nodes are there.
    min_score
        By table, the least score of its rows, in the table's units: ``{"protein_protein": 400, "gene_gene": 0.4}``
        keeps STRING links of medium confidence (combined score, 0 to 1000, and the same divided by 1000).
    sources
        By table, the sources whose rows count, such as ``{"gene_gene": ["string"]}``; weights of different sources do
        not compare. A table that is not named counts with all of them.
    training_cells
        Names, or a mask over the cells of ``rna``, of the training cells. None: all cells.
    inductive
        Fit the SVD on training cells, and average gene and peak features over them, alone. False takes all cells, as
        the public code of scMoFormer does, by which a model knows its test cells.
    n_components
        Number of SVD components K; 128 in the public code.
    expect
        Whether the values of ``rna`` are any finite numbers, or counts.
    seed
        Of the randomised SVD.

    Returns
    -------
    HeteroGraph
        Kind ``"multiomics"``. Nodes in the order of the data:

        - ``cell``: ``svd`` (N, K) float32, the values times the leading right singular vectors; ``training`` bool.
        - ``gene`` and ``peak``: ``svd`` (F, K) float32, the mean over cells of value times the cell's ``svd``;
          ``store_row`` int64 in the store's table, -1 unknown; ``chrom`` code int32, -1 unknown.
        - ``protein``: no features; a model embeds them by index.

        Edges, the weights float32:

        - ``cell expresses gene``, ``cell opens peak`` and their reverses ``expressed_by``, ``opened_by``: every
          non-zero value as ``weight``.
        - ``gene interacts gene``, ``protein interacts protein``: both ways, no loops. ``weight`` of the table, STRING's
          combined score divided by 1000. A measured protein stands for the proteins of all genes its antibody tells of,
          and takes the strongest of their links.
        - ``gene encodes protein`` and ``encoded_by``: the genes that an antibody tells of.
        - ``gene reaches peak`` and ``peak reaches gene``: ``distance`` in bp and ``weight``.
        - ``gene regulates gene``: ``weight`` and ``sign`` int8 (1 activates, -1 represses, 0 not known), from
          transcription factor to target; a factor may regulate itself.

        No edges join cells to proteins: protein values are what is predicted, and an edge would give a test cell's
        answer away. ``meta["match"]`` counts and names what did not join: by node type, and by table.

    Raises
    ------
    MissingModality
        Without ``rna``, or for a modality nobody knows.
    GraphError
        When nothing joins the store, a table is not there (the recipe keys that make it are named), or training cells,
        thresholds, sources or ``n_components`` do not fit.
    NotCounts, DataError, DuplicateNames, EmptyCells, MissingLayer
        For values and names that cannot be used, or cells of ``atac`` that are not those of ``rna``.

    Notes
    -----
    With ``inductive``, no feature of a gene, peak or training cell and no edge of the priors depends on a value of a
    held-out cell. The edges of held-out cells are in the graph all the same, for these cells gather from their genes;
    genes must not gather from them: :func:`training_messages` cuts those messages.

    Cost follows the non-zeros and the rows of the store's tables. Memory is one copy of each matrix, one more of the
    training rows while the SVD is fitted, and (N + G) x K.
    """
    parts = _Parts(data, expect)
    training = training_mask(training_cells, parts.names["cell"])
    fitted_on = training if inductive else np.ones_like(training)
    tables, unused = available(store, edges, parts.names)
    check_tables(min_score, tables, "min_score")
    check_tables(sources, tables, "sources")
    with steps(len(tables) + 3, "multiomics graph") as step:
        step("names")
        placed = {"gene": place_genes(data["rna"], store)}
        if "atac" in data:
            placed["peak"] = place_peaks(data["atac"], store)
        proteins = place_proteins(data["protein"], store) if "protein" in data else None
        known, edata, match = _known_edges(store, tables, placed, proteins, min_score or {}, sources or {}, step)
        step("SVD")
        svd = cell_svd(parts.values["gene"], fitted_on, n_components, seed)
        step("features")
        profiles = {ntype: feature_profiles(parts.values[ntype], fitted_on, svd) for ntype in placed}
    measured = {EXPRESSES: parts.values["gene"]} | ({OPENS: parts.values["peak"]} if "atac" in data else {})
    return HeteroGraph.from_compressed(
        {etype: _compressed(values.indptr, values.indices) for etype, values in measured.items()} | known,
        names=parts.names,
        ndata={
            "cell": {"svd": torch.from_numpy(svd), "training": torch.from_numpy(training.copy())},
            **{ntype: _features(one, profiles[ntype]) for ntype, one in placed.items()},
        },
        edata={etype: {"weight": torch.from_numpy(values.data)} for etype, values in measured.items()} | edata,
        kind="multiomics",
        meta={
            "builder": "multiomics",
            "heteromics": __version__,
            "parameters": {
                "edges": list(tables),
                "min_score": dict(min_score or {}),
                "sources": {table: list(names) for table, names in (sources or {}).items()},
                "training_cells": int(training.sum()),
                "inductive": inductive,
                "n_components": n_components,
                "expect": expect,
                "seed": seed,
            },
            "features_from_cells": int(fitted_on.sum()),
            "chromosomes": store.frame("chromosome").sort_values("code")["chrom"].tolist(),
            "match": {
                **{ntype: one.match for ntype, one in placed.items()},
                **({"protein": proteins.match} if proteins else {}),
                **match,
            },
            "tables_not_used": unused,
            "store": store_marks(store.info),
        },
        reverse={turned: etype for etype, turned in REVERSES.items() if etype in {**measured, **known}},
    )


def training_messages(graph: HeteroGraph) -> HeteroGraph:
    """Let genes and peaks gather from training cells alone; all cells still gather from their genes and peaks.

    Parameters
    ----------
    graph
        From :func:`multiomics`.

    Returns
    -------
    HeteroGraph
        The same but for ``cell expresses gene`` and ``cell opens peak``, which keep the edges of cells with
        ``training``. They are no longer the reverse of ``expressed_by`` and ``opened_by``, whose arrays are shared with
        the graph given. No state of a gene, peak or training cell that is computed along the edges then depends on a
        held-out cell: strict induction. (Attention among cells is the model's to mask.)

    Raises
    ------
    GraphError
        For a graph of another kind.
    """
    if graph.kind != "multiomics":
        raise GraphError(f"training_messages: found a graph of kind {graph.kind!r}, expected 'multiomics'.")
    training = graph.ndata("cell")["training"]
    parts: dict[EdgeType, Compressed] = {}
    edata: dict[EdgeType, Mapping[str, torch.Tensor]] = {}
    reverse = dict(graph.reverse)
    for etype in [one for one in graph.canonical_etypes if one not in graph.reverse]:
        part, order = _dgl.stored(graph.dgl, etype)
        data = graph.edata(etype)
        data = data if order is None else {name: tensor[order.long()] for name, tensor in data.items()}
        if (turned := REVERSES.get(etype)) in reverse and etype[0] == "cell":
            parts[turned], edata[turned] = Compressed("dst" if part.by == "src" else "src", *part[1:]), data
            del reverse[turned]
        if etype[0] == "cell":
            by_cell = part.by == "src"
            kept = training.repeat_interleave(part.indptr.diff()) if by_cell else training[part.indices.long()]
            bounds = torch.cat([part.indptr[:1], kept.cumsum(0).to(part.indptr.dtype)])[part.indptr.long()]
            part = Compressed(part.by, bounds, part.indices[kept])
            data = {name: tensor[kept] for name, tensor in data.items()}
        parts[etype], edata[etype] = part, data
    note = {"name": "training_messages", "training_cells": int(training.sum())}
    return HeteroGraph.from_compressed(
        parts,
        names=graph.names,
        ndata={ntype: graph.ndata(ntype) for ntype in graph.ntypes},
        edata=edata,
        kind=graph.kind,
        meta={**graph.meta, "transforms": [*graph.meta.get("transforms", []), note]},
        reverse=reverse,
    )


class _Parts:
    """Names by node type, and the matrices of genes and of peaks with the same cells in one order, all checked."""

    def __init__(self, data: Mapping[str, AnnData], expect: Literal["counts", "normalised"]) -> None:
        check_form(data, "multiomics")
        unknown = sorted(set(data) - {"rna", "protein", "atac"})
        if unknown or "rna" not in data:
            raise MissingModality(
                f"multiomics: found modalities {', '.join(data) or 'none'}, expected rna, and protein and atac where "
                "there are such."
            )
        if expect not in ("counts", "normalised"):
            raise GraphError(f"multiomics: found expect={expect!r}, expected 'counts' or 'normalised'.")
        cells = _unique(data["rna"].obs_names, "cells of rna")
        self.names = {"cell": cells}
        for ntype, modality in (("gene", "rna"), ("protein", "protein"), ("peak", "atac")):
            if modality in data:
                self.names[ntype] = _unique(data[modality].var_names, f"features of {modality}")
        if "atac" in data:
            _check_same(cells, _unique(data["atac"].obs_names, "cells of atac"))
        self.values = {"gene": read_values(data["rna"], "rna", cells, expect)[0]}
        if "atac" in data:
            self.values["peak"] = read_values(data["atac"], "atac", cells, "normalised")[0]


def _unique(names: Any, what: str) -> NDArray[np.str_]:
    from heteromics.data.checks import check_unique_names

    check_unique_names(names, what)
    return np.asarray(names, dtype=str)


def _check_same(cells: NDArray[np.str_], others: NDArray[np.str_]) -> None:
    alone = [np.setdiff1d(cells, others), np.setdiff1d(others, cells)]
    if alone[0].size or alone[1].size:
        raise DataError(
            f"found {len(cells)} cells of rna and {len(others)} of atac, {alone[0].size} in rna alone "
            f"({some(alone[0]) or 'none'}) and {alone[1].size} in atac alone ({some(alone[1]) or 'none'}). "
            "Fix: index both with the cells they share."
        )


def _known_edges(
    store: PriorStore,
    tables: Sequence[str],
    placed: Mapping[str, Placed],
    proteins: PlacedProteins | None,
    min_score: Mapping[str, float],
    sources: Mapping[str, Sequence[str]],
    step: Steps,
) -> tuple[dict[EdgeType, Compressed], dict[EdgeType, dict[str, torch.Tensor]], dict[str, Any]]:
    """Edges of the store's tables, their data, and by table what joined."""
    joined: dict[str, Joined] = {ntype: one.joined for ntype, one in placed.items()}
    parts: dict[EdgeType, Compressed] = {}
    edata: dict[EdgeType, dict[str, torch.Tensor]] = {}
    match: dict[str, Any] = {}
    if proteins:
        joined["protein"] = proteins.products
    for table in tables:
        step(table)
        etype = EDGES[table]
        if table == "gene_protein":
            assert proteins is not None
            gene, protein, match[table] = encoded(joined["gene"], proteins.genes)
            bounds = np.concatenate([[0], np.bincount(gene, minlength=joined["gene"].number).cumsum()])
            parts[etype] = _compressed(bounds, protein)
            continue
        found = prior_edges(store, table, joined, min_score=min_score.get(table), sources=sources.get(table))
        parts[etype], match[table] = _compressed(found.indptr, found.indices), found.match
        edata[etype] = {name: torch.from_numpy(values) for name, values in found.data.items()}
    return parts, edata, match


def _compressed(indptr: NDArray[Any], indices: NDArray[Any]) -> Compressed:
    return Compressed("src", torch.from_numpy(indptr), torch.from_numpy(indices))


def _features(one: Placed, svd: NDArray[np.float32]) -> dict[str, torch.Tensor]:
    parts = {"svd": svd, "chrom": one.chrom, "store_row": one.row}
    return {name: torch.from_numpy(values) for name, values in parts.items()}
