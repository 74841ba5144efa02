"""The attention matrix of one cell at several thresholds, and attention beside binding."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from heteromics import plot
from heteromics.errors import DataError


def cell(genes=6, peaks=9, n=30, seed=0):
    rng = np.random.default_rng(seed)
    place = rng.choice(genes * peaks, n, replace=False)
    return pd.DataFrame(
        {
            "gene": [f"g{i}" for i in place // peaks],
            "peak": [f"p{i}" for i in place % peaks],
            "attention": rng.uniform(0.4, 1, n),
        }
    )


def test_panels_hold_the_links_above_their_threshold():
    table = cell().sort_values(["gene", "peak"])
    table.loc[table.index[0], "attention"] = 0.6  # exactly at a threshold: strictly above is kept
    figure = plot.attention_matrix(table, taus=(0.5, 0.6, 0.9), title="cell 7")
    panels = figure.axes[:3]
    assert figure.get_suptitle() == "cell 7"
    genes, peaks = (list(dict.fromkeys(table[side])) for side in ("gene", "peak"))
    for axes, tau in zip(panels, (0.5, 0.6, 0.9), strict=True):
        shown = axes.images[0].get_array().filled(np.nan)
        wanted = table.pivot_table(index="gene", columns="peak", values="attention").loc[genes, peaks]
        np.testing.assert_array_equal(shown, wanted.where(wanted > tau))
        number = int((table["attention"] > tau).sum())
        assert axes.get_title() == f"τ = {tau}: {number} of {len(genes) * len(peaks)} pairs"
        assert axes.images[0].get_clim() == (0.5, table["attention"].max())
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == genes
    assert [tick.get_text() for tick in panels[0].get_xticklabels()] == peaks


def test_thresholds_above_everything_leave_an_empty_panel():
    (axes, _) = plot.attention_matrix(cell(), taus=(1.0,)).axes
    assert axes.get_title().startswith("τ = 1: 0 of")
    assert axes.images[0].get_array().mask.all()


def test_matrices_that_nobody_can_see_are_refused():
    wide = pd.DataFrame({"gene": "g", "peak": [f"p{i}" for i in range(2_001)], "attention": 0.7})
    with pytest.raises(DataError, match=r"found 1 genes x 2,001 peaks, expected at most 400 x 2,000\. Fix: choose one"):
        plot.attention_matrix(wide)
    tall = pd.DataFrame({"gene": [f"g{i}" for i in range(401)], "peak": "p", "attention": 0.7})
    with pytest.raises(DataError, match=r"found 401 genes x 1 peaks"):
        plot.attention_matrix(tall)
    with pytest.raises(DataError, match=r"1 of 31 links repeat a pair\. Fix: give the links of one cell"):
        plot.attention_matrix(pd.concat([cell(), cell()[:1]]))
    with pytest.raises(DataError, match="found no threshold"):
        plot.attention_matrix(cell(), taus=())
    with pytest.raises(
        DataError, match=r"attention_matrix: found 30 links with columns gene, .*with effect, gene, peak"
    ):
        plot.attention_matrix(cell(), value="effect")


def binding(n=200, seed=0):
    rng = np.random.default_rng(seed)
    is_open = rng.uniform(size=n)
    return pd.DataFrame(
        {
            "peak": [f"p{i}" for i in range(n)],
            "attention": is_open + 0.3 * rng.uniform(size=n),
            "binding": is_open + 0.3 * rng.uniform(size=n),
            "openness": is_open,
        }
    )


def corner(figure):
    return figure.axes[0].texts[0].get_text().splitlines()


def test_the_corner_has_the_rank_correlation_and_that_given_openness():
    table = binding()
    found = corner(plot.tf_binding(table, title="RORB"))
    assert found[0] == f"Spearman {stats.spearmanr(table['binding'], table['attention']).statistic:.2f}"
    assert found[2] == "n = 200 peaks"
    ranks = table[["attention", "binding", "openness"]].rank().to_numpy()
    design = np.stack([np.ones(200), ranks[:, 2]], axis=1)
    rest = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
    assert found[1] == f"given openness {np.corrcoef(rest.T)[0, 1]:.2f}"
    assert abs(float(found[1].split()[-1])) < 0.2 < 0.8 < float(found[0].split()[-1])  # all of it came by openness


def test_many_peaks_are_drawn_as_a_density():
    few, many = plot.tf_binding(binding(100).drop(columns="openness")), plot.tf_binding(binding(3_001))
    assert len(few.axes) == 1
    assert len(few.axes[0].collections[0].get_offsets()) == 100
    assert many.axes[1].get_ylabel() == "peaks"
    assert many.axes[0].collections[0].get_array().sum() == 3_001
    assert few.axes[0].get_xlabel() == "binding score"


def test_binding_that_has_no_ranks_is_refused():
    with pytest.raises(DataError, match="found 2 peaks, expected three or more"):
        plot.tf_binding(binding(2))
    with pytest.raises(DataError, match="found 200 peaks, expected three or more whose attention and binding differ"):
        plot.tf_binding(binding().assign(binding=0.0))
    with pytest.raises(DataError, match=r"tf_binding: found 2 groups: A, B\. Fix: draw one of them"):
        plot.tf_binding(binding().assign(group=["A", "B"] * 100))
    with pytest.raises(DataError, match="tf_binding: 1 of 200 peaks have no finite 'attention'"):
        plot.tf_binding(binding().assign(attention=lambda t: t["attention"].where(t.index != 3)))
