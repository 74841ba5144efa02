"""What stands in the figure of a locus: which genes, where, how stacked; which links pass; tracks and motifs."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from heteromics import plot
from heteromics.errors import DataError
from heteromics.plot._style import COLOURS, GREY

ARC = 60  # points of an arc


def gene(**change):
    row = {"gene_id": "G1", "symbol": "Aa", "chrom": "chr1", "chrom_start": 50_000, "chrom_end": 60_000}
    return pd.Series({**row, "strand": "-", "tss": 59_999, "biotype": "protein_coding", **change})


def links(n=6, **columns):
    start = np.arange(n) * 20_000
    table = pd.DataFrame({"chrom_start": start, "chrom_end": start + 1_000, "score": np.arange(n, dtype=float)})
    return table.assign(**columns)


def arcs(axes):
    return [line for line in axes.lines if len(line.get_xdata()) == ARC]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn_genes(axes):
    return [text for text in axes.texts if text.get_text()[-1] in "→←"]


def test_arcs_join_the_start_site_with_the_middle_of_each_peak():
    (axes,) = plot.locus(gene(), links(), most=3).axes
    ends = {(round(min(a.get_xdata())), round(max(a.get_xdata()))) for a in arcs(axes)}
    assert ends == {(59_999, 60_500), (59_999, 80_500), (59_999, 100_500)}
    widths = [line.get_linewidth() for line in arcs(axes)]
    assert widths == sorted(widths, reverse=True)  # strongest first
    assert (widths[0], widths[-1]) == (3.0, pytest.approx(0.6))


def test_links_that_do_not_pass_are_dashed_and_grey():
    fdr = [0.2, 0.01, np.nan, 0.05, 0.06, 0.0]
    (axes,) = plot.locus(gene(), links(fdr=fdr)).axes
    looks = [(to_hex(line.get_color()), line.get_linestyle()) for line in arcs(axes)]  # by falling score
    sure, unsure = (COLOURS[0].lower(), "-"), (GREY.lower(), "--")
    assert looks == [sure, unsure, sure, unsure, sure, unsure]
    assert legend(axes)[:2] == ["link, FDR ≤ 0.05, wider is stronger", "link, FDR > 0.05 or not tested"]
    (stricter,) = plot.locus(gene(), links(fdr=fdr), fdr_max=0.001).axes
    assert sum(line.get_linestyle() == "-" for line in arcs(stricter)) == 1


def test_peaks_without_a_score_have_no_arc():
    (axes,) = plot.locus(gene(), links(score=[np.nan, 1, np.nan, np.nan, 2, 3])).axes
    assert len(arcs(axes)) == 3
    assert len(axes.collections[0].get_segments()) == 6  # all peaks
    (bare,) = plot.locus(gene(), links(score=np.nan)).axes
    assert not arcs(bare)


def test_genes_that_overlap_are_stacked_and_those_elsewhere_left_out():
    others = [
        gene(),  # itself again, as the store has it
        gene(gene_id="G2", symbol="Bb", chrom_start=55_000, chrom_end=90_000, strand="+"),
        gene(gene_id="G3", symbol="Cc", chrom_start=10_000, chrom_end=20_000),
        gene(gene_id="G4", symbol="Dd", chrom="chr2"),
        gene(gene_id="G5", symbol="Ee", chrom_start=900_000, chrom_end=910_000),
    ]
    parts = pd.DataFrame(
        {
            "gene_id": ["G1", "G1", "G2", "G1", "G5"],
            "part": ["exon", "exon", "exon", "cds", "exon"],
            "chrom_start": [50_000, 58_000, 56_000, 50_100, 900_000],
            "chrom_end": [51_000, 60_000, 57_000, 50_900, 901_000],
        }
    )
    (axes,) = plot.locus(gene(), links(), genes=pd.DataFrame(others), parts=parts).axes
    names = {text.get_text(): text.get_position()[1] for text in drawn_genes(axes)}
    assert set(names) == {"Aa ←", "Bb →", "Cc ←"}
    assert names["Aa ←"] == names["Cc ←"] > names["Bb →"]
    boxes = [len(each.get_paths()) for each in axes.collections if isinstance(each, PolyCollection)]
    assert sorted(boxes) == [0, 1, 2]  # exons alone, of their gene alone
    directions = [line.get_marker() for line in axes.lines if line.get_gid() == "strand"]
    assert sorted(directions) == ["<", "<", ">"]


def test_many_genes_keep_the_coding_ones_and_say_how_many_are_left_out():
    crowd = pd.DataFrame(
        [
            gene(gene_id=f"N{i}", symbol=f"n{i}", chrom_start=i * 1_000, chrom_end=i * 1_000 + 900, biotype=kind)
            for i, kind in enumerate(["lncRNA"] * 30 + ["protein_coding"] * 10)
        ]
    )
    (axes,) = plot.locus(gene(), links(), genes=crowd).axes
    names = {text.get_text()[:-2] for text in drawn_genes(axes)}
    assert len(names) == 30
    assert {"Aa", *(f"n{i}" for i in range(30, 40))} <= names
    assert axes.get_xlabel() == "chr1 (Mb), 11 short or non-coding genes not drawn"


def test_each_type_has_a_row_on_one_scale_and_the_one_shown_stands_out():
    place = links()[["chrom_start", "chrom_end"]]
    tracks = pd.concat(
        [place.assign(group="T1", openness=np.linspace(0, 0.5, 6)), place.assign(group="T2", openness=0.25)]
    )
    motifs = pd.DataFrame({"position": [100, 60_400, 10**8], "name": "RORB"})
    (axes,) = plot.locus(gene(), links(group="T2"), tracks=tracks, motifs=motifs).axes
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert ticks == ["motif RORB", "T1", "T2"]
    assert "share of cells open, 0 to 0.50" in legend(axes)
    _, first, second = axes.collections  # all peaks, then each type
    heights = [np.ptp([segment[:, 1] for segment in part.get_segments()], axis=1) for part in (first, second)]
    assert heights[0] == pytest.approx(heights[0][-1] * np.linspace(0, 1, 6))
    assert heights[1] == pytest.approx(np.full(6, heights[0][-1] / 2))
    assert [to_hex(part.get_color()[0]) for part in (first, second)] == [COLOURS[4].lower(), COLOURS[0].lower()]
    (marks,) = (line for line in axes.lines if line.get_marker() == "v" and len(line.get_xdata()))
    assert list(marks.get_xdata()) == [100, 60_400]  # the one outside the view is not drawn


def test_the_axis_is_in_megabases_fine_enough_to_tell():
    (axes,) = plot.locus(gene(), links()).axes
    low, high = axes.get_xlim()
    assert low < 0 < 101_000 < high
    shown = [axes.xaxis.get_major_formatter()(value, 0) for value in (50_000, 60_000)]
    assert shown == ["0.050", "0.060"]
    for wide in (50_000, 175_000, 640_000, 3_000_000):
        (axes,) = plot.locus(gene(), links(chrom_start=range(0, 6 * wide, wide), chrom_end=0)).axes
        formatted = [float(axes.xaxis.get_major_formatter()(value, 0)) for value in axes.get_xticks()]
        np.testing.assert_allclose(formatted, axes.get_xticks() / 1e6, atol=1e-9)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match=r"1 of 7 links repeat a peak: 0-1000\. Fix: give the links of one gene"):
        plot.locus(gene(), pd.concat([links(), links(1)]))
    with pytest.raises(DataError, match=r"locus: 1 of 6 links have no finite 'chrom_start': 3\. Fix: drop them"):
        plot.locus(gene(), links(chrom_start=[0, 1, 2, np.nan, 4, 5]))
    with pytest.raises(DataError, match="locus: 1 of 6 links have an infinite score"):
        plot.locus(gene(), links(score=[0, np.nan, 1, np.inf, 2, 3]))
    with pytest.raises(DataError, match=r"locus: tracks: found 6 rows with columns .*expected at least one row with"):
        plot.locus(gene(), links(), tracks=links())
    with pytest.raises(DataError, match="found 41 tracks, expected at most 40"):
        plot.locus(gene(), links(), tracks=pd.concat([links(1, group=str(i), openness=0.1) for i in range(41)]))
    with pytest.raises(DataError, match="motifs lack name; they have position"):
        plot.locus(gene(), links(), motifs=pd.DataFrame({"position": [1]}))
    with pytest.raises(DataError, match=r"locus: genes: found 1 genes with columns symbol; expected .*strand"):
        plot.locus(gene(), links(), genes=pd.DataFrame({"symbol": ["x"]}))
