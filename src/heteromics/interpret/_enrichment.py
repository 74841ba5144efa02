"""Whether the strongest links have more of a kind of evidence than matched others: strata, pooled odds ratio, interval.

Links near a gene, in open peaks and in GC-rich sequence have more of every evidence, whatever a model learnt. The
strongest are therefore compared with others of like distance, openness and GC: strata by quantiles of the strongest,
five per covariate, which take away some nine tenths of the bias of each (Cochran, Biometrics 24, 295, 1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from heteromics._progress import track
from heteromics.errors import DataError, some
from heteromics.interpret._concordance import Part, number_column, parts_of
from heteromics.interpret._resampling import BLOCK_BP, blocks_of, effective_number, jackknife_error
from heteromics.interpret.evidence import evidence_columns

if TYPE_CHECKING:
    from pandas import DataFrame

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What :func:`enrichment` found, and how well the background was matched.

    Attributes
    ----------
    table : DataFrame
        A row per evidence and group.
    balance : DataFrame
        A row per evidence, group and covariate: means before and after matching, and standardised differences.
    """

    table: DataFrame
    balance: DataFrame


class Pooled(NamedTuple):
    """A pooled odds ratio, its interval and two-sided p-value.

    ``n_blocks`` are left out in turn for the standard error, which has ``df`` degrees of freedom.
    """

    odds_ratio: float
    low: float
    high: float
    p: float
    n_blocks: int
    df: float


def enrichment(
    links: DataFrame,
    evidence: DataFrame,
    *,
    top: float,
    score: str = "score",
    columns: Sequence[str] | None = None,
    matched_by: Sequence[str] = ("distance", "openness", "gc"),
    bins: int = 5,
    absolute: bool = False,
    block_bp: int | None = BLOCK_BP,
    level: float = 0.95,
    progress: bool = False,
) -> Enrichment:
    """Compare the share of the strongest links that have some evidence with that of matched other links.

    Parameters
    ----------
    links
        ``gene, peak[, group]`` and the score, strong and weak ones: the weak ones are the background. By peak alone
        after :func:`heteromics.interpret.by_peak`.
    evidence
        Of these links, from :func:`heteromics.interpret.evidence_for`.
    top
        A share below 1, or a number of links from 1 on: the strongest of each group. Links that tie with the last are
        in.
    score, columns, absolute
        As in :func:`heteromics.interpret.concordance`.
    matched_by
        Columns of evidence or links that are numbers. All of them that may bring evidence about without regulation
        should be here: ``distance``, ``openness``, ``gc``, ``width``; ``n_pairs`` of
        :meth:`heteromics.models.Bi2Former.links`. None by an empty tuple.
    bins
        Quantile bins of each covariate. Background beyond the range of the top links, and top links in strata without
        background, are left out and counted.
    block_bp
        As in :func:`heteromics.interpret.concordance`: blocks are left out in turn for the standard error.
    level
        Of the interval.
    progress
        Show it on stderr.

    Returns
    -------
    Enrichment
        ``table``: ``evidence[, group], share_top, share_background`` (over the strata, weighed as the top links are),
        ``odds_ratio, low, high, p, fdr`` (Benjamini and Hochberg, over the rows of the table), ``n_blocks, df, n_top,
        n_background, n_unmatched`` (top links without background), ``n_unknown`` (links left out as evidence, score or
        a covariate is missing), ``n_strata, worst_smd``. ``attrs["left_out"]`` names what has no such comparison.
        ``balance``: ``evidence[, group], covariate``, then means of the top links and of the background before and
        after matching, ``mean_top_before, mean_before, mean_top_after, mean_after``, and ``smd_before, smd_after``;
        after a good match the standardised differences are below 0.1 (Austin, Statistics in Medicine 28, 3083, 2009);
        the spread they are divided by is that before matching.

    Raises
    ------
    DataError
        When tables or columns do not fit, ``top`` takes all links or none, a covariate is known for none, or nothing
        can be compared.

    Notes
    -----
    The pooled odds ratio is that of Mantel and Haenszel (JNCI 22, 719, 1959), sum of a d / n over sum of b c / n over
    strata. Its usual variance takes links as independent, which links that share a peak are not. The standard error of
    its logarithm comes from a block jackknife for blocks of unequal size (Busing, Meijer and van der Leeden,
    Statistics and Computing 9, 3, 1999), interval and p-value from Student's t. Its degrees of freedom are one less
    than the blocks that the top links lie in, in effect: ``(sum t)^2 / sum t^2`` for t top links in each (Kish, Survey
    Sampling, 1965), the number of blocks where they are spread evenly. Blocks of background alone tell little of how
    the top links vary. Where these lie in fewer than two, or one block holds all that tells top from background,
    nothing can be said: the interval is 0 to infinity and p is 1. What is among the strongest, and the bounds of the
    strata, stay as they are when a block is left out.
    """
    import pandas as pd

    there = evidence_columns(evidence)
    asked = there if columns is None else list(columns)
    if not asked or set(asked) - set(there):
        wrong = sorted(set(asked) - set(there))
        raise DataError(f"evidence: found columns {some(wrong)}, expected among {', '.join(there) or 'none'}.")
    if not bins >= 1 or not top > 0:
        raise DataError(
            f"found bins={bins} and top={top}, expected 1 bin or more and a share or number of links above 0."
        )
    parts, rows, balance, left_out = list(parts_of(links, evidence, score, absolute=absolute)), [], [], []
    for part, name in track([(part, name) for part in parts for name in asked], "enrichment", enabled=progress):
        label = {"evidence": name, **part.label}
        covariates = {one: number_column(part, one) for one in matched_by}
        is_top = strongest(part.score, top)
        known = _known(part, name, covariates)
        case = is_top[known]
        stratum = strata([column[known] for column in covariates.values()], case, bins)
        matched = stratum >= 0
        truth = part.evidence[name][known].to_numpy(bool)
        if not matched.any() or truth[matched].all() or not truth[matched].any():
            left_out.append(
                f"{' '.join(label.values())}: {int(truth[matched].sum())} of {int(matched.sum())} matched links have it"
            )
            continue
        block = np.unique(blocks_of(part.evidence.loc[known], block_bp), return_inverse=True)[1]
        weight = background_weights(case, stratum)
        found = pooled_odds(case[matched], truth[matched], stratum[matched], block[matched], level=level)
        if np.isnan(found.odds_ratio):
            left_out.append(f"{' '.join(label.values())}: no stratum holds links with it and without it in both")
            continue
        of_part = _balance(label, {one: column[known] for one, column in covariates.items()}, case, matched, weight)
        balance += of_part
        rows.append(
            {
                **label,
                "share_top": float(truth[case & matched].mean()),
                "share_background": float(np.average(truth, weights=weight)),
                **found._asdict(),
                "n_top": int((case & matched).sum()),
                "n_background": int((~case & matched).sum()),
                "n_unmatched": int((case & ~matched).sum()),
                "n_unknown": int((~known).sum()),
                "n_strata": len(np.unique(stratum[matched])),
                "worst_smd": max((abs(one["smd_after"]) for one in of_part), default=0.0),
            }
        )
    if not rows:
        raise DataError(
            f"no top links can be compared: {some(left_out)}. Fix: evidence that some links have, fewer bins."
        )
    table = pd.DataFrame(rows)
    table.insert(list(table).index("p") + 1, "fdr", stats.false_discovery_control(table["p"]))
    table.attrs["left_out"] = left_out
    return Enrichment(table, pd.DataFrame(balance))


def strongest(score: Floats, top: float) -> Bools:
    """Mark the links with the largest scores, those that tie with the last among them; NaN never counts.

    Parameters
    ----------
    score
        Shape (n,).
    top
        A share below 1 of the finite scores, or a number from 1 on.

    Raises
    ------
    DataError
        When all would be marked.

    Examples
    --------
    >>> strongest(np.array([3.0, 1.0, 2.0, 2.0, 0.0]), 2).tolist()
    [True, False, True, True, False]
    """
    there = np.isfinite(score)
    number = max(round(top * there.sum()), 1) if top < 1 else int(top)
    marked = there & (score >= np.sort(score[there])[::-1][min(number, int(there.sum())) - 1])
    if marked.sum() == there.sum():
        raise DataError(
            f"top={top}: all {marked.sum()} links are among the strongest, ties included; none is left as background. "
            "Fix: a smaller top, or give candidates with weak scores too."
        )
    return marked


def strata(covariates: Sequence[Floats], case: Bools, bins: int) -> Ints:
    """Divide rows by quantiles of the cases' covariates; -1 where a row has no match.

    Parameters
    ----------
    covariates
        Columns of shape (n,), finite.
    case
        Shape (n,).
    bins
        Quantile bins per covariate; ties may leave fewer.

    Returns
    -------
    ndarray
        Shape (n,), int64: -1 for controls outside the range of the cases, and in strata without cases or without
        controls.

    Examples
    --------
    >>> case = np.array([True, True, True, False, False, False])
    >>> strata([np.array([1.0, 2.0, 8.0, 1.5, 7.0, 99.0])], case, 2).tolist()
    [0, 0, 1, 0, 1, -1]
    """
    code, inside = np.zeros(case.size, np.int64), np.ones(case.size, bool)
    for column in covariates:
        edges = np.unique(np.quantile(column[case], np.arange(1, bins) / bins)) if case.any() else np.empty(0)
        code = code * (edges.size + 1) + np.searchsorted(edges, column, side="left")
        if case.any():
            inside &= (column >= column[case].min()) & (column <= column[case].max())
    code = np.unique(code, return_inverse=True)[1]
    size = code.max(initial=-1) + 1
    both = (np.bincount(code[case & inside], minlength=size) > 0) & (
        np.bincount(code[~case & inside], minlength=size) > 0
    )
    return np.where(inside & both[code], code, -1)


def background_weights(case: Bools, stratum: Ints) -> Floats:
    """Weigh matched controls so that each stratum counts as much as among the cases; 0 for all other rows.

    Examples
    --------
    >>> background_weights(np.array([True, True, False, False, False]), np.array([0, 0, 0, 0, -1])).tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0]
    """
    control = ~case & (stratum >= 0)
    size = stratum.max(initial=-1) + 1
    cases = np.bincount(stratum[case & (stratum >= 0)], minlength=size)
    controls = np.bincount(stratum[control], minlength=size)
    weight = np.zeros(case.size)
    weight[control] = cases[stratum[control]] / controls[stratum[control]]
    return weight


def standardised_difference(mean: float, other: float, spread: float) -> float:
    """Return a difference of means over the spread, 0 where they agree, infinite where they differ without spread.

    Examples
    --------
    >>> standardised_difference(3.0, 1.0, 4.0), standardised_difference(1.0, 1.0, 0.0)
    (0.5, 0.0)
    """
    if mean == other:
        return 0.0
    return (mean - other) / spread if spread > 0 else float(np.copysign(np.inf, mean - other))


def pooled_odds(
    case: ArrayLike, truth: ArrayLike, stratum: ArrayLike, block: ArrayLike, *, level: float = 0.95
) -> Pooled:
    """Pool the odds ratio of strata after Mantel and Haenszel, with a block jackknife; see :func:`enrichment`.

    Parameters
    ----------
    case, truth
        Boolean, shape (n,).
    stratum, block
        Codes from 0, shape (n,).
    level
        Of the interval.

    Raises
    ------
    DataError
        When there are fewer than two blocks.

    Examples
    --------
    >>> case, truth = np.repeat([1, 0], [4, 4]), np.array([1, 1, 1, 0, 1, 0, 0, 0])
    >>> pooled_odds(case, truth, np.zeros(8, int), np.arange(8)).odds_ratio
    9.0
    """
    case, truth = np.asarray(case, bool), np.asarray(truth, bool)
    stratum, block = np.asarray(stratum, np.int64), np.asarray(block, np.int64)
    block = np.unique(block, return_inverse=True)[1]
    size, number = int(stratum.max(initial=-1)) + 1, int(block.max(initial=-1)) + 1
    if number < 2:
        raise DataError(f"all {case.size} links lie in {number} block of the genome. Fix: a smaller block_bp.")
    cell = 2 * ~case + ~truth  # a: case with, b: case without, c: control with, d: control without
    cells = np.bincount(stratum * 4 + cell, minlength=4 * size).reshape(size, 4).astype(np.float64)
    pair, place = np.unique(block * size + stratum, return_inverse=True)
    gone = np.bincount(place * 4 + cell, minlength=4 * pair.size).reshape(-1, 4)
    kept = cells[pair % size] - gone  # the stratum without the block
    change = _mantel_haenszel(kept) - _mantel_haenszel(cells[pair % size])  # (pairs, 2)
    whole = _mantel_haenszel(cells).sum(axis=0)
    without = whole + np.stack([np.bincount(pair // size, column, minlength=number) for column in change.T], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.divide(*whole)) if whole.any() else float("nan")
        theta, left = np.log(ratio), np.log(_positive(without[:, 0]) / _positive(without[:, 1]))
    df = effective_number(np.bincount(block[case], minlength=number)) - 1
    nothing = Pooled(ratio, 0.0, float("inf"), 1.0, number, df)
    if df < 1 or not (np.isfinite(theta) and np.isfinite(left).all()):
        return nothing
    error = jackknife_error(float(theta), left, np.bincount(block).astype(np.float64))
    if error == 0:
        return nothing
    reach = stats.t.ppf((1 + level) / 2, df) * error
    p = 2 * stats.t.sf(abs(theta) / error, df)
    return Pooled(ratio, float(np.exp(theta - reach)), float(np.exp(theta + reach)), float(p), number, df)


def _mantel_haenszel(cells: NDArray[Any]) -> Floats:
    """Return a d / n and b c / n of tables (m, 4), shape (m, 2); 0 for an empty table."""
    a, b, c, d = cells.T
    n = np.maximum(cells.sum(axis=1), 1)
    return np.stack([a * d / n, b * c / n], axis=1)


def _positive(sums: Floats) -> Floats:
    """Take for zero what rounding left of a sum of which all was taken away."""
    return np.where(sums > 1e-9, sums, 0.0)


def _known(part: Part, name: str, covariates: dict[str, Floats]) -> Bools:
    known = part.evidence[name].notna().to_numpy() & np.isfinite(part.score)
    for covariate, column in covariates.items():
        if not np.isfinite(column).any():
            raise DataError(
                f"matched_by: {covariate!r} is known for none of {column.size} links. Fix: leave it out, or build "
                "the store and the evidence with what it needs (gc: a FASTA)."
            )
        known &= np.isfinite(column)
    return known


def _balance(
    label: dict[str, str], covariates: dict[str, Floats], case: Bools, matched: Bools, weight: Floats
) -> list[dict[str, Any]]:
    rows = []
    for name, values in covariates.items():
        spread = float(np.sqrt((values[case].var() + values[~case].var()) / 2))
        before = float(values[case].mean()), float(values[~case].mean())
        after = float(values[case & matched].mean()), float(np.average(values, weights=weight))
        means = {
            "mean_top_before": before[0], "mean_before": before[1], "mean_top_after": after[0], "mean_after": after[1],
        }  # fmt: skip
        differences = {
            "smd_before": standardised_difference(*before, spread),
            "smd_after": standardised_difference(*after, spread),
        }
        rows.append({**label, "covariate": name, **means, **differences})
    return rows
