import numpy as np
import pandas as pd
import pytest
from scipy import stats

from heteromics.errors import DataError
from heteromics.interpret import binding_correlation, tf_binding


def cells_of_a_type(n=900, effect=0.0, seed=0):
    """Two genes for each peak; openness drives attention and binding, and binding adds to attention by effect."""
    rng = np.random.default_rng(seed)
    openness = rng.random(n)
    binding = np.where(rng.random(n) < openness, 1 + 20 * openness + 6 * rng.random(n), 0.0)
    attention = 10 * openness + effect * binding + rng.random(n)
    share = rng.random(n)
    peaks = [f"p{i}" for i in range(n)]
    links = pd.DataFrame({"gene": ["A"] * n + ["B"] * n, "peak": peaks * 2})
    links["total"] = np.concatenate([share * attention, (1 - share) * attention])
    place = pd.DataFrame({"chrom": "chr1", "chrom_start": np.arange(n) * 100, "chrom_end": np.arange(n) * 100 + 50})
    about = place.assign(openness=openness, score_chip=binding)
    return links, links[["gene", "peak"]].join(pd.concat([about, about], ignore_index=True))


def test_attention_is_summed_over_genes_beside_the_score_of_the_peak():
    links, evidence = cells_of_a_type()
    table = tf_binding(links, evidence.sample(frac=1, random_state=0), binding="score_chip")
    expected = links.groupby("peak")["total"].sum()
    np.testing.assert_allclose(table["attention"], expected[table["peak"]])
    score = evidence.drop_duplicates("peak").set_index("peak")["score_chip"]
    np.testing.assert_array_equal(table["binding"], score[table["peak"]])
    assert table["bound"].tolist() == (table["binding"] > 0).tolist()
    assert (table["n_genes"] == 2).all()


def test_openness_alone_makes_a_correlation_that_vanishes_when_it_is_held_fixed():
    table = tf_binding(*cells_of_a_type(), binding="score_chip")
    found = binding_correlation(table, block_bp=1_000, n_boot=100).set_index(["peaks", "given"])
    bound = table[table["bound"]]
    assert found.loc[("bound", ""), "rho"] == pytest.approx(stats.spearmanr(bound["attention"], bound["binding"])[0])
    assert found.loc[("all", ""), "rho"] == pytest.approx(stats.spearmanr(table["attention"], table["binding"])[0])
    assert found.loc[("all", ""), "rho_low"] > 0.3
    assert found.loc[("bound", ""), "rho_low"] > 0.3
    assert found.loc[("bound", "openness"), "rho_low"] < 0 < found.loc[("bound", "openness"), "rho_high"]
    assert found.loc[("all", ""), "n"] == 900
    assert found.loc[("all", ""), "n_blocks"] == 90


def test_attention_to_binding_beyond_openness_is_found():
    table = tf_binding(*cells_of_a_type(effect=0.5), binding="score_chip")
    found = binding_correlation(table, block_bp=1_000, n_boot=100).set_index(["peaks", "given"])
    assert found.loc[("bound", "openness"), "rho_low"] > 0.3


def test_groups_stay_apart_and_unknown_binding_is_counted():
    links, evidence = cells_of_a_type(n=60)
    evidence.loc[evidence["peak"].isin(["p0", "p1"]), "score_chip"] = np.nan
    grouped = [pd.concat([t.assign(group=g) for g in ("CD4", "B")], ignore_index=True) for t in (links, evidence)]
    grouped[0].loc[grouped[0]["group"] == "B", "total"] *= -1
    table = tf_binding(*grouped, binding="score_chip")
    assert table.attrs["left_out"] == 4
    assert table.groupby("group")["peak"].nunique().to_dict() == {"B": 58, "CD4": 58}
    found = binding_correlation(table, given=(), block_bp=200, n_boot=20)
    rho = found[found["peaks"] == "all"].set_index("group")["rho"]
    assert rho["B"] == pytest.approx(-rho["CD4"])


def test_wrong_columns_are_refused():
    links, evidence = cells_of_a_type(n=9)
    with pytest.raises(DataError, match=r"evidence: no column 'score_chp'. Did you mean 'score_chip'\?"):
        tf_binding(links, evidence, binding="score_chp")
    with pytest.raises(DataError, match="links: no column 'total'"):
        tf_binding(links.drop(columns="total"), evidence, binding="score_chip")
    with pytest.raises(DataError, match="evidence: no column 'openness'"):
        tf_binding(links, evidence.drop(columns="openness"), binding="score_chip")
    with pytest.raises(DataError, match="score_chip: known for none of 9 peaks"):
        tf_binding(links, evidence.assign(score_chip=np.nan), binding="score_chip")
