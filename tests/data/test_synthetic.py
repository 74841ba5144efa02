import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from heteromics._config import build
from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.data.synthetic.cells import _negative_binomial
from heteromics.data.synthetic.genome import _exons, pairs_in_window
from heteromics.data.synthetic.regulation import Opening, mean_openness
from heteromics.data.synthetic.sequence import _differ, consensus, draw_motifs
from heteromics.errors import DataError, RecipeError

SMALL = {
    "n_cells": 120, "n_cell_types": 3, "n_genes": 40, "n_peaks": 250, "n_proteins": 6, "n_tfs": 5, "n_chromosomes": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return simulate(seed=0)


@pytest.fixture(scope="module")
def log_counts(made):
    """Depth-corrected log counts of each modality, as they are and without the means of the cell types; bounded."""
    cell_type = made.mdata.obs["cell_type"].cat.codes.to_numpy()
    result = {}
    for name in ("rna", "atac", "protein"):
        dense = made.mdata[name].X.toarray().astype(float)
        depth = dense.sum(axis=1, keepdims=True)
        result[name] = np.log1p(dense / depth * np.median(depth))
        within = result[name].copy()
        for code in np.unique(cell_type):
            within[cell_type == code] -= within[cell_type == code].mean(axis=0)
        result[f"{name}_within"] = within
    return result


def correlation(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))


# --- genome -----------------------------------------------------------------------------------------------------------


def test_peaks_and_genes_lie_inside_their_chromosomes(made):
    genome = made.genome
    assert made.mdata["atac"].n_vars == 1_800
    assert (genome.peak_start >= 10_000).all()
    assert (genome.peak_end <= genome.size[genome.peak_chrom] - 10_000).all()
    width = genome.peak_end - genome.peak_start
    assert width.min() >= 200
    assert width.max() <= 800
    same = genome.peak_chrom[1:] == genome.peak_chrom[:-1]
    assert (genome.peak_start[1:] >= genome.peak_end[:-1])[same].all()
    assert (np.diff(genome.peak_chrom) >= 0).all()
    assert (genome.gene_start >= 10_000).all()
    assert (genome.gene_end <= genome.size[genome.gene_chrom] - 10_000).all()
    assert set(genome.gene_chrom) == set(range(5))


def test_start_site_is_the_first_transcribed_base(made):
    genes = made.genes
    plus = genes["strand"] == "+"
    assert (genes["tss"] == genes["chrom_start"].where(plus, genes["chrom_end"] - 1)).all()
    assert 0.3 < plus.mean() < 0.7
    together = np.diff(genes["tss"])[(genes["chrom"].to_numpy()[1:] == genes["chrom"].to_numpy()[:-1])]
    assert together.min() >= 2_000


def test_exons_fill_the_gene_from_end_to_end():
    rng = np.random.default_rng(3)
    start = rng.integers(0, 10**6, 500)
    end = start + rng.integers(2_000, 90_000, 500)
    gene, begin, stop = _exons(start, end, rng)
    first = np.searchsorted(gene, np.arange(500))
    last = np.searchsorted(gene, np.arange(500), side="right") - 1
    np.testing.assert_array_equal(begin[first], start)
    np.testing.assert_array_equal(stop[last], end)
    assert (stop - begin >= 60).all()
    assert (begin[1:] - stop[:-1] >= 60)[gene[1:] == gene[:-1]].all()
    assert 3 < gene.size / 500 < 7


def test_peaks_crowd_at_start_sites(made):
    *_, distance = pairs_in_window(made.genome, 150_000)
    near = (distance < 10_000).mean() / 10_000
    far = (distance > 75_000).mean() / 75_000
    assert near > 1.5 * far
    assert (distance == 0).sum() > 100


def test_pairs_in_window_agree_with_all_pairs(made):
    genome = made.genome
    for window in (1_000, 150_000):
        gap = np.maximum(genome.peak_start - genome.tss[:, None], genome.tss[:, None] - (genome.peak_end - 1)).clip(0)
        linked = (genome.gene_chrom[:, None] == genome.peak_chrom) & (gap <= window)
        gene, peak, distance = pairs_in_window(genome, window)
        np.testing.assert_array_equal(np.argwhere(linked), np.column_stack([gene, peak]))
        np.testing.assert_array_equal(distance, gap[linked])


# --- planted regulation -----------------------------------------------------------------------------------------------


def test_truth_names_what_is_in_the_data(made):
    truth, rna, atac = made.truth, made.mdata["rna"], made.mdata["atac"]
    assert list(truth) == ["gene", "gene_id", "peak", "chrom", "distance", "sign", "strength", "tf"]
    assert list(made.distractors) == ["gene", "peak", "matched_peak", "distance"]
    assert (rna.var.loc[truth["gene"], "gene_id"].to_numpy() == truth["gene_id"]).all()
    assert truth["gene_id"].str.fullmatch(r"ENSG\d{11}").all()
    tss = made.genes.set_index("gene").loc[truth["gene"], "tss"].to_numpy()
    peak = atac.var.loc[truth["peak"]]
    gap = np.maximum(np.maximum(peak["chrom_start"] - tss, tss - (peak["chrom_end"] - 1)), 0)
    np.testing.assert_array_equal(gap, truth["distance"])
    assert (peak["chrom"].to_numpy() == truth["chrom"]).all()
    assert truth["distance"].max() <= 150_000


def test_regulation_keeps_its_promises(made):
    truth, distractors = made.truth, made.distractors
    assert truth["gene"].nunique() == 175
    assert truth["peak"].is_unique
    assert distractors["peak"].is_unique
    assert not set(truth["peak"]) & set(distractors["peak"])
    assert truth.groupby("gene").size().between(1, 3).all()
    assert not truth.duplicated(["gene", "tf"]).any()
    assert set(truth["tf"]) <= set(made.motifs)
    assert not set(truth["gene"]) & set(made.motifs)
    assert truth["strength"].between(1.0, 2.5).all()
    assert stats.binomtest(int((truth["sign"] == -1).sum()), len(truth), 0.2).pvalue > 1e-4
    pair = truth.set_index("peak")["gene"]
    assert (pair.loc[distractors["matched_peak"]].to_numpy() == distractors["gene"]).all()
    assert len(distractors) > 0.9 * len(truth)
    assert distractors["distance"].max() <= 150_000


def test_distance_is_a_fair_and_beatable_baseline(made):
    gene, peak, distance = pairs_in_window(made.genome, 150_000)
    true = np.isin(gene * 10_000 + peak, made.regulation.gene * 10_000 + made.regulation.peak)
    assert 3 * true.mean() < average_precision_score(true, -distance) < 0.4
    link = made.regulation.distractor_link
    nearer = (made.regulation.distractor_distance < made.regulation.distance[link]).mean()
    assert 0.25 < nearer < 0.75


def test_planted_correlation_is_recovered_within_types(made, log_counts):
    regulation = made.regulation
    rna, atac = log_counts["rna_within"], log_counts["atac_within"]
    link = regulation.distractor_link
    driver = correlation(rna[:, regulation.gene], atac[:, regulation.peak])
    distractor = correlation(rna[:, regulation.gene[link]], atac[:, regulation.distractor_peak])
    signed = driver * regulation.sign
    assert (signed > 0).mean() > 0.95
    # A correlation of independent columns has standard deviation 1 / sqrt(n): 0.026 at 1,500 cells.
    noise = 1 / np.sqrt(rna.shape[0])
    assert signed.mean() > 3 * noise
    assert 0.85 < np.sqrt((distractor**2).mean()) / noise < 1.2
    assert stats.ttest_rel(signed[link], distractor * regulation.sign[link]).statistic > 20
    label = np.r_[np.ones(driver.size), np.zeros(distractor.size)]
    assert 0.9 < roc_auc_score(label, np.abs(np.r_[driver, distractor])) < 1


def test_correlation_ranks_candidates_well_but_not_perfectly(made, log_counts):
    gene, peak, _ = pairs_in_window(made.genome, 150_000)
    true = np.isin(gene * 10_000 + peak, made.regulation.gene * 10_000 + made.regulation.peak)
    for kind in ("", "_within"):
        score = np.abs(correlation(log_counts[f"rna{kind}"][:, gene], log_counts[f"atac{kind}"][:, peak]))
        assert 0.4 < average_precision_score(true, score) < 0.85


def test_distractors_open_like_their_driving_peaks_in_every_type(made):
    regulation, counts = made.regulation, made.mdata["atac"].X
    cell_type = made.mdata.obs["cell_type"].cat.codes.to_numpy()
    z = []
    for code in range(6):
        rows = counts[cell_type == code]
        mean = np.asarray(rows.mean(axis=0)).ravel()
        variance = (np.asarray(rows.power(2).mean(axis=0)).ravel() - mean**2) / rows.shape[0]
        a, b = regulation.peak[regulation.distractor_link], regulation.distractor_peak
        z.append((mean[a] - mean[b]) / np.sqrt(np.maximum(variance[a] + variance[b], 1e-6)))
    z = np.concatenate(z)
    assert abs(z.mean()) < 0.15
    assert 0.85 < z.std() < 1.15


def test_mean_openness_agrees_with_simulation():
    rng = np.random.default_rng(0)
    single = [rng.normal(size=shape).astype(np.float32) for shape in (4, (3, 4))]
    spread = np.abs(rng.normal(1, 0.5, (2, 4))).astype(np.float32)
    opening = Opening(np.array([0, 1, 0, -1]), single[0], single[1], *spread, np.zeros((1, 4), np.float32))
    shared, private = rng.standard_normal((2, 200_000, 1))
    for code in range(3):
        logit = single[0] + single[1][code] + spread[0] * shared + spread[1] * private
        drawn = 1 / (1 + np.exp(-logit))
        error = drawn.std(axis=0) / np.sqrt(200_000)
        assert (np.abs(drawn.mean(axis=0) - mean_openness(opening, np.arange(4))[code]) < 5 * error).all()


# --- motifs and sequence ----------------------------------------------------------------------------------------------


def test_motifs_stand_in_driving_peaks_on_their_strand(made):
    dna = {chrom: made.sequence(chrom) for chrom in made.genome.chrom}
    flip = str.maketrans("ACGT", "TGCA")
    agree, total = 0, 0
    names = list(made.motifs)
    sites = made.sites
    for peak, tf, start, strand in zip(sites.peak, sites.tf, sites.start, sites.strand, strict=True):
        word = consensus(made.motifs[names[tf]])
        assert made.genome.peak_start[peak] <= start
        assert start + len(word) <= made.genome.peak_end[peak]
        found = dna[made.genome.chrom[made.genome.peak_chrom[peak]]][start : start + len(word)]
        found = found if strand > 0 else found.translate(flip)[::-1]
        agree, total = agree + sum(a == b for a, b in zip(found, word, strict=True)), total + len(word)
    best = np.mean([made.motifs[names[tf]].max(axis=1).mean() for tf in made.sites.tf])
    assert abs(agree / total - best) < 0.02


def test_consensus_is_far_commoner_in_driving_peaks_than_in_distractors(made):
    dna = {chrom: made.sequence(chrom) for chrom in made.genome.chrom}
    flip = str.maketrans("ACGT", "TGCA")
    places = made.peaks.set_index("peak")

    def holds(peak, tf):
        row = places.loc[peak]
        letters = dna[row["chrom"]][row["chrom_start"] : row["chrom_end"]]
        word = consensus(made.motifs[tf])
        return word in letters or word.translate(flip)[::-1] in letters

    driving = [holds(peak, tf) for peak, tf in zip(made.truth["peak"], made.truth["tf"], strict=True)]
    tf = made.truth.set_index("peak")["tf"]
    matched = tf[made.distractors["matched_peak"]]
    distracting = [holds(peak, tf) for peak, tf in zip(made.distractors["peak"], matched, strict=True)]
    assert np.mean(driving) > 0.25  # 0.91 ** 10, an instance without a single deviating letter, is 0.39
    assert np.mean(distracting) < 0.02  # two strands of 450 letters hold one word of ten in 0.1 % of cases


def test_sequence_looks_like_a_mammal(made):
    letters = np.frombuffer(made.sequence("chr2").encode(), dtype=np.uint8)
    assert letters.size == 4_600_000
    unknown = letters == ord("N")
    assert unknown[:10_000].all()
    assert unknown[-10_000:].all()
    assert not unknown[10_000:-10_000].any()
    strong = (letters == ord("G")) | (letters == ord("C"))
    assert 0.35 < strong.mean() < 0.47
    windows = strong[10_000 : 10_000 + 4_500_000].reshape(-1, 5_000).mean(axis=1)
    assert windows.std() > 5 * np.sqrt(0.24 / 5_000)
    tss = made.genome.tss[made.genome.gene_chrom == 1]
    assert np.mean([strong[t - 250 : t + 250].mean() for t in tss]) > strong.mean() + 0.1
    c, g = letters[:-1] == ord("C"), letters[1:] == ord("G")
    assert (c & g).mean() < 0.5 * c.mean() * g.mean()


def test_sequence_of_an_unknown_chromosome(made):
    with pytest.raises(DataError, match="no chromosome named 'chrX'; the synthetic genome has chr1, chr2"):
        made.sequence("chrX")


def test_motifs_differ_at_every_overlap():
    motifs = draw_motifs(30, np.random.default_rng(1))
    best = [pwm.argmax(axis=1) for pwm in motifs]
    assert all(np.allclose(pwm.sum(axis=1), 1) and (pwm > 0).all() for pwm in motifs)
    assert all(_differ(a, b) and _differ(a, 3 - b[::-1]) for i, a in enumerate(best) for b in best[:i])
    same = np.array([0, 1, 2, 3, 0, 1, 2, 3, 3])
    assert not _differ(same, same)
    assert not _differ(np.r_[2, same], same)
    assert not _differ(same, np.r_[2, same])


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counts_are_counts_and_nothing_is_empty(seed):
    mdata = simulate(seed=seed).mdata
    for name, modality in mdata.mod.items():
        matrix = modality.X
        assert matrix.format == "csr"
        assert matrix.dtype == np.int32
        assert matrix.has_canonical_format
        assert matrix.data.min() > 0
        assert matrix.sum(axis=0).min() > 0, name
        assert matrix.sum(axis=1).min() > 0, name
    assert mdata["atac"].X.data.max() <= 4
    assert mdata.uns["synthetic"] is True
    assert all(modality.uns["synthetic"] for modality in mdata.mod.values())
    assert mdata.obs["cell_type"].value_counts().min() > 50
    assert mdata.obs["batch"].value_counts().tolist() == [750, 750]


def test_negative_binomial_has_the_stated_moments():
    drawn = _negative_binomial(np.full(400_000, 3.0), 4.0, np.random.default_rng(0))
    assert abs(drawn.mean() - 3.0) < 0.02
    assert abs(drawn.var() - (3.0 + 9.0 / 4.0)) < 0.1


def test_protein_follows_its_gene(made, log_counts):
    protein, rna = made.mdata["protein"], made.mdata["rna"]
    column = rna.var_names.get_indexer(protein.var["gene"])
    own = correlation(log_counts["protein"], log_counts["rna"][:, column])
    assert np.median(own) > 0.3
    assert own.min() > 0.05
    all_genes = np.stack([correlation(one[:, None], log_counts["rna"]) for one in log_counts["protein"].T])
    assert (all_genes.argmax(axis=1) == column).mean() > 0.4  # by chance 0.004
    coding = made.genes.set_index("gene").loc[protein.var["gene"]]
    assert (coding["biotype"] == "protein_coding").all()
    assert (coding["protein_id"].to_numpy() == protein.var["protein_id"]).all()


def test_cell_types_form_domains_that_go_on_in_the_next_section(made):
    obs, place = made.mdata.obs, made.mdata.obsm["spatial"]
    code = obs["cell_type"].cat.codes.to_numpy()
    section = (obs["batch"] == "section_1").to_numpy()
    chance = (np.bincount(code) / code.size) @ (np.bincount(code) / code.size)
    for one, other in ((section, section), (section, ~section)):
        gap = ((place[one][:, None] - place[other]) ** 2).sum(axis=2)  # 750 x 750
        nearest = np.argsort(gap, axis=1)[:, 1:6]
        assert (code[other][nearest] == code[one][:, None]).mean() > 2 * chance
    assert place.min() >= 0
    assert place.max() <= 1_000


# --- seeds and settings -----------------------------------------------------------------------------------------------


def same(one, other):
    frames = all(getattr(one, name).equals(getattr(other, name)) for name in ("truth", "distractors", "genes", "peaks"))
    counts = all((one.mdata[name].X != other.mdata[name].X).nnz == 0 for name in ("rna", "atac", "protein"))
    return frames, counts and (one.mdata.obsm["spatial"] == other.mdata.obsm["spatial"]).all()


def test_seed_decides_every_bit():
    config = SyntheticConfig(**SMALL)
    one, again, other = simulate(config, seed=4), simulate(config, seed=4), simulate(config, seed=5)
    assert same(one, again) == (True, True)
    assert one.sequence("chr1") == again.sequence("chr1")
    assert same(one, other) == (False, False)
    assert one.sequence("chr1") != other.sequence("chr1")


def test_negative_seed():
    with pytest.raises(RecipeError, match="found seed -1, expected a whole number of at least 0"):
        simulate(seed=-1)


def test_number_of_cells_leaves_genome_and_truth_alone():
    few, many = (simulate(SyntheticConfig(**SMALL | {"n_cells": n}), seed=4) for n in (120, 180))
    assert few.truth.equals(many.truth)
    assert few.peaks.equals(many.peaks)
    assert few.sequence("chr2") == many.sequence("chr2")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"n_chromosomes": 1, "n_batches": 1, "n_cell_types": 1}, id="one of each"),
        pytest.param({"regulated_share": 0.0}, id="no regulation"),
        pytest.param({"distractors_per_link": 0, "bystander_share": 0.0}, id="drivers alone"),
        pytest.param({"distractors_per_link": 3, "bystander_share": 1.0}, id="no background"),
        pytest.param({"max_peaks_per_gene": 1, "n_tfs": 1, "repressing_share": 1.0}, id="one repressor"),
        pytest.param({"n_genes": 20, "n_tfs": 19, "n_proteins": 10, "regulated_share": 0.05}, id="nearly all TFs"),
        pytest.param({"type_effect": 0.0, "cell_effect": 0.0, "peak_effect": 0.0, "batch_effect": 0.0}, id="no effect"),
        pytest.param({"n_genes": 700, "n_peaks": 1_500}, id="crowded genome"),
    ],
)
def test_extreme_settings_hold_together(change):
    config = SyntheticConfig(**SMALL | change)
    made = simulate(config, seed=2)
    assert made.mdata["rna"].shape == (120, config.n_genes)
    assert made.mdata["atac"].shape == (120, config.n_peaks)
    assert made.mdata["protein"].shape == (120, config.n_proteins)
    assert made.truth["gene"].nunique() == round(config.regulated_share * config.n_genes)
    assert len(made.distractors) <= config.distractors_per_link * len(made.truth)
    roles = made.peaks["role"].value_counts()
    assert roles.get("driver", 0) == len(made.truth)
    assert roles.get("distractor", 0) == len(made.distractors)
    assert (made.genes["chrom_end"] - made.genes["chrom_start"] >= 2_000).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chromosome_bp": 200_000}, "chromosome_bp: found 200,000, whose shortest chromosome has 140,000 bp"),
        ({"n_peaks": 9_000}, r"n_peaks: found 9,000, expected at most 4,975 in a genome of 20.0 Mb. Fix: raise chrom"),
        ({"n_genes": 5_000}, r"n_genes: found 5,000, expected at most 2,487 in a genome of 20.0 Mb"),
        ({"n_cells": 30}, "n_cells: found 30, expected at least 60: ten cells for every cell type"),
        ({"n_tfs": 100}, "n_genes: found 250, expected at least 275: one for every TF and driven gene"),
        ({"n_proteins": 200}, "n_genes: found 250, expected at least 400: twice the proteins"),
        ({"n_tfs": 2}, "n_tfs: found 2, expected at least 3: max_peaks_per_gene"),
        ({"n_chromosomes": 0}, "n_chromosomes: found 0, expected at least 1"),
        ({"repressing_share": 1.5}, "repressing_share: found 1.5, expected a share from 0 to 1"),
        ({"cell_effect": float("nan")}, "cell_effect: found nan, expected a finite number of at least 0"),
        ({"rna_mean": 0.0}, "rna_mean: found 0.0, expected a positive number"),
        ({"strength": (2.0, 1.0)}, r"strength: found \(2.0, 1.0\), expected two positive numbers, low before high"),
        ({"window_bp": 10}, "window_bp: found 10, expected at least 1,000 bp"),
        ({"n_cells": 1, "n_tfs": 2, "rna_mean": -1.0}, r"(?s)rna_mean.*n_cells.*n_tfs"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(RecipeError, match=message):
        SyntheticConfig(**settings)


def test_too_few_peaks_for_the_regulated_genes():
    message = r"175 genes are to be regulated, but only \d+ of the 250 genes that are no TF have a peak of their own"
    with pytest.raises(RecipeError, match=message):
        simulate(SyntheticConfig(n_peaks=120))


def test_settings_can_come_from_a_recipe():
    assert build(SyntheticConfig, {"n_cells": 200, "strength": [1, 2]}, "synthetic").strength == (1.0, 2.0)
    with pytest.raises(RecipeError, match=r"synthetic: unknown key 'n_cell'. Did you mean 'n_cells'\?"):
        build(SyntheticConfig, {"n_cell": 200}, "synthetic")
