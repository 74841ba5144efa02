import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.errors import BeyondChromosome, ChromNamesDisagree, DataError, DuplicateNames, MissingLayer
from heteromics.interpret import (
    by_peak,
    concordance,
    correlation_links,
    enrichment,
    evidence_for,
    rank_concordance,
)
from heteromics.interpret._resampling import areas, blocks_of, drawn_weights, interval, rank_correlation
from heteromics.priors import PriorStore

CONFIG = SyntheticConfig(n_cells=60, n_cell_types=2, n_genes=60, n_peaks=200, n_tfs=6, n_proteins=6, n_chromosomes=3)
RECIPE = """
recipe: 1
assembly: {name: synthetic, sizes: chrom.sizes, chrom_style: ucsc}
sources: {gtf: genes.gtf.gz, peaks: peaks.bed, fasta: part.fa, motifs: motifs.meme,
  regulons_synthetic: regulons.csv, regions_ccre: ccre.bed}
nodes: {gene: {strip_version: true}, peak: {}, motif: {}, region: {}}
edges: {gene_peak: {within_bp: 150_000}, regulons: {}, peak_region: {},
  motif_peak: {p_value: 1.0e-4, partial_fasta: true}}
attributes: {sequence: {fasta: true, partial_fasta: true}}
"""


@pytest.fixture(scope="module")
def made():
    return simulate(CONFIG, seed=0)


@pytest.fixture(scope="module")
def store(made, tmp_path_factory):
    folder = made.write(tmp_path_factory.mktemp("evidence") / "synthetic")
    rng = np.random.default_rng(0)
    start = rng.integers(0, 2_500_000, 150)
    chrom, end = rng.choice(["chr1", "chr2"], 150), start + rng.integers(50, 30_000, 150)
    rows = [f"{c}\t{s}\t{e}" for c, s, e in zip(chrom, start, end, strict=True)]
    (folder / "ccre.bed").write_text("\n".join(sorted(set(rows))) + "\n")
    genome = (folder / "genome.fa").read_text()
    (folder / "part.fa").write_text(genome[: genome.index(">chr3")])  # nothing is known of motifs on chr3
    (folder / "recipe.yaml").write_text(RECIPE)
    with PriorStore.build(folder / "recipe.yaml", folder / "priors.duckdb", progress=False) as store:
        yield store


@pytest.fixture(scope="module")
def links(store):
    symbols = store.frame("gene").set_index("gene_id")["symbol"]
    found = store.frame("gene_peak").sample(400, random_state=0)
    score = np.random.default_rng(1).normal(size=len(found))
    return pd.DataFrame({"gene": found["gene_id"].map(symbols), "peak": found["peak_id"], "score": score})


@pytest.fixture(scope="module")
def evidence(links, store):
    return evidence_for(links, store)


def test_regions_agree_with_all_pairs_and_with_the_edges_of_the_store(links, evidence, store):
    place, regions = store.frame("peak").set_index("peak_id"), store.frame("region")
    edges = set(store.frame("peak_region")["peak_id"])
    for peak, inside in zip(links["peak"], evidence["in_ccre"], strict=True):
        chrom, start, end = place.loc[peak, ["chrom", "chrom_start", "chrom_end"]]
        mine = regions[regions["chrom"] == chrom]
        if chrom == "chr3":  # of which the set has nothing: it may not cover it
            assert inside is pd.NA
            continue
        assert inside == ((mine["chrom_start"] < end) & (mine["chrom_end"] > start)).any() == (peak in edges)
    assert 20 < evidence["in_ccre"].sum() < len(links) - 20
    match = evidence.attrs["match"]["in_ccre"]
    assert match["unknown"] == (evidence["chrom"] == "chr3").sum() > 0
    assert match["regions"]["matched"] == len(regions)


def test_distance_and_sequence_are_those_of_the_store(links, evidence, store):
    stored = store.frame("gene_peak").merge(store.frame("gene")[["gene_id", "symbol"]], on="gene_id")
    expected = links.merge(stored, left_on=["gene", "peak"], right_on=["symbol", "peak_id"])["distance"]
    assert evidence["distance"].tolist() == expected.tolist()
    gc = store.frame("peak_attribute").set_index("peak_id").loc[links["peak"]]
    np.testing.assert_array_equal(evidence["gc"], gc["gc"])
    assert evidence["width"].tolist() == gc["width"].tolist()


@pytest.mark.parametrize("limit", [None, 1e-5])
def test_motifs_and_regulons_agree_with_joins_in_pandas(links, store, limit):
    genes = store.frame("gene").set_index("symbol")["gene_id"]
    hits, targets = store.frame("tf_peak"), store.frame("tf_gene")
    hits = hits if limit is None else hits[hits["p_value"] < limit]
    some_tfs = sorted(targets["tf_id"].unique())[:3]
    for tfs in (None, some_tfs):
        chosen = hits if tfs is None else hits[hits["tf_id"].isin(tfs)]
        both = chosen.merge(targets, on="tf_id")[["gene_id", "peak_id"]]
        supported = set(both.itertuples(index=False, name=None))
        found = evidence_for(links, store, tfs=tfs, motif_p_value=limit)
        scanned = found["chrom"] != "chr3"
        assert 20 < (~scanned).sum() < 380
        for row in found.itertuples():
            if row.chrom == "chr3" or genes[row.gene] not in set(targets["gene_id"]):
                assert row.has_regulon is pd.NA
            else:
                assert row.has_regulon == ((genes[row.gene], row.peak) in supported)
        assert 0 < found["has_regulon"].sum() < found["has_regulon"].notna().sum()
        if tfs:
            best = chosen.groupby("peak_id")["score"].max().reindex(links["peak"]).fillna(0)
            np.testing.assert_array_equal(found["score_motif"], best.where(scanned.to_numpy()))
            assert found["has_motif"][scanned].tolist() == (best > 0)[scanned.to_numpy()].tolist()
        else:
            every = store.frame("motif_peak")
            every = every if limit is None else every[every["p_value"] < limit]
            there = links["peak"].isin(every["peak_id"]).to_numpy()
            assert found["has_motif"][scanned].tolist() == there[scanned].tolist()
        assert found["has_motif"].isna().equals(~scanned)
        assert found.attrs["match"]["has_motif"]["unknown"] == (~scanned).sum()


def test_planted_links_have_a_regulon_more_often_than_links_as_near(made, store):
    symbols = store.frame("gene").set_index("gene_id")["symbol"]
    table = store.frame("gene_peak")
    links = pd.DataFrame({"gene": table["gene_id"].map(symbols), "peak": table["peak_id"]})
    truth = pd.MultiIndex.from_frame(made.truth[["gene", "peak"]])
    links["score"] = pd.MultiIndex.from_frame(links).isin(truth).astype(float)
    evidence = evidence_for(links, store)
    share = evidence.groupby(links["score"])["has_regulon"].mean()
    assert share[1.0] > 0.6  # the regulons know two in three true targets
    assert share[0.0] < 0.5 * share[1.0]
    options = {"top": int(links["score"].sum()), "columns": ["has_regulon"], "block_bp": 500_000}
    row = enrichment(links, evidence, matched_by=("distance", "gc"), bins=3, **options).table.iloc[0]
    assert row["low"] > 2


def test_no_links_have_no_evidence(links, store):
    none = evidence_for(links[:0], store)
    assert len(none) == 0
    assert {"distance", "in_ccre", "has_motif", "has_regulon", "gc"} <= set(none)


def test_openness_is_of_the_group_and_correlation_of_all_cells(links, made, store):
    rna, atac = made.mdata.mod["rna"], made.mdata.mod["atac"]
    types = sorted(atac.obs["cell_type"].unique())
    grouped = pd.concat([links.assign(group=one) for one in types], ignore_index=True)
    found = evidence_for(grouped, store, rna=rna, atac=atac)
    is_open = pd.DataFrame(atac.X.toarray() > 0, columns=atac.var_names)
    share = is_open.groupby(atac.obs["cell_type"].astype(str).to_numpy()).mean()
    expected = [share.loc[group, peak] for group, peak in zip(grouped["group"], grouped["peak"], strict=True)]
    np.testing.assert_allclose(found["openness"], expected)
    r = correlation_links(rna, atac, links)["score"].to_numpy()
    np.testing.assert_array_equal(found["correlation"], np.tile(r, len(types)))
    with pytest.raises(MissingLayer, match=r"atac\.obs has no column 'type'"):
        evidence_for(grouped, store, atac=atac, groups="type")
    with pytest.raises(DataError, match="group 'nobody' of the links: none of 60 cells"):
        evidence_for(links.assign(group="nobody"), store, atac=atac)
    with pytest.raises(DataError, match="found rna without atac"):
        evidence_for(links, store, rna=rna)


def test_what_does_not_join_is_missing_counted_and_named(store):
    genes, peaks = store.frame("gene"), store.frame("peak")
    first = peaks.iloc[0]
    other = f"{first['chrom']}-{first['chrom_start']}-{first['chrom_end']}"
    far = genes[genes["chrom"] != first["chrom"]].iloc[0]["gene_id"]
    here = genes[genes["chrom"] == first["chrom"]].iloc[0]["symbol"]
    links = pd.DataFrame(
        {
            "gene": [here, here, here, "NOBODY", far, here],
            "peak": [first["peak_id"], other, "chr1:7-9", first["peak_id"], first["peak_id"], "chrUn:5-9"],
        }
    )
    found = evidence_for(links, store)
    match = found.attrs["match"]
    assert match["peak"] == {"absent": 1, "by_name": 1, "matched": 1, "same_place": 1, "unplaced": ["chrUn:5-9"]}
    assert match["gene"] == {"absent": 1, "matched": 2, "unplaced": ["NOBODY"]}
    assert found["distance"].isna().tolist() == [False, False, False, True, True, True]
    assert found["has_motif"].isna().tolist() == [False, False, True, False, False, True]
    assert found["in_ccre"].isna().tolist() == [False] * 5 + [True]
    assert found.loc[0].drop("peak").equals(found.loc[1].drop("peak"))
    assert (match["distance"]["known"], match["distance"]["unknown"]) == (3, 3)
    with pytest.raises(DataError, match="genes: none of 1 has a place in .*: NOBODY"):
        evidence_for(links[3:4], store)
    with pytest.raises(DataError, match="peaks: none of 1 has a place in .*: chrUn:5-9"):
        evidence_for(links[5:], store)
    with pytest.raises(DataError, match="links: no column peak"):
        evidence_for(links[["gene"]], store)


def test_chip_peaks_of_a_file_are_scored_by_the_strongest(store, tmp_path):
    gene, peaks = store.frame("gene")["gene_id"][0], store.frame("peak")
    first, second, third = (peaks[peaks["chrom"] == "chr1"].iloc[place] for place in range(3))
    rows = [
        f"1\t{first['chrom_start']}\t{first['chrom_end']}\ta\t3.5",
        f"1\t{first['chrom_end'] - 1}\t{first['chrom_end'] + 5}\tb\t9",
        f"1\t{second['chrom_end']}\t{second['chrom_end'] + 1}\tc\t50",  # touches, shares no base
        "GL000220.1\t5\t9\td\t1",
    ]
    (tmp_path / "chip.bed").write_text("\n".join(rows) + "\n")
    links = pd.DataFrame({"gene": gene, "peak": [first["peak_id"], second["peak_id"], third["peak_id"]]})
    found = evidence_for(links, store, chip={"cd4": tmp_path / "chip.bed"}, regions=[])
    assert found["in_cd4"].tolist() == [True, False, False]
    assert found["score_cd4"].tolist() == [9.0, 0.0, 0.0]
    assert "in_ccre" not in found
    match = found.attrs["match"]["in_cd4"]["regions"]
    assert (match["matched"], match["absent"], len(match["chromosomes_absent"])) == (3, 1, 1)
    (tmp_path / "far.bed").write_text("chr1\t5\t999999999\n")
    with pytest.raises(BeyondChromosome, match=r"1 of 1 regions of far\.bed end beyond"):
        evidence_for(links, store, chip={"far": tmp_path / "far.bed"})
    (tmp_path / "scaffold.bed").write_text("scaffold_9\t5\t9\n")
    with pytest.raises(ChromNamesDisagree, match=r"regions of scaffold\.bed .* have no chromosome name in common"):
        evidence_for(links, store, chip={"far": tmp_path / "scaffold.bed"})
    with pytest.raises(DataError, match="chip: 1 names are those of sets in the store: ccre"):
        evidence_for(links, store, chip={"ccre": tmp_path / "chip.bed"})
    with pytest.raises(DataError, match="regions: 1 of 1 sets are not in the store: dnase"):
        evidence_for(links, store, regions=["dnase"])
    with pytest.raises(DataError, match="tfs: 1 of 1 names are no gene of .*: NOBODY"):
        evidence_for(links, store, tfs=["NOBODY"])


def clustered(blocks=40, size=25, effect=0.0, seed=0):
    """Links of which those of one block share evidence and score in part; evidence depends on the score by effect."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), size)
    score = rng.normal(size=blocks)[block] + rng.normal(size=block.size)
    odds = effect * score + 1.5 * rng.normal(size=blocks)[block]
    truth = rng.random(block.size) < 1 / (1 + np.exp(-odds))
    names = pd.DataFrame({"gene": [f"g{i}" for i in range(block.size)], "peak": [f"p{i}" for i in range(block.size)]})
    place = {"chrom": "chr1", "chrom_start": block * 1_000, "chrom_end": block * 1_000 + 10}
    evidence = names.assign(**place, in_set=pd.array(truth, dtype="boolean"))
    return names.assign(score=score), evidence


def test_concordance_agrees_with_sklearn_within_each_group():
    links, evidence = clustered(effect=0.7)
    links["score"] = links["score"].round(1)  # ties
    evidence.loc[:9, "in_set"] = pd.NA
    links, evidence = (pd.concat([t.assign(group=g) for g in "ab"], ignore_index=True) for t in (links, evidence))
    links.loc[links["group"] == "b", "score"] *= -1
    shuffled = evidence.sample(frac=1, random_state=0)
    found = concordance(links, shuffled, block_bp=1_000, n_boot=50).set_index("group")
    for group, row in found.iterrows():
        mine = (links["group"] == group) & evidence["in_set"].notna()
        truth, score = evidence.loc[mine, "in_set"].to_numpy(bool), links.loc[mine, "score"]
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, score))
        assert row["auprc"] == pytest.approx(average_precision_score(truth, score))
        assert row["lift"] == pytest.approx(row["auprc"] / truth.mean())
        assert (row["n"], row["n_true"], row["n_unknown"], row["n_blocks"]) == (990, truth.sum(), 10, 40)
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
    assert found.loc["a", "auroc_low"] > 0.5 > found.loc["b", "auroc_high"]
    both = concordance(links, evidence, block_bp=1_000, n_boot=50, absolute=True).set_index("group")
    assert both.loc["a", "auroc"] == both.loc["b", "auroc"]


def test_samples_are_whole_blocks_and_areas_under_their_weights_those_of_repeated_rows():
    rng = np.random.default_rng(3)
    truth, score, block = rng.random(60) < 0.4, rng.integers(0, 9, 60) / 2, np.repeat(np.arange(12), 5)
    measure, held = areas(truth, score), rng.integers(0, 5, 60) * 1.0
    both, given = np.stack([score, truth * 1.0], 1), np.stack([score, truth * 1.0, held], 1)
    ranks, partial = rank_correlation(both), rank_correlation(given)
    for weight in drawn_weights(block, 20, seed=1):
        assert weight.sum() == 60
        assert all(len(set(weight[block == one])) == 1 for one in range(12))
        rows = np.repeat(np.arange(60), weight.astype(int))
        expected = roc_auc_score(truth[rows], score[rows]), average_precision_score(truth[rows], score[rows])
        np.testing.assert_allclose(measure(weight), (*expected, truth[rows].mean()))
        r = {(i, j): stats.spearmanr(given[rows, i], given[rows, j])[0] for i, j in ((0, 1), (0, 2), (1, 2))}
        assert ranks(weight) == pytest.approx(r[0, 1])
        control = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
        assert partial(weight) == pytest.approx(control)
    assert np.isnan(areas(np.array([True, False]), np.array([1.0, 2.0]))(np.array([0.0, 3.0]))).all()
    assert np.isnan(rank_correlation(np.ones((4, 2)))(np.ones(4)))


def test_samples_without_a_value_are_left_out_of_the_interval():
    assert interval([1.0, np.nan, 3.0], 0.5) == (1.5, 2.5)
    with pytest.raises(DataError, match="none of 2 bootstrap samples has a value"):
        interval([np.nan, np.nan], 0.5)


def test_intervals_cover_the_truth_for_blocks_and_not_for_links_taken_as_independent():
    covered = {1_000: 0, 1: 0}
    for seed in range(60):
        links, evidence = clustered(seed=seed)  # no effect: the AUROC of the population is one half
        spread = evidence.assign(chrom_start=np.arange(1_000) * 2, chrom_end=np.arange(1_000) * 2 + 1)
        for size, about in ((1_000, evidence), (1, spread)):
            row = concordance(links, about, block_bp=size, n_boot=120, seed=seed).iloc[0]
            covered[size] += row["auroc_low"] <= 0.5 <= row["auroc_high"]
    assert covered[1_000] >= 51  # 95 % of 60 is 57; 51 or more but once in 300 such tests
    assert covered[1] < 45


def test_the_same_seed_gives_the_same_interval_and_samples_do_not_depend_on_the_order():
    links, evidence = clustered(effect=0.5)
    one = concordance(links, evidence, block_bp=1_000, n_boot=30, seed=4)
    pd.testing.assert_frame_equal(one, concordance(links, evidence, block_bp=1_000, n_boot=30, seed=4))
    mixed = links.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(one, concordance(mixed, evidence, block_bp=1_000, n_boot=30, seed=4))
    other = concordance(links, evidence, block_bp=1_000, n_boot=30, seed=5)
    assert one["auroc"].equals(other["auroc"])
    assert not one["auroc_low"].equals(other["auroc_low"])


def test_blocks_are_stretches_or_whole_chromosomes():
    about = pd.DataFrame(
        {"chrom": ["a", "a", "b", None], "chrom_start": [0, 15, 0, pd.NA], "chrom_end": [10, 25, 4, pd.NA]}
    )
    about = about.astype({"chrom_start": "Int64", "chrom_end": "Int64"})
    assert blocks_of(about, 10).tolist() == [0, 1, 2, -1]
    assert blocks_of(about, None).tolist() == [0, 0, 1, -1]
    with pytest.raises(DataError, match="block_bp: found 0, expected 1 bp or more"):
        blocks_of(about, 0)


def test_concordance_names_what_it_cannot_score():
    links, evidence = clustered()
    evidence["in_all"], evidence["in_none"] = pd.array([True] * 1_000), pd.array([False] * 1_000, dtype="boolean")
    found = concordance(links, evidence, block_bp=1_000, n_boot=10)
    assert found["evidence"].tolist() == ["in_set"]
    assert found.attrs["left_out"] == [
        "in_all: 1000 of 1000 known links are supported",
        "in_none: 0 of 1000 known links are supported",
    ]
    with pytest.raises(DataError, match="no evidence to score links by: in_none: 0 of 1000"):
        concordance(links, evidence, columns=["in_none"])
    with pytest.raises(DataError, match="found columns in_elsewhere, expected among in_set, in_all, in_none"):
        concordance(links, evidence, columns=["in_elsewhere"])
    with pytest.raises(DataError, match="all 1000 rows lie in 1 block of the genome, expected 10 or more"):
        concordance(links, evidence, block_bp=None)
    with pytest.raises(DataError, match="all 1000 rows lie in 9 blocks of the genome, expected 10 or more"):
        concordance(links, evidence, block_bp=4_800)
    assert concordance(links, evidence, block_bp=4_000, n_boot=10)["n_blocks"].tolist() == [10]
    with pytest.raises(DataError, match=r"links: no column 'scor'. Did you mean 'score'\?"):
        concordance(links, evidence, score="scor")
    with pytest.raises(DataError, match="evidence: 990 of 1000 links have none: g10 p10"):
        concordance(links, evidence[:10])
    with pytest.raises(DuplicateNames, match="links: 1 of 1001 rows repeat gene, peak: g0 p0"):
        concordance(pd.concat([links, links[:1]]), evidence)
    with pytest.raises(
        DataError, match=r"found links by \['gene', 'peak'\] and evidence by \['gene', 'peak', 'group'\]"
    ):
        concordance(links, evidence.assign(group="a"))


def test_ranks_agree_with_scipy_and_hold_a_common_cause_fixed():
    links, evidence = clustered()
    rng = np.random.default_rng(0)
    cause = rng.normal(size=1_000)
    links["score"], evidence["distance"] = cause + rng.normal(size=1_000), cause + rng.normal(size=1_000)
    evidence["openness"] = cause
    plain = rank_concordance(links, evidence, columns=["distance"], block_bp=1_000, n_boot=50).iloc[0]
    assert plain["rho"] == pytest.approx(stats.spearmanr(links["score"], evidence["distance"])[0])
    assert plain["rho_low"] > 0.35
    held = rank_concordance(links, evidence, columns=["distance"], given=["openness"], block_bp=1_000, n_boot=50).iloc[
        0
    ]
    assert held["rho_low"] < 0 < held["rho_high"]
    assert held["given"] == "openness"
    with pytest.raises(DataError, match="distance: no rank correlation with 'score' among 1000 links"):
        rank_concordance(links, evidence.assign(distance=1), columns=["distance"])
    with pytest.raises(DataError, match="neither evidence nor links have a column 'corelation'"):
        rank_concordance(links, evidence, columns=["corelation"])


def test_links_add_up_by_peak_within_groups():
    links = pd.DataFrame({"gene": list("ABAB"), "peak": list("ppqp"), "group": list("xxxy"), "total": [1.0, 2, 4, 8]})
    about = links.drop(columns="total").assign(
        distance=pd.array([5, 7, 1, 7], dtype="Int64"),
        correlation=[0.1, 0.4, 0.2, 0.4],
        openness=[0.3, 0.3, 0.6, 0.9],
        in_ccre=pd.array([True, True, pd.NA, True], dtype="boolean"),
        has_regulon=pd.array([False, True, pd.NA, False], dtype="boolean"),
        in_promoter=pd.array([False, True, False, False], dtype="boolean"),
    )
    peaks, evidence = by_peak(links, about)
    assert peaks.to_dict("list") == {
        "peak": ["p", "q", "p"],
        "group": ["x", "x", "y"],
        "total": [3.0, 4.0, 8.0],
        "n_genes": [2, 1, 1],
    }
    assert evidence["distance"].tolist() == [5, 1, 7]
    assert evidence["correlation"].tolist() == [0.4, 0.2, 0.4]
    assert evidence["openness"].tolist() == [0.3, 0.6, 0.9]
    assert evidence["has_regulon"].tolist() == [True, pd.NA, False]
    assert evidence["in_promoter"].tolist() == [True, False, False]  # of one of the genes of the peak
    with pytest.raises(DataError, match="evidence: truth differs between the genes of a peak"):
        by_peak(links, about.assign(truth=[0, 1, 0, 1]))
    assert by_peak(links, about.assign(gc=[0.4, 0.4, np.nan, 0.5]))[1]["gc"].isna().tolist() == [False, True, False]
    assert evidence["in_ccre"].dtype == "boolean"
    assert evidence["in_ccre"].tolist() == [True, pd.NA, True]
