"""Links and networks for other programs: networkx, GraphML, Cytoscape CX2, BEDPE, TSV and Parquet.

Files are written beside their place first, so that no reader sees half of one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heteromics._files import whole_file, write_text
from heteromics.errors import DataError, some
from heteromics.interpret._cx2 import cx2_document
from heteromics.interpret._joining import need_columns, stored_genes, stored_peaks
from heteromics.interpret.network import link_columns, tf_gene_edges
from heteromics.priors.peak_names import named_places

if TYPE_CHECKING:
    import networkx as nx
    from pandas import DataFrame

    from heteromics.priors import PriorStore

BINDS, LINKS, REGULATES = "binds", "links", "regulates"
"""Edges of a network: factor to peak, peak to gene, and factor to gene over all peaks."""

_BINDS = ["motif_score", "motif_p", "motifs", "expressed"]
_REGULATES = ["n_peaks", "best", "summed", "best_peak", "sign", "collections", "weight"]

BEDPE = ("chrom1", "start1", "end1", "chrom2", "start2", "end2", "name", "score", "strand1", "strand2")
"""Columns by the definition of BEDTools."""


def to_networkx(network: DataFrame) -> nx.MultiDiGraph:
    """Return a network as a graph of factors, peaks and genes.

    Parameters
    ----------
    network
        From :func:`~heteromics.interpret.regulatory_network`, or rows of it.

    Returns
    -------
    networkx.MultiDiGraph
        Nodes by name, with ``node_type``: ``tf`` (also where it is a target itself), ``peak`` or ``gene``; a name that
        a peak shares with a gene is led by ``peak:``. Nodes carry the identifier of the store (``gene_id`` or
        ``peak_id``), peaks their place where their name is one (``chrom, chrom_start, chrom_end``, bp, 0-based
        half-open).

        Edges have ``interaction`` and ``group``, which are their key too: ``binds`` (factor to peak) with the motif's
        columns, ``links`` (peak to gene) with those of the link, ``regulates`` (factor to gene) with what
        :func:`~heteromics.interpret.tf_gene_edges` gives (``source`` as ``collections``, for a source of an edge is a
        node). Values that are missing are left out.

    Raises
    ------
    DataError
        When the table lacks columns of a network.
    """
    import networkx as nx

    need_columns(
        network, ["tf", "peak", "gene", "group", "score", "link_score", "tf_id", "peak_id", "gene_id"], "network"
    )
    graph: nx.MultiDiGraph = nx.MultiDiGraph()
    taken = {*network["tf"], *network["gene"]}
    node_of = {peak: f"peak:{peak}" if peak in taken else peak for peak in network["peak"].unique()}
    for kind in ("tf", "gene"):
        for name, gene_id in network[[kind, f"{kind}_id"]].drop_duplicates(kind).itertuples(index=False):
            if name not in graph:
                graph.add_node(name, node_type=kind, gene_id=gene_id)
    places = named_places(node_of).to_dict("index")
    for peak, peak_id in network[["peak", "peak_id"]].drop_duplicates("peak").itertuples(index=False):
        place = {str(name): value for name, value in places.get(peak, {}).items()}
        graph.add_node(node_of[peak], node_type="peak", peak_id=peak_id, **place)
    renamed = network.assign(peak=network["peak"].map(node_of).astype(object))
    edges = tf_gene_edges(renamed).rename(columns={"source": "collections"})
    for table, source, target, kind, columns in (
        (renamed, "tf", "peak", BINDS, _BINDS),
        (renamed, "peak", "gene", LINKS, ["link_score", *link_columns(renamed)]),
        (edges, "tf", "gene", REGULATES, _REGULATES),
    ):
        _add_edges(graph, table, source, target, kind, columns)
    return graph


def write_graphml(network: DataFrame, path: Path | str) -> Path:
    """Write a network as GraphML, as :func:`to_networkx` gives it; networkx, igraph, Gephi and Cytoscape read it.

    Parameters
    ----------
    network
        From :func:`~heteromics.interpret.regulatory_network`.
    path
        File to write or replace. Characters that XML 1.0 cannot hold become a question mark in a diamond.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        As :func:`to_networkx`; also when two names differ in such characters alone.
    """
    import networkx as nx

    graph = _legal_xml(to_networkx(network))
    with whole_file(Path(path)) as part:
        nx.write_graphml_xml(graph, part)
    return Path(path)


def write_cx2(network: DataFrame, path: Path | str, *, name: str = "regulatory network") -> Path:
    """Write a network as CX2 for Cytoscape and NDEx, as :func:`to_networkx` gives it, with a portable style.

    Parameters
    ----------
    network
        From :func:`~heteromics.interpret.regulatory_network`.
    path
        File to write or replace, by custom ``.cx2``.
    name
        Name of the network.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        As :func:`to_networkx`.
    """
    document = cx2_document(to_networkx(network), name)
    write_text(Path(path), json.dumps(document, allow_nan=False, separators=(",", ":")))
    return Path(path)


def write_bedpe(links: DataFrame, path: Path | str, store: PriorStore | None = None) -> Path:
    """Write links as BEDPE: the transcription start of the gene as first, the peak as second place.

    Parameters
    ----------
    links
        ``gene, peak, score``, optionally ``group`` and more; a network will do, each link is then written once.
    path
        File to write or replace.
    store
        Where genes and peaks lie. Without one, links need ``tss`` (bp, 0-based; -1 or missing where not known), may
        have ``strand`` and ``chrom`` of the gene, else taken to be that of the peak, and places of peaks are read from
        their names.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        When columns are not there, no gene or no peak can be placed, or names hold a tab or line end, which the format
        has no way to write.

    Notes
    -----
    BEDTools documentation, "BEDPE format": tab-separated, starts 0-based, ends one behind the last base; what is not
    known is ``.`` and -1, so genes and peaks without a place are written all the same. Ten columns (``name`` is gene
    and peak, and the group where there is one, parted by ``|``; ``score`` as it is, not scaled to 0 to 1000), then all
    other columns of the links. The first line names the columns and begins with ``#``.
    """
    import pandas as pd

    if "link_score" in links:
        keep = ["gene", "peak", "group", "link_score", *link_columns(links)]
        links = links[keep].drop_duplicates(["gene", "peak", "group"]).rename(columns={"link_score": "score"})
    need_columns(links, ["gene", "peak", "score", *(["tss"] if store is None else [])], "links")
    links = links.reset_index(drop=True)
    text = links.astype({"gene": str, "peak": str})
    named = [name for name in ("gene", "peak", "group") if name in links]
    _no_breaks(text, named)
    genes, peaks = _places(text, store)
    label = text[named[0]].str.cat(text[named[1:]].astype(str), sep="|")
    shown = pd.DataFrame({
        "#chrom1": genes["chrom"].fillna("."),
        "start1": genes["tss"].fillna(-1),
        "end1": (genes["tss"] + 1).fillna(-1),
        "chrom2": peaks["chrom"].fillna("."),
        "start2": peaks["chrom_start"].fillna(-1),
        "end2": peaks["chrom_end"].fillna(-1),
        "name": label,
        "score": links["score"],
        "strand1": genes["strand"].where(genes["strand"].isin(["+", "-"]), "."),
        "strand2": ".",
    })  # fmt: skip
    others = [name for name in links if name not in {"score", "tss", "strand"}]
    with whole_file(Path(path)) as part:
        _write_tsv(pd.concat([shown, links[others]], axis=1), part, na_rep=".", quoting=csv.QUOTE_NONE)
    return Path(path)


def write_table(table: DataFrame, path: Path | str) -> Path:
    """Write a table of links, of a network or of its edges by the ending of the file.

    Parameters
    ----------
    table
        Any of them.
    path
        ``.parquet``, or ``.tsv`` with a line of column names, missing values as empty fields.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        For another ending.
    """
    path = Path(path)
    if path.suffix not in (".tsv", ".parquet"):
        raise DataError(f"{path}: found ending '{path.suffix}', expected .tsv or .parquet.")
    with whole_file(path) as part:
        if path.suffix == ".tsv":
            _write_tsv(table, part)
        else:
            table.to_parquet(part, index=False)
    return path


def _add_edges(
    graph: nx.MultiDiGraph, table: DataFrame, source: str, target: str, kind: str, columns: list[str]
) -> None:
    """Add one edge for each pair of nodes and group."""
    columns = [name for name in columns if name in table]
    once = table.drop_duplicates([source, target, "group"])
    ends = once[[source, target, "group"]].itertuples(index=False)
    values = once[columns].to_dict("records") if columns else [{}] * len(once)
    for (start, end, group), row in zip(ends, values, strict=True):
        kept = {str(name): value for name, value in row.items() if value == value and value is not None}
        graph.add_edge(start, end, key=f"{kind}:{group}", interaction=kind, group=group, **kept)


def _legal_xml(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """Return a graph without characters that XML cannot hold and with an identifier of its own for each edge.

    Gephi takes edges of one identifier for one edge.
    """
    import networkx as nx

    from heteromics.priors._graphml import ILLEGAL

    def legal(value: Any) -> Any:
        return ILLEGAL.sub("\ufffd", value) if isinstance(value, str) else value

    def plain(data: Mapping[str, Any]) -> dict[str, Any]:
        return {legal(key): legal(value) for key, value in data.items()}

    clean: nx.MultiDiGraph = nx.MultiDiGraph()
    clean.add_nodes_from((legal(node), plain(data)) for node, data in graph.nodes(data=True))
    if len(clean) < len(graph):
        raise DataError(
            f"GraphML: {len(graph) - len(clean)} of {len(graph)} node names differ from another in characters alone "
            "that XML cannot hold. Fix: rename them, or write CX2."
        )
    for number, (start, end, data) in enumerate(graph.edges(data=True)):
        clean.add_edge(legal(start), legal(end), key=f"e{number}", **plain(data))
    return clean


def _places(links: DataFrame, store: PriorStore | None) -> tuple[DataFrame, DataFrame]:
    """Return where the gene (``chrom, tss, strand``) and the peak of each link lie, NA where it is not known."""
    import pandas as pd

    names = links["peak"].unique()
    peak_of = named_places(names) if store is None else stored_peaks(names, store)
    peaks = peak_of.reindex(links["peak"]).reset_index(drop=True)
    if store is None:
        tss = links["tss"].astype("Int64")
        tss = tss.where(tss >= 0)
        strand = links.get("strand", ".")
        chrom = links.get("chrom", peaks["chrom"]).where(tss.notna())
        genes = pd.DataFrame({"chrom": chrom, "tss": tss, "strand": strand})
    else:
        genes = stored_genes(links["gene"].unique(), store).reindex(links["gene"]).reset_index(drop=True)
    for side, places in (("peak", peaks["chrom"]), ("gene", genes["chrom"])):
        if len(places) and places.isna().all():
            where = store.path if store is not None else {"gene": "column tss", "peak": "their names"}[side]
            raise DataError(
                f"BEDPE: none of {links[side].nunique()} {side}s has a place in {where}: {some(links[side].unique())}. "
                "Fix: give the store that the graph was built with."
            )
    return genes, peaks


def _no_breaks(table: DataFrame, columns: list[str]) -> None:
    for column in columns:
        names = table[column].astype(str).drop_duplicates()
        broken = names[names.str.contains("[\t\r\n]")]
        if len(broken):
            raise DataError(
                f"BEDPE: {len(broken)} of {len(names)} names in '{column}' hold a tab or line end, which the format "
                f"cannot hold: {some(map(repr, broken))}. Fix: rename them, or write .parquet."
            )


def _write_tsv(table: DataFrame, path: Path, na_rep: str = "", quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> None:
    table.to_csv(path, sep="\t", index=False, na_rep=na_rep, quoting=quoting, lineterminator="\n")
