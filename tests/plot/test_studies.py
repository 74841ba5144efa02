"""Few-shot curves, calibration and forest plots: lines, bands, bars and what they are called."""

import numpy as np
import pandas as pd
import pytest

from heteromics import plot
from heteromics.errors import DataError


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def runs():
    rng = np.random.default_rng(0)
    rows = [(m, s, k, "auroc", rng.uniform(0.5, 1)) for m in "AB" for s in (0.01, 0.1, 1.0) for k in range(4)]
    return pd.DataFrame(rows, columns=["model", "share", "seed", "metric", "value"]).assign(negatives="hard")


def test_few_shot_lines_are_means_and_bands_one_standard_deviation():
    table = runs()
    (axes,) = plot.few_shot(table, title="SNARE-seq").axes
    for line, band, name in zip(axes.lines, axes.collections, "AB", strict=False):
        values = table[table["model"] == name].groupby("share")["value"]
        np.testing.assert_allclose(line.get_ydata(), values.mean())
        edge = band.get_paths()[0].vertices
        for share, mean, spread in zip(line.get_xdata(), values.mean(), values.std(), strict=True):
            there = edge[np.isclose(edge[:, 0], share), 1]
            assert (there.min(), there.max()) == (pytest.approx(mean - spread), pytest.approx(mean + spread))
    assert legend(axes) == ["A, 4 seeds", "B, 4 seeds", "chance"]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "10", "100"]


def test_few_shot_of_one_seed_has_no_band_and_says_so():
    (axes,) = plot.few_shot(runs().query("seed == 0"), negatives="hard").axes
    assert legend(axes)[0] == "A, 1 seed"
    assert np.ptp(axes.collections[0].get_paths()[0].vertices[:, 1]) == pytest.approx(np.ptp(axes.lines[0].get_ydata()))
    assert axes.get_ylabel() == "AUROC, hard negatives"


def test_few_shot_says_what_to_choose():
    both = pd.concat([runs(), runs().assign(negatives="easy")])
    with pytest.raises(DataError, match=r"found negatives=None, expected one of hard, easy"):
        plot.few_shot(both)
    assert len(plot.few_shot(both, negatives="easy").axes[0].lines) == 3
    with pytest.raises(DataError, match=r"found metric='accuracy', expected one of auroc"):
        plot.few_shot(runs(), metric="accuracy")
    with pytest.raises(DataError, match=r"24 of 48 runs repeat a model, share and seed"):
        plot.few_shot(pd.concat([runs(), runs()]))
    with pytest.raises(DataError, match=r"found a share of 0, expected shares above 0"):
        plot.few_shot(runs().assign(share=0.0, seed=range(24)))


def test_calibration_has_the_bins_and_the_weighted_error():
    bins = pd.DataFrame({"predicted": [0.9, 0.1, 0.5], "observed": [0.8, 0.3, 0.5], "n": [30, 10, 60], "model": "M"})
    axes, below = plot.calibration(pd.concat([bins, bins.assign(model="N", observed=bins["predicted"])])).axes
    assert legend(axes) == ["perfect", f"M, ECE {(30 * 0.1 + 10 * 0.2) / 100:.3f}", "N, ECE 0.000"]
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), [[0.1, 0.3], [0.5, 0.5], [0.9, 0.8]])
    np.testing.assert_allclose(below.lines[0].get_ydata(), [0.1, 0.6, 0.3])
    kinds = pd.concat([bins.assign(negatives="easy"), bins.assign(negatives="hard", observed=bins["predicted"])])
    assert legend(plot.calibration(kinds, negatives="hard").axes[0])[1] == "M, ECE 0.000"
    with pytest.raises(DataError, match=r"calibration: found negatives=None, expected one of easy, hard"):
        plot.calibration(kinds)
    with pytest.raises(DataError, match=r"calibration: found 2 values of seed \(0, 1\), expected one"):
        plot.calibration(pd.concat([bins.assign(seed=seed) for seed in (0, 1)]))
    with pytest.raises(DataError, match="1 of 3 bins have a share outside 0 to 1"):
        plot.calibration(bins.assign(observed=[0.8, 1.3, 0.5]))


def agreement():
    return pd.DataFrame(
        {
            "evidence": ["in_ccre", "has_motif"] * 2,
            "method": ["z", "z", "distance", "distance"],
            "auroc": [0.7, 0.6, 0.55, 0.5],
            "auroc_low": [0.6, 0.5, 0.5, 0.4],
            "auroc_high": [0.75, 0.65, 0.6, 0.55],
            "n_true": 1_200,
            "n": 5_000,
        }
    )


def test_forest_plot_has_a_point_and_an_interval_for_each_row():
    (axes,) = plot.evidence(agreement(), title="L4").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["in ccre", "has motif"]
    z, distance = axes.containers
    np.testing.assert_array_equal(z.lines[0].get_xdata(), [0.7, 0.6])
    ends = [segment[:, 0].tolist() for segment in distance.lines[2][0].get_segments()]
    assert ends == [pytest.approx([0.5, 0.6]), pytest.approx([0.4, 0.55])]
    assert legend(axes) == ["z", "distance"]
    assert {text.get_text() for text in axes.texts} == {"1,200 of 5,000"}
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.5]
    assert axes.get_ylim() == (1.5, -0.5)  # first on top


def test_ratios_are_logarithmic_around_one():
    ratio = agreement()[:2].rename(columns=lambda name: name.replace("auroc", "odds_ratio")).drop(columns="method")
    (axes,) = plot.evidence(ratio, measure="odds_ratio").axes
    assert axes.get_xscale() == "log"
    assert axes.get_legend() is None
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [1.0]


def test_bounds_may_be_those_of_an_enrichment():
    table = agreement()[:2].rename(columns={"auroc": "odds_ratio", "auroc_low": "low", "auroc_high": "high"})
    (axes,) = plot.evidence(table, measure="odds_ratio").axes
    ends = [segment[:, 0].tolist() for segment in axes.containers[0].lines[2][0].get_segments()]
    assert ends == [pytest.approx([0.6, 0.75]), pytest.approx([0.5, 0.65])]


def test_forest_plots_of_wrong_tables_say_so():
    with pytest.raises(DataError, match=r"1 of 4 intervals do not enclose their auroc: has_motif"):
        plot.evidence(agreement().assign(auroc=[0.7, 0.4, 0.55, 0.5]))
    with pytest.raises(DataError, match=r"4 of 8 rows repeat an evidence and method"):
        plot.evidence(pd.concat([agreement(), agreement()]))
    with pytest.raises(
        DataError, match=r"evidence: found 4 rows with columns .*expected .* with auprc, evidence, high, low"
    ):
        plot.evidence(agreement(), measure="auprc")


def test_nine_models_have_nine_looks():
    table = pd.DataFrame({"model": list("ABCDEFGHI"), "share": 1.0, "seed": 0, "value": 0.5})
    lines = plot.few_shot(table).axes[0].lines[:9]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 9
