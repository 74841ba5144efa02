"""What the prior store holds, as data, and what passes between the build engine and a table builder.

A builder is a function ``build_x(context: BuildContext, config: XConfig) -> Built``. It reads its files through
``context.source(name)`` and earlier tables through ``context.connection``, computes in an array core, and returns
Arrow tables with the columns of :data:`SCHEMAS`. It never writes: the engine checks, casts, inserts and keeps books.
Rows are inserted in the order given, so a builder returns them in a fixed order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMAT_VERSION = 1

OUTCOMES = {
    "matched": "joined under the name given",
    "version_stripped": "joined once the version suffix was left out",
    "alias": "joined through a symbol or an alias table",
    "case_folded": "joined once upper and lower case were taken as one",
    "symbol_missing": "the source gives no symbol; the id stands in for it",
    "aggregated": "no line of its own; put together from its transcripts and exons",
    "duplicated": "listed more than once; the first stands",
    "two_loci": "one id at several places; the first stands",
    "ambiguous": "several targets fit; none was chosen",
    "absent": "no target has this name",
    "wrong_assembly": "on a chromosome, or beyond the end of one, of this assembly",
    "unparsable": "the name does not follow the expected form",
    "filtered": "left out by a threshold or filter of the recipe",
    "out_of_reach": "nothing lies within the window",
    "empty": "a set that lists no member",
    "self_loop": "both ends are one and the same",
    "conflicting": "listed again with another score; the higher stands",
}
"""Outcomes a name can have in ``match_report`` and ``match_summary``, with their meaning."""

KNOWN_SOURCES = {
    "gtf": "gene annotation, GTF, plain or gzip",
    "peaks": "open regions: BED, or .h5ad/.h5mu whose atac var_names are read",
    "genes": "names the data use for genes: text, one a line, or .h5ad/.h5mu whose rna var_names are read",
    "fasta": "genome sequence, FASTA, plain or bgzip",
    "gmt": "gene sets, GMT",
    "string_links": "STRING protein.links or protein.links.detailed",
    "string_info": "STRING protein.info",
    "string_aliases": "STRING protein.aliases",
}
"""Names a recipe may use below ``sources``, with what each file is."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: DuckDB type, comment, whether NULL may stand in it."""

    name: str
    type: str
    comment: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: ``kind`` is node, edge, attribute or books; ``key`` identifies a row; ``ends`` are an edge's ends."""

    name: str
    kind: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    ends: tuple[tuple[str, str], ...] = ()
    """For an edge table: (column, node table) of its source and its target."""
    directed: bool = True
    """False for edges stored once whose two ends are equals."""

    def create_sql(self) -> str:
        """Return the ``CREATE TABLE`` statement."""
        columns = (f'"{one.name}" {one.type}{"" if one.nullable else " NOT NULL"}' for one in self.columns)
        return f'CREATE TABLE "{self.name}" ({", ".join(columns)})'


@dataclass(frozen=True, slots=True)
class Match:
    """A name that needed a rule to join, or did not join."""

    source: str
    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """How many names of a source had an outcome; also those that joined as they are (``matched``)."""

    source: str
    outcome: str
    n: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file that prior tables are made from.

    ``label`` is what provenance shows (``manifest:ITEM/FILE`` or the file name); ``version`` and ``licence`` are
    empty where nobody states them.
    """

    path: Path
    sha256: str
    version: str
    licence: str
    label: str


@dataclass(frozen=True, slots=True)
class Built:
    """What a builder returns: tables, and per table its sources, the names that did not simply join, and counts.

    ``matches`` holds a row for each name whose outcome is not ``matched``; ``counts`` holds all outcomes, those
    also listed in ``matches`` included.
    """

    tables: dict[str, pa.Table]
    sources: dict[str, list[Source]] = field(default_factory=dict)
    matches: dict[str, list[Match]] = field(default_factory=dict)
    counts: dict[str, list[Count]] = field(default_factory=dict)


class TableConfig(Protocol):
    """A frozen dataclass of one builder's recipe keys."""

    @abstractmethod
    def source_names(self) -> tuple[str, ...]:
        """Return the sources (keys of :data:`KNOWN_SOURCES`) that must be given for this configuration."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a builder may use: the database so far, its sources, the assembly, and a place to report steps.

    Attributes
    ----------
    connection
        The database being built; tables of earlier builders can be queried, nothing may be written.
    assembly, chrom_style
        Name of the assembly (``GRCh38``) and style of all chromosome names in the store (``ucsc`` or ``ensembl``).
    chromosomes
        Sizes in bp by chromosome name in the store's style, in the order of their codes.
    reported
        By table, what earlier builders said of names that did not simply join.
    progress
        Called with a few words when a longer step begins.
    """

    connection: duckdb.DuckDBPyConnection
    assembly: str
    chrom_style: str
    chromosomes: Mapping[str, int]
    resolve: Callable[[str], Source]
    given: frozenset[str]
    reported: Mapping[str, Sequence[Match]] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _step: None

    def source(self, name: str) -> Source:
        """Return the file of a source; a :class:`~heteromics.errors.RecipeError` says how to give it if it is not."""
        return self.resolve(name)

    def has_source(self, name: str) -> bool:
        """Tell whether the recipe or ``--set`` gives a file for this source."""
        return name in self.given

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Return the rows of a parameterised query over earlier tables as Arrow."""
        return self.connection.sql(sql, params=list(parameters)).to_arrow_table()


def _id(name: str, comment: str) -> Column:
    return Column(name, "VARCHAR", comment)


def _place(what: str) -> tuple[Column, ...]:
    return (
        Column("chrom", "VARCHAR", "chromosome, in the store's name style"),
        Column("chrom_start", "BIGINT", f"first base of the {what}, 0-based"),
        Column("chrom_end", "BIGINT", f"one past the last base of the {what}, 0-based"),
    )


_EVIDENCE = Column("evidence", "VARCHAR", "where this row comes from, readable")
_CHANNELS = ("neighborhood", "fusion", "cooccurence", "coexpression", "experimental", "database", "textmining")
_SEQUENCE = (
    Column("gc", "DOUBLE", "share of G and C among A, C, G, T; NULL without FASTA or without such bases", True),
    Column("cpg_oe", "DOUBLE", "CpG observed / expected; NULL without FASTA or without C or G", True),
    Column("n_share", "DOUBLE", "share of bases that are not A, C, G or T; NULL without FASTA", True),
)

_TABLES = (
    TableSchema(
        "chromosome",
        "node",
        "Chromosomes of the assembly, in the order of the sizes file",
        (
            _id("chrom", "name in the store's style"),
            Column("code", "INTEGER", "number from 0, in the order of the sizes file"),
            Column("size", "BIGINT", "length in bp"),
        ),
        ("chrom",),
    ),
    TableSchema(
        "gene",
        "node",
        "Genes of the annotation, ordered by chromosome code and start",
        (
            _id("gene_id", "identifier of the annotation, without version when the recipe strips it"),
            Column("symbol", "VARCHAR", "gene name; the identifier where the annotation gives none"),
            *_place("gene body"),
            Column("strand", "VARCHAR", "+ or -, . where unknown"),
            Column("tss", "BIGINT", "transcription start, 0-based: first base on +, last base on -"),
            Column("biotype", "VARCHAR", "gene_biotype or gene_type; empty where not given"),
        ),
        ("gene_id",),
    ),
    TableSchema(
        "peak",
        "node",
        "Open regions, ordered by chromosome code and start",
        (_id("peak_id", "name as the data give it, or chrom:start-end for BED"), *_place("peak")),
        ("peak_id",),
    ),
    TableSchema(
        "pathway",
        "node",
        "Gene sets",
        (
            _id("pathway_id", "name of the gene set"),
            Column("description", "VARCHAR", "second column of the GMT file"),
            Column("size", "INTEGER", "number of its genes that are in table gene"),
        ),
        ("pathway_id",),
    ),
    TableSchema(
        "protein",
        "node",
        "Proteins of the interaction source",
        (
            _id("protein_id", "identifier of the source, for STRING taxon.ENSP"),
            Column("symbol", "VARCHAR", "preferred name"),
            Column("gene_id", "VARCHAR", "its gene in table gene; NULL where none joined", True),
            Column("annotation", "VARCHAR", "what the source says the protein does", True),
        ),
        ("protein_id",),
    ),
    TableSchema(
        "gene_peak",
        "edge",
        "Peaks within reach of each gene",
        (
            _id("gene_id", "gene"),
            _id("peak_id", "peak"),
            Column("distance", "BIGINT", "bp from the TSS to the nearest base of the peak, 0 when inside"),
            Column("signed_offset", "BIGINT", "distance, negative where the peak lies upstream of the gene"),
            Column("weight", "DOUBLE", "decay of the gap to the anchor (TSS or gene body), 1 where they touch"),
            Column("in_promoter", "BOOLEAN", "the peak covers the TSS or lies within the promoter upstream of it"),
            Column("in_body", "BOOLEAN", "the peak overlaps the gene body"),
            _EVIDENCE,
        ),
        ("gene_id", "peak_id"),
        (("gene_id", "gene"), ("peak_id", "peak")),
    ),
    TableSchema(
        "gene_pathway",
        "edge",
        "Genes in gene sets",
        (_id("gene_id", "gene"), _id("pathway_id", "gene set"), _EVIDENCE),
        ("gene_id", "pathway_id"),
        (("gene_id", "gene"), ("pathway_id", "pathway")),
    ),
    TableSchema(
        "gene_gene",
        "edge",
        "Undirected gene pairs, each stored once per source with gene_a < gene_b",
        (
            _id("gene_a", "gene with the smaller identifier"),
            _id("gene_b", "gene with the larger identifier"),
            Column("source", "VARCHAR", "pathway (Jaccard of set memberships) or string (combined score / 1000)"),
            Column("weight", "DOUBLE", "strength of the edge, larger is stronger"),
            _EVIDENCE,
        ),
        ("gene_a", "gene_b", "source"),
        (("gene_a", "gene"), ("gene_b", "gene")),
        directed=False,
    ),
    TableSchema(
        "protein_protein",
        "edge",
        "Undirected protein pairs, each stored once with protein_a < protein_b",
        (
            _id("protein_a", "protein with the smaller identifier"),
            _id("protein_b", "protein with the larger identifier"),
            *(Column(name, "INTEGER", f"STRING channel {name}, 0 to 1000; NULL if absent", True) for name in _CHANNELS),
            Column("combined_score", "INTEGER", "STRING combined score, 0 to 1000"),
            _EVIDENCE,
        ),
        ("protein_a", "protein_b"),
        (("protein_a", "protein"), ("protein_b", "protein")),
        directed=False,
    ),
    TableSchema(
        "gene_protein",
        "edge",
        "Genes and the proteins they code for",
        (_id("gene_id", "gene"), _id("protein_id", "protein"), _EVIDENCE),
        ("gene_id", "protein_id"),
        (("gene_id", "gene"), ("protein_id", "protein")),
    ),
    TableSchema(
        "gene_attribute",
        "attribute",
        "Numbers that describe a gene, from the annotation",
        (
            _id("gene_id", "gene"),
            Column("strand_sign", "TINYINT", "1 on +, -1 on -, 0 where unknown"),
            Column("length", "BIGINT", "gene body in bp"),
            Column("exon_length", "BIGINT", "union of all exons in bp; NULL where the annotation has no exons", True),
            Column("biotype_code", "INTEGER", "number of the biotype, in alphabetical order of those in table gene"),
        ),
        ("gene_id",),
    ),
    TableSchema(
        "promoter_attribute",
        "attribute",
        "Sequence of each gene's promoter",
        (_id("gene_id", "gene"), Column("width", "BIGINT", "bases looked at, in bp"), *_SEQUENCE),
        ("gene_id",),
    ),
    TableSchema(
        "peak_attribute",
        "attribute",
        "Width and sequence of each peak",
        (_id("peak_id", "peak"), Column("width", "BIGINT", "width in bp"), *_SEQUENCE),
        ("peak_id",),
    ),
    TableSchema(
        "provenance",
        "books",
        "Which file each table was made from; one row per table and source",
        (
            _id("table_name", "table"),
            Column("source", "VARCHAR", "manifest item and file, or file name"),
            Column("version", "VARCHAR", "version the manifest or the file states; empty where none"),
            Column("sha256", "VARCHAR", "checksum of the file as read"),
            Column("licence", "VARCHAR", "licence the manifest states; empty where none"),
            Column("recipe_hash", "VARCHAR", "SHA-256 of the resolved recipe"),
            Column("rows", "BIGINT", "rows its builder gave"),
            Column("seconds", "DOUBLE", "time its builder took"),
        ),
        ("table_name", "source"),
    ),
    TableSchema(
        "match_report",
        "books",
        "Every name that needed a rule to join or did not join",
        (
            _id("table_name", "table"),
            Column("source", "VARCHAR", "file the name stands in"),
            Column("name", "VARCHAR", "the name as it stands there"),
            Column("outcome", "VARCHAR", "one of: " + "; ".join(f"{k} ({v})" for k, v in OUTCOMES.items())),
            Column("detail", "VARCHAR", "what it joined with, or why not"),
        ),
        ("table_name", "source", "name", "outcome"),
    ),
    TableSchema(
        "match_summary",
        "books",
        "How many names of each source had each outcome",
        (
            _id("table_name", "table"),
            Column("source", "VARCHAR", "file the names stand in"),
            Column("outcome", "VARCHAR", "as in match_report; also matched"),
            Column("n", "BIGINT", "number of names"),
        ),
        ("table_name", "source", "outcome"),
    ),
    TableSchema(
        "store_info",
        "books",
        "What this store is: versions, assembly, recipe, date",
        (_id("key", "name"), Column("value", "VARCHAR", "value as text")),
        ("key",),
    ),
)

SCHEMAS: dict[str, TableSchema] = {table.name: table for table in _TABLES}
"""All tables a store can hold, by name, in the order they are shown."""
