"""How likely a link is to be one, from its z and its length: the two-groups model with a prior that knows distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError

Float = NDArray[np.float64]

_PRIOR = np.array([0.0, 0.0, np.log(3.0), np.log(3.0), -3.0, -4.0, -0.75])
_WIDTH = np.array([0.5, 0.3, 0.7, 0.7, 2.0, 2.0, 0.5])
_LEAST = np.log(2.0)


def link_probability(z: ArrayLike, distance: ArrayLike) -> Float:
    """Return the probability of each link to be none, above or below its null.

    A link is one of three things: none, ``z = e``; above, ``z = e + x``; or below, ``z = e - x``; with ``e`` normal
    and ``x > 0`` exponential. Its prior odds of being above or below are a power of ``1 + distance / 1 kb``, the form
    of the decay that GLUE weighs links by. Nothing is known beforehand but the z and the distances of all links: mean
    and spread of ``e``, the means of ``x``, the odds and the exponent are fitted to them by maximum a posteriori.

    Parameters
    ----------
    z
        Of each link, finite, shape (L,); about standard normal where there is no link.
    distance
        In bp, shape (L,); negative where there is none, which counts as the largest.

    Returns
    -------
    ndarray
        ``none, above, below``, shape (L, 3), float64; rows sum to 1.

    Raises
    ------
    DataError
        For z that are not finite, or shapes that differ.

    Notes
    -----
    Two-groups model and fitted null: Efron 2008, doi:10.1214/07-STS236. Prior by a covariate: Ferkingstad et al. 2008,
    doi:10.1214/08-AOAS158. GLUE: Cao and Gao 2022, doi:10.1038/s41587-022-01284-4. The exponential keeps the odds of a
    link rising with z. Priors are weak, and hold the fit where links are few: normal with means 0, 0, log 3, log 3, -3,
    -4 and -0.75 (GLUE's) and standard deviations 0.5, 0.3, 0.7, 0.7, 2, 2 and 0.5, for mean and log spread of ``e``,
    log means of ``x`` above and below, log odds of both at the mean distance, and the exponent. The means of ``x`` are
    at least 2, since smaller ones cannot be told from a wider ``e``: without the bound, half of all links would be
    called weak ones.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z, distance = rng.normal(size=500), rng.integers(0, 100_000, 500)
    >>> z[:2], distance[:2] = 5.0, [1_000, 90_000]
    >>> near, far = link_probability(z, distance)[:2, 1]
    >>> bool(near > far > 0.9)
    True
    """
    from scipy.optimize import minimize

    values, gap = np.asarray(z, dtype=np.float64), np.asarray(distance, dtype=np.float64)
    if values.shape != gap.shape or values.ndim != 1 or not np.isfinite(values).all():
        raise DataError(
            f"z: found shape {values.shape} with {int((~np.isfinite(values)).sum())} values that are not finite, and "
            f"distances of shape {gap.shape}; expected finite z and as many distances."
        )
    if not values.size:
        return np.empty((0, 3))
    far = np.log1p(np.where(gap < 0, gap.max(), gap).clip(min=0) / 1_000)
    far -= far.mean()

    def cost(at: Float) -> float:
        whole = np.logaddexp.reduce(_log_joint(at, values, far), axis=1).sum()
        return float(0.5 * np.square((at - _PRIOR) / _WIDTH).sum() - whole)

    middle = float(np.median(values))
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), 0.1)
    start = np.concatenate([[middle, np.log(spread)], _PRIOR[2:]])
    bounds = [(-5, 5), (-3, 3), (_LEAST, 4), (_LEAST, 4), (-15, 5), (-15, 5), (-5, 5)]
    fitted = minimize(cost, start, method="L-BFGS-B", bounds=bounds)
    joint = _log_joint(fitted.x, values, far)
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))


def _log_joint(at: Float, z: Float, far: Float) -> Float:
    """Log density of z times prior, for none, above and below, shape (L, 3)."""
    from scipy.special import log_softmax

    spread, above, below = np.exp(at[1:4])
    e = (z - at[0]) / spread
    density = [-np.square(e) / 2 - np.log(np.sqrt(2 * np.pi)), _skewed(e, above / spread), _skewed(-e, below / spread)]
    odds = np.stack([np.zeros(len(z)), at[4] + at[6] * far, at[5] + at[6] * far], axis=1)
    found: Float = np.stack(density, axis=1) - at[1] + log_softmax(odds, axis=1)
    return found


def _skewed(e: Float, mean: float) -> Float:
    """Log density of a standard normal plus an exponential (Grushka 1972, doi:10.1021/ac60319a011)."""
    from scipy.special import log_ndtr

    found: Float = log_ndtr(e - 1 / mean) - np.log(mean) + (0.5 / mean - e) / mean
    return found
