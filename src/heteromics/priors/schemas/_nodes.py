"""Node tables."""

from __future__ import annotations

from heteromics.priors.schemas._table import Column, TableSchema, identifier, place

TABLES = (
    TableSchema(
        "chromosome",
        "node",
        "Chromosomes of the assembly, in the order of the sizes file",
        (
            identifier("chrom", "name in the store's style"),
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
            identifier("gene_id", "identifier of the annotation, without version when the recipe strips it"),
            Column("symbol", "VARCHAR", "gene name; the identifier where the annotation gives none"),
            *place("gene body"),
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
        (identifier("peak_id", "name as the data give it, or chrom:start-end for BED"), *place("peak")),
        ("peak_id",),
    ),
    TableSchema(
        "pathway",
        "node",
        "Gene sets",
        (
            identifier("pathway_id", "name of the gene set"),
            Column(
                "description", "VARCHAR", "second column of the GMT file; of MSigDB JSON, collection and exact source"
            ),
            Column("size", "INTEGER", "number of its genes that are in table gene"),
        ),
        ("pathway_id",),
    ),
    TableSchema(
        "protein",
        "node",
        "Proteins of the interaction source, and surface proteins measured by antibodies",
        (
            identifier(
                "protein_id", "identifier of the source: for STRING taxon.ENSP, else the antibody as its panel names it"
            ),
            Column("symbol", "VARCHAR", "preferred name; for an antibody the symbols of its genes, parted by /"),
            Column("gene_id", "VARCHAR", "its gene in table gene; NULL where none or several joined", True),
            Column("annotation", "VARCHAR", "what the source says the protein does, or what the antibody is", True),
        ),
        ("protein_id",),
    ),
    TableSchema(
        "transcript",
        "node",
        "Transcripts of the annotation, ordered by chromosome code and start",
        (
            identifier("transcript_id", "identifier of the annotation, without version when the recipe strips it"),
            Column("gene_id", "VARCHAR", "its gene in table gene"),
            Column("symbol", "VARCHAR", "name of the transcript; the identifier where the annotation gives none"),
            *place("transcript"),
            Column("strand", "VARCHAR", "+ or -, . where unknown"),
            Column("tss", "BIGINT", "transcription start, 0-based: first base on +, last base on -"),
            Column("exon_length", "BIGINT", "bases in its exons, in bp; NULL where the annotation has no exons", True),
            Column(
                "biotype",
                "VARCHAR",
                "transcript_biotype or transcript_type, else the type of the GFF3 feature; empty where not given",
            ),
        ),
        ("transcript_id",),
    ),
    TableSchema(
        "motif",
        "node",
        "Binding motifs of transcription factors",
        (
            identifier("motif_id", "identifier of the source, such as MA0139.2"),
            Column("name", "VARCHAR", "name the source gives, such as CTCF or MAX::MYC"),
            Column("factors", "VARCHAR", "symbols of its transcription factors as the source names them, by comma"),
            Column("length", "INTEGER", "positions"),
            Column("information", "DOUBLE", "information content in bits against an even background"),
            Column("consensus", "VARCHAR", "IUPAC code of each position, by the rules of Cavener"),
            Column("probabilities", "DOUBLE[]", "of A, C, G, T with pseudocount, position after position"),
            Column("source", "VARCHAR", "file or release it is from"),
        ),
        ("motif_id",),
    ),
    TableSchema(
        "region",
        "node",
        "Regions others have described, in named sets: candidate regulatory elements, ChIP-seq peaks",
        (
            identifier("region_id", "set:chrom:start-end"),
            Column("region_set", "VARCHAR", "name of the set, as the recipe names its source"),
            Column("name", "VARCHAR", "fourth column of the BED file; empty where there is none"),
            *place("region"),
            Column("score", "DOUBLE", "fifth column of the BED file; NULL where there is none", True),
        ),
        ("region_id",),
    ),
    TableSchema(
        "cell",
        "node",
        "Cells or spots with a place in a tissue",
        (
            identifier("cell_id", "name as the data give it"),
            Column("library", "VARCHAR", "section, slide or field of view; cells of two libraries are never linked"),
            Column("x", "DOUBLE", "first coordinate, in the unit the recipe states"),
            Column("y", "DOUBLE", "second coordinate"),
            Column("z", "DOUBLE", "third coordinate; NULL for flat tissue", True),
        ),
        ("cell_id",),
    ),
)
