"""Studies of matching and of links: few cells, calibration, agreement with evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from heteromics.errors import DataError, some
from heteromics.plot._style import COLOURS, GREY, colour_of, need, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X"
_LINES = ("-", "--", ":", "-.")  # for the ninth model and later, whose colour and marker have been
_NULL = {"auroc": 0.5, "odds_ratio": 1.0, "ratio": 1.0, "lift": 1.0, "difference": 0.0, "rho": 0.0}
_LOGARITHMIC = ("odds_ratio", "ratio", "lift")


def few_shot(table: pd.DataFrame, *, metric: str = "auroc", negatives: str | None = None, title: str = "") -> Figure:
    """Draw a metric against the share of training cells, a line per model with a band of one standard deviation.

    Parameters
    ----------
    table
        One row per run: ``model, share`` (of the training cells, in (0, 1]), ``value`` and ``seed``; where rows of
        several metrics or kinds of negatives are in it, ``metric`` and ``negatives``, as
        :func:`heteromics.tasks.few_shot` returns it.
    metric, negatives
        Which to draw; ``negatives`` is needed where there are several kinds.
    title
        Figure title.

    Returns
    -------
    Figure
        Shares on a logarithmic axis. A line is the mean over seeds; the band has no width where there is one seed.

    Raises
    ------
    DataError
        When the table lacks a column or what was asked for, or a run stands in it twice.

    Examples
    --------
    >>> import pandas as pd
    >>> runs = pd.DataFrame({"model": "A", "share": [0.1, 0.1, 1.0], "seed": [0, 1, 0], "value": [0.5, 0.7, 0.9]})
    >>> few_shot(runs).axes[0].lines[0].get_ydata().tolist()
    [0.6, 0.9]
    """
    need(table, ("model", "seed"), "few_shot", row="run", numeric=("share", "value"))
    drawn = _only(_only(table, "metric", metric, "few_shot"), "negatives", negatives, "few_shot")
    if twice := int(drawn.duplicated(["model", "share", "seed"]).sum()):
        raise DataError(f"few_shot: {twice} of {len(drawn)} runs repeat a model, share and seed. Fix: give each once.")
    if (drawn["share"] <= 0).any():
        raise DataError(f"few_shot: found a share of {drawn['share'].min():g}, expected shares above 0.")
    figure, (axes,) = new_figure(6.4, 3.8)
    for name, look in _looks(drawn["model"].astype(str)).items():
        values = drawn[drawn["model"].astype(str) == name].groupby("share")["value"]
        mean, spread = values.mean(), values.std().fillna(0.0)
        runs = values.size()
        many = f"{runs.min()}" if runs.min() == runs.max() else f"{runs.min()} to {runs.max()}"
        label = f"{name}, {many} seed{'' if runs.max() == 1 else 's'}"
        axes.plot(mean.index, mean, **look, markersize=4, linewidth=1.4, label=label)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=look["color"], alpha=0.18, linewidth=0)
    if metric == "auroc":
        axes.axhline(0.5, color=GREY, linestyle="--", linewidth=1, label="chance")
    axes.set_xscale("log")
    shares = sorted(drawn["share"].unique())
    axes.set_xticks(shares, [f"{100 * share:g}" for share in shares])
    axes.set_xticks([], minor=True)
    shown = metric.upper() if metric in ("auroc", "auprc", "ece") else metric
    axes.set(xlabel="training cells, %", ylabel=shown + (f", {negatives} negatives" if negatives else ""))
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tidy(axes)
    return figure


def _looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour, marker and line of each name, no two alike before the thirty-third."""
    return {
        name: {"color": colour, "marker": _MARKERS[number % len(_MARKERS)], "linestyle": _LINES[number // 8 % 4]}
        for number, (name, colour) in enumerate(colour_of(names).items())
    }


def calibration(table: pd.DataFrame, *, negatives: str | None = None, title: str = "") -> Figure:
    """Draw observed against predicted shares of matches, the reliability diagram, over the number of pairs in each bin.

    Parameters
    ----------
    table
        One row per bin: ``predicted`` (mean probability), ``observed`` (share of matches) and ``n``, as
        :func:`heteromics.tasks.reliability` and the ``reliability`` of a :class:`heteromics.tasks.MatchingResult` have
        them; optional ``model`` for several. Of one run of each.
    negatives
        Which to draw; needed where the table has several kinds.
    title
        Figure title.

    Returns
    -------
    Figure
        The diagonal is perfect calibration; the legend has each model's expected calibration error, the mean distance
        from it weighted by ``n`` (Naeini et al., AAAI 2015). Below, the share of pairs in each bin.

    Raises
    ------
    DataError
        When the table is empty, lacks a column or what was asked for, holds several runs (``protocol, split`` or
        ``seed``), or shares are outside 0 to 1.

    Examples
    --------
    >>> import pandas as pd
    >>> bins = pd.DataFrame({"predicted": [0.2, 0.9], "observed": [0.3, 0.8], "n": [10, 30]})
    >>> calibration(bins).axes[0].get_legend().get_texts()[-1].get_text()
    'ECE 0.100'
    """
    need(table, (), "calibration", row="bin", numeric=("predicted", "observed", "n"))
    table = _only(table, "negatives", negatives, "calibration")
    for column in ("protocol", "split", "seed"):
        several = list(table[column].unique()) if column in table else []
        if len(several) > 1:
            raise DataError(
                f"calibration: found {len(several)} values of {column} ({some(several)}), expected one. "
                f"Fix: choose, such as table[table['{column}'] == {several[0]!r}]."
            )
    shares = table[["predicted", "observed"]]
    if outside := int(((shares < 0) | (shares > 1)).any(axis=1).sum()):
        raise DataError(f"calibration: {outside} of {len(table)} bins have a share outside 0 to 1.")
    figure, (axes, below) = new_figure(5.0, 5.4, heights=(4, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect")
    names = table["model"].astype(str) if "model" in table else [""] * len(table)
    for name, look in _looks(names).items():
        bins = table[np.asarray(names) == name].sort_values("predicted")
        error = float(np.average((bins["predicted"] - bins["observed"]).abs(), weights=bins["n"]))
        label = f"{name}, ECE {error:.3f}".removeprefix(", ")
        axes.plot(bins["predicted"], bins["observed"], **look, markersize=4, label=label)
        below.plot(bins["predicted"], bins["n"] / bins["n"].sum(), **look, markersize=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of matches")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_title(title, loc="left", fontsize=11)
    below.set(xlim=(0, 1), ylim=(0, None), xlabel="predicted probability", ylabel="share of pairs")
    for each in (axes, below):
        tidy(each)
    return figure


def evidence(table: pd.DataFrame, *, measure: str = "auroc", chance: float | None = None, title: str = "") -> Figure:
    """Draw how links agree with each kind of evidence, with confidence intervals (a forest plot).

    Parameters
    ----------
    table
        One row per evidence: ``evidence``, the measure and its bounds ``<measure>_low`` and ``<measure>_high`` as
        :func:`heteromics.interpret.concordance` returns it, or ``low`` and ``high`` as in the table of
        :func:`heteromics.interpret.enrichment`; optional ``method`` or ``group`` for several in one figure, and
        ``n_true`` and ``n``, which are written behind.
    measure
        ``"auroc"``, ``"auprc"``, ``"lift"``, ``"odds_ratio"``, or any column with bounds. Ratios are drawn on a
        logarithmic axis.
    chance
        Value without agreement, a dashed line: 0.5 for ``auroc``, 1 for ratios, 0 for differences by default.
    title
        Figure title.

    Raises
    ------
    DataError
        When the table is empty or lacks a column, bounds do not enclose the value, or a row stands twice.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"evidence": ["in_ccre"], "auroc": [0.6], "auroc_low": [0.5], "auroc_high": [0.7]})
    >>> [tick.get_text() for tick in evidence(table).axes[0].get_yticklabels()]
    ['in ccre']
    """
    low, high = (f"{measure}_{end}" if f"{measure}_{end}" in table else end for end in ("low", "high"))
    need(table, ("evidence",), "evidence", numeric=(measure, low, high))
    by = next((name for name in ("method", "group") if name in table), None)
    if twice := int(table.duplicated(["evidence", *([by] if by else [])]).sum()):
        raise DataError(f"evidence: {twice} of {len(table)} rows repeat an evidence{f' and {by}' if by else ''}.")
    outside = table[(table[measure] < table[low]) | (table[measure] > table[high])]
    if len(outside):
        raise DataError(
            f"evidence: {len(outside)} of {len(table)} intervals do not enclose their {measure}: "
            f"{some(outside['evidence'])}."
        )
    kinds = list(dict.fromkeys(table["evidence"].astype(str)))
    labels = table[by].astype(str).to_numpy() if by else np.full(len(table), "")
    colours = colour_of(labels)
    shift = {name: 0.7 * ((row + 0.5) / len(colours) - 0.5) for row, name in enumerate(colours)}
    figure, (axes,) = new_figure(7.2, 1.0 + max(0.34, 0.2 * len(colours)) * max(len(kinds), 2))
    for (name, colour), marker in zip(colours.items(), _MARKERS * 9, strict=False):
        part = table[labels == name]
        y = part["evidence"].astype(str).map(kinds.index).to_numpy(float) + shift[name]
        reach = np.abs(part[[low, high]].to_numpy(float).T - part[measure].to_numpy(float))
        axes.errorbar(
            part[measure], y, xerr=reach, fmt=marker, color=colour, markersize=4, linewidth=1.2, label=name or None
        )
        if {"n_true", "n"} <= set(part.columns):
            for place, found, total in zip(y, part["n_true"], part["n"], strict=True):
                axes.annotate(
                    f"{int(found):,} of {int(total):,}",
                    (1.01, place),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=7,
                    color=GREY,
                )
    if measure in _LOGARITHMIC and (table[low] > 0).all():
        axes.set_xscale("log")
    chance = _NULL.get(measure) if chance is None else chance
    if chance is not None:
        axes.axvline(chance, color=COLOURS[5], linestyle="--", linewidth=1)
    axes.set(ylim=(len(kinds) - 0.5, -0.5), xlabel=measure.replace("_", " "))
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.set_title(title, loc="left", fontsize=11)
    if by:
        axes.legend(frameon=False, fontsize=8, title=by, loc="upper left", bbox_to_anchor=(1.16, 1.0))
    tidy(axes)
    return figure


def _only(table: pd.DataFrame, column: str, wanted: str | None, figure: str) -> pd.DataFrame:
    """Keep the rows of one kind; where there are several and none was asked for, or it is not there, say so."""
    if column not in table:
        return table
    there = list(dict.fromkeys(table[column].astype(str)))
    if wanted is None and len(there) == 1:
        return table
    if wanted is None or wanted not in there:
        raise DataError(f"{figure}: found {column}={wanted!r}, expected one of {some(there, 12)}.")
    return table[table[column].astype(str) == wanted]
