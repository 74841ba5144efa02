import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import ChromNamesDisagree, PriorError, RecipeError
from heteromics.priors.links import (
    DecayConfig,
    GenePeakConfig,
    Intervals,
    build_gene_peak,
    decay_weights,
    gaps,
    gene_peak_links,
    links_table,
    pairs_in_reach,
)
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import BuildContext


def brute_force(start, end, anchor_start, anchor_end, reach_bp):
    """All pairs whose nearest bases are at most ``reach_bp`` apart, by looking at every pair."""
    right = start[:, None] - (anchor_end[None, :] - 1)
    left = anchor_start[None, :] - (end[:, None] - 1)
    return set(zip(*np.nonzero(np.maximum(np.maximum(left, right), 0) <= reach_bp), strict=True))


def random_intervals(rng, count, span, widest, chromosomes=1):
    start = rng.integers(0, span, count)
    return Intervals(rng.integers(0, chromosomes, count), start, start + rng.integers(1, widest + 1, count))


@pytest.mark.parametrize(
    ("start", "end", "linked"),
    [
        pytest.param(800, 901, True, id="last base exactly at reach"),
        pytest.param(800, 900, False, id="one base too far left"),
        pytest.param(1_100, 1_200, True, id="first base exactly at reach"),
        pytest.param(1_101, 1_200, False, id="one base too far right"),
        pytest.param(0, 5_000, True, id="peak covers the start site"),
        pytest.param(1_000, 1_001, True, id="peak of the start site alone"),
    ],
)
def test_reach_is_inclusive_on_both_sides(start, end, linked):
    peak, gene = pairs_in_reach(np.array([start]), np.array([end]), np.array([1_000]), np.array([1_001]), reach_bp=100)
    assert list(zip(peak, gene, strict=True)) == ([(0, 0)] if linked else [])


@given(
    peaks=st.lists(st.tuples(st.integers(0, 400), st.sampled_from([1, 2, 3, 7, 50, 390])), max_size=25),
    anchors=st.lists(st.tuples(st.integers(0, 400), st.sampled_from([1, 1, 5, 120])), max_size=12),
    reach=st.integers(0, 60),
)
@settings(max_examples=150, deadline=None)
def test_agrees_with_all_pairs_whatever_the_widths(peaks, anchors, reach):
    start, width = np.array(peaks, np.int64).reshape(-1, 2).T
    anchor, anchor_width = np.array(anchors, np.int64).reshape(-1, 2).T
    peak, gene = pairs_in_reach(start, start + width, anchor, anchor + anchor_width, reach_bp=reach)
    found = list(zip(peak, gene, strict=True))
    assert len(found) == len(set(found))
    assert set(found) == brute_force(start, start + width, anchor, anchor + anchor_width, reach)
    assert found == sorted(found, key=lambda pair: (pair[1], start[pair[0]]))


def test_permuted_peaks_give_the_same_set():
    rng = np.random.default_rng(7)
    peaks, anchors = random_intervals(rng, 300, 10_000, 900), random_intervals(rng, 80, 10_000, 1)
    shuffled = rng.permutation(300)
    peak, gene = pairs_in_reach(peaks.start, peaks.end, anchors.start, anchors.end, reach_bp=500)
    again, gene_again = pairs_in_reach(
        peaks.start[shuffled], peaks.end[shuffled], anchors.start, anchors.end, reach_bp=500
    )
    assert set(zip(peak, gene, strict=True)) == set(zip(shuffled[again], gene_again, strict=True))


@pytest.mark.parametrize("anchor", ["tss", "body"])
def test_all_chromosomes_at_once_equal_each_alone(anchor):
    rng = np.random.default_rng(3)
    bodies = random_intervals(rng, 120, 20_000, 4_000, chromosomes=5)
    peaks = random_intervals(rng, 400, 20_000, 800, chromosomes=5)
    sign = rng.choice([-1, 0, 1], 120)
    links = gene_peak_links(bodies, sign, peaks, within_bp=1_500, anchor=anchor)
    tss = np.where(sign < 0, bodies.end - 1, bodies.start)
    expected = set()
    for code in range(5):
        mine, theirs = np.flatnonzero(bodies.chrom == code), np.flatnonzero(peaks.chrom == code)
        low, high = (tss, tss + 1) if anchor == "tss" else (bodies.start, bodies.end)
        pairs = brute_force(peaks.start[theirs], peaks.end[theirs], low[mine], high[mine], 1_500)
        expected |= {(int(mine[gene]), int(theirs[peak])) for peak, gene in pairs}
    assert set(zip(links.gene.tolist(), links.peak.tolist(), strict=True)) == expected
    assert (links.gap <= 1_500).all()
    assert (np.abs(links.signed_offset) == links.distance).all()
    overlap = (peaks.start[links.peak] < bodies.end[links.gene]) & (peaks.end[links.peak] > bodies.start[links.gene])
    assert (links.in_body == overlap).all()


@pytest.mark.parametrize(
    ("sign", "peak", "distance", "offset"),
    [
        pytest.param(1, (900, 951), 50, -50, id="left of a plus gene is upstream"),
        pytest.param(1, (1_010, 1_050), 10, 10, id="right of a plus gene's start is downstream"),
        pytest.param(-1, (2_009, 2_050), 10, -10, id="right of a minus gene is upstream"),
        pytest.param(-1, (1_900, 1_950), 50, 50, id="left of a minus gene's start is downstream"),
        pytest.param(0, (900, 951), 50, -50, id="an unknown strand is read as plus"),
        pytest.param(1, (1_000, 1_001), 0, 0, id="covered"),
    ],
)
def test_offset_is_negative_upstream_of_the_strand(sign, peak, distance, offset):
    body = Intervals(np.zeros(1, int), np.array([1_000]), np.array([2_000]))
    peaks = Intervals(np.zeros(1, int), np.array([peak[0]]), np.array([peak[1]]))
    links = gene_peak_links(body, np.array([sign]), peaks, within_bp=5_000)
    assert (links.distance.tolist(), links.signed_offset.tolist()) == ([distance], [offset])


def test_body_anchor_keeps_the_distance_from_the_start_site():
    body = Intervals(np.zeros(1, int), np.array([1_000]), np.array([90_000]))
    peaks = Intervals(np.zeros(2, int), np.array([80_000, 90_100]), np.array([80_010, 90_200]))
    links = gene_peak_links(body, np.array([1]), peaks, within_bp=500, anchor="body")
    assert links.distance.tolist() == [79_000, 89_100]
    assert links.gap.tolist() == [0, 101]
    assert links.in_body.tolist() == [True, False]


def test_nothing_in_nothing_out():
    none = Intervals(*(np.empty(0, np.int64) for _ in range(3)))
    one = Intervals(np.zeros(1, np.int64), np.array([5]), np.array([9]))
    for bodies, peaks in ((none, one), (one, none), (none, none)):
        links = gene_peak_links(bodies, np.ones(bodies.start.size), peaks, within_bp=10)
        assert all(column.size == 0 for column in links)


def test_one_very_wide_peak_costs_no_more_than_its_own_links():
    rng = np.random.default_rng(0)
    start = np.sort(rng.integers(0, 100_000_000, 50_000))
    end = start + 500
    start, end = np.append(start, 0), np.append(end, 100_000_000)
    tss = rng.integers(0, 100_000_000, 5_000)
    peak, gene = pairs_in_reach(start, end, tss, tss + 1, reach_bp=1_000)
    assert np.count_nonzero(peak == 50_000) == 5_000
    assert gene.size < 15_000


def test_gaps_count_the_step_between_neighbouring_bases():
    left, right = gaps(np.array([10, 20, 5]), np.array([20, 30, 50]), np.array([20, 10, 7]), np.array([21, 20, 8]))
    assert (left.tolist(), right.tolist()) == ([1, 0, 0], [0, 1, 0])


def test_decay_weights_by_hand():
    gap = np.array([0, 1_000, 2_000])
    assert decay_weights(gap) == pytest.approx([1.0, 2**-0.75, 3**-0.75])
    assert decay_weights(gap, DecayConfig("exponential", scale_bp=2_000)) == pytest.approx(
        [1.0, np.exp(-0.5), np.exp(-1)]
    )
    assert decay_weights(gap, DecayConfig("linear", scale_bp=1_500)) == pytest.approx([1.0, 1 / 3, 0.0])
    for kind in ("power", "exponential", "linear"):
        weights = decay_weights(np.arange(0, 10_000, 37), DecayConfig(kind, scale_bp=9_000))
        assert (np.diff(weights) <= 0).all()
        assert (weights >= 0).all()


def test_intervals_without_a_base_are_counted_and_shown():
    body = Intervals(np.zeros(2, int), np.array([1, 9]), np.array([4, 9]))
    peak = Intervals(np.zeros(1, int), np.array([1]), np.array([4]))
    with pytest.raises(PriorError, match=r"1 of 2 genes hold no base, the first in row 1: start 9, end 9"):
        gene_peak_links(body, np.ones(2), peak, within_bp=10)
    with pytest.raises(PriorError, match="within_bp: found -1, expected 0 or more bp"):
        gene_peak_links(peak, np.ones(1), peak, within_bp=-1)
    with pytest.raises(PriorError, match="anchor: found 'promoter', expected 'tss' or 'body'"):
        gene_peak_links(peak, np.ones(1), peak, within_bp=1, anchor="promoter")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"within": 5}, "unknown key 'within'. Did you mean 'within_bp'"),
        ({"decay": {"kind": "powr"}}, "found 'powr', expected one of 'power', 'exponential', 'linear'"),
        ({"decay": {"kind": "linear", "scale_bp": 100}}, "linear decay reaches 0 at scale_bp 100, inside the window"),
        ({"decay": {"scale_bp": 0}}, "expected both above 0"),
        ({"decay": {"exponent": float("nan")}}, "exponent nan, expected both above 0 and finite"),
        ({"within_bp": -5}, "found within_bp -5"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(GenePeakConfig, keys, "edges.gene_peak")


@pytest.fixture
def context():
    connection = duckdb.connect()
    for name in ("chromosome", "gene", "peak"):
        connection.execute(SCHEMAS[name].create_sql())
    connection.execute("INSERT INTO chromosome VALUES ('chr1', 0, 100000), ('chr2', 1, 100000)")
    connection.execute(
        "INSERT INTO gene VALUES ('G1', 'A', 'chr1', 1000, 5000, '+', 1000, ''), "
        "('G2', 'B', 'chr1', 1000, 5000, '-', 4999, ''), ('G3', 'C', 'chr2', 90000, 90010, '+', 90000, '')"
    )
    connection.execute(
        "INSERT INTO peak VALUES ('p1', 'chr1', 100, 200), ('p2', 'chr1', 4999, 5100), ('p3', 'chr2', 10, 20)"
    )
    yield BuildContext(connection, "toy", "ucsc", {"chr1": 100_000, "chr2": 100_000}, lambda name: None, frozenset())
    connection.close()


def test_table_holds_what_was_worked_out_by_hand(context):
    built = build_gene_peak(context, GenePeakConfig(within_bp=4_000))
    table = built.tables["gene_peak"]
    assert table.column_names == [column.name for column in SCHEMAS["gene_peak"].columns]
    assert [tuple(row.values())[:4] + tuple(row.values())[5:7] for row in table.to_pylist()] == [
        ("G1", "p1", 801, -801, True, False),
        ("G1", "p2", 3_999, 3_999, False, True),
        ("G2", "p2", 0, 0, True, True),
    ]
    assert table["weight"].to_pylist() == pytest.approx([1.801**-0.75, 4.999**-0.75, 1.0])
    assert set(table["evidence"].to_pylist()) == {"within 4,000 bp of the TSS"}
    counts = {(count.source, count.outcome): count.n for count in built.counts["gene_peak"]}
    assert counts[("gene", "out_of_reach")] == 1
    assert counts[("peak", "out_of_reach")] == 1


def test_table_goes_into_the_store_as_it_is(context):
    rows = build_gene_peak(context, GenePeakConfig(anchor="body")).tables["gene_peak"]
    assert isinstance(rows, pa.Table)
    context.connection.execute(SCHEMAS["gene_peak"].create_sql())
    context.connection.execute("INSERT INTO gene_peak SELECT * FROM rows")
    assert context.connection.execute("SELECT count(*) FROM gene_peak").fetchall() == [(rows.num_rows,)]


@pytest.mark.parametrize(
    ("sign", "peak", "promoter"),
    [
        pytest.param(1, (8_000, 8_001), True, id="plus, 2,000 bp upstream"),
        pytest.param(1, (7_999, 8_000), False, id="plus, one base further"),
        pytest.param(1, (7_000, 8_001), True, id="plus, its last base reaches in"),
        pytest.param(1, (10_000, 10_001), True, id="plus, the start site itself"),
        pytest.param(1, (10_001, 10_002), False, id="plus, first base downstream"),
        pytest.param(-1, (21_999, 22_000), True, id="minus, 2,000 bp upstream"),
        pytest.param(-1, (22_000, 22_001), False, id="minus, one base further"),
        pytest.param(-1, (19_998, 19_999), False, id="minus, first base downstream"),
        pytest.param(-1, (9_000, 25_000), True, id="covers all of it"),
    ],
)
@pytest.mark.parametrize("anchor", ["tss", "body"])
def test_promoter_is_the_start_site_and_what_lies_upstream_of_it(sign, peak, promoter, anchor):
    body = Intervals(np.zeros(1, int), np.array([10_000]), np.array([20_000]))
    peaks = Intervals(np.zeros(1, int), np.array([peak[0]]), np.array([peak[1]]))
    links = gene_peak_links(body, np.array([sign]), peaks, within_bp=50_000, anchor=anchor)
    rows = links_table(links, pa.array(["g"]), pa.array(["p"]), GenePeakConfig(promoter_bp=2_000, anchor=anchor))
    assert rows["in_promoter"].to_pylist() == [promoter]
    assert rows["in_body"].to_pylist() == [peak[0] < 20_000 and peak[1] > 10_000]


@given(
    peaks=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(1, 90)), max_size=15),
    genes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(1, 120)), max_size=10),
    strand=st.integers(0, 2**10 - 1),
    within=st.integers(0, 80),
    anchor=st.sampled_from(["tss", "body"]),
)
@settings(max_examples=150, deadline=None)
def test_every_field_of_the_links_agrees_with_looking_at_every_base(peaks, genes, strand, within, anchor):
    rows = [np.array(listed, np.int64).reshape(-1, 3).T for listed in (genes, peaks)]
    bodies, found = (Intervals(chrom, start, start + width) for chrom, start, width in rows)
    sign = np.array([1 if strand >> row & 1 else -1 for row in range(len(genes))])
    links = gene_peak_links(bodies, sign, found, within_bp=within, anchor=anchor)
    expected = {}
    for gene, (chrom, start, width) in enumerate(genes):
        site = start if sign[gene] > 0 else start + width - 1
        body = range(start, start + width)
        for peak, (other, begin, size) in enumerate(peaks):
            bases = range(begin, begin + size)
            offset = min((base - site for base in bases), key=abs)
            gap = min(abs(base - at) for base in bases for at in ([site] if anchor == "tss" else body))
            if chrom == other and gap <= within:
                overlap = max(start, begin) < min(start + width, begin + size)
                expected[gene, peak] = (abs(offset), offset * sign[gene], gap, overlap)
    fields = zip(*(field.tolist() for field in links[2:]), strict=True)
    assert dict(zip(zip(links.gene.tolist(), links.peak.tolist(), strict=True), fields, strict=True)) == expected


def test_genes_and_peaks_on_other_chromosomes_are_an_error(context):
    context.connection.execute("DELETE FROM peak WHERE chrom = 'chr1'")
    context.connection.execute("DELETE FROM gene WHERE chrom = 'chr2'")
    with pytest.raises(ChromNamesDisagree, match=r"share no chromosome(.|\n)*genes: chr1\n  peaks: chr2"):
        build_gene_peak(context, GenePeakConfig())
