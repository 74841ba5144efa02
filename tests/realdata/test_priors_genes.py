"""Genes, transcripts and gene parts of real annotations, against a slow plain reading of the same files."""

import gzip
import re
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from heteromics.priors import PriorStore
from heteromics.priors.gene_files import read_gene_models
from heteromics.priors.gene_models import Kind, Parts
from heteromics.priors.gene_parts import merged_parts
from heteromics.priors.guard import judge_reach

pytestmark = pytest.mark.realdata

CHR1 = "prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz"
CHR19 = "prior_gtf_mm10_gencode_vM25/gencode.vM25.chr19_full.gtf.gz"
MOUSE = "prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz"
REFGENE = "prior_tss_gene_tables/GRCh38_refGene_chr1_chr2_chr22.txt.gz"
ASSEMBLY = {CHR1: "hg38", REFGENE: "hg38", CHR19: "mm10", MOUSE: "mm10"}

RECIPE = """
recipe: 1
assembly: {{name: test, sizes: {mirror}/prior_genome_tables/{assembly}.seqinfo.tsv, chrom_style: ucsc}}
sources: {{gtf: {mirror}/{annotation}}}
nodes: {{gene: {{chrom_style: ucsc, strip_version: false}}}}
"""


@pytest.fixture(scope="module")
def stores(mirror, tmp_path_factory):
    """Give the store of an annotation, built once."""
    built = {}

    def store(annotation):
        if annotation not in built:
            folder = tmp_path_factory.mktemp("genes")
            recipe = folder / "recipe.yaml"
            recipe.write_text(RECIPE.format(mirror=mirror, assembly=ASSEMBLY[annotation], annotation=annotation))
            built[annotation] = PriorStore.build(recipe, folder / "priors.duckdb", progress=False)
        return built[annotation]

    yield store
    for one in built.values():
        one.close()


def outcomes(store, table):
    summary = store.match_summary().query("table_name == @table")
    return dict(zip(summary["outcome"], summary["n"], strict=True))


@pytest.mark.parametrize(
    ("annotation", "genes", "transcripts", "parts"),
    [
        (CHR1, 2_653, 8_964, {"exon": 15_820, "coding": 11_177, "five_prime_utr": 2_684, "three_prime_utr": 2_823}),
        (CHR19, 1_394, 4_343, {"exon": 8_831, "coding": 6_967, "five_prime_utr": 1_528, "three_prime_utr": 1_877}),
        (MOUSE, 55_487, 0, {}),
    ],
)
def test_numbers_of_rows(stores, annotation, genes, transcripts, parts):
    store = stores(annotation)
    assert outcomes(store, "gene")["matched"] == len(store.frame("gene")) == genes
    assert len(store.frame("transcript")) == transcripts
    assert store.frame("gene_part")["part"].value_counts().to_dict() == parts
    assert not store.match_report("transcript").shape[0]


def test_the_genes_gencode_places_off_mm10_are_all_that_is_missing(stores, mirror):
    with gzip.open(mirror / MOUSE, "rt") as lines:
        chroms = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    assert len(chroms) == 56_262
    left_out = stores(MOUSE).match_report("gene")
    assert outcomes(stores(MOUSE), "gene") == {"matched": 55_487, "wrong_assembly": 775}
    unplaced = sum(not re.fullmatch(r"chr(\d+|X|Y|M)", chrom) for chrom in chroms)
    scaffolds = stores(MOUSE).frame("gene")["chrom"].str.contains("_").sum()
    assert (unplaced, scaffolds) == (861, 86)  # the others: patches and contigs of other strains, which mm10 has not
    assert len(left_out) == unplaced - scaffolds
    assert left_out["detail"].str.contains(r"test has no [A-Z]").all()


def plain_gtf(path, sample):
    """Read transcripts line by line: id -> (gene, strand, {feature: bases}); bases of the sampled genes alone."""
    found = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#") or fields[2] in {"gene", "transcript"}:
                continue
            gene, transcript = (re.search(rf'{key} "([^"]+)"', fields[8])[1] for key in ("gene_id", "transcript_id"))
            bases = found.setdefault(transcript, (gene, fields[6], defaultdict(set)))[2]
            if gene in sample:
                bases[fields[2]].update(range(int(fields[3]) - 1, int(fields[4])))
    return found


def expected_parts(transcripts):
    """Return bases by (gene, part)."""
    parts = defaultdict(set)
    for gene, strand, bases in transcripts:
        coding = bases["CDS"] | bases["stop_codon"]
        outside = bases["UTR"] - bases["stop_codon"]
        first, last = min(coding, default=-1), max(coding, default=np.inf)
        left, right = {base for base in outside if base < first}, {base for base in outside if base > last}
        five, three = (left, right) if strand == "+" else (right, left)
        for part, here in (
            ("exon", bases["exon"]), ("coding", coding), ("five_prime_utr", five), ("three_prime_utr", three),
        ):  # fmt: skip
            parts[gene, part] |= here
    return {key: places for key, places in parts.items() if places}


@pytest.mark.parametrize("annotation", [CHR1, CHR19])
def test_parts_starts_and_lengths_of_a_sample_agree_with_a_plain_reading(stores, mirror, annotation):
    store = stores(annotation)
    genes = store.frame("gene").merge(store.frame("gene_attribute"), on="gene_id").set_index("gene_id")
    sample = set(genes.sample(250, random_state=0).index)
    plain = plain_gtf(mirror / annotation, sample)
    ours = defaultdict(set)
    for row in store.frame("gene_part").query("gene_id in @sample").itertuples():
        places = set(range(row.chrom_start, row.chrom_end))
        assert not ours[row.gene_id, row.part] & places
        ours[row.gene_id, row.part] |= places
    expected = expected_parts([one for one in plain.values() if one[0] in sample])
    assert ours == expected
    transcripts = store.frame("transcript").set_index("transcript_id")
    assert set(transcripts.index) == set(plain)
    for gene_id in sample:
        gene, exons = genes.loc[gene_id], expected[gene_id, "exon"]
        assert gene["exon_length"] == len(exons)
        assert (gene["chrom_start"], gene["chrom_end"]) == (min(exons), max(exons) + 1)
        assert gene["tss"] == (max(exons) if gene["strand"] == "-" else min(exons))
        assert gene["transcripts"] == sum(one[0] == gene_id for one in plain.values())
    for name, (gene, strand, bases) in plain.items():
        if gene not in sample:
            continue
        row = transcripts.loc[name]
        assert row["gene_id"] == gene
        assert row["exon_length"] == len(bases["exon"])
        assert row["tss"] == (max(bases["exon"]) if strand == "-" else min(bases["exon"]))


@pytest.mark.parametrize("annotation", [CHR1, CHR19])
def test_untranslated_ends_are_the_same_with_and_without_their_lines(mirror, annotation):
    """GENCODE counts the stop codon to the UTR, Ensembl to neither; as coding, both agree with exon minus CDS."""
    models = read_gene_models(mirror / annotation)
    reverse, n = (models.genes["strand"] == "-").to_numpy(), len(models.transcripts)
    without = models.parts.where(models.parts.kind != Kind.UTR)
    assert without.kind.size < models.parts.kind.size - 6_000
    for told, derived in zip(merged_parts(models.parts, reverse, n), merged_parts(without, reverse, n), strict=True):
        np.testing.assert_array_equal(told, derived)


def test_the_same_chr19_written_as_gff3_gives_the_same_tables(mirror, tmp_path):
    path = tmp_path / "chr19.gff3"
    path.write_text("##gff-version 3\n" + "".join(as_gff3(mirror / CHR19)))
    gtf, gff3 = read_gene_models(mirror / CHR19), read_gene_models(path)
    pd.testing.assert_frame_equal(gtf.genes, gff3.genes)
    pd.testing.assert_frame_equal(gtf.transcripts, gff3.transcripts)
    for name in Parts.__slots__:
        np.testing.assert_array_equal(getattr(gtf.parts, name), getattr(gff3.parts, name))


def as_gff3(path):
    """Write GTF lines in GENCODE's GFF3 form."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            *fields, text = line.rstrip("\n").split("\t")
            pairs = re.findall(r'(\w+) "?([^";]+)"?;', text)
            given = dict(reversed(pairs))
            transcript = given.get("transcript_id")
            links = {
                "gene": f"ID={given['gene_id']}",
                "transcript": f"ID={transcript};Parent={given['gene_id']}",
            }.get(fields[2], f"ID={fields[2]}:{transcript};Parent={transcript}")
            yield "\t".join([*fields, ";".join([links, *(f"{key}={value}" for key, value in pairs)])]) + "\n"


def plain_refgene(path):
    table = pd.read_csv(path, sep="\t", dtype={"exonStarts": str, "exonEnds": str})
    assert len(table) == 14_896
    return table


def test_refgene_symbols_are_genes_and_their_further_places_are_named(stores, mirror):
    store, table = stores(REFGENE), plain_refgene(mirror / REFGENE)
    genes = store.frame("gene").set_index("symbol")
    assert set(genes.index) == set(table["name2"])
    assert outcomes(store, "gene") == {"matched": 5_299, "two_loci": 266, "aggregated": 5_565}
    report = store.match_report("gene")
    # families of nearly identical copies (5S rRNA, U1, U6, histones, amylases), and BAZ2B with a transcript far off
    most = report["name"].value_counts()
    assert most.index[0].startswith("RNA5S")
    assert most.head(17).sum() > 0.5 * len(report)
    alone = table.groupby("name2").filter(lambda rows: rows["name2"].iloc[0] not in set(report["name"]))
    spans = alone.groupby("name2").agg(start=("txStart", "min"), end=("txEnd", "max"), strand=("strand", "first"))
    pd.testing.assert_series_equal(genes.loc[spans.index, "chrom_start"], spans["start"], check_names=False)
    pd.testing.assert_series_equal(genes.loc[spans.index, "chrom_end"], spans["end"], check_names=False)
    assert outcomes(store, "transcript")["matched"] + outcomes(store, "transcript")["two_loci"] == 14_896


def test_refgene_parts_agree_with_a_plain_reading(stores, mirror):
    store, table = stores(REFGENE), plain_refgene(mirror / REFGENE)
    again = set(store.match_report("gene")["name"])
    names = sorted(set(table["name2"]) - again)
    sample = set(np.random.default_rng(0).choice(names, 200, replace=False))
    expected = defaultdict(set)
    for row in table[table["name2"].isin(sample)].itertuples():
        starts, ends = ([int(place) for place in text.strip(",").split(",")] for text in (row.exonStarts, row.exonEnds))
        exon = {base for start, end in zip(starts, ends, strict=True) for base in range(start, end)}
        coding = {base for base in exon if row.cdsStart <= base < row.cdsEnd}
        left = {base for base in exon if base < row.cdsStart and coding}
        right = exon - coding - left if coding else set()
        five, three = (left, right) if row.strand == "+" else (right, left)
        for part, here in zip(
            ("exon", "coding", "five_prime_utr", "three_prime_utr"), (exon, coding, five, three), strict=True
        ):
            expected[row.name2, part] |= here
    ours = defaultdict(set)
    for row in store.frame("gene_part").query("gene_id in @sample").itertuples():
        ours[row.gene_id, row.part] |= set(range(row.chrom_start, row.chrom_end))
    assert ours == {key: places for key, places in expected.items() if places}


WINDOWS = ["chrom", "start", "end", "symbol", "offset", "strand"]


@pytest.mark.parametrize(
    ("annotation", "joined", "by_gene", "by_transcript", "exact"),
    [(CHR1, 1_126, 0.80, 0.91, 0.30), (REFGENE, 4_979, 0.86, 0.89, 0.43), (MOUSE, 23_722, 0.81, None, 0.35)],
)
def test_starts_lie_in_the_promoter_windows_others_have_made(
    stores, mirror, annotation, joined, by_gene, by_transcript, exact
):
    """Windows of 1 kb before and 100 bp behind the starts of RefSeq transcripts, as CellOracle gives them.

    They are of another annotation (chr1 and mouse: Ensembl and GENCODE here), of all starts of a gene and not of its
    outermost one alone, cut where two windows overlap, and shared by two genes back to back under the name of one of
    them. So one gene in five has its outermost start elsewhere; with the starts of its transcripts one in ten has.
    """
    store = stores(annotation)
    path = mirror / "prior_tss_gene_tables" / f"{ASSEMBLY[annotation]}_tss_info.bed.gz"
    windows = pd.read_csv(path, sep="\t", names=WINDOWS)
    genes = store.frame("gene").drop_duplicates("symbol", keep=False)
    both = windows.merge(genes, on=["symbol", "chrom"], suffixes=("_window", ""))
    assert both["symbol"].nunique() == joined
    assert share_inside(both, both["tss"]) > by_gene
    whole = both[(both["end"] - both["start"] == 1_100) & (both["strand"] == both["strand_window"])]
    start_of_window = np.where(whole["strand"] == "-", whole["end"] - 1_001, whole["start"] + 999)
    assert (start_of_window == whole["tss"]).mean() > exact
    if by_transcript:
        starts = store.frame("transcript")[["gene_id", "tss"]]
        every = both.merge(starts, on="gene_id", suffixes=("_gene", ""))
        assert share_inside(every, every["tss"]) > by_transcript


def share_inside(windows, tss):
    """Return the share of genes with a start in one of their windows."""
    inside = (tss >= windows["start"]) & (tss < windows["end"])
    return inside.groupby(windows["symbol"]).any().mean()


@pytest.mark.parametrize(("annotation", "share", "verdict"), [(CHR1, 0.46, "suspect"), (MOUSE, 0.99, "fits")])
def test_an_annotation_that_was_cut_short_is_told(stores, annotation, share, verdict):
    """The genes of chromosome 1 end at 114.5 of 249 Mb; those of mouse reach the ends of all 20 with many genes."""
    store = stores(annotation)
    genes = store.connection.sql("SELECT code, tss FROM gene JOIN chromosome USING (chrom)").df()
    sizes = store.frame("chromosome").set_index("chrom")["size"].to_dict()
    row = judge_reach(sizes, genes["code"].to_numpy(np.int64), genes["tss"].to_numpy(np.int64))
    assert (round(row.found, 2), row.verdict) == (share, verdict)
