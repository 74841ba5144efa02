import json

import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from heteromics import data
from heteromics.models import Bi2FormerConfig
from tests.studies import planted_links

TINY = data.SyntheticConfig(n_cells=120, n_cell_types=3, n_genes=40, n_peaks=200, n_proteins=5, n_tfs=6)
MODEL = Bi2FormerConfig(id_width=8, hidden=8, key_width=8, top_k=None, max_epochs=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    planted_links.study(folder, TINY, [120], [100], ["default"], MODEL, permutations=3)
    return folder


def test_scores_are_average_precisions_on_the_candidates(folder):
    kept = json.loads((folder / "default-120-100.json").read_text())
    made = data.simulate(TINY, seed=100)
    auprc = kept["auprc"]
    ours = {"attention", "effect", "z", "posterior of z and distance"}
    correlation = {"correlation", "correlation within types", "posterior of that and distance"}
    assert set(auprc) == ours | correlation | {"distance", "GLUE's decay"}
    assert auprc["GLUE's decay"] == pytest.approx(auprc["distance"])  # falls with distance and ranks as it does
    near = made.truth["distance"].max()
    assert kept["true"] == len(made.truth)
    assert near <= made.config.window_bp
    assert all(0 < value <= 1 for value in auprc.values())
    assert 0 <= kept["found_true"] <= kept["found"] <= kept["candidates"]


def test_distance_alone_is_scored_as_sklearn_does(folder):
    kept = json.loads((folder / "default-120-100.json").read_text())
    made = data.simulate(TINY, seed=100)
    tss = made.genes.set_index("gene")[["chrom", "tss"]]
    pairs = tss.reset_index().merge(made.peaks, on="chrom")
    gap = (pairs["chrom_start"] - pairs["tss"]).clip(lower=0) + (pairs["tss"] - pairs["chrom_end"] + 1).clip(lower=0)
    near = pairs[gap <= made.config.window_bp].assign(gap=gap)
    assert len(near) == kept["candidates"]
    known = pd.MultiIndex.from_frame(made.truth[["gene", "peak"]])
    true = pd.MultiIndex.from_frame(near[["gene", "peak"]]).isin(known)
    assert kept["auprc"]["distance"] == pytest.approx(average_precision_score(true, -near["gap"]), abs=1e-9)


def test_a_run_that_is_there_is_not_run_again(folder, monkeypatch):
    monkeypatch.setattr(planted_links, "run", None)
    table = planted_links.study(folder, TINY, [120], [100], ["default"], MODEL)
    assert len(table) == 1
    assert (folder / "planted.csv").exists()
    shown = planted_links.summary(table)
    assert shown.loc["distance", ("default", 120)] == pytest.approx(table["auprc.distance"][0], abs=1e-3)
