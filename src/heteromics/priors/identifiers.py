# ruff: noqa: S608  the order put into SQL is one of two constants
"""Joining names to genes: of arrays, of a build in progress, of a finished store, and from one kind of name to another.

The rules, in their order, are those of :mod:`heteromics.priors.gene_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import pandas as pd

from heteromics.priors.gene_names import (
    KINDS,
    Answer,
    GeneNames,
    Ints,
    NamesJoined,
    OtherNames,
    joined_with,
    strip_version,
)
from heteromics.priors.tables import Match

if TYPE_CHECKING:
    import pyarrow as pa

    from heteromics.priors.store import PriorStore
    from heteromics.priors.tables import BuildContext

Query = Callable[..., "pa.Table"]
"""Runs SQL, with a list of parameters if there are any."""

_ALIASES = """
    SELECT gene_id, alias, kind FROM gene_alias WHERE lower(alias) IN (SELECT unnest($1::VARCHAR[]))
    OR lower(regexp_replace(alias, '\\.\\d+(_PAR_Y)?$', '')) IN (SELECT unnest($1::VARCHAR[]))
"""
"""Other names that may fit one of these, in lower case: all rules look at the name without version or in any case."""

__all__ = [
    "GenesJoined",
    "NamesJoined",
    "join_genes",
    "join_names",
    "join_store_genes",
    "joined_with",
    "match_names",
    "named_genes",
    "other_names",
    "store_names",
    "strip_version",
    "translate",
]


def match_names(names: Sequence[str], gene_id: Sequence[str], symbol: Sequence[str]) -> tuple[Ints, list[str]]:
    """Find the gene each name means: by id, by id without version, by symbol, by symbol in any case; in this order.

    Parameters
    ----------
    names
        Names the data use, ids or symbols, length n.
    gene_id, symbol
        Ids (unique) and symbols of the genes, length G.

    Returns
    -------
    row : numpy.ndarray
        Row of the gene, -1 where none is meant for certain, shape (n,), int64.
    outcome : list of str
        ``matched`` (id or symbol as written), ``version_stripped``, ``case_folded``, ``ambiguous`` (the rule that
        first finds a gene finds several; none is taken) or ``absent``.

    Examples
    --------
    >>> rows, outcome = match_names(["ENSG01.7", "gapdh", "X"], ["ENSG01", "ENSG02"], ["TP53", "GAPDH"])
    >>> rows.tolist(), outcome
    ([0, 1, -1], ['version_stripped', 'case_folded', 'absent'])
    """
    row, outcome, _ = join_names(names, gene_id, symbol)
    return row, outcome


def join_names(
    names: Sequence[str], gene_id: Sequence[str], symbol: Sequence[str], left_out: Sequence[Match] = ()
) -> NamesJoined:
    """Find the gene each name means, as :func:`match_names`, and say for the match report what it joined, or why not.

    Parameters
    ----------
    names, gene_id, symbol
        As in :func:`match_names`.
    left_out
        What table ``gene`` reported; names of genes it left out are told why.

    Examples
    --------
    >>> join_names(["gapdh", "Y_RNA", "X"], ["ENSG01", "ENSG02", "ENSG03"], ["GAPDH", "Y_RNA", "Y_RNA"]).detail
    ['joined ENSG01 (GAPDH)', 'fits ENSG02, ENSG03', 'not in the annotation']
    """
    return GeneNames(gene_id, symbol, OtherNames(left_out=_left_out(left_out))).join(names)


class GenesJoined(NamedTuple):
    """What names mean, each field of length n: the gene (None where none), how it was found, with what or why not."""

    gene_id: list[str | None]
    outcome: list[str]
    detail: list[str]


def join_genes(context: BuildContext, names: Sequence[str]) -> GenesJoined:
    """Find the gene of table ``gene`` that each name means; every builder that meets gene names asks here.

    Parameters
    ----------
    context
        The build so far: table ``gene`` must be there; table ``gene_alias`` and the answers of MyGene.info are used
        where they are.
    names
        Names as a source writes them, ids or symbols, length n.
    """
    return _genes_joined(context.query, context.reported, names)


def store_names(store: PriorStore, names: Sequence[str]) -> NamesJoined:
    """Find the row of ``store.frame("gene")`` that each name means, by all rules and the store's own alias table."""
    query = _query(store)
    gene_id, symbol = named_genes(query, "rowid")
    return _join(names, gene_id, symbol, query, _reported(store))


def join_store_genes(store: PriorStore, names: Sequence[str]) -> GenesJoined:
    """Find the gene of a store that each name means, as :func:`join_genes` does during a build.

    Raises
    ------
    StoreError
        When the store has no table ``gene``.
    """
    store.table("gene")
    return _genes_joined(_query(store), _reported(store), names)


def named_genes(query: Query, order: Literal["gene_id", "rowid"] = "gene_id") -> tuple[list[str], list[str]]:
    """Return identifiers and symbols of table ``gene``, by which names are looked up.

    A gene of the pseudoautosomal regions is listed on X and on Y by annotations that give both an identifier (GENCODE
    from version 44). The two are one gene, and its symbol means the one on X: the one on Y is known by its identifier
    alone. They are recognised by symbol, length, and the same distance from the start or the end of the chromosome.
    """
    genes = query(
        "SELECT gene_id, CASE WHEN gene_id IN (SELECT y.gene_id FROM gene x JOIN gene y USING (symbol) "
        "JOIN chromosome cx ON cx.chrom = x.chrom JOIN chromosome cy ON cy.chrom = y.chrom "
        "WHERE x.chrom IN ('X', 'chrX') AND y.chrom IN ('Y', 'chrY') "
        "AND x.chrom_end - x.chrom_start = y.chrom_end - y.chrom_start "
        "AND (x.chrom_start = y.chrom_start OR cx.size - x.chrom_start = cy.size - y.chrom_start)) "
        f"THEN gene_id ELSE symbol END AS symbol FROM gene ORDER BY {order}"
    )
    return genes["gene_id"].to_pylist(), genes["symbol"].to_pylist()


def _genes_joined(query: Query, reported: Mapping[str, Sequence[Match]], names: Sequence[str]) -> GenesJoined:
    gene_id, symbol = named_genes(query)
    joined = _join(names, gene_id, symbol, query, reported)
    found = [gene_id[row] if row >= 0 else None for row in joined.row.tolist()]
    return GenesJoined(found, joined.outcome, joined.detail)


def _join(
    names: Sequence[str],
    gene_id: Sequence[str],
    symbol: Sequence[str],
    query: Query,
    reported: Mapping[str, Sequence[Match]],
) -> NamesJoined:
    """Join names by what the tables say; those for other names need not be there."""
    there = set(query("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()")[0].to_pylist())
    known: list[tuple[int, str, str]] = []
    if "gene_alias" in there:
        rows = query(_ALIASES, [sorted({form.lower() for name in names for form in (name, strip_version(name))})])
        row_of = {name: row for row, name in enumerate(gene_id)}
        genes = [row_of[name] for name in rows["gene_id"].to_pylist()]
        known = list(zip(genes, rows["alias"].to_pylist(), rows["kind"].to_pylist(), strict=True))
    answers: dict[str, list[Answer]] = {}
    if "mygene_answer" in there:
        for row in query("SELECT name, gene_id, entrez, symbol FROM mygene_answer ORDER BY ALL").to_pylist():
            answer = Answer(row["gene_id"], row["entrez"], row["symbol"])
            answers.setdefault(row["name"], []).extend([answer] if any(answer) else [])
    return GeneNames(gene_id, symbol, other_names(known, reported, answers)).join(names)


def other_names(
    aliases: Iterable[tuple[int, str, str]],
    reported: Mapping[str, Sequence[Match]],
    answers: Mapping[str, Sequence[Answer]] | None = None,
) -> OtherNames:
    """Gather what aliases, what tables ``gene`` and ``gene_alias`` reported, and MyGene.info say of names."""

    def said(outcome: str) -> dict[str, str]:
        matches = (match for match in reported.get("gene_alias", ()) if match.outcome == outcome)
        return {match.name: f"{match.source}: {match.detail}" for match in matches}

    return OtherNames(
        aliases=aliases,
        left_out=_left_out(reported.get("gene", ())),
        elsewhere=said("absent"),
        contested=said("ambiguous"),
        withdrawn=said("withdrawn"),
        answers=answers or {},
    )


def _query(store: PriorStore) -> Query:
    return lambda sql, parameters=(): store.connection.sql(sql, params=list(parameters)).to_arrow_table()


def _reported(store: PriorStore) -> dict[str, list[Match]]:
    rows = store.connection.execute(
        "SELECT table_name, source, name, outcome, detail FROM match_report WHERE table_name IN ('gene', 'gene_alias')"
    ).fetchall()
    reported: dict[str, list[Match]] = {}
    for table, *match in rows:
        reported.setdefault(table, []).append(Match(*match))
    return reported


def _left_out(reported: Sequence[Match]) -> dict[str, str]:
    """Return, by id and by symbol, why a gene of the annotation is not in the table."""
    reasons: dict[str, str] = {}
    for match in reported:
        symbol, colon, why = match.detail.partition(": ")
        if match.outcome in {"wrong_assembly", "filtered"} and colon:
            for name in (strip_version(match.name), symbol):
                reasons.setdefault(name, f"{match.outcome}: {match.name}, {why}")
    return reasons


def translate(store: PriorStore, names: Sequence[str], to: str = "entrez") -> pd.DataFrame:
    """Translate names of genes, of any kind, to names of one kind.

    Parameters
    ----------
    store
        Store with table ``gene`` and, for kinds other than ``gene_id`` and ``symbol``, ``gene_alias``.
    names
        Names as :func:`join_store_genes` understands them, length n.
    to
        ``gene_id``, ``symbol``, or a kind of table ``gene_alias``: ``entrez``, ``uniprot``, ``ensembl_protein``.

    Returns
    -------
    pandas.DataFrame
        ``name, gene_id, outcome`` and the kind asked for, missing where there is none: a row for each name, in the
        order given, several for a name whose gene has several names of that kind.

    Raises
    ------
    ValueError
        For a kind that nobody knows.
    StoreError
        When the store has no table that this takes.
    """
    known = ("gene_id", "symbol", *KINDS[1:])
    if to not in known:
        raise ValueError(f"to: found {to!r}, expected one of {', '.join(known)}.")
    joined = join_store_genes(store, names)
    asked = pd.DataFrame({"name": list(names), "gene_id": joined.gene_id, "outcome": joined.outcome})
    if to == "gene_id":
        return asked
    if to == "symbol":
        return asked.merge(store.frame("gene")[["gene_id", "symbol"]], on="gene_id", how="left")
    store.table("gene_alias")
    sql = "SELECT DISTINCT gene_id, alias FROM gene_alias WHERE kind = ? ORDER BY ALL"
    other = store.connection.execute(sql, [to]).df().rename(columns={"alias": to})
    return asked.merge(other, on="gene_id", how="left")
