"""A locus: genes with their exons, peaks, accessibility by cell type, motifs of a factor, and scored links as arcs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError, some
from heteromics.plot._genes import draw_genes, gene_rows
from heteromics.plot._style import COLOURS, GREY, need, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_PLACE = ("chrom_start", "chrom_end")
_INCHES = 1.7  # height of one unit of y: the arcs have one, the bands below them a share
_PEAKS, _MOTIFS, _TRACK, _GENE = 0.36, 0.14, 0.2, 0.2
_MOST_TRACKS = 40


def locus(
    gene: pd.Series,
    links: pd.DataFrame,
    *,
    genes: pd.DataFrame | None = None,
    parts: pd.DataFrame | None = None,
    tracks: pd.DataFrame | None = None,
    motifs: pd.DataFrame | None = None,
    title: str = "",
    most: int = 12,
    fdr_max: float = 0.05,
) -> Figure:
    """Draw a gene, the candidate peaks around it and its strongest links, with what else is known of the place.

    Parameters
    ----------
    gene
        One row of the store's ``gene`` table: ``symbol, chrom, chrom_start, chrom_end, strand, tss`` (bp, 0-based).
    links
        Candidate peaks of this gene, each once: ``chrom_start, chrom_end`` (bp) and ``score`` (higher is stronger, NaN
        for a peak without a link, such as one that was not tested);
        optional ``openness`` (share of cells, the height of the bar), bool ``planted`` (a known true link), ``fdr`` and
        ``group`` (one value: the cell type the links are of, whose track stands out).
    genes
        Other genes of the chromosome, columns as ``gene``; those in view are drawn, stacked where they overlap.
    parts
        ``gene_id, part, chrom_start, chrom_end`` of these genes, as the store's ``gene_part``: exons are drawn thick.
        Needs ``gene_id`` in ``gene`` and ``genes``.
    tracks
        Accessibility of peaks by cell type: ``group, chrom_start, chrom_end, openness`` (share of the type's cells);
        one row of bars for each type, in order of appearance, all on one scale.
    motifs
        ``position`` (bp) and ``name`` of motif hits, such as those of one factor; a mark each.
    title
        Figure title; the gene's name by default.
    most
        How many of the strongest links are drawn as arcs.
    fdr_max
        Links with a larger ``fdr_above``, or ``fdr`` where that is not there, are drawn dashed and grey.

    Returns
    -------
    Figure
        The view spans the gene and all its candidate peaks. Arcs grow in width with the score; links known to be true
        are vermilion.

    Raises
    ------
    DataError
        When ``links`` is empty, lacks a column or names a peak twice, another table lacks a column, or there are more
        than 40 tracks.

    Examples
    --------
    >>> import pandas as pd
    >>> gene = pd.Series(dict(symbol="A", chrom="chr1", chrom_start=500, chrom_end=900, strand="+", tss=500))
    >>> links = pd.DataFrame({"chrom_start": [100, 2_000], "chrom_end": [300, 2_400], "score": [0.2, 0.9]})
    >>> axes = locus(gene, links).axes[0]
    >>> axes.get_title(loc="left")
    'A'
    """
    _check(links, tracks, motifs)
    view = _view(gene, links)
    rows = gene_rows(gene, genes, view)
    names = [] if tracks is None else list(dict.fromkeys(tracks["group"].astype(str)))
    depth = (
        _PEAKS + (_MOTIFS if motifs is not None else 0) + _TRACK * len(names) + _GENE * (1 + rows["row"].max()) + 0.08
    )
    figure, (axes,) = new_figure(8.8, _INCHES * (1.1 + depth) + 0.5)
    strongest = links[links["score"].notna()].sort_values("score", ascending=False, kind="stable").head(most)
    _draw_arcs(axes, float(gene["tss"]), strongest, fdr_max)
    _draw_peaks(axes, links)
    _draw_legend(axes, strongest, fdr_max, planted="planted" in links and bool(links["planted"].any()))
    ticks = {}
    top = -_PEAKS
    if motifs is not None:
        top -= _MOTIFS
        ticks[top + _MOTIFS / 2] = _draw_motifs(axes, motifs, view, top + _MOTIFS / 2)
    if tracks is not None:
        shown = str(links["group"].iloc[0]) if "group" in links else None
        highest = max(float(tracks["openness"].max()), 1e-9)
        for name in names:
            top -= _TRACK
            colour = COLOURS[0] if name == shown else COLOURS[4]
            _draw_track(axes, tracks[tracks["group"].astype(str) == name], top, highest, colour)
            ticks[top + 0.3 * _TRACK] = name
        axes.plot([], [], color=COLOURS[4], linewidth=4, label=f"share of cells open, 0 to {highest:.2f}")
    left_out = draw_genes(axes, rows, parts, view, top=top - 0.06, height=_GENE)
    axes.plot([gene["tss"]] * 2, [top, 0], color=COLOURS[2], linewidth=0.8, linestyle=":", zorder=0)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set(xlim=view, ylim=(-depth, 1.05), yticks=list(ticks), xlabel=f"{gene['chrom']} (Mb){left_out}")
    axes.set_yticklabels(list(ticks.values()), fontsize=7)
    axes.tick_params(axis="y", length=0)
    decimals = int(np.clip(np.ceil(-np.log10((view[1] - view[0]) / 1e8)), 0, 6))  # MaxNLocator steps by 1, 2, 2.5, 5
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:.{decimals}f}")
    axes.set_title(title or str(gene["symbol"]), loc="left", fontsize=11)
    axes.spines["left"].set_visible(False)
    tidy(axes)
    return figure


def _check(links: pd.DataFrame, tracks: pd.DataFrame | None, motifs: pd.DataFrame | None) -> None:
    need(links, ("score",), "locus", row="link", numeric=_PLACE)
    if infinite := int(np.isinf(links["score"].to_numpy(float)).sum()):
        raise DataError(f"locus: {infinite} of {len(links)} links have an infinite score, expected numbers or NaN.")
    twice = links[links.duplicated(list(_PLACE))]
    if len(twice):
        places = (f"{start}-{end}" for start, end in twice[list(_PLACE)].itertuples(index=False))
        raise DataError(
            f"locus: {len(twice)} of {len(links)} links repeat a peak: {some(places)}. Fix: give the links of one gene "
            "and one group."
        )
    if tracks is not None:
        need(tracks, ("group",), "locus: tracks", numeric=(*_PLACE, "openness"))
        if (number := tracks["group"].nunique()) > _MOST_TRACKS:
            raise DataError(f"locus: found {number} tracks, expected at most {_MOST_TRACKS}. Fix: choose groups.")
    if motifs is not None:
        lacking = {"position", "name"} - set(motifs.columns)
        if lacking:
            raise DataError(f"locus: motifs lack {some(sorted(lacking))}; they have {some(motifs.columns, 8)}.")


def _view(gene: pd.Series, links: pd.DataFrame) -> tuple[float, float]:
    """Return the span of the gene and its peaks with a margin, bp."""
    low = min(float(links["chrom_start"].min()), float(gene["chrom_start"]))
    high = max(float(links["chrom_end"].max()), float(gene["chrom_end"]))
    margin = 0.03 * (high - low)
    return low - margin, high + margin


def _middle(table: pd.DataFrame) -> NDArray[np.float64]:
    return table[list(_PLACE)].mean(axis=1).to_numpy(float)


def _flag(table: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    return table[name].to_numpy(bool) if name in table else np.zeros(len(table), bool)


def _sure(links: pd.DataFrame, fdr_max: float) -> NDArray[np.bool_]:
    """Return which links pass; those without a false discovery rate do not, where others have one."""
    column = next((name for name in ("fdr_above", "fdr") if name in links), None)
    return np.ones(len(links), bool) if column is None else links[column].to_numpy(float) <= fdr_max


def _draw_arcs(axes: Axes, tss: float, links: pd.DataFrame, fdr_max: float) -> None:
    if links.empty:
        return
    middle, score = _middle(links), links["score"].to_numpy(float)
    spread = np.ptp(score)
    share = (score - score.min()) / spread if spread else np.ones_like(score)
    reach = max(np.abs(middle - tss).max(), 1.0)
    angle = np.linspace(0, np.pi, 60)
    looks = zip(middle, share, _flag(links, "planted"), _sure(links, fdr_max), strict=True)
    for centre, strength, known, sure in looks:
        x = (centre + tss) / 2 + (centre - tss) / 2 * np.cos(angle)
        height = 0.15 + 0.85 * np.sqrt(abs(centre - tss) / reach)
        axes.plot(
            x,
            height * np.sin(angle),
            color=COLOURS[5] if known else COLOURS[0] if sure else GREY,
            linestyle="-" if sure else (0, (4, 2)),
            linewidth=0.6 + 2.4 * strength,
            alpha=0.35 + 0.6 * strength,
        )


def _draw_legend(axes: Axes, drawn: pd.DataFrame, fdr_max: float, *, planted: bool) -> None:
    sure = _sure(drawn, fdr_max)
    tested = f", FDR ≤ {fdr_max:g}" if "fdr" in drawn else ""
    if sure.any():
        axes.plot([], [], color=COLOURS[0], label=f"link{tested}, wider is stronger")
    if not sure.all():
        axes.plot([], [], color=GREY, linestyle=(0, (4, 2)), label=f"link, FDR > {fdr_max:g} or not tested")
    axes.plot([], [], color=GREY, label="peak, higher is more open")
    if planted:
        axes.plot([], [], color=COLOURS[5], label="planted: peak, and link where found")


def _draw_peaks(axes: Axes, links: pd.DataFrame) -> None:
    openness = links["openness"].to_numpy(float) if "openness" in links else np.full(len(links), 1.0)
    height = 0.28 * openness / max(openness.max(), 1e-9)
    foot = -_PEAKS + 0.04
    colours = [COLOURS[5] if known else GREY for known in _flag(links, "planted")]
    axes.vlines(_middle(links), foot, foot + height, colors=colours, linewidth=2)
    axes.axhline(foot, color=GREY, linewidth=0.6)


def _draw_track(axes: Axes, track: pd.DataFrame, foot: float, highest: float, colour: str) -> None:
    height = 0.85 * _TRACK * track["openness"].to_numpy(float) / highest
    axes.vlines(_middle(track), foot, foot + height, colors=colour, linewidth=2)
    axes.axhline(foot, color=GREY, linewidth=0.4)


def _draw_motifs(axes: Axes, motifs: pd.DataFrame, view: tuple[float, float], y: float) -> str:
    """Mark the hits in view; return what they are, for the axis."""
    names = list(dict.fromkeys(motifs["name"].astype(str)))
    seen = motifs[motifs["position"].between(*view)]
    axes.plot(seen["position"], np.full(len(seen), y), "v", color=COLOURS[3], markersize=5, label="motif hit")
    return f"motif {some(names)}" if names else "no motif"
