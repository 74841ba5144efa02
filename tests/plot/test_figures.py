import numpy as np
import pandas as pd
import pytest

from heteromics import plot
from heteromics.errors import DataError


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_metric_bars_show_every_value_and_chance():
    figure = plot.metric_bars({"ours": 0.4, "peer": 0.5}, "AUPRC", chance=0.1, title="links")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours", "peer"]
    assert {"0.400", "0.500"} <= {text.get_text() for text in axes.texts}
    assert texts(axes) == ["chance 0.100"]


def test_training_curve_marks_the_best_epoch():
    history = [{"epoch": e, "training_loss": 3 - e, "validation_loss": v} for e, v in enumerate([2.0, 1.0, 1.5])]
    (axes,) = plot.training_curve(history).axes
    assert texts(axes) == ["training loss", "validation loss", "lowest validation loss: epoch 1"]


def test_scatter_says_when_it_samples():
    rng = np.random.default_rng(0)
    big = plot.predicted_against_measured(rng.normal(size=(300, 100)), rng.normal(size=(300, 100)), title="ADT")
    small = plot.predicted_against_measured([1, 2, 3], [1, 2, 4], unit="log1p", title="ADT")
    assert big.axes[0].get_title(loc="left") == "ADT (20,000 of 30,000 values)"
    assert small.axes[0].get_title(loc="left") == "ADT"
    assert small.axes[0].get_xlabel() == "measured log1p"


def test_precision_recall_legend_holds_average_precision():
    truth = np.array([True, False, True, False])
    (axes,) = plot.precision_recall({"perfect": [4, 1, 3, 2], "inverted": [1, 4, 2, 3]}, truth).axes
    # by hand: inverted ranks the true ones third and fourth, so precision is 1/3 and 2/4 at its two steps of 1/2
    assert texts(axes) == ["perfect: 1.000", f"inverted: {(1 / 3 + 2 / 4) / 2:.3f}", "chance: 0.500"]


def gene():
    return pd.Series(
        {"symbol": "GENE1", "chrom": "chr1", "chrom_start": 1_000, "chrom_end": 9_000, "strand": "-", "tss": 8_999}
    )


def test_locus_draws_the_strongest_links_and_the_planted_ones():
    links = pd.DataFrame(
        {"chrom_start": np.arange(20) * 1_000, "score": np.arange(20.0), "planted": np.arange(20) == 19}
    )
    links["chrom_end"] = links["chrom_start"] + 500
    (axes,) = plot.locus(gene(), links, most=5).axes
    assert sum(len(line.get_xdata()) == 60 for line in axes.lines) == 5
    assert [text.split(":")[0].split(",")[0] for text in texts(axes)] == ["link", "peak", "planted"]
    assert any("GENE1 ←" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("columns", [["chrom_start", "chrom_end"], ["chrom_start", "chrom_end", "score"]])
def test_locus_without_links_says_what_it_needs(columns):
    with pytest.raises(
        DataError, match=r"found 0 links with columns chrom_start.*expected at least one link with chrom_end"
    ):
        plot.locus(gene(), pd.DataFrame(columns=columns))


def test_saved_twice_is_the_same_svg(tmp_path):
    for name in "ab":
        paths = plot.save_figure(plot.metric_bars({"x": 1.0}, "m"), tmp_path / name, "bars")
    assert [path.suffix for path in paths] == [".png", ".svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a" / "bars.svg").read_bytes() == (tmp_path / "b" / "bars.svg").read_bytes()


def test_a_notebook_can_show_a_figure():
    shown = plot.metric_bars({"ours": 0.4}, "AUPRC", chance=0.1, title="links")._repr_png_()
    assert shown.startswith(b"\x89PNG")
