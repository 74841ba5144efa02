import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from heteromics import data
from heteromics.errors import DataError
from heteromics.models import Bi2FormerConfig
from tests.studies import planted_links

TINY = data.SyntheticConfig(n_cells=120, n_cell_types=3, n_genes=40, n_peaks=200, n_proteins=5, n_tfs=6)
MODEL = Bi2FormerConfig(id_width=8, hidden=8, key_width=8, top_k=None, max_epochs=2)


@pytest.fixture(scope="module")
def scored():
    """The tables of scores that the study made."""
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scored):
    folder, tables_of = tmp_path_factory.mktemp("planted"), planted_links.tables_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted_links, "tables_of", lambda *given: scored.append(tables_of(*given)) or scored[-1])
        planted_links.study(folder, TINY, [120], [100], ["default"], {"small": MODEL}, permutations=3)
    return folder


def _is_true(pairs, made):
    known = pd.MultiIndex.from_frame(made.truth[["gene", "peak"]])
    return pd.MultiIndex.from_frame(pairs[["gene", "peak"]]).isin(known)


def test_scores_are_average_precisions_on_the_candidates(folder, scored):
    kept = json.loads((folder / "default-120-100-small.json").read_text())
    made = data.simulate(TINY, seed=100)
    auprc = kept["auprc"]
    ours = {"attention", "effect", "z", "posterior of z and distance"}
    correlation = {"correlation", "correlation within types", "posterior of that and distance"}
    assert set(auprc) == ours | correlation | {"distance", "GLUE's decay"}
    assert auprc["GLUE's decay"] == pytest.approx(auprc["distance"])  # falls with distance and ranks as it does
    near = made.truth["distance"].max()
    assert kept["true"] == len(made.truth)
    assert near <= made.config.window_bp
    (tables,) = scored
    links, true = tables["effect"], _is_true(tables["effect"], made)
    assert true.sum() == kept["true"]
    for name, score in (
        ("z", links["z"].abs()),
        ("posterior of z and distance", links["posterior"]),
        ("correlation", tables["correlation"]["score"].abs()),
    ):
        assert auprc[name] == pytest.approx(average_precision_score(true, score), abs=1e-9)


def test_rates_are_of_the_links_tested():
    links = pd.DataFrame({"tested": [True] * 4 + [False] * 6, "posterior": [0.9, 0.2, 0.0, 0.1] + [0.0] * 6})
    small = [1e-4, 0.03, 0.5, 0.005] + [1.0] * 6
    links = links.assign(p=small, fdr=small, fdr_above=[1e-4, 0.5, 0.5, 0.01] + [1.0] * 6, p_distance=1.0)
    links = links.assign(fdr_distance=1.0)
    true, apart = np.array([True, False, False, False, True] + [False] * 5), np.arange(10) % 2 == 1
    found = planted_links.of_tests(links, true, apart)
    assert (found["tested"], found["tested_true"], found["found"], found["found_true"]) == (4, 1, 3, 1)
    assert (found["found_above"], found["found_above_true"], found["independent"]) == (2, 1, 2)
    assert [found[f"independent_p{level}"] for level in ("05", "01", "001")] == [1, 0.5, 0]
    assert [found[f"false_p{level}"] for level in ("05", "01", "001")] == pytest.approx([2 / 3, 1 / 3, 0])
    assert found["posterior_mean"] == pytest.approx(0.3)
    assert found["posterior_ece"] == pytest.approx((0.1 + 0.1 + 0.2) / 4)
    none = planted_links.of_tests(links.assign(tested=False), np.ones(10, bool), ~true)
    assert none["tested"] == none["independent"] == 0
    assert none["false_p05"] is none["posterior_ece"] is none["independent_p05"] is None


def test_independent_pairs_have_no_link_and_no_factor():
    made = data.simulate(TINY, seed=100)
    pairs = made.genes[["gene"]].merge(made.peaks[["peak"]], how="cross")
    apart = planted_links.independent(made, pairs)
    by_gene = pd.Series(apart, index=pairs["gene"]).groupby(level=0).any()
    assert set(by_gene.index[by_gene]) == set(made.genes["gene"]) - set(made.truth["gene"])
    by_peak = pd.Series(apart, index=pairs["peak"]).groupby(level=0).any()
    assert set(by_peak.index[by_peak]) == set(made.peaks.loc[made.peaks["tf"].fillna("") == "", "peak"])


def test_distance_alone_is_scored_as_sklearn_does(folder):
    kept = json.loads((folder / "default-120-100-small.json").read_text())
    made = data.simulate(TINY, seed=100)
    tss = made.genes.set_index("gene")[["chrom", "tss"]]
    pairs = tss.reset_index().merge(made.peaks, on="chrom")
    gap = (pairs["chrom_start"] - pairs["tss"]).clip(lower=0) + (pairs["tss"] - pairs["chrom_end"] + 1).clip(lower=0)
    near = pairs[gap <= made.config.window_bp].assign(gap=gap)
    assert len(near) == kept["candidates"]
    true = _is_true(near, made)
    assert kept["auprc"]["distance"] == pytest.approx(average_precision_score(true, -near["gap"]), abs=1e-9)


def test_a_run_that_is_there_is_not_run_again(folder, monkeypatch):
    monkeypatch.setattr(planted_links, "run", None)
    asked = (folder, TINY, [120], [100], ["default"])
    table = planted_links.study(*asked, {"small": MODEL}, permutations=3)
    assert len(table) == 1
    assert (folder / "planted.csv").exists()
    shown = planted_links.summary(table)
    assert shown.loc["distance", ("default", 120, "small")] == pytest.approx(table["auprc.distance"][0], abs=1e-3)
    with pytest.raises(DataError, match=r"default-120-100-small\.json: a run of other settings"):
        planted_links.study(*asked, {"small": dataclasses.replace(MODEL, max_epochs=3)}, permutations=3)
