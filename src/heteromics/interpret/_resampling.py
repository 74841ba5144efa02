"""Resampling of the genome in blocks: weights of rows, areas under curves and rank correlations under such weights.

Links are no independent samples: those of one peak share its evidence, those of one gene its expression, and neighbours
are alike. Whole stretches of the genome are therefore drawn, after Bickel, Boley, Brown, Huang and Zhang, "Subsampling
methods for genomic inference", Annals of Applied Statistics 4, 1660 (2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError

if TYPE_CHECKING:
    from pandas import DataFrame

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_BP = 10_000_000
"""Length of a block: far beyond the reach of a link, and some 300 of them in a mammalian genome."""

FEWEST_BLOCKS = 10
"""Fewer, drawn with replacement, are too much alike for an interval by percentiles."""


def blocks_of(evidence: DataFrame, block_bp: int | None) -> Ints:
    """Give numbers to the stretches of the genome that the midpoints of peaks lie in, -1 for peaks without a place.

    Parameters
    ----------
    evidence
        With ``chrom, chrom_start, chrom_end``.
    block_bp
        Length in bp, counted from the start of each chromosome; None takes whole chromosomes.

    Raises
    ------
    DataError
        When the columns are not there or the length is not positive.

    Examples
    --------
    >>> import pandas as pd
    >>> peaks = pd.DataFrame({"chrom": ["chr1", "chr1", "chr2"], "chrom_start": [1, 12, 1], "chrom_end": [3, 14, 3]})
    >>> blocks_of(peaks, 10).tolist()
    [0, 1, 2]
    """
    import pandas as pd

    if missing := {"chrom", "chrom_start", "chrom_end"} - set(evidence):
        raise DataError(f"evidence: no column {', '.join(sorted(missing))}. Fix: evidence_for(links, store).")
    if block_bp is not None and block_bp < 1:
        raise DataError(f"block_bp: found {block_bp}, expected 1 bp or more, or None for whole chromosomes.")
    chrom = pd.factorize(evidence["chrom"])[0].astype(np.int64)
    if block_bp is None:
        return chrom
    ends = [evidence[name].to_numpy(np.int64, na_value=0) for name in ("chrom_start", "chrom_end")]
    stretch = (ends[0] + ends[1]) // 2 // block_bp
    code = np.unique(chrom * (stretch.max(initial=0) + 1) + stretch, return_inverse=True)[1]
    there = chrom >= 0
    found = np.full(chrom.size, -1, np.int64)
    found[there] = np.unique(code[there], return_inverse=True)[1]
    return found


def drawn_weights(block: Ints, n_boot: int, seed: int) -> Iterator[Floats]:
    """Yield, for each bootstrap sample, how often each row is in it: blocks are drawn with replacement.

    Raises
    ------
    DataError
        When rows lie in fewer than ten blocks.
    """
    number = int(block.max(initial=-1)) + 1
    if number < FEWEST_BLOCKS:
        raise DataError(
            f"all {block.size} rows lie in {number} block{'s' * (number != 1)} of the genome, expected {FEWEST_BLOCKS} "
            "or more to draw from. Fix: a smaller block_bp, or links of more places."
        )
    rng = np.random.default_rng(seed)
    for _ in range(n_boot):
        yield np.bincount(rng.integers(0, number, number), minlength=number).astype(np.float64)[block]


def interval(values: ArrayLike, level: float) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values, of samples for which there is one.

    Raises
    ------
    DataError
        When there is none.
    """
    drawn = np.asarray(values, np.float64)
    defined = drawn[np.isfinite(drawn)]
    if not defined.size:
        raise DataError(f"none of {drawn.size} bootstrap samples has a value. Fix: a smaller block_bp, or more links.")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _tie_ends(ordered: Floats) -> Ints:
    """Places of the last of each run of equal values."""
    return np.append(np.flatnonzero(np.diff(ordered) != 0), ordered.size - 1)


def areas(truth: Bools, score: Floats) -> Callable[[Floats], tuple[float, float, float]]:
    """Prepare AUROC and average precision of one ranking under any weights of its rows; it is sorted once.

    Returns
    -------
    callable
        Of weights, shape (n,): AUROC (ties count half), average precision (equal scores enter together) and the share
        of positives, all NaN where the weights leave one class empty. As in scikit-learn with ``sample_weight``.

    Examples
    --------
    >>> [round(value, 6) for value in areas(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))(np.ones(3))]
    [0.5, 0.833333, 0.666667]
    """
    order = np.argsort(-score, kind="stable")
    true, last = truth[order], _tie_ends(-score[order])

    def weighted(weight: Floats) -> tuple[float, float, float]:
        ordered = weight[order]
        hit = np.cumsum(np.where(true, ordered, 0.0))[last]
        seen = np.cumsum(ordered)[last]
        positives, negatives = hit[-1], seen[-1] - hit[-1]
        if positives <= 0 or negatives <= 0:
            return np.nan, np.nan, np.nan
        step, miss = np.diff(hit, prepend=0.0), np.diff(seen - hit, prepend=0.0)
        auroc = (miss * (hit - step / 2)).sum() / (positives * negatives)
        precision = np.divide(hit, seen, out=np.zeros_like(hit), where=seen > 0)
        return float(auroc), float((step * precision).sum() / positives), float(positives / seen[-1])

    return weighted


def rank_correlation(columns: Floats) -> Callable[[Floats], float]:
    """Prepare Spearman's rho of two columns, given the ranks of all others, under any weights of rows.

    Parameters
    ----------
    columns
        Shape (n, 2 or more): x, y, and what is held fixed.

    Returns
    -------
    callable
        Of weights, shape (n,), as numbers of copies of each row: rho, NaN where a column does not vary. Held columns
        make it the partial correlation of ranks, from the inverse of their correlation matrix (Whittaker, Graphical
        Models in Applied Multivariate Statistics, 1990, section 5.8).

    Examples
    --------
    >>> rank_correlation(np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 9.0]]))(np.ones(3))
    1.0
    """
    orders = [np.argsort(column, kind="stable") for column in columns.T]
    lasts = [_tie_ends(column[order]) for column, order in zip(columns.T, orders, strict=True)]

    def weighted(weight: Floats) -> float:
        ranks = np.empty_like(columns)
        for place, (order, last) in enumerate(zip(orders, lasts, strict=True)):
            upto = np.cumsum(weight[order])[last]
            middle = upto - np.diff(upto, prepend=0.0) / 2
            ranks[order, place] = np.repeat(middle, np.diff(last, prepend=-1))
        total = weight.sum()
        ranks -= weight @ ranks / total
        covariance = (ranks * weight[:, None]).T @ ranks / total
        spread = np.sqrt(np.diag(covariance))
        if (spread <= 0).any():
            return np.nan
        correlation = covariance / np.outer(spread, spread)
        if columns.shape[1] == 2:
            return float(np.clip(correlation[0, 1], -1, 1))
        precision = np.linalg.pinv(correlation)
        size = precision[0, 0] * precision[1, 1]
        return float(np.clip(-precision[0, 1] / np.sqrt(size), -1, 1)) if size > 0 else np.nan

    return weighted


def jackknife_error(whole: float, without: Floats, size: Floats) -> float:
    """Return the standard error of an estimate from those without one block each, of sizes that may differ.

    Busing, Meijer and van der Leeden, Statistics and Computing 9, 3 (1999), "delete-m_j jackknife"; for blocks of one
    size the usual jackknife.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 4.0, 5.0])
    >>> without = (values.sum() - values) / 3
    >>> bool(np.isclose(jackknife_error(values.mean(), without, np.ones(4)), values.std(ddof=1) / 2))
    True
    """
    number, share = without.size, size.sum() / size
    centre = number * whole - ((1 - 1 / share) * without).sum()
    pseudo = share * whole - (share - 1) * without
    return float(np.sqrt(np.mean(np.square(pseudo - centre) / (share - 1))))


def effective_number(counts: Ints) -> float:
    """Return how many equal counts would vary as these do: Kish, Survey Sampling (1965).

    Examples
    --------
    >>> effective_number(np.array([5, 5, 0])), effective_number(np.array([9, 1]))
    (2.0, 1.2195121951219512)
    """
    return float(counts.sum() ** 2 / max(np.square(counts).sum(), 1))
