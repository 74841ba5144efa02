"""Books: what the store says of itself."""

from __future__ import annotations

from heteromics.priors.outcomes import OUTCOMES
from heteromics.priors.schemas._table import Column, TableSchema, identifier

_BUILDER = Column("builder", "VARCHAR", "key of the builder that says so, as in build_step")

TABLES = (
    TableSchema(
        "provenance",
        "books",
        "Which file each table was made from; one row per table and source",
        (
            identifier("table_name", "table"),
            Column("source", "VARCHAR", "manifest item and file, or file name"),
            Column("version", "VARCHAR", "version the manifest or the file states; empty where none"),
            Column("sha256", "VARCHAR", "checksum of the file as read"),
            Column("licence", "VARCHAR", "licence the manifest states; empty where none"),
            Column("recipe_hash", "VARCHAR", "SHA-256 of the resolved recipe"),
            Column("rows", "BIGINT", "rows its builder gave"),
            Column("seconds", "DOUBLE", "time its builder took"),
            _BUILDER,
        ),
        ("table_name", "source", "builder"),
    ),
    TableSchema(
        "match_report",
        "books",
        "Every name that needed a rule to join or did not join",
        (
            identifier("table_name", "table"),
            Column("source", "VARCHAR", "file the name stands in"),
            Column("name", "VARCHAR", "the name as it stands there"),
            Column("outcome", "VARCHAR", "one of: " + "; ".join(f"{k} ({v})" for k, v in OUTCOMES.items())),
            Column("detail", "VARCHAR", "what it joined with, or why not"),
            _BUILDER,
        ),
        ("table_name", "source", "name", "outcome", "builder"),
    ),
    TableSchema(
        "match_summary",
        "books",
        "How many names of each source had each outcome",
        (
            identifier("table_name", "table"),
            Column("source", "VARCHAR", "file the names stand in"),
            Column("outcome", "VARCHAR", "as in match_report; also matched"),
            Column("n", "BIGINT", "number of names"),
            _BUILDER,
        ),
        ("table_name", "source", "outcome", "builder"),
    ),
    TableSchema(
        "store_info",
        "books",
        "What this store is: versions, assembly, recipe, date",
        (identifier("key", "name"), Column("value", "VARCHAR", "value as text")),
        ("key",),
    ),
    TableSchema(
        "build_step",
        "books",
        "The builders that ran, in order, and what they were given; a later build keeps the tables of equal ones",
        (
            identifier("builder", "its key in the recipe, such as edges.gene_peak; chromosome for the sizes"),
            Column("fingerprint", "VARCHAR", "SHA-256 of its settings, sources, code and the steps it builds on"),
            Column("table_name", "VARCHAR", "table it added rows to; empty for none"),
            Column("first_row", "BIGINT", "rowid of the first of them"),
            Column("rows", "BIGINT", "how many"),
            Column("kept", "BOOLEAN", "taken over from an earlier build"),
        ),
        ("builder", "table_name"),
    ),
    TableSchema(
        "assembly_check",
        "books",
        "What spoke for or against the sources being of one assembly, and whether genes reach the ends of chromosomes",
        (
            identifier("check_name", "what was looked at"),
            Column("found", "DOUBLE", "value seen; NULL where there is nothing to see", True),
            Column("expected", "DOUBLE", "value to be expected by chance or in data of this assembly"),
            Column("verdict", "VARCHAR", "fits, suspect, or not enough data"),
            Column("detail", "VARCHAR", "in words"),
        ),
        ("check_name",),
    ),
    TableSchema(
        "summary_cell",
        "books",
        "The cells that the summaries were computed on, and no others",
        (Column("modality", "VARCHAR", "rna, atac or protein"), identifier("cell_id", "name of the cell")),
        ("modality", "cell_id"),
    ),
    TableSchema(
        "array_label",
        "books",
        "What the places of array columns mean",
        (
            identifier("table_name", "table"),
            Column("column_name", "VARCHAR", "array column"),
            Column("position", "INTEGER", "place in the array, from 0"),
            Column("label", "VARCHAR", "its meaning, such as a k-mer"),
            _BUILDER,
        ),
        ("table_name", "column_name", "position"),
    ),
    TableSchema(
        "mygene_answer",
        "books",
        "Answers of MyGene.info, so that no name is asked for twice",
        (
            identifier("name", "name that was asked for"),
            Column("taxon", "INTEGER", "NCBI taxon asked about"),
            Column("gene_id", "VARCHAR", "Ensembl gene it is; NULL where the service knows none", True),
            Column("entrez", "VARCHAR", "Entrez gene it is; NULL where the service gives none", True),
            Column("symbol", "VARCHAR", "current symbol; NULL where the service knows none", True),
            Column("asked_on", "VARCHAR", "date of the answer, UTC"),
        ),
        ("name", "taxon", "gene_id"),
    ),
)
