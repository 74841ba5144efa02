"""Attention between the genes and peaks of one cell, and attention beside the binding of a factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError, some
from heteromics.plot._style import COLOURS, GREY, need, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MOST_GENES, _MOST_PEAKS = 400, 2_000
_MOST_TICKS = 40
_MOST_POINTS = 3_000


def attention_matrix(
    table: pd.DataFrame,
    taus: Sequence[float] = (0.5, 0.6, 0.8),
    *,
    value: str = "attention",
    title: str = "",
) -> Figure:
    """Draw the attention of one cell's genes to its peaks, a panel for each threshold.

    Parameters
    ----------
    table
        ``gene, peak`` and the weight of each link of one cell, each pair once; pairs that are not there have no link.
        :meth:`heteromics.models.Bi2Former.links` of one pair gives it; choose a chromosome or a locus of it. Genes and
        peaks stand in the order of their first appearance: sort the table by place to see them along the chromosome.
    taus
        Thresholds: a panel shows the links whose weight is above its own, as the paper prunes them (strictly above).
    value
        Column of the weights.
    title
        Figure title, such as the cell.

    Returns
    -------
    Figure
        Genes down, peaks across, one colour scale for all panels. A panel's title counts the links it shows, of all
        pairs of the genes and peaks there are.

    Raises
    ------
    DataError
        When the table is empty, lacks a column, names a pair twice or holds more than 400 genes or 2,000 peaks, which
        nobody can see; or when no threshold is given.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"gene": ["A", "A", "B"], "peak": ["p", "q", "q"], "attention": [0.7, 0.55, 0.9]})
    >>> [axes.get_title() for axes in attention_matrix(table).axes[:3]]
    ['τ = 0.5: 3 of 4 pairs', 'τ = 0.6: 2 of 4 pairs', 'τ = 0.8: 1 of 4 pairs']
    """
    need(table, ("gene", "peak"), "attention_matrix", row="link", numeric=(value,))
    if not len(taus):
        raise DataError("attention_matrix: found no threshold, expected one or more, such as taus=(0.5,).")
    genes, peaks = (list(dict.fromkeys(table[side].astype(str))) for side in ("gene", "peak"))
    if len(genes) > _MOST_GENES or len(peaks) > _MOST_PEAKS:
        raise DataError(
            f"attention_matrix: found {len(genes):,} genes x {len(peaks):,} peaks, expected at most {_MOST_GENES} x "
            f"{_MOST_PEAKS:,}. Fix: choose one chromosome, one locus, or the strongest links."
        )
    if twice := int(table.duplicated(["gene", "peak"]).sum()):
        raise DataError(
            f"attention_matrix: {twice} of {len(table)} links repeat a pair. Fix: give the links of one cell and group."
        )
    row, column = ({name: i for i, name in enumerate(names)} for names in (genes, peaks))
    i, j = table["gene"].astype(str).map(row).to_numpy(), table["peak"].astype(str).map(column).to_numpy()
    weight = table[value].to_numpy(float)
    figure, panels = new_figure(1.2 + 3.0 * len(taus), float(np.clip(1.2 + 0.09 * len(genes), 2.6, 7.0)), len(taus))
    limits = (min(taus), max(*taus, weight.max()))
    for axes, tau in zip(panels, taus, strict=True):
        shown = weight > tau
        dense = np.full((len(genes), len(peaks)), np.nan)  # bounded: 400 x 2,000
        dense[i[shown], j[shown]] = weight[shown]
        image = axes.imshow(
            dense, aspect="auto", cmap="viridis_r", vmin=limits[0], vmax=limits[1], interpolation="nearest"
        )
        axes.set_title(f"τ = {tau:g}: {int(shown.sum()):,} of {dense.size:,} pairs", fontsize=9)
        axes.set(xticks=[], yticks=[], xlabel=f"{len(peaks):,} peaks")
        if len(peaks) <= _MOST_TICKS:
            axes.set_xticks(range(len(peaks)), peaks, rotation=90, fontsize=5)
    if len(genes) <= _MOST_TICKS:
        panels[0].set_yticks(range(len(genes)), genes, fontsize=6)
    panels[0].set_ylabel(f"{len(genes):,} genes")
    figure.colorbar(image, ax=panels, label=value, shrink=0.8)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def tf_binding(table: pd.DataFrame, *, title: str = "") -> Figure:
    r"""Draw the cumulative attention of peaks against the binding of a factor in them.

    Parameters
    ----------
    table
        One row per peak, as :func:`heteromics.interpret.tf_binding` returns it: ``attention`` (summed over cells and
        genes), ``binding`` (such as the score of the ChIP peak in it, 0 where there is none), and optional
        ``openness`` (share of cells), which colours the points. Rows with ``bound`` alone are the paper's question.
    title
        Figure title.

    Returns
    -------
    Figure
        Points, or above 3,000 peaks a density of hexagons. In the corner Spearman's rank correlation and the number of
        peaks; with ``openness`` also the partial one with the ranks of openness held fixed, because a peak that is open
        in more cells sums up more attention. Intervals: :func:`heteromics.interpret.binding_correlation`.

    Raises
    ------
    DataError
        When the table has fewer than three rows, lacks a column, holds values that are not finite or several groups, or
        attention or binding are the same everywhere, so that there is no rank correlation.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"peak": list("pqrs"), "attention": [1.0, 2.0, 3.0, 4.0], "binding": [0.0, 5.0, 7.0, 9.0]})
    >>> tf_binding(table).axes[0].texts[0].get_text()
    'Spearman 1.00\nn = 4 peaks'
    """
    from heteromics.interpret._resampling import rank_correlation

    numbers = [name for name in ("binding", "attention", "openness") if name in table]
    need(table, ("attention", "binding"), "tf_binding", row="peak", numeric=numbers)
    if "group" in table and len(groups := table["group"].astype(str).unique()) > 1:
        raise DataError(f"tf_binding: found {len(groups)} groups: {some(groups, 8)}. Fix: draw one of them.")
    values = table[numbers].to_numpy(float)
    even = np.ones(len(table))
    rho = [rank_correlation(values[:, :number])(even) for number in range(2, len(numbers) + 1)]
    if len(table) < 3 or np.isnan(rho[0]):
        raise DataError(
            f"tf_binding: found {len(table)} peaks, expected three or more whose attention and binding differ, for a "
            "rank correlation."
        )
    x, y = values[:, 0], values[:, 1]
    text = f"Spearman {rho[0]:.2f}"
    if len(rho) > 1 and np.isfinite(rho[1]):
        text += f"\ngiven openness {rho[1]:.2f}"
    figure, (axes,) = new_figure(5.4, 4.0)
    if len(table) > _MOST_POINTS:
        density = axes.hexbin(x, y, gridsize=50, bins="log", mincnt=1, cmap="viridis", linewidths=0)
        figure.colorbar(density, ax=axes, label="peaks")
    elif len(rho) > 1:
        points = axes.scatter(x, y, c=table["openness"], s=10, cmap="viridis", linewidths=0)
        figure.colorbar(points, ax=axes, label="share of cells open")
    else:
        axes.scatter(x, y, s=10, color=COLOURS[0], alpha=0.6, linewidths=0)
    box = {"facecolor": "white", "edgecolor": GREY, "alpha": 0.85, "boxstyle": "round"}
    text += f"\nn = {len(table):,} peaks"
    axes.text(0.03, 0.97, text, bbox=box, transform=axes.transAxes, ha="left", va="top", fontsize=8)
    axes.set(xlabel="binding score", ylabel="cumulative attention")
    axes.set_title(title, loc="left", fontsize=11)
    tidy(axes)
    return figure
