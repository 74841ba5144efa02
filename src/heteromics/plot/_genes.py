"""Gene models of a view: lines with the direction of transcription, exons as boxes, stacked where they overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heteromics.plot._style import COLOURS, GREY, need

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_GENES = 30
_LETTER = 0.0095  # width of a letter as a share of the view
_ARROWS = 40  # directions of transcription across the whole view
_COLUMNS = ("symbol", "chrom", "chrom_start", "chrom_end", "strand", "tss")


def gene_rows(gene: pd.Series, genes: pd.DataFrame | None, view: tuple[float, float]) -> pd.DataFrame:
    """Return the genes to draw with the row of each, 0 on top, and which is the one the figure is about.

    Genes that reach into the view are kept: the gene itself, then coding ones before others, longer before shorter, 30
    in all. ``attrs["left_out"]`` counts the rest.
    """
    import pandas as pd

    own = gene.to_frame().T.assign(own=True)
    if genes is not None:
        need(genes, _COLUMNS, "locus: genes", row="gene")
        there = genes["chrom"] == gene["chrom"]
        there &= (genes["chrom_end"] > view[0]) & (genes["chrom_start"] < view[1])
        same = (
            genes[["symbol", "chrom_start", "chrom_end"]].eq(gene[["symbol", "chrom_start", "chrom_end"]]).all(axis=1)
        )
        coding = genes["biotype"].eq("protein_coding") if "biotype" in genes else pd.Series(False, genes.index)
        others = genes.assign(own=False, coding=coding, length=genes["chrom_end"] - genes["chrom_start"])[there & ~same]
        others = others.sort_values(["coding", "length", "chrom_start"], ascending=[False, False, True], kind="stable")
        own = pd.concat([own, others], ignore_index=True)
    drawn = own.head(_MOST_GENES)
    drawn = drawn.assign(row=_stacked(drawn, view))
    drawn.attrs["left_out"] = len(own) - len(drawn)
    return drawn


def _stacked(genes: pd.DataFrame, view: tuple[float, float]) -> list[int]:
    """Give each gene, in order, the first row where neither line nor name meets another."""
    taken: list[list[tuple[float, float]]] = []
    rows = []
    for start, end, symbol in genes[["chrom_start", "chrom_end", "symbol"]].itertuples(index=False):
        centre, half = _name_at(start, end, symbol, view)
        low, high = min(max(start, view[0]), centre - half), max(min(end, view[1]), centre + half)
        free = (i for i, row in enumerate(taken) if all(high < a or b < low for a, b in row))
        place = next(free, len(taken))
        if place == len(taken):
            taken.append([])
        taken[place].append((low, high))
        rows.append(place)
    return rows


def _name_at(start: float, end: float, symbol: str, view: tuple[float, float]) -> tuple[float, float]:
    """Return the middle of a gene's name, inside the view, and half its width."""
    half = _LETTER * (view[1] - view[0]) * (len(str(symbol)) + 2) / 2
    middle = (max(start, view[0]) + min(end, view[1])) / 2
    return min(max(middle, view[0] + half), view[1] - half), half


def draw_genes(
    axes: Axes, genes: pd.DataFrame, parts: pd.DataFrame | None, view: tuple[float, float], *, top: float, height: float
) -> str:
    """Draw genes below ``top``, each row ``height`` high; return how many were left out, in words for the axis."""
    exons = None
    if parts is not None:
        need(parts, ("gene_id", "part", "chrom_start", "chrom_end"), "locus: parts", row="part")
        need(genes, ("gene_id",), "locus: genes with parts", row="gene")
        exons = parts[parts["part"] == "exon"]
    for gene in genes.to_dict("records"):
        y = top - height * (gene["row"] + 0.3)
        colour = COLOURS[2] if gene["own"] else GREY
        start, end = max(float(gene["chrom_start"]), view[0]), min(float(gene["chrom_end"]), view[1])
        forward = gene["strand"] == "+"
        body = 6 if exons is None else 1
        axes.plot([start, end], [y, y], color=colour, linewidth=body, solid_capstyle="butt", gid="gene")
        if exons is not None:
            own = exons[exons["gene_id"] == gene["gene_id"]]
            spans = list(zip(own["chrom_start"], own["chrom_end"] - own["chrom_start"], strict=True))
            axes.broken_barh(spans, (y - 0.16 * height, 0.32 * height), color=colour, linewidth=0.6, gid="exons")
            number = max(int(_ARROWS * (end - start) / (view[1] - view[0])), 1)
            x = start + (end - start) * (np.arange(number) + 0.5) / number
            marker = ">" if forward else "<"
            axes.plot(x, np.full(number, y), marker, color=colour, markersize=2.5, gid="strand")
        axes.text(
            _name_at(start, end, gene["symbol"], view)[0],
            y - 0.22 * height,
            f"{gene['symbol']} {'→' if forward else '←'}",
            ha="center",
            va="top",
            fontsize=9 if gene["own"] else 6.5,
            color=colour,
        )
    left_out = genes.attrs["left_out"]
    return f", {left_out} short or non-coding genes not drawn" if left_out else ""
