"""Mean, spread and dropout of features from blocks of a matrix, and which of them vary more than their mean explains.

The normalised variance is that of Seurat v3 (Stuart et al., Cell 2019): a curve of the variance over the mean, then
the variance of the standardised values, clipped. Counts of peaks and proteins are measured the same way, so that one
definition serves all tables; the dispersion of ``cell_ranger`` and Pearson residuals were weighed, but need logarithms
of the values, or all zeros in memory. The curve is a loess fit by ``scikit-misc``, the code that scanpy calls for it
(Cleveland's own), so that flags agree with scanpy's; ``statsmodels`` fits straight lines only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.data.checks import check_counts
from heteromics.errors import DataError
from heteromics.priors._streams import Block

Floats = NDArray[np.float64]

FEWEST_FOR_CURVE = 20
"""Fewer features that vary make no curve of variance over mean."""
FEWEST_IN_SPAN = 30
"""Features that each point of the curve looks at, or all there are, however small the span: for panels of proteins."""


class Moments(NamedTuple):
    """What a matrix of ``cells`` cells sums to, by feature: each field but the first of shape (F,)."""

    cells: int
    mean: Floats
    variance: Floats
    dropout: Floats


class Summary(NamedTuple):
    """One line per feature, each field of shape (F,); ``normalised_variance`` is NaN where there is no curve."""

    mean: Floats
    variance: Floats
    normalised_variance: Floats
    dropout: Floats
    highly_variable: NDArray[np.bool_]


def moments(blocks: Iterable[Block], cells: int, features: int, what: str) -> Moments:
    """Sum up a matrix of counts in one pass.

    Parameters
    ----------
    blocks
        All its values, each once.
    cells, features
        Its shape; 2 cells or more.
    what
        What the matrix is called in a message.

    Returns
    -------
    Moments
        Mean, unbiased variance and share of zeros. Sums of counts and of their squares are whole numbers and exact in
        float64 up to 2**53, so that neither the blocks nor their order changes a digit.

    Raises
    ------
    NotCounts
        As :func:`heteromics.data.checks.check_counts`.
    """
    total, squares, filled = np.zeros((3, features))
    for block in blocks:
        check_counts(block.values, f"{what}, rows counted in a block of the cells looked at")
        column, value = _flat(block)
        total += np.bincount(column, value, features)
        squares += np.bincount(column, value * value, features)
        filled += np.bincount(column[value != 0], minlength=features)
    mean = total / cells
    variance = np.maximum(squares - total * mean, 0.0) / (cells - 1)
    return Moments(cells, mean, variance, 1 - filled / cells)


def expected_spread(mean: Floats, variance: Floats, span: float) -> Floats:
    """Return the standard deviation that the mean of a feature lets expect: loess of log10 variance on log10 mean.

    Degree 2, over the features that vary (Stuart et al. 2019); 1 for others, NaN for all where fewer than
    ``FEWEST_FOR_CURVE`` vary.

    Parameters
    ----------
    mean, variance
        Of each feature, shape (F,).
    span
        Share of the features that each point of the curve looks at, ``FEWEST_IN_SPAN`` at least.

    Raises
    ------
    DataError
        When the fit fails, as where most features have one and the same mean because they are seen in one cell each.
    """
    from skmisc.loess import loess

    varies = variance > 0
    count = int(varies.sum())
    if count < FEWEST_FOR_CURVE:
        return np.full(mean.size, np.nan)
    span = max(span, min(1.0, FEWEST_IN_SPAN / count))
    curve = loess(np.log10(mean[varies]), np.log10(variance[varies]), span=span, degree=2)
    try:
        curve.fit()
    except ValueError as error:
        raise DataError(
            f"no curve of variance over mean fits the {count:,} features that vary: too many share one mean.\n"
            f"  Fix: set attributes.summaries.span above {span:g}, or leave out features seen in very few cells."
        ) from error
    spread = np.ones(mean.size)
    spread[varies] = np.sqrt(10.0**curve.outputs.fitted_values)
    return spread


def normalised_variance(blocks: Iterable[Block], sums: Moments, spread: Floats) -> Floats:
    """Return the variance of standardised values, none above sqrt(N) (Stuart et al. 2019), in a pass over the blocks.

    With mean m and expected standard deviation s of a feature, values are cut off at m + s sqrt(N); of what is left,
    the mean square deviation from m over N - 1, in units of s^2.

    Parameters
    ----------
    blocks
        The values that ``sums`` was made of.
    sums
        Their mean.
    spread
        Expected standard deviation of each feature, shape (F,).
    """
    features = sums.mean.size
    most = sums.mean + spread * np.sqrt(sums.cells)
    total, squares = np.zeros((2, features))
    for block in blocks:
        column, value = _flat(block)
        cut = np.minimum(value, most[column])
        total += np.bincount(column, cut, features)
        squares += np.bincount(column, cut * cut, features)
    deviation = sums.cells * sums.mean**2 + squares - 2 * total * sums.mean
    return np.maximum(deviation, 0.0) / ((sums.cells - 1) * spread**2)


def summarise(
    read: Callable[[], Iterable[Block]], cells: int, features: int, *, top: int, span: float = 0.3, what: str = "data"
) -> Summary:
    """Summarise a matrix of counts in two passes.

    Parameters
    ----------
    read
        Called once a pass, gives all blocks.
    cells, features
        Shape of the matrix.
    top
        How many features are flagged as highly variable: those of the highest normalised variance, the first of equal
        ones; never one that does not vary.
    span
        As in :func:`expected_spread`.
    what
        What the matrix is called in a message.

    Raises
    ------
    NotCounts, DataError
        As :func:`moments` and :func:`expected_spread`; also for fewer than two cells.

    Examples
    --------
    >>> from scipy import sparse
    >>> counts = sparse.csr_array(np.array([[0, 2, 1], [0, 0, 3]]))
    >>> summary = summarise(lambda: [Block(0, counts)], 2, 3, top=1)
    >>> summary.mean.tolist(), summary.variance.tolist(), summary.dropout.tolist()
    ([0.0, 1.0, 2.0], [0.0, 2.0, 2.0], [1.0, 0.5, 0.0])
    """
    if cells < 2:
        raise DataError(f"{what}: found {cells} of the cells to look at, expected 2 or more for a variance.")
    sums = moments(read(), cells, features, what)
    spread = expected_spread(sums.mean, sums.variance, span)
    normalised = spread if np.isnan(spread).any() else normalised_variance(read(), sums, spread)
    ranked = np.argsort(-np.where(sums.variance > 0, normalised, 0.0), kind="stable")[:top]
    variable = np.zeros(features, bool)
    variable[ranked] = (sums.variance > 0)[ranked] & ~np.isnan(normalised[ranked])
    return Summary(sums.mean, sums.variance, normalised, sums.dropout, variable)


def _flat(block: Block) -> tuple[NDArray[np.int64], Floats]:
    """Return feature and value of each stored entry; entries stored twice are one."""
    block.values.sum_duplicates()
    entries = block.values.tocoo()
    return entries.coords[1].astype(np.int64) + block.first, entries.data.astype(np.float64)
