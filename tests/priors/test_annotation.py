import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics.priors import PriorStore
from heteromics.priors.annotation import (
    FEATURES,
    AnnotationConfig,
    Genes,
    Parts,
    build_annotation,
    first_touched,
    gene_features,
    nearest_gene,
)
from heteromics.priors.links import Intervals, gene_peak_links
from heteromics.priors.schemas import SCHEMAS
from tests.priors.prior_files import context_with, fits, tally, written


def intervals(rows):
    chrom, start, end = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Intervals(chrom, start, end)


def one_gene(strand="+"):
    """A gene on 10,000 to 20,000 of three exons with untranslated ends."""
    minus = np.array([strand == "-"])
    tss = np.array([19_999 if minus[0] else 10_000])
    genes = Genes(intervals([(0, 10_000, 20_000)]), tss, minus)
    ends = ("five_prime_utr", "three_prime_utr") if strand == "+" else ("three_prime_utr", "five_prime_utr")
    rows = [
        ("exon", 10_000, 11_000),
        ("exon", 14_000, 15_000),
        ("exon", 18_000, 20_000),
        ("coding", 10_500, 11_000),
        ("coding", 14_000, 15_000),
        ("coding", 18_000, 18_200),
        (ends[0], 10_000, 10_500),
        (ends[1], 18_200, 20_000),
    ]
    kind, start, end = zip(*rows, strict=True)
    return genes, Parts(np.zeros(len(rows), np.int64), np.array(kind), np.array(start), np.array(end))


@pytest.mark.parametrize(
    ("strand", "start", "end", "feature"),
    [
        pytest.param("+", 8_000, 8_001, "promoter", id="first base of the promoter"),
        pytest.param("+", 7_999, 8_000, "intergenic", id="one base before"),
        pytest.param("+", 10_100, 10_101, "promoter", id="last base of the promoter"),
        pytest.param("+", 10_101, 10_102, "five_prime_utr", id="one base after"),
        pytest.param("+", 10_499, 10_501, "five_prime_utr", id="before the exon it touches too"),
        pytest.param("+", 10_500, 10_501, "exon", id="coding"),
        pytest.param("+", 11_000, 14_000, "intron", id="the whole intron"),
        pytest.param("+", 13_999, 14_001, "exon", id="exon before intron"),
        pytest.param("+", 18_200, 20_500, "three_prime_utr", id="beyond the end"),
        pytest.param("+", 20_000, 20_500, "intergenic", id="after the end"),
        pytest.param("-", 22_000, 22_001, "intergenic", id="minus: one base beyond the promoter"),
        pytest.param("-", 21_999, 22_000, "promoter", id="minus: last base of the promoter"),
        pytest.param("-", 19_899, 19_900, "promoter", id="minus: inner end of the promoter"),
        pytest.param("-", 19_898, 19_899, "five_prime_utr", id="minus: one base further"),
        pytest.param("-", 9_000, 10_001, "three_prime_utr", id="minus: its end"),
    ],
)
def test_a_peak_is_the_first_feature_it_touches(strand, start, end, feature):
    features = gene_features(*one_gene(strand), upstream_bp=2_000, downstream_bp=100)
    first = first_touched(intervals([(0, start, end)]), features, FEATURES)[0]
    assert (*FEATURES, "intergenic")[first] == feature


def test_the_order_is_that_of_the_recipe():
    features = gene_features(*one_gene(), upstream_bp=2_000, downstream_bp=100)
    peak = intervals([(0, 9_000, 20_000)])
    for name in FEATURES[:-1]:
        order = [name, *(other for other in FEATURES if other != name)]
        assert first_touched(peak, features, order).tolist() == [0]


def test_genes_without_parts_are_bodies_beside_genes_that_have_them():
    _, parts = one_gene()
    body = intervals([(0, 10_000, 20_000), (0, 12_000, 16_000), (1, 5_000, 6_000)])
    both = Genes(body, np.array([10_000, 12_000, 5_000]), np.zeros(3, bool))
    features = gene_features(both, parts, upstream_bp=0, downstream_bp=0)
    peaks = intervals([(0, 13_000, 13_100), (1, 5_500, 5_600), (0, 14_100, 14_200)])
    order = ["gene_body", *(name for name in FEATURES if name != "gene_body")]
    assert [FEATURES[row] for row in first_touched(peaks, features, FEATURES)] == ["intron", "gene_body", "exon"]
    assert [order[row] for row in first_touched(peaks, features, order)] == ["gene_body"] * 3


def test_untranslated_in_one_transcript_and_coding_in_another_is_exon_too():
    genes = Genes(intervals([(0, 0, 100)]), np.array([0]), np.zeros(1, bool))
    kinds = np.array(["exon", "coding", "three_prime_utr"])
    parts = Parts(np.zeros(3, np.int64), kinds, np.array([0, 20, 40]), np.array([100, 60, 100]))
    exon = gene_features(genes, parts, upstream_bp=0, downstream_bp=0)["exon"]
    assert (exon.start.tolist(), exon.end.tolist()) == ([0], [60])


GENE = st.tuples(st.integers(0, 1), st.integers(10, 60), st.integers(1, 40), st.booleans())
PART = st.tuples(st.integers(0, 3), st.sampled_from(["exon", "coding", "five_prime_utr", "three_prime_utr"]),
                 st.integers(0, 39), st.integers(1, 10))  # fmt: skip
PEAK = st.tuples(st.integers(0, 2), st.integers(0, 120), st.integers(1, 12))


def bases(some, row=slice(None)):
    fields = zip(*(field[row].tolist() for field in some), strict=True)
    return {(chrom, base) for chrom, start, end in fields for base in range(start, end)}


@given(
    st.lists(GENE, min_size=1, max_size=4), st.lists(PART, max_size=10), st.lists(PEAK, max_size=6),
    st.permutations(FEATURES), st.integers(0, 5), st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=200)
def test_features_agree_with_sets_of_bases(genes, parts, peaks, order, upstream, downstream):
    body = intervals([(chrom, start, start + width) for chrom, start, width, _ in genes])
    minus = np.array([gene[3] for gene in genes])
    tss = np.where(minus, body.end - 1, body.start)
    rows = [
        (gene, kind, genes[gene][1] + offset, min(genes[gene][1] + offset + width, genes[gene][1] + genes[gene][2]))
        for gene, kind, offset, width in parts
        if gene < len(genes) and offset < genes[gene][2]
    ]
    of_gene, kind, start, end = zip(*rows, strict=True) if rows else ((), (), (), ())
    told = Parts(np.array(of_gene, np.int64), np.array(kind, str), np.array(start, np.int64), np.array(end, np.int64))
    expected = {name: set() for name in FEATURES}
    for number, (chrom, first, width, reverse) in enumerate(genes):
        own = {name: set() for name in ("exon", "coding", "five_prime_utr", "three_prime_utr")}
        for row in rows:
            if row[0] == number:
                own[row[1]] |= {(chrom, base) for base in range(row[2], row[3])}
        whole = {(chrom, base) for base in range(first, first + width)}
        site = first + width - 1 if reverse else first
        reach = (-downstream, upstream) if reverse else (-upstream, downstream)
        expected["promoter"] |= {(chrom, base) for base in range(site + reach[0], site + reach[1] + 1)}
        ends = own["five_prime_utr"] | own["three_prime_utr"]
        expected["five_prime_utr"] |= own["five_prime_utr"]
        expected["three_prime_utr"] |= own["three_prime_utr"]
        expected["exon"] |= own["coding"] | (own["exon"] - ends)
        covered = set().union(*own.values())
        expected["intron" if covered else "gene_body"] |= whole - covered
    features = gene_features(Genes(body, tss, minus), told, upstream_bp=upstream, downstream_bp=downstream)
    assert {name: bases(features[name]) for name in FEATURES} == expected
    where = intervals([(chrom, start, start + width) for chrom, start, width in peaks])
    found = first_touched(where, features, order)
    for row, number in enumerate(found.tolist()):
        touched = [name for name in order if expected[name] & bases(where, slice(row, row + 1))]
        assert (order[number] if number >= 0 else None) == (touched[0] if touched else None)


def test_nearest_genes_agree_with_all_links():
    rng = np.random.default_rng(11)
    start = rng.integers(0, 50_000, 60)
    body = Intervals(rng.integers(0, 3, 60), start, start + rng.integers(1, 4_000, 60))
    minus = rng.random(60) < 0.5
    genes = Genes(body, np.where(minus, body.end - 1, body.start), minus)
    begin = rng.integers(0, 50_000, 200)
    peaks = Intervals(rng.integers(0, 4, 200), begin, begin + rng.integers(1, 900, 200))
    links = gene_peak_links(body, np.where(minus, -1, 1), peaks, within_bp=100_000)
    found = nearest_gene(peaks, genes)
    for row in range(200):
        mine = links.peak == row
        if not mine.any():
            assert (found.row[row], found.ties[row]) == (-1, 0)
            continue
        least = links.distance[mine].min()
        tied = mine & (links.distance == least)
        chosen = links.gene[tied] == found.row[row]
        assert found.row[row] == links.gene[tied].min()
        assert found.distance[row] == links.signed_offset[tied][chosen][0]
        assert found.ties[row] == tied.sum()


def toy(peaks, *, parts=(), regions=()):
    context = context_with({})
    for name, rows in (("gene_part", parts), ("region", regions)):
        if rows:
            context.connection.execute(SCHEMAS[name].create_sql())
            context.connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    context.connection.executemany("INSERT INTO peak VALUES (?, ?, ?, ?)", peaks)
    return build_annotation(context, AnnotationConfig(promoter_upstream_bp=100, promoter_downstream_bp=0))


PEAKS = [
    ("a", "chr1", 900, 1_001),
    ("b", "chr1", 1_500, 1_600),
    ("c", "chr1", 9_700, 9_800),
    ("d", "chr2", 2_450, 2_550),
]


def test_what_the_annotation_does_not_tell_apart_is_said():
    built = toy(PEAKS)
    assert fits(built)
    assert built.tables["peak_annotation"].to_pylist() == [
        {"peak_id": name, "feature": feature, "nearest_gene": gene, "nearest_distance": distance}
        | {"nearest_ties": ties, "ccre_share": None}
        for name, feature, gene, distance, ties in [
            ("a", "promoter", "ENSG01", 0, 1),
            ("b", "gene_body", "ENSG01", 500, 1),
            ("c", "intergenic", "ENSG02", -201, 1),
            ("d", "intergenic", "ENSG04", 450, 1),
        ]
    ]
    assert [(match.name, match.outcome, match.detail) for match in built.matches["peak_annotation"]] == [
        ("exon", "absent", "5 of 5 genes have no exon: in their bodies exon and intron are one, gene_body"),
        ("five_prime_utr", "absent", "5' untranslated ends cannot be told from other exons"),
        ("three_prime_utr", "absent", "3' untranslated ends cannot be told from other exons"),
    ]
    assert tally(built, "peak_annotation") == {"matched": 4, "absent": 3}


def test_parts_and_regions_are_used_where_they_are_there():
    parts = [
        ("ENSG01", "exon", 1_000, 1_200),
        ("ENSG01", "exon", 4_000, 5_000),
        ("ENSG01", "three_prime_utr", 4_500, 5_000),
    ]
    regions = [
        ("ccre:chr1:950-1000", "ccre", "", "chr1", 950, 1_000, None),
        ("ccre:chr1:990-1051", "ccre", "", "chr1", 990, 1_051, None),
        ("chip:chr1:0-5000", "chip", "", "chr1", 0, 5_000, None),
    ]
    built = toy([*PEAKS, ("e", "chr1", 4_600, 4_700)], parts=parts, regions=regions)
    rows = {row["peak_id"]: row for row in built.tables["peak_annotation"].to_pylist()}
    assert {name: row["feature"] for name, row in rows.items()} == {
        "a": "promoter",
        "b": "intron",
        "c": "intergenic",
        "d": "intergenic",
        "e": "three_prime_utr",
    }
    assert rows["a"]["ccre_share"] == pytest.approx(51 / 101)
    assert rows["e"]["ccre_share"] == 0
    assert [match.name for match in built.matches["peak_annotation"]] == ["exon", "five_prime_utr"]
    assert built.matches["peak_annotation"][0].detail.startswith("4 of 5 genes have no exon")
    other = toy(PEAKS, regions=regions[2:])
    assert other.tables["peak_annotation"]["ccre_share"].null_count == 4


def test_no_peak_and_chromosomes_without_genes():
    assert toy([("x", "chr1", 1, 2)]).tables["peak_annotation"].num_rows == 1
    context = context_with({}, {"chr1": 10_000, "chr2": 10_000, "chr3": 10_000})
    context.connection.execute("INSERT INTO peak VALUES ('lone', 'chr3', 1, 2)")
    built = build_annotation(context, AnnotationConfig())
    assert fits(built)
    row = built.tables["peak_annotation"].to_pylist()[0]
    assert (row["feature"], row["nearest_gene"], row["nearest_distance"]) == (None, None, None)
    assert tally(built, "peak_annotation")["out_of_reach"] == 1


def test_impossible_keys_are_refused():
    with pytest.raises(ValueError, match=r"order: found promoter, exon, expected each once of promoter, five_prime"):
        AnnotationConfig(order=("promoter", "exon"))
    with pytest.raises(ValueError, match="promoter_upstream_bp -1"):
        AnnotationConfig(promoter_upstream_bp=-1)


def test_a_recipe_annotates_its_peaks(recipe):
    written(recipe.parent / "ccre.bed", "chr1\t950\t1000\n")
    text = recipe.read_text().replace("sources: {", "sources: {regions_ccre: ccre.bed, ")
    text = text.replace("  peak: {}\n", "  peak: {}\n  region: {}\n") + "attributes: {annotation: {}}\n"
    recipe.write_text(text)
    with PriorStore.build(recipe, recipe.with_name("a.duckdb"), progress=False) as store:
        rows = store.frame("peak_annotation").set_index("peak_id")
        assert rows["feature"].tolist() == ["promoter", "promoter", "intergenic", "promoter"]
        assert rows.loc["chr1:900-1100", "ccre_share"] == 0.25
        assert rows.loc["chr1:900-1100", "nearest_distance"] == 0
