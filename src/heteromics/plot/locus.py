"""One gene and the peaks around it: gene body, accessibility and scored links as arcs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError
from heteromics.plot._style import COLOURS, GREY, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINK_COLUMNS = {"chrom_start", "chrom_end", "score"}


def locus(gene: pd.Series, links: pd.DataFrame, *, title: str = "", most: int = 12) -> Figure:
    """Draw a gene, the candidate peaks around it and its strongest links.

    Parameters
    ----------
    gene
        One row of the store's ``gene`` table: ``symbol, chrom, chrom_start, chrom_end, strand, tss`` (bp, 0-based).
    links
        Candidate peaks of this gene: ``chrom_start, chrom_end`` (bp) and ``score`` (higher is stronger);
        optional ``openness`` (share of cells, the height of the bar) and bool ``planted`` (a known true link).
    title
        Figure title; the gene's name by default.
    most
        How many of the strongest links are drawn as arcs.

    Returns
    -------
    Figure
        Arcs grow in width with the score; links known to be true are orange.

    Raises
    ------
    DataError
        When ``links`` is empty or lacks a column.
    """
    absent = _LINK_COLUMNS - set(links.columns)
    if absent or links.empty:
        raise DataError(
            f"locus: found {len(links)} links with columns {', '.join(map(str, links.columns))}; expected at least one "
            f"link with {', '.join(sorted(_LINK_COLUMNS))}."
        )
    figure, (axes,) = new_figure(8.8, 3.0)
    strongest = links.sort_values("score", ascending=False, kind="stable").head(most)
    _draw_arcs(axes, float(gene["tss"]), strongest)
    _draw_peaks(axes, links)
    _draw_legend(axes, planted="planted" in links and bool(links["planted"].any()))
    _draw_gene(axes, gene)
    axes.set(ylim=(-0.85, 1.05), yticks=[], xlabel=f"{gene['chrom']} (Mb)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:.2f}")
    axes.set_title(title or str(gene["symbol"]), loc="left", fontsize=11)
    axes.spines["left"].set_visible(False)
    tidy(axes)
    return figure


def _draw_arcs(axes: Axes, tss: float, links: pd.DataFrame) -> None:
    middle = links[["chrom_start", "chrom_end"]].mean(axis=1).to_numpy(float)
    score = links["score"].to_numpy(float)
    spread = np.ptp(score)
    share = (score - score.min()) / spread if spread else np.ones_like(score)
    planted = links["planted"].to_numpy(bool) if "planted" in links else np.zeros(len(links), bool)
    reach = max(np.abs(middle - tss).max(), 1.0)
    angle = np.linspace(0, np.pi, 60)
    for centre, strength, known in zip(middle, share, planted, strict=True):
        x = (centre + tss) / 2 + (centre - tss) / 2 * np.cos(angle)
        height = 0.15 + 0.85 * np.sqrt(abs(centre - tss) / reach)
        colour = COLOURS[5] if known else COLOURS[0]
        axes.plot(x, height * np.sin(angle), color=colour, linewidth=0.6 + 2.4 * strength, alpha=0.35 + 0.6 * strength)


def _draw_legend(axes: Axes, *, planted: bool) -> None:
    axes.plot([], [], color=COLOURS[0], label="link, wider is stronger")
    axes.plot([], [], color=GREY, label="peak, higher is more open")
    if planted:
        axes.plot([], [], color=COLOURS[5], label="planted: peak, and link where found")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_peaks(axes: Axes, links: pd.DataFrame) -> None:
    openness = links["openness"].to_numpy(float) if "openness" in links else np.full(len(links), 1.0)
    height = 0.3 * openness / max(openness.max(), 1e-9)
    middle = links[["chrom_start", "chrom_end"]].mean(axis=1)
    planted = links["planted"].to_numpy(bool) if "planted" in links else np.zeros(len(links), bool)
    colours = [COLOURS[5] if known else GREY for known in planted]
    axes.vlines(middle, -0.4, -0.4 + height, colors=colours, linewidth=2)
    axes.axhline(-0.4, color=GREY, linewidth=0.6)


def _draw_gene(axes: Axes, gene: pd.Series) -> None:
    start, end, tss = float(gene["chrom_start"]), float(gene["chrom_end"]), float(gene["tss"])
    axes.plot([start, end], [-0.62, -0.62], color=COLOURS[2], linewidth=6, solid_capstyle="butt")
    axes.plot([tss, tss], [-0.62, 0.0], color=COLOURS[2], linewidth=1, linestyle=":")
    arrow = "→" if gene["strand"] == "+" else "←"
    axes.text((start + end) / 2, -0.8, f"{gene['symbol']} {arrow}", ha="center", fontsize=9, color=COLOURS[2])
