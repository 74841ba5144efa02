"""From a trained Bi2Former to a tested table of gene-peak links, a picture of a locus and a file for browsers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
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
    from heteromics.priors import PriorStore

SHOWN = 20
FDR = 0.05
TRAINED = "the model was trained on some of these cells: p are not those of a test on cells it has not seen"
COMPARED = "the classifier of the model sees both modalities: its answers need not rest on the links"
CHOSEN = "without a store, pairs that the model kept were tested: chosen by the same cells, their p is too small"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Links and where they were written.

    Attributes
    ----------
    links
        ``gene, peak, chrom, score`` and the columns of :func:`heteromics.interpret.links`, by falling ``posterior``.
    notes
        ``cells``, of these ``cells_trained_on``; pairs ``tested``, and ``too_few_cells`` for it (or a null that does
        not vary); ``links`` in the table, of these ``kept`` by the model in any cell, and above their null with a false
        discovery rate of at most 0.05 ``passed_cells``, ``passed_distance``, ``passed_both``; ``avoid``, those as far
        below the null of cells; ``untested_attention``, the share of it on pairs that were not tested; ``note``, what
        to mind; paths: ``table, text, bedpe``, and of one gene ``figure, drawing``.
    files
        What each file that was written holds.
    """

    links: pd.DataFrame
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the strongest links as mappings, their main columns."""
        tests = ["z", "fdr", "z_distance", "fdr_distance", "fdr_both", "posterior"]
        shown = ["gene", "peak", "distance", "n_pairs", "score", *tests]
        return [
            {str(key): value for key, value in row.items()} for row in self.links.head(SHOWN)[shown].to_dict("records")
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return counts, files and the strongest links as JSON values."""
        files = {str(path): what for path, what in self.files.items()}
        return {**self.notes, "files": files, "strongest": self.rows()}


def explain(
    run: Path | str,
    *,
    out: Path | str,
    gene: str | None = None,
    cell_type: str | None = None,
    factor: str | None = None,
    permutations: int = 10,
    least_expected: float = 10.0,
    reach_bp: int = 250_000,
    progress: bool = True,
) -> Explanation:
    """Test the gene-peak links of a trained Bi2Former against chance and write them.

    Parameters
    ----------
    run
        Folder of a ``bi2former`` run.
    out
        Folder for ``links.parquet``, ``links.tsv`` and ``links.bedpe``, and with ``gene`` for ``locus_<gene>.png`` and
        ``.svg``.
    gene
        Name in the data, symbol or id: only its links, and a figure of its locus.
    cell_type
        Only cells of this type.
    factor
        Transcription factor or motif whose hits are marked in the figure; needs ``gene`` and motif hits in the store.
    permutations
        Of the cells, 2 or more; see :func:`heteromics.interpret.links`.
    least_expected
        Pairs that would meet in fewer cells by chance alone are not tested, see :func:`heteromics.interpret.links`.
    reach_bp
        Half the width of the figure: peaks farther from the transcription start are in the tables alone.
    progress
        Show it on stderr.

    Returns
    -------
    Explanation

    Raises
    ------
    ModelError
        For a run of a model without attention.
    DataError
        For a gene, cell type or factor that is not there (the nearest are offered), or no cell with both profiles.
    StoreError
        When a gene is asked for and the run has no store.

    Notes
    -----
    Tested are the pairs that the run's store links (``gene_peak``), whether the model attends to them or not; without
    a store those that the model kept, which the same data chose, so that their p-values are too small. Both nulls of
    :func:`heteromics.interpret.links` are in the table: ``z, p, fdr`` against exchanged cells, ``z_distance`` and so on
    against links as long. Rates are over all pairs tested, those of other genes too. All cells are taken, those the
    model was trained on too: of these the null is not known to hold, and a note says how many there are.
    """
    folder, out = Path(run), Path(out)
    card = Run.read(folder)
    if card.model != "bi2former":
        raise ModelError(f"{folder} is a run of {card.model}, which has no attention between genes and peaks. "
                         "Fix: explain a run of bi2former.")  # fmt: skip
    if factor is not None and gene is None:
        raise DataError(f"factor '{factor}' is marked in the figure of a gene, but none was given. Fix: --gene GENE.")
    from heteromics.graphs import HeteroGraph
    from heteromics.interpret import links as tested_links
    from heteromics.interpret import locus_tables
    from heteromics.models.bi2former import Bi2Former
    from heteromics.priors import PriorStore

    graph = HeteroGraph.load(folder / "graph")
    model = Bi2Former.load(folder / "model", graph)
    cells = cells_to_explain(graph, cell_type)
    with nullcontext() if card.db is None else PriorStore.open(card.db) as store:
        name = None if gene is None else _name_of(gene, graph, store, factor)
        whole = model.links(cells, device=card.place, progress=progress)
        pairs = _candidates(graph, store)
        asked = whole[["gene", "peak"]] if pairs is None else pairs
        total = len(asked)
        links = tested_links(
            model,
            graph,
            groups=None if cell_type is None else "cell_type",
            cells=cells,
            candidates=pairs,
            permutations=permutations,
            least_expected=least_expected,
            seed=card.seed,
            device=card.place,
            progress=progress,
        )
        null = links.attrs["null"]
        links = _tested(links, least_expected, len(cells))
        number = len(links)
        links = with_chromosome(graph, links).sort_values(
            ["posterior", "z"], ascending=False, kind="stable", ignore_index=True
        )
        if name is not None:
            links, whole = (table[table["gene"] == name].reset_index(drop=True) for table in (links, whole))
            asked = asked[asked["gene"] == name]
        drawn = None
        if store is not None and len(asked) and name is not None:
            shown = asked.merge(links, how="left", on=["gene", "peak"]).assign(group=cell_type or "all")
            drawn = locus_tables(shown, name, graph, store, group=cell_type, factor=factor, reach_bp=reach_bp)
        files = _write(links, out, graph, store)
    if drawn is not None:
        files |= _draw(drawn, out, cell_type, reach_bp, far=int((links["distance"] > reach_bp).sum()))
    notes: dict[str, Any] = {
        "cells": len(cells),
        "cells_trained_on": null["n_training"],
        "tested": number,
        "too_few_cells": total - number,
        **_counts(links),
    }
    notes["untested_attention"] = round(_untested(whole, links), 4)
    about = {
        TRAINED: null["n_training"],
        CHOSEN: null["chosen_by_model"],
        COMPARED: model.config.classifier != "linear",
    }
    said = [text for text, true in about.items() if true]
    if links.empty:
        said.append(f"none of the {len(asked)} pairs of {gene} has cells enough to be tested")
    if said:
        notes["note"] = "; ".join(said)
    paths = {kind: path for kind, (path, _) in files.items()}
    return Explanation(links, notes | paths, dict(files.values()))


def cells_to_explain(graph: HeteroGraph, cell_type: str | None = None) -> NDArray[np.int64]:
    """Return rows of ``rna_cell`` and ``atac_cell`` of the cells that have both profiles, shape (n, 2).

    Raises
    ------
    DataError
        When there is none, or none of the type asked for; the types are listed.
    """
    from heteromics.interpret.locus import nearest
    from heteromics.tasks._paired import paired_cells, paired_rows

    if cell_type is None:
        return paired_cells(graph)
    rows, types = paired_rows(graph)
    if cell_type not in types:
        known = np.unique(types)
        raise DataError(
            f"no cell of type '{cell_type}' has both profiles. Types: {some(known, 30)}. "
            f"Nearest: {nearest(cell_type, set(known.tolist()))}."
        )
    return rows[types == cell_type]


def with_chromosome(graph: HeteroGraph, links: pd.DataFrame) -> pd.DataFrame:
    """Add the chromosome of the gene behind gene and peak."""
    chromosomes = np.asarray([*graph.meta["chromosomes"], "unknown"], dtype=object)
    links = links.copy()
    links.insert(2, "chrom", chromosomes[graph.ndata("gene")["chrom"].numpy()[graph.index("gene", links["gene"])]])
    return links


def _name_of(gene: str, graph: HeteroGraph, store: PriorStore | None, factor: str | None) -> str:
    from heteromics.interpret.locus import find_gene, genes_of_graph, motif_hits

    if store is None:
        raise StoreError(
            "the run was trained on a graph folder, without a store to look genes up. Fix: train with --db too."
        )
    if factor is not None:
        motif_hits(store, factor, [])  # says at once what is missing
    return find_gene(genes_of_graph(graph, store), gene)


def _candidates(graph: HeteroGraph, store: PriorStore | None) -> pd.DataFrame | None:
    """Return the pairs that the store links, None where there is no such store."""
    from heteromics.interpret import candidate_links

    if store is None or "gene_peak" not in store.tables():
        return None
    return candidate_links(graph, store)[["gene", "peak"]]


def _tested(links: pd.DataFrame, least: float, cells: int) -> pd.DataFrame:
    """Return the rows that were tested."""
    if not links["tested"].any():
        raise DataError(
            f"none of {len(links):,} pairs is expected to meet in {least:g} of {cells:,} cells and varies. "
            "Fix: more cells (no --cell-type), or a lower --least-expected."
        )
    return links[links["tested"]]


def _counts(links: pd.DataFrame) -> dict[str, int]:
    """Count rows, those the model kept in any cell, those above each null and both, and those below that of cells."""
    passed = {"cells": "fdr_above", "distance": "fdr_above_distance", "both": "fdr_both"}
    return {
        "links": len(links),
        "kept": int((links["frequency"] > 0).sum()),
        **{f"passed_{null}": int((links[column] <= FDR).sum()) for null, column in passed.items()},
        "avoid": int(((links["fdr"] <= FDR) & (links["z"] < 0)).sum()),
    }


def _untested(whole: pd.DataFrame, links: pd.DataFrame) -> float:
    """Return the share of the attention that is on pairs that were not tested."""
    everything, here = float(whole["total"].sum()), float(links["total"].sum())
    return max(1 - here / everything, 0.0) if everything > 0 else 0.0


def _write(links: pd.DataFrame, out: Path, graph: HeteroGraph, store: PriorStore | None) -> dict[str, tuple[Path, str]]:
    """Write the tables; return path and content by kind."""
    from heteromics.interpret import write_bedpe, write_table

    out.mkdir(parents=True, exist_ok=True)
    placed = links
    if store is None:
        place = graph.ndata("gene")["position"].numpy()[graph.index("gene", links["gene"])]
        placed = links.assign(tss=np.where(links["chrom"] == "unknown", -1, place))
    return {
        "table": (write_table(links, out / "links.parquet"), "every pair tested, by falling posterior"),
        "text": (write_table(links, out / "links.tsv"), "the same as text"),
        "bedpe": (write_bedpe(placed, out / "links.bedpe", store), "start site and peak of each, for genome browsers"),
    }


def _draw(
    tables: dict[str, Any], out: Path, cell_type: str | None, reach_bp: int, *, far: int
) -> dict[str, tuple[Path, str]]:
    """Draw the locus; return path and content by kind."""
    from heteromics import plot

    symbol, links = tables["gene"]["symbol"], tables["links"]
    title = f"{symbol}, {cell_type or 'all cells'}: links by z against exchanged cells"
    figure = plot.locus(**tables | {"links": links.assign(score=links["z"])}, title=title)
    what = f"the locus, {reach_bp:,} bp to each side"
    if far:
        what += f"; {far:,} links lie farther"
    png, svg = plot.save_figure(figure, out, f"locus_{symbol}")
    return {"figure": (png, what), "drawing": (svg, "the same for print")}
