import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.multitest import multipletests

from heteromics.errors import DataError
from heteromics.interpret import by_peak, enrichment
from heteromics.interpret._enrichment import background_weights, pooled_odds, strata, strongest
from heteromics.interpret._resampling import jackknife_error


def tables_of(case, truth, stratum):
    found = []
    for one in np.unique(stratum):
        mine = stratum == one
        found.append(
            [
                [(case & truth & mine).sum(), (case & ~truth & mine).sum()],
                [(~case & truth & mine).sum(), (~case & ~truth & mine).sum()],
            ]
        )
    return [np.array(table, float) for table in found]


def sample(n=600, seed=0):
    rng = np.random.default_rng(seed)
    stratum = rng.integers(0, 5, n)
    case = rng.random(n) < 0.1 + 0.1 * stratum
    truth = rng.random(n) < 0.2 + 0.1 * stratum + 0.1 * case
    return case, truth, stratum


def test_a_table_worked_by_hand():
    """Two strata: 4 x 6 / 20 + 3 x 4 / 10 over 2 x 8 / 20 + 1 x 2 / 10, that is 2.4 over 1."""
    cells = [(4, 2, 8, 6), (3, 1, 2, 4)]
    case, truth, stratum = [], [], []
    for one, (a, b, c, d) in enumerate(cells):
        case += [True] * (a + b) + [False] * (c + d)
        truth += [True] * a + [False] * b + [True] * c + [False] * d
        stratum += [one] * (a + b + c + d)
    assert pooled_odds(case, truth, stratum, np.arange(30)).odds_ratio == pytest.approx(2.4)


def test_pooled_odds_ratio_agrees_with_statsmodels():
    case, truth, stratum = sample()
    theirs = StratifiedTable(tables_of(case, truth, stratum))
    ours = pooled_odds(case, truth, stratum, np.arange(case.size))
    assert ours.odds_ratio == pytest.approx(theirs.oddsratio_pooled)
    # links that are independent: the jackknife agrees with the formula of Robins, Breslow and Greenland
    low, high = theirs.oddsratio_pooled_confint()
    assert np.log(ours.low) == pytest.approx(np.log(low), abs=0.03)
    assert np.log(ours.high) == pytest.approx(np.log(high), abs=0.03)
    assert ours.p == pytest.approx(theirs.test_null_odds(correction=False).pvalue, rel=0.2)


def test_the_jackknife_leaves_blocks_out_in_turn():
    case, truth, stratum = sample()
    block = np.random.default_rng(1).integers(0, 7, case.size) ** 2  # of unequal sizes, numbers with gaps
    whole = np.log(StratifiedTable(tables_of(case, truth, stratum)).oddsratio_pooled)
    without, size = [], []
    for one in np.unique(block):
        rest = block != one
        without.append(np.log(StratifiedTable(tables_of(case[rest], truth[rest], stratum[rest])).oddsratio_pooled))
        size.append((~rest).sum())
    number, h = len(size), case.size / np.array(size)
    pseudo = h * whole - (h - 1) * np.array(without)
    centre = number * whole - sum((1 - 1 / one) * theta for one, theta in zip(h, without, strict=True))
    error = np.sqrt(sum((p - centre) ** 2 / (one - 1) for p, one in zip(pseudo, h, strict=True)) / number)
    assert jackknife_error(whole, np.array(without), np.array(size, float)) == pytest.approx(error)
    found = pooled_odds(case, truth, stratum, block)
    assert found.n_blocks == 7
    tops = pd.Series(block[case]).value_counts()
    df = tops.sum() ** 2 / (tops**2).sum() - 1
    assert found.df == pytest.approx(df)
    assert 3 < df < 6
    assert np.log(found.high / found.low) / 2 / stats.t.ppf(0.975, df) == pytest.approx(error)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(whole) / error, df))


@pytest.mark.parametrize("strays", [0, 30])
def test_top_links_of_few_blocks_prove_no_more_than_these(strays):
    """120 top links in 4 of 60 blocks, a few elsewhere; blocks differ by luck, top and background by nothing."""
    p = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        block = np.repeat(np.arange(60), 40)
        truth = rng.random(2_400) < 1 / (1 + np.exp(-rng.normal(size=60)))[block]
        case = np.zeros(2_400, bool)
        case[rng.choice(160, 120, replace=False)] = True
        case[160 + rng.choice(2_240, strays, replace=False)] = True
        p.append(pooled_odds(case, truth, rng.integers(0, 3, 2_400), block).p)
    assert np.mean(np.array(p) < 0.01) < 0.02  # with a degree of freedom for each block 0.05 and 0.03
    assert np.mean(np.array(p) < 0.05) < 0.08


def test_top_links_of_one_block_tell_nothing():
    case, truth = np.arange(40) < 8, np.arange(40) % 3 == 0
    found = pooled_odds(case, truth, np.zeros(40, int), np.arange(40) // 10)
    assert (found.low, found.high, found.p, found.df) == (0.0, np.inf, 1.0, 0.0)


def test_where_one_block_holds_all_the_evidence_nothing_can_be_said():
    case, truth = np.repeat([True, False], 10), np.arange(20) == 3
    found = pooled_odds(case, truth, np.zeros(20, int), np.arange(20))
    assert found.odds_ratio == np.inf
    assert (found.low, found.high, found.p) == (0.0, np.inf, 1.0)
    with pytest.raises(DataError, match="all 20 links lie in 1 block"):
        pooled_odds(case, truth, np.zeros(20, int), np.zeros(20, int))


def test_strata_hold_cases_and_controls_of_like_covariates():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3_000))
    case = rng.random(3_000) < 1 / (1 + np.exp(3 - values[0]))
    stratum = strata(list(values), case, 4)
    for one in np.unique(stratum[stratum >= 0]):
        assert case[stratum == one].any()
        assert not case[stratum == one].all()
    low, high = values[:, case].min(axis=1), values[:, case].max(axis=1)
    beyond = ((low > values.T) | (high < values.T)).any(axis=1)
    assert beyond.sum() > 10
    assert (stratum[beyond] == -1).all()
    edges = np.quantile(values[:, case], [0.25, 0.5, 0.75], axis=1)  # (3, 2)
    cell = [tuple((values[k, i] > edges[:, k]).sum() for k in (0, 1)) for i in range(3_000)]
    matched = np.flatnonzero(stratum >= 0)
    assert (
        len({(cell[i], stratum[i]) for i in matched}) == len({cell[i] for i in matched}) == len(set(stratum[matched]))
    )
    weight = background_weights(case, stratum)
    for one in np.unique(stratum[matched]):
        assert weight[stratum == one].sum() == pytest.approx((case & (stratum == one)).sum())
    assert not weight[case | (stratum < 0)].any()


def test_the_strongest_are_a_share_or_a_number_with_their_ties():
    score = np.array([5.0, 4.0, 4.0, 1.0, np.nan, 0.0])
    assert strongest(score, 1).sum() == 1
    assert strongest(score, 2).tolist() == [True, True, True, False, False, False]
    assert strongest(score, 0.2).sum() == 1
    assert strongest(score, 0.6).sum() == 3
    with pytest.raises(DataError, match="top=5: all 5 links are among the strongest"):
        strongest(score, 5)


def simulated(blocks=60, size=40, effect=0.0, seed=0, confounded=True):
    """Distance and openness drive both score and evidence; blocks share luck in both; effect is what the score adds."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), size)
    n = block.size
    distance, openness = rng.integers(0, 1_000, n), rng.random(n)
    cause = (openness - distance / 1_000) * 2 * confounded
    score = cause + 0.7 * rng.normal(size=blocks)[block] + rng.normal(size=n)
    odds = cause + effect * (score - cause) + rng.normal(size=blocks)[block]
    truth = rng.random(n) < 1 / (1 + np.exp(-odds))
    names = pd.DataFrame({"gene": [f"g{i}" for i in range(n)], "peak": [f"p{i}" for i in range(n)]})
    evidence = names.assign(
        chrom="chr1",
        chrom_start=block * 1_000,
        chrom_end=block * 1_000 + 10,
        distance=distance,
        openness=openness,
        in_chip=pd.array(truth, dtype="boolean"),
    )
    return names.assign(score=score), evidence


OPTIONS = {"top": 0.1, "matched_by": ("distance", "openness"), "block_bp": 1_000}


def test_where_the_background_holds_p_values_are_uniform():
    p = [enrichment(*simulated(seed=seed), **OPTIONS).table["p"][0] for seed in range(150)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) < 0.11  # 0.05 expected, 0.11 is three standard errors above


def test_without_matching_distance_and_openness_pass_for_an_enrichment():
    def odds(**options):
        rows = [enrichment(*simulated(seed=seed), **OPTIONS | options).table.iloc[0] for seed in range(10)]
        return np.mean([np.log(row["odds_ratio"]) for row in rows]), sum(row["low"] > 1 for row in rows)

    raw, surely = odds(matched_by=())
    matched, wrongly = odds()
    assert raw > 0.4
    assert surely >= 7
    assert abs(matched) < 0.2 * raw
    assert wrongly <= 2


def test_a_planted_enrichment_is_found_and_links_taken_as_independent_seem_surer_than_they_are():
    links, evidence = simulated(effect=1.0, seed=3)
    found = enrichment(links, evidence, **OPTIONS)
    row = found.table.iloc[0]
    assert row["low"] > 1.5
    assert row["p"] < 1e-3
    assert row["share_top"] > row["share_background"] + 0.1
    assert (row["n_top"] + row["n_unmatched"], row["n_blocks"], row["n_unknown"]) == (240, 60, 0)
    balance = found.balance.set_index("covariate")
    assert balance["smd_before"].abs().min() > 0.4
    assert balance["smd_after"].abs().max() < 0.1
    assert row["worst_smd"] == balance["smd_after"].abs().max()
    apart = evidence.assign(chrom_start=np.arange(2_400) * 2, chrom_end=np.arange(2_400) * 2 + 1)
    alone = enrichment(links, apart, **OPTIONS | {"block_bp": 1}).table.iloc[0]
    assert alone["odds_ratio"] == pytest.approx(row["odds_ratio"])
    assert alone["high"] / alone["low"] < row["high"] / row["low"]


def test_shares_and_differences_agree_with_sums_over_strata():
    links, evidence = simulated(effect=0.5)
    evidence.loc[:99, "in_chip"] = pd.NA
    evidence["openness"] = evidence["openness"].where(evidence.index >= 50)
    found = enrichment(links, evidence, **OPTIONS)
    row, case = found.table.iloc[0], strongest(links["score"].to_numpy(), 0.1)[100:]
    about = evidence[100:]
    stratum = strata([about["distance"].to_numpy(float), about["openness"].to_numpy()], case, 5)
    truth = about["in_chip"].to_numpy(bool)
    shares, counts = [], []
    for one in np.unique(stratum[stratum >= 0]):
        shares.append(truth[(stratum == one) & ~case].mean())
        counts.append((case & (stratum == one)).sum())
    assert row["share_background"] == pytest.approx(np.average(shares, weights=counts))
    assert row["share_top"] == pytest.approx(truth[case & (stratum >= 0)].mean())
    assert (row["n_unknown"], row["n_strata"]) == (100, len(counts))
    assert row["odds_ratio"] == pytest.approx(
        StratifiedTable(tables_of(case[stratum >= 0], truth[stratum >= 0], stratum[stratum >= 0])).oddsratio_pooled
    )
    before = found.balance.set_index("covariate").loc["openness"]
    openness = about["openness"].to_numpy()
    spread = np.sqrt((openness[case].var() + openness[~case].var()) / 2)
    assert before["smd_before"] == pytest.approx((openness[case].mean() - openness[~case].mean()) / spread)
    assert before["smd_before"] == pytest.approx((before["mean_top_before"] - before["mean_before"]) / spread)
    assert before["mean_top_after"] == pytest.approx(openness[case & (stratum >= 0)].mean())
    assert before["smd_after"] == pytest.approx((before["mean_top_after"] - before["mean_after"]) / spread)


def test_groups_and_peaks_are_compared_among_themselves():
    links, evidence = simulated(effect=1.0)
    links["total"] = links["score"] - links["score"].min()
    grouped = [pd.concat([table.assign(group=group) for group in ("T", "B")]) for table in (links, evidence)]
    grouped[0].loc[grouped[0]["group"] == "B", "total"] *= -1
    peaks = by_peak(*grouped)
    found = enrichment(*peaks, score="total", **OPTIONS).table.set_index("group")
    assert found.index.tolist() == ["B", "T"]
    assert found.loc["T", "low"] > 1 > found.loc["B", "high"]
    np.testing.assert_allclose(found["fdr"], multipletests(found["p"], method="fdr_bh")[1])
    alone = enrichment(links, evidence, score="total", **OPTIONS).table.iloc[0]
    assert found.loc["T", "odds_ratio"] == pytest.approx(alone["odds_ratio"])


def test_the_order_of_rows_does_not_matter():
    links, evidence = simulated(effect=1.0)
    one = enrichment(links, evidence, **OPTIONS)
    two = enrichment(links.sample(frac=1, random_state=0), evidence.sample(frac=1, random_state=1), **OPTIONS)
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.balance, two.balance)


def test_wrong_questions_are_refused():
    links, evidence = simulated()
    with pytest.raises(DataError, match=r"neither evidence nor links have a column 'gc'"):
        enrichment(links, evidence, top=0.1)
    with pytest.raises(DataError, match="'gc' is known for none of 2400 links"):
        enrichment(links, evidence.assign(gc=np.nan), top=0.1)
    with pytest.raises(DataError, match="found columns in_x, expected among in_chip"):
        enrichment(links, evidence, columns=["in_x"], **OPTIONS)
    with pytest.raises(DataError, match="found bins=0 and top=0.1"):
        enrichment(links, evidence, bins=0, **OPTIONS)
    evidence["in_none"] = pd.array([False] * 2_400, dtype="boolean")
    found = enrichment(links, evidence, **OPTIONS)
    assert found.table["evidence"].tolist() == ["in_chip"]
    assert len(found.table.attrs["left_out"]) == 1
    assert found.table.attrs["left_out"][0].startswith("in_none: 0 of ")
    with pytest.raises(DataError, match="no top links can be compared: in_none: 0 of"):
        enrichment(links, evidence, columns=["in_none"], **OPTIONS)
