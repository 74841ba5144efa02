"""Attributed bipartite graphs of RNA and ATAC profiles: cells, genes and peaks of a whole data set as one graph.

The paper builds a graph of genes and peaks for every pair of cells (Bi2Former; "Learning Crossmodal Interaction
Patterns via Attributed Bipartite Graphs for Single-Cell Omics"). Here all pairs share one graph with the counts as
edges; :class:`heteromics.graphs.PairBatcher` cuts the pairs out of its rows when they are needed. Chromosomes are
codes, and genes and peaks are sorted by them, so that who may meet whom is a matter of row bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from heteromics import __version__
from heteromics.errors import GraphError, some
from heteromics.graphs._attributes import attribute_table, gene_columns, peak_columns, summaries
from heteromics.graphs._multiomics_joins import find_genes, find_peaks
from heteromics.graphs.hashing import store_marks
from heteromics.graphs.pairs import EXPRESSES, OPENS, REACHES
from heteromics.graphs.schema import Compressed, Feature, HeteroGraph, Kind, register

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

    from heteromics.priors import PriorStore

__all__ = ["bipartite", "windows"]

Int = NDArray[np.int64]
Cells = Sequence[str] | NDArray[Any]

_CELL = {"training": Feature(torch.bool), "cell_type": Feature(torch.int64), "batch": Feature(torch.int64)}
_SIDE = {
    "chrom": Feature(torch.int32),
    "position": Feature(torch.int64),
    "attributes": Feature(torch.float32, ndim=2),
    "store_row": Feature(torch.int64),
}
register(
    Kind(
        "bipartite",
        nodes={"rna_cell": {}, "atac_cell": {}, "gene": _SIDE, "peak": _SIDE},
        edges={EXPRESSES: {"weight": Feature(torch.float32)}, OPENS: {"weight": Feature(torch.float32)}},
        optional_nodes={"rna_cell": _CELL, "atac_cell": _CELL},
        optional_edges={REACHES: {"distance": Feature(torch.int64)}},
    )
)


def bipartite(
    rna: AnnData,
    atac: AnnData,
    store: PriorStore,
    *,
    mask: Literal["chromosome", "window"] = "chromosome",
    within_bp: int = 150_000,
    training_cells: Cells | None = None,
    gene_attributes: Sequence[str] | None = None,
    peak_attributes: Sequence[str] | None = None,
    standardise: bool = True,
    cell_type: str = "cell_type",
    batch: str = "batch",
    expect: Literal["counts", "any"] = "counts",
) -> HeteroGraph:
    """Build the graph that attributed bipartite graphs of cell pairs are cut from.

    Parameters
    ----------
    rna, atac
        Cells x genes and cells x peaks, counts in ``X``, in memory or backed (:func:`heteromics.data.open_backed`). The
        cells may be the same, overlap or differ. Genes are looked up in the store by ``var["gene_id"]`` or
        ``var["gene_ids"]``, and those not found so by name (id or symbol); peaks by name or interval.
    store
        With tables ``chromosome``, ``gene`` and ``peak``; attributes from ``gene_attribute`` and ``peak_attribute``
        where it has them.
    mask
        Which genes and peaks may attend to each other: all on one chromosome [the paper], or ``"window"``, both: on one
        chromosome and within a window there.
    within_bp
        For ``mask="window"``: largest distance in bp from transcription start to peak midpoint.
    training_cells
        Names of the cells that summaries over cells are made of, or a boolean mask when both modalities have the same
        cells. None takes all, which tells a model about its test cells (the published way).
    gene_attributes
        Among ``strand, log_length, log_exon_length`` (log10 bp) and over training cells ``mean, variance, share``.
        None takes all there are.
    peak_attributes
        Among ``log_width`` (log10 bp), ``gc``, ``cpg_oe`` and ``share``, the share of training cells where it is open.
    standardise
        Attributes with mean 0 and standard deviation 1 over the graph's genes or peaks; False keeps them raw. Those
        made from values (``mean, variance, share``) have seen training cells alone; no cell has a part in the others.
        The values of a cell are its counts, on the edges, and are not standardised.
    cell_type, batch
        Columns of ``obs`` with the type and the batch (donor, sample) of each cell, kept where there is one; pairs and
        splits are made by them, see :func:`heteromics.tasks.make_pairs`.
    expect
        ``"any"`` allows values that are no counts, none below zero.

    Returns
    -------
    HeteroGraph
        Kind ``"bipartite"``. Nodes ``rna_cell``, ``atac_cell`` (``training``, whether the cell is among those that
        attributes were made from; ``cell_type`` and ``batch`` codes, -1 unknown, with words in
        ``meta["categories"]``), ``gene``, ``peak``
        (``chrom`` code, -1 unknown; ``position``, transcription start or midpoint in bp; ``attributes``; ``store_row``
        in the store's table, -1 unknown), genes and peaks ordered by chromosome and position. Edges ``expresses`` and
        ``opens`` with ``weight``, the value in ``X``; with a window ``reaches`` with ``distance`` in bp. A gene or peak
        that does not join the store stays a node with chromosome -1: it is in the readout of its cells, but attends to
        nothing. ``meta["match"]`` counts and names them all.

    Raises
    ------
    GraphError
        When no gene or no peak joins the store, training cells are in neither modality, or a parameter is none of those
        known.
    NotCounts, EmptyCells, DuplicateNames
        For values that are no counts, cells without a value, or names used twice.

    Notes
    -----
    Time and memory follow the non-zeros: each matrix is read once, block by block, from memory or from disk, into the
    edges of the graph.
    """
    if mask not in ("chromosome", "window") or within_bp < 0:
        raise GraphError(
            f"found mask={mask!r} and within_bp={within_bp}, expected 'chromosome' or 'window' and at least 0 bp."
        )
    _check_store(store)
    _check_training(training_cells, rna, atac)
    gene = _side("rna", rna, *_place_genes(rna, store), training_cells, expect)
    peak = _side("atac", atac, *_place_peaks(atac, store), training_cells, expect)
    gene_names, gene_values = attribute_table(
        {**gene_columns(store, gene.row), **gene.over_training},
        gene_attributes,
        len(gene.row),
        "gene_attributes",
        standardise=standardise,
    )
    open_share = {"share": peak.over_training["share"]}
    peak_names, peak_values = attribute_table(
        {**peak_columns(store, peak.row), **open_share},
        peak_attributes,
        len(peak.row),
        "peak_attributes",
        standardise=standardise,
    )
    edges = {EXPRESSES: gene.edges(), OPENS: peak.edges()}
    edata = {EXPRESSES: {"weight": gene.weight()}, OPENS: {"weight": peak.weight()}}
    if mask == "window":
        indptr, indices, distance = windows(gene.chrom, gene.position, peak.chrom, peak.position, within_bp)
        edges[REACHES] = Compressed("src", torch.from_numpy(indptr), torch.from_numpy(indices))
        edata[REACHES] = {"distance": torch.from_numpy(distance)}
    types, categories = _labels((rna, atac), {"cell_type": cell_type, "batch": batch})
    return HeteroGraph.from_compressed(
        edges,
        names={
            "rna_cell": _names(rna.obs_names),
            "atac_cell": _names(atac.obs_names),
            "gene": gene.names,
            "peak": peak.names,
        },
        ndata={
            "gene": gene.data(gene_values),
            "peak": peak.data(peak_values),
            "rna_cell": {"training": torch.from_numpy(gene.training), **types.get("rna_cell", {})},
            "atac_cell": {"training": torch.from_numpy(peak.training), **types.get("atac_cell", {})},
        },
        edata=edata,
        kind="bipartite",
        meta={
            "builder": "bipartite",
            "heteromics": __version__,
            "mask": mask,
            "within_bp": within_bp,
            "standardised": standardise,
            "chromosomes": store.frame("chromosome").sort_values("code")["chrom"].tolist(),
            "attribute_names": {"gene": gene_names, "peak": peak_names},
            "categories": categories,
            "training_cells": {"rna_cell": int(gene.training.sum()), "atac_cell": int(peak.training.sum())},
            "match": {"gene": gene.match, "peak": peak.match},
            "store": store_marks(store.info),
        },
    )


def windows(
    gene_chrom: NDArray[np.integer], tss: Int, peak_chrom: NDArray[np.integer], midpoint: Int, within_bp: int
) -> tuple[Int, Int, Int]:
    """Find the peaks whose midpoint is near each gene's transcription start.

    Parameters
    ----------
    gene_chrom, peak_chrom
        Chromosome codes, shapes (G,) and (P,); a gene with code -1 reaches nothing.
    tss, midpoint
        Positions in bp, 0-based, shapes (G,) and (P,).
    within_bp
        Largest distance in bp, inclusive.

    Returns
    -------
    indptr, indices, distance
        Compressed rows, one per gene: shapes (G + 1,), (E,) and (E,), int64. The peaks must be ordered by chromosome
        code and midpoint; those of a gene are then a run of them.

    Examples
    --------
    >>> chrom = np.array([0, 0, 1])
    >>> windows(np.array([0]), np.array([100]), chrom, np.array([50, 151, 100]), 50)[1:]
    (array([0]), array([50]))
    """
    wide = 1 + max(int(midpoint.max(initial=0)), int(tss.max(initial=0))) + within_bp
    key = peak_chrom.astype(np.int64) * 2 * wide + midpoint
    centre = gene_chrom.astype(np.int64) * 2 * wide + tss
    first, stop = np.searchsorted(key, centre - within_bp, "left"), np.searchsorted(key, centre + within_bp, "right")
    reached = np.where(gene_chrom >= 0, stop - first, 0)
    indptr = np.concatenate([[0], np.cumsum(reached)])
    indices = np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], reached)
    return indptr, indices, np.abs(midpoint[indices] - np.repeat(tss, reached))


@dataclass(frozen=True, slots=True)
class _Side:
    """One modality with its features ordered by chromosome and position."""

    names: NDArray[np.str_]
    chrom: NDArray[np.int32]
    position: Int
    row: Int
    counts: sparse.csr_array
    over_training: dict[str, NDArray[np.float64]]
    training: NDArray[np.bool_]
    match: dict[str, Any]

    def edges(self) -> Compressed:
        return Compressed("src", torch.from_numpy(self.counts.indptr), torch.from_numpy(self.counts.indices))

    def weight(self) -> torch.Tensor:
        return torch.from_numpy(self.counts.data)

    def data(self, attributes: NDArray[np.float32]) -> dict[str, torch.Tensor]:
        parts = {"chrom": self.chrom, "position": self.position, "attributes": attributes, "store_row": self.row}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in parts.items()}


def _side(
    what: str,
    data: AnnData,
    row: Int,
    outcome: Sequence[str],
    code: Int,
    position: Int,
    training_cells: Cells | None,
    expect: Literal["counts", "any"],
) -> _Side:
    """Order the features of one modality.

    ``row`` is their row in the store and ``outcome`` how it was found; ``code`` and ``position`` belong to those rows.
    """
    from heteromics.data.checks import check_cells, check_unique_names

    for names, unit in ((data.obs_names, "cells"), (data.var_names, "features")):
        check_unique_names(names, f"{unit} of {what}")
    placed = row >= 0
    if not placed.any():
        raise GraphError(
            f"{what}: none of {row.size} features is in the store ({some(data.var_names)}). "
            "Fix: build the store from these data (--set source.peaks=..., source.gtf=...) and the right assembly."
        )
    chrom = np.where(placed, code[np.maximum(row, 0)], -1).astype(np.int32)
    place = np.where(placed, position[np.maximum(row, 0)], 0)
    names = _names(data.var_names)
    order = np.lexsort((names, place, chrom))  # the same graph whatever the order of the input
    counts = _counts(data.X, order, what, expect)
    check_cells(counts, data.obs_names, what)
    chosen = _training_rows(data, training_cells, what)
    found = Counter(outcome)
    match = {**dict(sorted(found.items())), "unplaced": sorted(names[~placed].tolist())}
    return _Side(
        names[order],
        chrom[order],
        place[order],
        row[order],
        counts,
        summaries(counts, chosen),
        chosen,
        match,
    )


def _counts(values: Any, order: Int, what: str, expect: Literal["counts", "any"]) -> sparse.csr_array:
    """Assemble float32 compressed rows with columns in the new order, rising within a row, zeros left out."""
    from heteromics.data.blocks import as_csr

    counts = as_csr(values, what, "normalised" if expect == "any" else expect)
    if below := int((counts.data < 0).sum()):
        raise GraphError(
            f"{what}: {below:,} of {counts.nnz:,} values are below zero, expected none: means over cells are of their "
            "share of the cell's total.\n  Fix: give values before they are centred; set to zero what smoothing left "
            "below it."
        )
    rank = np.empty(order.size, dtype=counts.indices.dtype)
    rank[order] = np.arange(order.size)
    np.take(rank, counts.indices, out=counts.indices, mode="clip")  # in place; the indices were checked
    counts.has_canonical_format = counts.has_sorted_indices = False
    counts.sort_indices()
    counts.has_canonical_format = True
    return counts


def _training_rows(data: AnnData, training_cells: Cells | None, what: str) -> NDArray[np.bool_]:
    if training_cells is None:
        return np.ones(data.n_obs, dtype=bool)
    asked = _listed(training_cells)
    if asked.dtype == bool:
        if asked.shape != (data.n_obs,):
            raise GraphError(
                f"training_cells: a mask of shape {asked.shape}, but {what} has {data.n_obs} cells. "
                "Fix: pass names when the modalities have different cells."
            )
        chosen = asked.copy()
    else:
        chosen = np.isin(_names(data.obs_names), asked.astype(str))
    if not chosen.any():
        raise GraphError(f"training_cells: none of {asked.size} is a cell of {what}. Fix: pass obs_names.")
    return chosen


def _check_training(training_cells: Cells | None, rna: AnnData, atac: AnnData) -> None:
    asked = _listed(() if training_cells is None else training_cells)
    if asked.dtype == bool or not asked.size:
        return
    known = np.concatenate([_names(rna.obs_names), _names(atac.obs_names)])
    if (unknown := np.setdiff1d(asked.astype(str), known)).size:
        raise GraphError(
            f"training_cells: {unknown.size} of {asked.size} names are a cell of neither modality: {some(unknown)}. "
            f"Fix: pass obs_names, such as {some(known)}."
        )


def _check_store(store: PriorStore) -> None:
    if absent := [name for name in ("chromosome", "gene", "peak") if name not in store.tables()]:
        raise GraphError(
            f"{store.path} has no table {', '.join(absent)}, which a bipartite graph is built from. "
            "Fix: a recipe with nodes gene and peak."
        )


def _codes(chrom: Any, store: PriorStore) -> Int:
    table = store.frame("chromosome")
    return chrom.map(dict(zip(table["chrom"], table["code"], strict=True))).to_numpy(np.int64)


def _place_genes(rna: AnnData, store: PriorStore) -> tuple[Int, list[str], Int, Int]:
    """Row of each gene in the store and how it was found; chromosome codes and positions of the store's genes."""
    table = store.frame("gene")
    row, outcome = find_genes(rna, store)
    return row, outcome, _codes(table["chrom"], store), table["tss"].to_numpy(np.int64)


def _place_peaks(atac: AnnData, store: PriorStore) -> tuple[Int, list[str], Int, Int]:
    """As :func:`_place_genes`: by name, else by the interval that the name gives."""
    table, (row, outcome) = store.frame("peak"), find_peaks(atac, store)
    start, end = (table[side].to_numpy(np.int64) for side in ("chrom_start", "chrom_end"))
    return row, outcome, _codes(table["chrom"], store), (start + end) // 2


def _labels(
    modalities: Sequence[AnnData], columns: dict[str, str]
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, list[str]]]:
    """Codes of the labels of both modalities over their common sorted words, -1 for a missing label; and the words."""
    coded: dict[str, dict[str, torch.Tensor]] = {"rna_cell": {}, "atac_cell": {}}
    words: dict[str, list[str]] = {}
    for feature, column in columns.items():
        sides = zip(coded, modalities, strict=True)
        labels = {ntype: data.obs[column].astype(object) for ntype, data in sides if column in data.obs}
        found = sorted({str(label) for values in labels.values() for label in values.dropna().unique()})
        if found:
            words[feature] = found
        code = {label: place for place, label in enumerate(found)}
        for ntype, values in labels.items():
            known = values.where(values.notna(), None)
            coded[ntype][feature] = torch.tensor([code.get(str(label), -1) for label in known], dtype=torch.int64)
    return coded, words


def _listed(cells: Cells) -> NDArray[Any]:
    return np.asarray(cells if hasattr(cells, "dtype") else list(cells))


def _names(index: Any) -> NDArray[np.str_]:
    return np.asarray(index, dtype=str)
