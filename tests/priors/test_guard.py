import numpy as np
import pytest

from heteromics.errors import WrongAssembly
from heteromics.priors import PriorStore
from heteromics.priors._accessions import REFERENCES
from heteromics.priors.guard import (
    SHIFTS_BP,
    AssemblyCheckConfig,
    AtStarts,
    judge_fasta,
    judge_reach,
    judge_sizes,
    judge_starts,
    peaks_at_starts,
)
from heteromics.priors.links import Intervals

SIZES = np.array([40_000_000, 30_000_000, 1_000_000])


def genome(rng, genes=900, peaks=6_000, at_starts=0.3):
    """Genes in clusters; a share of the peaks at their starts, the rest anywhere in the clusters."""
    code = rng.integers(0, 3, genes)
    cluster = rng.random((3, 8)) * (SIZES[:, None] - 600_000)
    tss = (cluster[code, rng.integers(0, 8, genes)] + rng.random(genes) * 500_000).astype(np.int64)
    gene = rng.integers(0, genes, peaks)
    near = rng.random(peaks) < at_starts
    chrom = np.where(near, code[gene], rng.integers(0, 3, peaks))
    place = cluster[chrom, rng.integers(0, 8, peaks)] + rng.random(peaks) * 500_000
    start = np.where(near, np.maximum(tss[gene] - rng.integers(0, 400, peaks), 0), place).astype(np.int64)
    return Intervals(chrom, start, start + rng.integers(200, 900, peaks)), code, tss


def brute_force(peaks, code, tss, move, window):
    sites = [[(int(site) + move) % int(SIZES[chrom]) for site in tss[code == chrom]] for chrom in range(2)]
    return sum(
        any(start - window <= site < end + window for site in sites[chrom])
        for chrom, start, end in zip(*(field.tolist() for field in peaks), strict=True)
        if chrom < 2
    )


def test_counts_agree_with_all_pairs_on_chromosomes_that_are_long_enough():
    peaks, code, tss = genome(np.random.default_rng(3), genes=60, peaks=300)
    at = peaks_at_starts(peaks, code, tss, SIZES, window_bp=500)
    assert at.peaks == (peaks.chrom < 2).sum()
    assert at.found == brute_force(peaks, code, tss, 0, 500)
    moves = [sign * bp for bp in SHIFTS_BP for sign in (1, -1)]
    assert at.moved.tolist() == [brute_force(peaks, code, tss, move, 500) for move in moves]
    long = code < 2
    inside = [
        ((peaks.chrom == chrom) & (peaks.start <= site) & (site < peaks.end)).any()
        for move in moves
        for chrom, site in zip(code[long], (tss[long] + move) % SIZES[code[long]], strict=True)
    ]
    assert at.covered == pytest.approx(np.mean(inside))


def test_coordinates_that_drift_take_the_excess_away():
    peaks, code, tss = genome(np.random.default_rng(5))
    config = AssemblyCheckConfig()
    right = judge_starts(peaks_at_starts(peaks, code, tss, SIZES, window_bp=500), config)
    assert right.verdict == "fits"
    start = peaks.start + 20_000 + peaks.start // 200
    wrong = peaks_at_starts(Intervals(peaks.chrom, start, start + 500), code, tss, SIZES, window_bp=500)
    assert judge_starts(wrong, config).verdict == "suspect"
    assert 0.7 < wrong.ratio < 1.4


@pytest.mark.parametrize(
    ("found", "moved", "covered", "verdict"),
    [
        pytest.param(75, 50, 0.1, "fits", id="at the threshold"),
        pytest.param(74, 50, 0.1, "suspect", id="below it"),
        pytest.param(55, 49, 0.1, "not enough data", id="too few to doubt"),
        pytest.param(50, 10, 0.1, "fits", id="few but many at starts"),
        pytest.param(49, 10, 0.1, "not enough data", id="too few to trust"),
        pytest.param(500, 1_000, 0.1, "not enough data", id="promoters left out"),
        pytest.param(1_000, 1_000, 0.3, "not enough data", id="tiles"),
        pytest.param(0, 0, 0.0, "not enough data", id="nothing"),
    ],
)
def test_verdicts_follow_the_ratio_where_there_is_enough_to_tell(found, moved, covered, verdict):
    at = AtStarts(10_000, found, np.full(22, float(moved)), covered)
    assert judge_starts(at, AssemblyCheckConfig()).verdict == verdict


def test_no_peaks_and_no_genes_are_not_enough():
    nothing = np.empty(0, np.int64)
    at = peaks_at_starts(Intervals(nothing, nothing, nothing), nothing, nothing, SIZES, window_bp=500)
    assert (at.peaks, at.found, judge_starts(at, AssemblyCheckConfig()).verdict) == (0, 0, "not enough data")


@pytest.mark.parametrize(
    ("name", "of", "verdict"),
    [
        ("GRCh38", "GRCh38", "fits"),
        ("hg19", "GRCh37", "fits"),
        ("GRCh38.p14", "GRCh37", "suspect"),
        ("mm10", "GRCm39", "suspect"),
        ("mine", "GRCm39", "not enough data"),
    ],
)
def test_lengths_are_held_against_the_name_of_the_assembly(name, of, verdict):
    sizes = {f"chr{chrom}": size for chrom, size in zip(*REFERENCES[of][1::2], strict=True)}
    row = judge_sizes(name, sizes)
    assert row.verdict == verdict
    assert (row.found == 1) == (verdict == "fits")
    assert judge_sizes("GRCh38", {"chr1": 10_000}).verdict == "not enough data"


def test_fasta_sequences_may_end_early_but_not_late():
    assert judge_fasta({"1": 700}, {"chr1": 800})[1:4] == (0.0, 1.0, "fits")
    assert judge_fasta({"NC_000001.11": 900, "2": 1}, {"chr1": 800, "chr2": 1})[1:4] == (0.5, 1.0, "suspect")
    assert judge_fasta({"other": 900}, {"chr1": 800}).verdict == "not enough data"


def test_genes_that_end_early_are_told_on_chromosomes_with_many():
    sizes = {"a": 10_000, "b": 10_000, "c": 10_000}
    chrom = np.repeat([0, 1, 2], [1_000, 999, 1_200])
    tss = np.concatenate([np.arange(8_000, 9_000), np.arange(999), np.arange(1_200)])
    row = judge_reach(sizes, chrom, tss)
    assert (row.found, row.expected, row.verdict) == (0.12, 0.9, "suspect")
    assert row.detail == "on 1 of 2 chromosomes with many genes the last lies far from the end: c (at 12%)"
    whole = judge_reach(sizes, chrom[chrom < 2], tss[chrom < 2])
    assert (whole.found, whole.verdict) == (0.9, "fits")
    assert judge_reach(sizes, chrom[chrom == 1], tss[chrom == 1]).verdict == "not enough data"
    assert judge_reach(sizes, chrom[:0], tss[:0]).verdict == "not enough data"


def test_genes_that_end_early_are_noted_and_stop_nothing(wrong):
    lines = "".join(f'chr1\tx\tgene\t{place}\t{place}\t.\t+\t.\tgene_id "E{place}";\n' for place in range(1, 1_001))
    wrong.with_name("genes.gtf").write_text(lines)
    assert checks(wrong).loc["reach of genes", "verdict"] == "suspect"


def test_impossible_keys_are_refused():
    for keys in ({"window_bp": -1}, {"least_ratio": 1.0}, {"least_ratio": float("nan")}):
        with pytest.raises(ValueError, match="expected 0 or more and above 1"):
            AssemblyCheckConfig(**keys)


@pytest.fixture
def wrong(folder):
    """Two chromosomes with genes, peaks in the same clusters, and peaks that drift from them."""
    peaks, code, tss = genome(np.random.default_rng(5))
    (folder / "chrom.sizes").write_text("".join(f"chr{row + 1}\t{size}\n" for row, size in enumerate(SIZES)))
    order = np.unique(np.stack([code, tss]), axis=1).T
    line = 'chr{}\tx\tgene\t{}\t{}\t.\t+\t.\tgene_id "G{}";\n'
    (folder / "genes.gtf").write_text(
        "".join(line.format(chrom + 1, site + 1, site + 100, row) for row, (chrom, site) in enumerate(order))
    )
    for name, drift in (("right.bed", 0), ("wrong.bed", 1)):
        start = peaks.start + drift * (20_000 + peaks.start // 200)
        fits = start + 900 < SIZES[peaks.chrom]
        rows = dict.fromkeys(zip(peaks.chrom[fits] + 1, start[fits], strict=True))
        (folder / name).write_text("".join(f"chr{chrom}\t{site}\t{site + 600}\n" for chrom, site in rows))
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        "recipe: 1\nassembly: {name: tiny, sizes: chrom.sizes}\nsources: {gtf: genes.gtf, peaks: right.bed}\n"
        "nodes: {gene: {}, peak: {}}\n"
    )
    return recipe


def checks(recipe, *sets):
    with PriorStore.build(recipe, recipe.with_name("checked.duckdb"), sets=sets, progress=False) as store:
        return store.frame("assembly_check").set_index("check_name")


def test_a_store_says_that_its_sources_fit(wrong):
    rows = checks(wrong)
    assert rows["verdict"].to_dict() == {
        "lengths of chromosomes": "not enough data",
        "peaks at transcription starts": "fits",
        "reach of genes": "not enough data",
    }
    assert rows.loc["peaks at transcription starts", "found"] > 0.25
    assert rows.loc["peaks at transcription starts", "expected"] < 0.15


def test_peaks_of_another_assembly_stop_the_build_unless_they_are_to_be_reported(wrong):
    drifted = f"source.peaks={wrong.with_name('wrong.bed')}"
    with pytest.raises(WrongAssembly, match=r"(?s)peaks at transcription starts: .* times as many.*on_suspect: report"):
        checks(wrong, drifted)
    assert not wrong.with_name("checked.duckdb").exists()
    rows = checks(wrong, drifted, "nodes.assembly_check.on_suspect=report")
    assert rows.loc["peaks at transcription starts", "verdict"] == "suspect"


def test_a_fasta_index_is_looked_at_where_there_is_one(wrong):
    fasta = wrong.with_name("genome.fa")
    fasta.write_text(">chr1\nACGT\n")
    assert len(checks(wrong, f"source.fasta={fasta}")) == 3
    wrong.with_name("checked.duckdb").unlink()
    wrong.with_name("genome.fa.fai").write_text("chr1\t40000001\t6\t60\t61\n")
    with pytest.raises(WrongAssembly, match="1 of 1 sequences are longer than their chromosomes: chr1"):
        checks(wrong, f"source.fasta={fasta}")
    wrong.with_name("genome.fa.fai").write_text("1\t40000000\t6\t60\t61\n")
    assert checks(wrong, f"source.fasta={fasta}").loc["lengths of FASTA sequences", "verdict"] == "fits"


def test_tiny_genomes_are_not_enough_to_tell(store):
    assert set(store.frame("assembly_check")["verdict"]) == {"not enough data"}


def test_sizes_of_another_assembly_than_named_are_refused(wrong):
    wrong.with_name("chrom.sizes").write_text("chr1\t249250621\nchr2\t243199373\nchr3\t198022430\n")
    with pytest.raises(WrongAssembly, match="the recipe names hg38, the lengths are those of GRCh37"):
        checks(wrong, "assembly.name=hg38")
