import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import PriorError, RecipeError
from heteromics.priors import motif_peak
from heteromics.priors.fasta import Batch
from heteromics.priors.motif_peak import MotifPeakConfig, base_shares, build_motif_peak, factor_hits
from heteromics.priors.motif_scan import BestHits, best_p_value, find_hits, score_matrix, stripe
from heteromics.priors.motifs import MotifConfig, build_motifs, probabilities
from heteromics.priors.schemas import SCHEMAS
from tests.priors.prior_files import fits, written
from tests.priors.sequence_files import fasta, genome, with_peaks

BOX = "GGGACTTTCC"
CHR1, CHR2 = genome(1).upper(), genome(2)
CHR1 = CHR1[:500] + BOX + CHR1[510:700] + BOX + CHR1[710:]
PEAKS = [("chr2", 0, 500), ("chr1", 9_000, 10_000), ("chr1", 3, 4), ("chr1", 400, 1_333)]
RANDOM = np.random.default_rng(5).integers(1, 20, (2, 8, 4))


def lines(rows):
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)


BOX_ROWS = [[50 * (base == letter) for base in "ACGT"] for letter in BOX]
MOTIFS = (
    f">M1 TP53\n{lines(BOX_ROWS)}>M2 Gapdh::TP53\n{lines(RANDOM[0])}>M3 NOSUCH\n{lines(RANDOM[1])}"
    f">M4 JUN\n{lines(BOX_ROWS[:2])}"
)


def context_with_motifs(tmp_path, peaks=PEAKS, sequences=None, motifs=MOTIFS):
    files = {
        "motifs": written(tmp_path / "motifs.pfm", motifs),
        "fasta": written(tmp_path / "genome.fa", fasta(sequences or {"chr1": CHR1, "chr2": CHR2})),
    }
    context = with_peaks(files, peaks)
    for name, table in build_motifs(context, MotifConfig()).tables.items():
        context.connection.execute(SCHEMAS[name].create_sql())
        context.connection.register("incoming", table)
        context.connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
    return context


@pytest.fixture
def context(tmp_path):
    return context_with_motifs(tmp_path)


def expected_rows(context, p_value, background):
    """Best hit of each motif and peak, one peak at a time."""
    rows = []
    peaks = context.query("SELECT * FROM peak ORDER BY chrom, chrom_start").to_pylist()
    motifs = context.query("SELECT motif_id, probabilities FROM motif ORDER BY motif_id").to_pylist()
    for peak in peaks:
        sequence = {"chr1": CHR1, "chr2": CHR2}[peak["chrom"]][peak["chrom_start"] : peak["chrom_end"]].encode()
        striped = stripe(np.frombuffer(sequence, np.uint8), np.array([0, len(sequence)]), 40)
        for motif in motifs:
            matrix = score_matrix(np.array(motif["probabilities"]).reshape(-1, 4), background, p_value)
            hits = find_hits(matrix, striped)
            if not hits.start.size:
                continue
            best = min(range(hits.start.size), key=lambda at: (-hits.score[at], hits.start[at]))
            rows.append(
                {
                    "motif_id": motif["motif_id"],
                    "peak_id": peak["peak_id"],
                    "hits": hits.start.size,
                    "score": pytest.approx(hits.score[best] * 0.01),
                    "p_value": pytest.approx(matrix.p_values[hits.score[best] - matrix.least]),
                    "hit_start": peak["chrom_start"] + int(hits.start[best]),
                    "strand": "+" if hits.forward[best] else "-",
                }
            )
    return rows


def plain(table):
    return [{key: value for key, value in row.items() if key != "evidence"} for row in table.to_pylist()]


@pytest.mark.parametrize("batch", [1, 600, 10**6])
def test_edges_agree_with_one_peak_at_a_time_whatever_the_batch(context, monkeypatch, batch):
    monkeypatch.setattr(motif_peak, "BATCH_BASES", batch)
    built = build_motif_peak(context, MotifPeakConfig(p_value=5e-3, background="uniform", cores=1))
    assert fits(built)
    expected = expected_rows(context, 5e-3, np.full(4, 0.25))
    assert len(expected) > 4
    assert plain(built.tables["motif_peak"]) == expected


def test_processes_side_by_side_give_the_same_edges(context, monkeypatch):
    one = build_motif_peak(context, MotifPeakConfig(p_value=5e-3, cores=1))
    monkeypatch.setattr(motif_peak, "BATCH_BASES", 600)
    monkeypatch.setattr(motif_peak, "WORTH_A_PROCESS", 1)
    two = build_motif_peak(context, MotifPeakConfig(p_value=5e-3, cores=2))
    assert {name: table.to_pylist() for name, table in one.tables.items()} == {
        name: table.to_pylist() for name, table in two.tables.items()
    }


def test_planted_motif_is_found_where_it_is_and_counted_twice(context):
    built = build_motif_peak(context, MotifPeakConfig(cores=1))
    row = next(row for row in built.tables["motif_peak"].to_pylist() if row["motif_id"] == "M1")
    assert (row["peak_id"], row["hits"], row["hit_start"], row["strand"]) == ("chr1:400-1333", 2, 500, "+")
    assert row["p_value"] < 1e-5
    assert row["score"] > 18
    assert row["evidence"].startswith("motif of motifs.pfm in genome.fa, p < 0.0001, background A 0.")


def test_factors_have_the_best_of_their_motifs(context):
    built = build_motif_peak(context, MotifPeakConfig(p_value=5e-3, cores=1))
    hits = {(row["motif_id"], row["peak_id"]): row for row in built.tables["motif_peak"].to_pylist()}
    rows = plain(built.tables["tf_peak"])
    motifs_of = {"ENSG01": ("M1", "M2"), "ENSG02": ("M2",), "ENSG03": ("M4",)}
    expected = []
    for peak in ("chr1:3-4", "chr1:400-1333", "chr1:9000-10000", "chr2:0-500"):
        for gene, motifs in motifs_of.items():
            found = [hits[motif, peak] for motif in motifs if (motif, peak) in hits]
            if found:
                best = min(found, key=lambda row: row["p_value"])
                expected.append(
                    {
                        "tf_id": gene,
                        "peak_id": peak,
                        "motifs": len(found),
                        "score": best["score"],
                        "p_value": best["p_value"],
                    }
                )
    assert rows == expected
    assert {row["motifs"] for row in rows} == {1, 2}


def test_what_is_left_out_is_named(tmp_path):
    cut = context_with_motifs(tmp_path, sequences={"chr1": CHR1[:1_400], "chr2": CHR2})
    with pytest.raises(PriorError, match=r"`edges.motif_peak.partial_fasta: true`"):
        build_motif_peak(cut, MotifPeakConfig(cores=1))
    built = build_motif_peak(cut, MotifPeakConfig(cores=1, partial_fasta=True))
    assert fits(built)
    assert "chr1:9000-10000" not in built.tables["motif_peak"]["peak_id"].to_pylist()
    named = {(match.source, match.name): (match.outcome, match.detail) for match in built.matches["motif_peak"]}
    assert named["genome.fa", "chr1:9000-10000"] == ("absent", "ends at 10,000, the FASTA's chr1 at 1,400")
    outcome, detail = named["motifs.pfm", "M4"]  # two bases are in every sixteenth place
    assert outcome == "filtered"
    assert detail.startswith("its best match has p-value 0.0")
    assert detail.endswith("not below 0.0001")
    assert len(named) == 2
    counted = {(count.source, count.outcome): count.n for count in built.counts["motif_peak"]}
    assert counted == {
        ("genome.fa", "matched"): 3,
        ("genome.fa", "absent"): 1,
        ("motifs.pfm", "matched"): 3,
        ("motifs.pfm", "filtered"): 1,
    }


def test_background_of_the_peaks_is_that_of_both_strands(context):
    bases = np.frombuffer(b"AAACNg", np.uint8)
    assert base_shares([Batch(np.arange(1), bases, np.array([0, 6]))]).tolist() == [0.3, 0.2, 0.2, 0.3]
    built = build_motif_peak(context, MotifPeakConfig(p_value=5e-3, cores=1))
    texts = CHR1[3:4] + CHR1[400:1_333] + CHR1[9_000:] + CHR2[:500]
    known = [letter for letter in texts.upper() if letter in "ACGT"]
    strong = sum(letter in "GC" for letter in known) / len(known) / 2
    shares = np.array([0.5 - strong, strong, strong, 0.5 - strong])
    assert plain(built.tables["motif_peak"]) == expected_rows(context, 5e-3, shares)
    assert f"background A {0.5 - strong:.3f} C {strong:.3f}" in built.tables["motif_peak"]["evidence"][0].as_py()


def test_peaks_without_any_known_base_have_no_background(tmp_path):
    context = context_with_motifs(tmp_path, sequences={"chr1": "N" * 10_000, "chr2": "N" * 10_000})
    with pytest.raises(PriorError, match=r"the peaks hold 0 A or T and 0 C or G(.|\n)*background: uniform"):
        build_motif_peak(context, MotifPeakConfig(cores=1))
    built = build_motif_peak(context, MotifPeakConfig(cores=1, background="uniform"))
    assert built.tables["motif_peak"].num_rows == built.tables["tf_peak"].num_rows == 0
    assert fits(built)


def test_motifs_that_are_all_too_short_are_an_error(tmp_path):
    context = context_with_motifs(tmp_path, motifs=f">M4 JUN\n{lines(BOX_ROWS[:2])}")
    with pytest.raises(PriorError, match=r"none of 1 motifs has a match with a p-value below 0.0001"):
        build_motif_peak(context, MotifPeakConfig(cores=1))
    p = probabilities(np.array(BOX_ROWS[:2], float), 0.1)
    assert best_p_value(p, np.full(4, 0.25)) == pytest.approx(1 / 16)


def test_motifs_whose_factors_are_no_genes_still_hit(tmp_path):
    context = context_with_motifs(tmp_path, motifs=f">M1 NOSUCH\n{lines(BOX_ROWS)}")
    built = build_motif_peak(context, MotifPeakConfig(cores=1))
    assert built.tables["motif_peak"].num_rows > 0
    assert built.tables["tf_peak"].num_rows == 0
    assert fits(built)


def test_no_peak_in_the_fasta_is_an_error(tmp_path):
    context = context_with_motifs(tmp_path, peaks=PEAKS[1:], sequences={"chr2": CHR2})
    with pytest.raises(PriorError, match=r"3 of 3 regions of motif_peak lie outside the FASTA"):
        build_motif_peak(context, MotifPeakConfig(cores=1, partial_fasta=True))


@given(st.data())
def test_hits_reach_factors_as_if_one_by_one(data):
    pairs = sorted(data.draw(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 3)))))  # motif, factor
    begin = np.searchsorted([motif for motif, _ in pairs], np.arange(6))
    gene = np.array([factor for _, factor in pairs], np.int64)
    cells = sorted(data.draw(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)))))  # sequence, motif
    sequence, motif = np.array(cells, np.int64).reshape(-1, 2).T
    score = np.array([data.draw(st.integers(1, 3)) for _ in cells], np.int64)
    p_value = np.array([data.draw(st.sampled_from([0.1, 0.2])) for _ in cells])
    none = np.zeros(len(cells), np.int64)
    best = BestHits(motif, sequence, none + 1, none, none.astype(bool), score)
    expected = []
    for one in range(4):
        for factor in range(4):
            rows = [row for row, (at, by) in enumerate(cells) if at == one and (by, factor) in pairs]
            if rows:
                expected.append((factor, one, len(rows), min(rows, key=lambda row: (p_value[row], -score[row], row))))
    found = factor_hits(best, p_value, gene, begin)
    assert list(zip(*(field.tolist() for field in found), strict=True)) == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"p_value": 0}, r"found p_value 0, expected more than 0 and not more than 0.1"),
        ({"p_value": 0.5}, r"found p_value 0.5"),
        ({"cores": 0}, r"found cores 0, expected 1 or more"),
        ({"background": "genome"}, r"found 'genome', expected one of 'peaks', 'uniform'"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(MotifPeakConfig, keys, "edges.motif_peak")
