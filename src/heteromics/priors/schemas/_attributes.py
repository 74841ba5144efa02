"""Attribute tables."""

from __future__ import annotations

from heteromics.priors.schemas._table import Column, TableSchema, identifier

_SEQUENCE = (
    Column("gc", "DOUBLE", "share of G and C among A, C, G, T; NULL without FASTA or without such bases", True),
    Column("cpg_oe", "DOUBLE", "CpG observed / expected; NULL without FASTA or without C or G", True),
    Column("n_share", "DOUBLE", "share of bases that are not A, C, G or T; NULL without FASTA", True),
)

TABLES = (
    TableSchema(
        "gene_attribute",
        "attribute",
        "Numbers that describe a gene, from the annotation",
        (
            identifier("gene_id", "gene"),
            Column("strand_sign", "TINYINT", "1 on +, -1 on -, 0 where unknown"),
            Column("length", "BIGINT", "gene body in bp"),
            Column("exon_length", "BIGINT", "union of all exons in bp; NULL where the annotation has no exons", True),
            Column("transcripts", "BIGINT", "number of its transcripts; NULL where the annotation lists none", True),
            Column("biotype_code", "INTEGER", "number of the biotype, in alphabetical order of those in table gene"),
        ),
        ("gene_id",),
    ),
    TableSchema(
        "promoter_attribute",
        "attribute",
        "Sequence of each gene's promoter",
        (identifier("gene_id", "gene"), Column("width", "BIGINT", "bases looked at, in bp"), *_SEQUENCE),
        ("gene_id",),
    ),
    TableSchema(
        "peak_attribute",
        "attribute",
        "Width and sequence of each peak",
        (identifier("peak_id", "peak"), Column("width", "BIGINT", "width in bp"), *_SEQUENCE),
        ("peak_id",),
    ),
    TableSchema(
        "gene_alias",
        "attribute",
        "Other names of genes: earlier symbols, synonyms, identifiers of other databases",
        (
            identifier("gene_id", "gene"),
            Column("alias", "VARCHAR", "the other name, as its source writes it"),
            Column(
                "kind",
                "VARCHAR",
                "symbol (current, elsewhere), previous_symbol, alias, ensembl, entrez, ensembl_protein, uniprot, hgnc, "
                "mgi, or withdrawn (merged into this gene)",
            ),
            Column("source", "VARCHAR", "file or service that says so"),
        ),
        ("gene_id", "alias", "kind", "source"),
    ),
    TableSchema(
        "gene_part",
        "attribute",
        "Exons, coding parts and untranslated ends of each gene, merged over its transcripts",
        (
            identifier("gene_id", "gene"),
            Column("part", "VARCHAR", "exon, coding (stop codons with it), five_prime_utr or three_prime_utr"),
            Column("chrom_start", "BIGINT", "first base, 0-based"),
            Column("chrom_end", "BIGINT", "one past the last base, 0-based"),
        ),
        ("gene_id", "part", "chrom_start"),
    ),
    TableSchema(
        "peak_annotation",
        "attribute",
        "What each peak lies on, and the gene next to it",
        (
            identifier("peak_id", "peak"),
            Column(
                "feature",
                "VARCHAR",
                "first that the peak touches of promoter, five_prime_utr, exon, intron, three_prime_utr, gene_body "
                "(of genes without known exons), else intergenic; the order is that of the recipe; NULL on chromosomes "
                "without a gene",
                nullable=True,
            ),
            Column("nearest_gene", "VARCHAR", "gene whose transcription start is nearest; NULL without one", True),
            Column("nearest_distance", "BIGINT", "bp to that start, negative where the peak lies upstream", True),
            Column("nearest_ties", "BIGINT", "genes whose start is as near, this one included", True),
            Column("ccre_share", "DOUBLE", "share of its bases in regions of set ccre; NULL without that set", True),
        ),
        ("peak_id",),
    ),
    TableSchema(
        "peak_kmer",
        "attribute",
        "k-mer frequencies of each peak, a k-mer and its reverse complement counted as one",
        (identifier("peak_id", "peak"), Column("frequency", "FLOAT[]", "share of each k-mer; NaN outside the FASTA")),
        ("peak_id",),
    ),
    TableSchema(
        "promoter_kmer",
        "attribute",
        "k-mer frequencies of each gene's promoter, a k-mer and its reverse complement counted as one",
        (identifier("gene_id", "gene"), Column("frequency", "FLOAT[]", "share of each k-mer; NaN outside the FASTA")),
        ("gene_id",),
    ),
    TableSchema(
        "peak_bases",
        "attribute",
        "Sequence around the middle of each peak, base by base",
        (
            identifier("peak_id", "peak"),
            Column("codes", "UTINYINT[]", "0 A, 1 C, 2 G, 3 T, 4 unknown; or one-hot, four places a base"),
        ),
        ("peak_id",),
    ),
    TableSchema(
        "promoter_bases",
        "attribute",
        "Sequence around each gene's transcription start, base by base, on the gene's strand",
        (
            identifier("gene_id", "gene"),
            Column("codes", "UTINYINT[]", "0 A, 1 C, 2 G, 3 T, 4 unknown; or one-hot, four places a base"),
        ),
        ("gene_id",),
    ),
    *(
        TableSchema(
            f"{what}_summary",
            "attribute",
            f"What the cells named in summary_cell say of each {what}",
            (
                identifier(f"{what}_id", what),
                Column("feature", "VARCHAR", "its name in the data"),
                Column("cells", "BIGINT", "number of cells looked at"),
                Column("mean", "DOUBLE", "mean of the values as stored"),
                Column("variance", "DOUBLE", "unbiased variance of the values as stored"),
                Column(
                    "normalised_variance",
                    "DOUBLE",
                    "variance of standardised, clipped values (Seurat v3); NULL where too few features vary",
                    True,
                ),
                Column("dropout", "DOUBLE", "share of cells in which it is zero"),
                Column("highly_variable", "BOOLEAN", "among the most variable ones, as the recipe asks"),
            ),
            (f"{what}_id",),
        )
        for what in ("gene", "peak", "protein")
    ),
    TableSchema(
        "chromosome_split",
        "attribute",
        "Leave-chromosome-out splits: the part each chromosome plays in each split",
        (
            identifier("chrom", "chromosome"),
            Column("split", "VARCHAR", "name of the split, such as hold_out or fold_0"),
            Column("part", "VARCHAR", "train or test"),
        ),
        ("chrom", "split"),
    ),
)
