"""What is known of one locus, in the tables that :func:`heteromics.plot.locus` draws."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np

from heteromics.errors import DataError, GraphError, some
from heteromics.graphs.hashing import other_store
from heteromics.graphs.pairs import OPENS

if TYPE_CHECKING:
    import pandas as pd

    from heteromics.graphs import HeteroGraph
    from heteromics.priors import PriorStore

__all__ = ["find_gene", "genes_of_graph", "locus_tables", "motif_hits", "nearest", "openness"]


def locus_tables(
    links: pd.DataFrame,
    gene: str,
    graph: HeteroGraph,
    store: PriorStore,
    *,
    group: str | None = None,
    factor: str | None = None,
    reach_bp: int | None = 250_000,
) -> dict[str, Any]:
    """Gather the links of a gene and what lies around it.

    Parameters
    ----------
    links
        ``gene, peak, score`` under the graph's names, optional ``group`` and ``fdr``.
    gene
        The graph's name of the gene, its symbol or its id.
    graph
        From :func:`heteromics.graphs.bipartite`, with cell types for the tracks.
    store
        The one the graph was built with.
    group
        Whose links, where the table has groups; needed where it has several.
    factor
        Symbol or id of a transcription factor, or name or id of a motif: its hits in the store's ``motif_peak`` are
        marked, the best of each peak.
    reach_bp
        Keep peaks whose midpoint is at most so far from the transcription start; None keeps all of the chromosome.

    Returns
    -------
    dict
        Keyword arguments of :func:`heteromics.plot.locus`: ``gene, links, genes, parts, tracks, motifs``. ``links`` has
        in ``attrs["beyond_reach"]`` the number of links that were left out as too far, and in ``attrs["unplaced"]`` the
        names of peaks that the store has no place for, left out too. Openness is the share of cells of the type, or of
        all cells, in which the peak is open.

    Raises
    ------
    DataError
        When the gene, the group or the factor is not there (the nearest names are offered), or no link is within reach.
    GraphError
        When the graph was built from another store.
    StoreError
        When a factor is asked for and the store has no motif hits.
    """
    if why := other_store(graph.meta["store"], store.info):
        raise GraphError(f"{store.path}: {why}. Fix: open the store the graph was built from, or build it again.")
    genes = store.frame("gene")
    of_graph = genes_of_graph(graph, store)
    name = find_gene(of_graph, gene)
    row = of_graph.loc[[name]].iloc[0]
    own, peaks = _links_of(links, name, group), store.frame("peak")
    place = graph.ndata("peak")["store_row"].numpy()[graph.index("peak", own["peak"])]
    unplaced, own, place = own["peak"][place < 0].tolist(), own[place >= 0], place[place >= 0]
    own = own.assign(**{column: peaks[column].to_numpy()[place] for column in ("peak_id", "chrom_start", "chrom_end")})
    near = np.ones(len(own), dtype=bool)
    if reach_bp is not None:
        near = (np.abs(own[["chrom_start", "chrom_end"]].mean(axis=1) - row["tss"]) <= reach_bp).to_numpy()
    if not near.any():
        raise DataError(
            f"gene '{gene}': none of its {len(own)} links{f' of {group}' if group else ''} is within {reach_bp} bp of "
            f"its transcription start; peaks of {len(unplaced)} more have no place in the store. "
            "Fix: a larger reach_bp, or another gene."
        )
    tracks = openness(graph, own.loc[near, "peak"])
    share = tracks["all cells" if group is None else group]
    drawn = own[near].assign(openness=share.to_numpy()).reset_index(drop=True)
    drawn.attrs |= {"beyond_reach": int((~near).sum()), "unplaced": unplaced}
    tall = tracks.drop(columns="all cells").melt(ignore_index=False, var_name="group", value_name="openness")
    tall = tall.join(drawn.set_index("peak")[["chrom_start", "chrom_end"]]).reset_index(drop=True)
    shown = genes[genes["chrom"] == row["chrom"]].reset_index(drop=True)
    return {
        "gene": row,
        "links": drawn,
        "genes": shown,
        "parts": _parts(store, shown["gene_id"].tolist()),
        "tracks": tall,
        "motifs": None if factor is None else motif_hits(store, factor, drawn["peak_id"].tolist()),
    }


def openness(graph: HeteroGraph, peaks: pd.Series) -> pd.DataFrame:
    """Return the share of ATAC cells of each type, and of all, in which each peak is open, peaks x types.

    Examples
    --------
    >>> import pandas as pd
    >>> from heteromics.graphs import HeteroGraph
    >>> graph = HeteroGraph.from_edges(
    ...     {("atac_cell", "opens", "peak"): ([0, 1, 1], [0, 0, 1])},
    ...     names={"atac_cell": ["a", "b", "c"], "peak": ["p", "q"]},
    ... )
    >>> openness(graph, pd.Series(["p", "q"])).round(2).to_dict("list")
    {'all cells': [0.67, 0.33]}
    """
    import pandas as pd

    indptr, cells, _ = graph.adjacency(OPENS, by="dst")
    rows = graph.index("peak", peaks)
    names = graph.meta.get("categories", {}).get("cell_type", []) if "cell_type" in graph.ndata("atac_cell") else []
    code = graph.ndata("atac_cell")["cell_type"].numpy() if names else np.full(graph.num_nodes("atac_cell"), -1)
    size = np.bincount(code + 1, minlength=len(names) + 1)
    found = [
        np.bincount(code[cells[indptr[row] : indptr[row + 1]].numpy()] + 1, minlength=len(names) + 1) for row in rows
    ]
    counts = np.array(found).reshape(len(rows), len(names) + 1)
    share = counts[:, 1:] / np.maximum(size[1:], 1)
    table = pd.DataFrame(share, index=pd.Index(peaks, name="peak"), columns=list(names))
    table.insert(0, "all cells", counts.sum(axis=1) / max(size.sum(), 1))
    return table


def genes_of_graph(graph: HeteroGraph, store: PriorStore) -> pd.DataFrame:
    """Return the store's row of every gene of the graph, by the graph's name; genes without one have no values."""
    row = graph.ndata("gene")["store_row"].numpy()
    return store.frame("gene").reindex(row).set_axis(graph.names["gene"])


def find_gene(genes: pd.DataFrame, gene: str) -> str:
    """Find the node of a gene given by the data's name, its symbol or its id.

    Raises
    ------
    DataError
        Offering the nearest names.
    """
    if gene in genes.index:
        return gene
    alike = genes.index[(genes["gene_id"] == gene) | (genes["symbol"] == gene)]
    if alike.empty:
        known = {*genes.index, *genes["symbol"].dropna(), *genes["gene_id"].dropna()}
        raise DataError(f"gene '{gene}' is not in the graph. Nearest: {nearest(gene, known)}.")
    return str(alike[0])


def nearest(name: str, known: set[str]) -> str:
    """Return the nearest known names for a message, whatever their case.

    Examples
    --------
    >>> nearest("e3rorb", {"E3Rorb", "E2Rasgrf2", "Oli"})
    'E3Rorb'
    """
    folded = {each.casefold(): each for each in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.casefold(), sorted(folded), n=3)
    return ", ".join(folded[each] for each in near) or "none"


def _links_of(links: pd.DataFrame, name: str, group: str | None) -> pd.DataFrame:
    own = links[links["gene"] == name]
    if "group" in own:
        groups = own["group"].astype(str)
        found = groups.unique()
        if group is None and len(found) > 1:
            raise DataError(f"links of '{name}' are of {len(found)} groups: {some(found, 8)}. Fix: give one as group.")
        if group is not None and not groups.eq(group).any():
            known = set(links["group"].astype(str))
            raise DataError(f"no link of '{name}' is of group '{group}'. Nearest: {nearest(group, known)}.")
        own = own[groups == group] if group is not None else own
    return own


def _parts(store: PriorStore, genes: list[str]) -> pd.DataFrame | None:
    """Return the parts of genes; None where the annotation of the store has none, as one of gene lines alone."""
    if "gene_part" not in store.tables():
        return None
    sql = "SELECT gene_id, part, chrom_start, chrom_end FROM gene_part WHERE gene_id IN (SELECT unnest(?))"
    found = store.connection.execute(sql, [genes]).df()
    return found if len(found) else None


def motif_hits(store: PriorStore, factor: str, peaks: list[str]) -> pd.DataFrame:
    """Return the best hit of each motif of a factor in each peak: ``position`` (bp), name, peak, motif and score.

    Raises
    ------
    DataError
        When no motif is that of the factor; the nearest names are offered.
    StoreError
        When the store has no motif hits.
    """
    motif = store.frame("motif")
    of_gene = store.frame("motif_tf").merge(store.frame("gene")[["gene_id", "symbol"]], on="gene_id")
    factors = of_gene[(of_gene["symbol"] == factor) | (of_gene["gene_id"] == factor)]
    wanted = motif["motif_id"].eq(factor) | motif["name"].eq(factor) | motif["motif_id"].isin(factors["motif_id"])
    if not wanted.any():
        known = {*motif["motif_id"], *motif["name"].dropna(), *of_gene["symbol"].dropna()}
        raise DataError(f"factor '{factor}' has no motif in the store. Nearest: {nearest(factor, known)}.")
    store.table("motif_peak")  # says what is missing
    sql = (
        "SELECT hit_start AS position, ? AS name, peak_id, motif_id, score FROM motif_peak "
        "WHERE motif_id IN (SELECT unnest(?)) AND peak_id IN (SELECT unnest(?)) ORDER BY position, motif_id"
    )
    return store.connection.execute(sql, [factor, motif.loc[wanted, "motif_id"].tolist(), peaks]).df()
