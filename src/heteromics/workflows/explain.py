"""From a trained Bi2Former to a table of gene-peak links and a picture of a locus."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import DataError, ModelError, StoreError, some
from heteromics.workflows.run import Run

if TYPE_CHECKING:
    import pandas as pd

    from heteromics.graphs import HeteroGraph

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Explanation:
    """Links and where they were written.

    Attributes
    ----------
    links
        ``gene, peak, chrom, distance_bp, score`` and the other columns of
        :meth:`heteromics.models.Bi2Former.links`, by falling score. ``distance_bp`` runs from transcription start to
        peak midpoint.
    notes
        Counts and paths.
    """

    links: pd.DataFrame
    notes: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the strongest links as mappings."""
        return [{str(key): value for key, value in row.items()} for row in self.links.head(SHOWN).to_dict("records")]

    def as_dict(self) -> dict[str, Any]:
        """Return counts, paths and the strongest links as JSON values."""
        return {**self.notes, "strongest": self.rows()}


def explain(run: Path | str, *, out: Path | str, gene: str | None = None, cell_type: str | None = None) -> Explanation:
    """Aggregate the attention of a trained Bi2Former over cells and write it.

    Parameters
    ----------
    run
        Folder of a ``bi2former`` run.
    out
        Folder for ``links.parquet`` and ``links.tsv``, and with ``gene`` for ``locus_<gene>.png`` and ``.svg``.
    gene
        Symbol or id: only its links.
    cell_type
        Only cells of this type.

    Returns
    -------
    Explanation

    Raises
    ------
    ModelError
        For a run of a model without attention.
    DataError
        For a gene or cell type that is not there, or no cell with both profiles.
    """
    folder, out = Path(run), Path(out)
    card = Run.read(folder)
    if card.model != "bi2former":
        raise ModelError(f"{folder} is a run of {card.model}, which has no attention between genes and peaks. "
                         "Fix: explain a run of bi2former.")  # fmt: skip
    from heteromics.graphs import HeteroGraph
    from heteromics.models.bi2former import Bi2Former

    graph = HeteroGraph.load(folder / "graph")
    model = Bi2Former.load(folder / "model", graph)
    pairs = cells_to_explain(graph, cell_type)
    genes = None if gene is None else _genes(graph, card)
    name = None if gene is None or genes is None else _gene_name(genes, gene)
    links = placed(graph, model.links(pairs, device=card.device, progress=True))
    if name is not None:
        links = links[links["gene"] == name].reset_index(drop=True)
    out.mkdir(parents=True, exist_ok=True)
    links.to_parquet(out / "links.parquet", index=False)
    links.to_csv(out / "links.tsv", sep="\t", index=False)
    notes = {"cells": len(pairs), "links": len(links), "table": out / "links.parquet"}
    if genes is not None and len(links):
        notes["figure"] = _draw(genes.loc[[name]].iloc[0], links, out, cell_type)
    return Explanation(links, notes)


def cells_to_explain(graph: HeteroGraph, cell_type: str | None = None) -> NDArray[np.int64]:
    """Return rows of ``rna_cell`` and ``atac_cell`` of the cells that have both profiles, shape (n, 2).

    Raises
    ------
    DataError
        When there is none, or none of the type asked for; the types are listed.
    """
    from heteromics.tasks.matching import paired_rows

    rows, types = paired_rows(graph)
    if cell_type is None:
        return rows
    if cell_type not in types:
        raise DataError(f"no cell of type '{cell_type}' has both profiles. Types: {some(np.unique(types), 30)}.")
    return rows[types == cell_type]


def placed(graph: HeteroGraph, links: pd.DataFrame) -> pd.DataFrame:
    """Add chromosome and distance (bp, transcription start to peak midpoint) behind gene and peak."""
    gene = graph.index("gene", links["gene"])
    peak = graph.index("peak", links["peak"])
    chromosomes = np.asarray([*graph.meta["chromosomes"], "unknown"], dtype=object)
    place = {side: graph.ndata(side)["position"].numpy() for side in ("gene", "peak")}
    links = links.copy()
    links.insert(2, "chrom", chromosomes[graph.ndata("gene")["chrom"].numpy()[gene]])
    links.insert(3, "distance_bp", np.abs(place["gene"][gene] - place["peak"][peak]))
    return links


def _genes(graph: HeteroGraph, card: Run) -> pd.DataFrame:
    """Return the store's row of every gene of the graph, by the graph's name; genes without one have no values."""
    from heteromics.priors import PriorStore

    if card.db is None:
        raise StoreError(
            "the run was trained on a graph folder, without a store to look genes up. Fix: train with --db too."
        )
    with PriorStore.open(card.db) as store:
        table = store.frame("gene")
    row = graph.ndata("gene")["store_row"].numpy()
    return table.reindex(row).set_axis(graph.names["gene"])


def _gene_name(genes: pd.DataFrame, gene: str) -> str:
    """Find the node of a gene given by the data's name, its symbol or its id."""
    if gene in genes.index:
        return gene
    alike = genes.index[(genes["gene_id"] == gene) | (genes["symbol"] == gene)]
    if alike.empty:
        known = {*genes.index, *genes["symbol"].dropna(), *genes["gene_id"].dropna()}
        near = difflib.get_close_matches(gene, sorted(known), n=3)
        raise DataError(f"gene '{gene}' is not in the graph. Nearest: {', '.join(near) or 'none'}.")
    return str(alike[0])


def _draw(gene: pd.Series, links: pd.DataFrame, out: Path, cell_type: str | None) -> Path:
    from heteromics import plot
    from heteromics.priors.peaks import parse_peak_names

    peaks, _ = parse_peak_names(links["peak"].tolist())
    drawn = links.assign(chrom_start=peaks.start, chrom_end=peaks.end)
    title = f"{gene['symbol']}, {cell_type or 'all cells'}"
    return plot.save_figure(plot.locus(gene, drawn, title=title), out, f"locus_{gene['symbol']}")[0]
