"""How likely a link is to be one, from its z and its length: the two-groups model with a prior that knows distance."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, log_softmax, softmax

from heteromics.errors import DataError

Float = NDArray[np.float64]

_PRIOR = np.array([0.0, 0.0, np.log(3.0), np.log(3.0), -3.0, -4.0, -0.75])
_WIDTH = np.array([0.5, 0.3, 0.7, 0.7, 2.0, 2.0, 0.5])
_LEAST = np.log(2.0)
_FITTED = 50_000  # links that the seven parameters are fitted to, at most


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
    called weak ones. Of more than 50,000 links, every second, third and so on is fitted to: the seven parameters are
    known well enough.

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

    some = slice(None, None, -(-len(values) // _FITTED))

    def cost(at: Float) -> tuple[float, Float]:
        value, slope = _minus_log_likelihood(at, values[some], far[some])
        off = (at - _PRIOR) / _WIDTH
        return value + 0.5 * float(off @ off), slope + off / _WIDTH

    middle = float(np.median(values))
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), 0.1)
    start = np.concatenate([[middle, np.log(spread)], _PRIOR[2:]])
    bounds = [(-5, 5), (-3, 3), (_LEAST, 4), (_LEAST, 4), (-15, 5), (-15, 5), (-5, 5)]
    fitted = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    if not fitted.success:
        warnings.warn(f"the posterior of {len(values):,} links may be off: {fitted.message}.", stacklevel=2)
    joint = _log_joint(fitted.x, values, far)
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))


def _minus_log_likelihood(at: Float, z: Float, far: Float) -> tuple[float, Float]:
    """Return minus the log likelihood and its gradient, by the parameters as in the notes, shape (7,)."""
    joint = _log_joint(at, z, far)
    whole = np.logaddexp.reduce(joint, axis=1)
    share = np.exp(joint - whole[:, None])  # (L, 3)
    spread, above, below = np.exp(at[1:4])
    e = (z - at[0]) / spread
    by_e, by_log_mean = [-e], []
    for sign, mean in ((1, above / spread), (-1, below / spread)):
        x = sign * e - 1 / mean
        hazard = np.exp(-np.square(x) / 2 - log_ndtr(x)) / np.sqrt(2 * np.pi)
        by_e.append(sign * (hazard - 1 / mean))
        by_log_mean.append(hazard / mean - 1 - 1 / mean**2 + sign * e / mean)
    slope_e = (share * np.stack(by_e, axis=1)).sum(1)
    slope_mean = [share[:, place] @ slope for place, slope in enumerate(by_log_mean, start=1)]
    excess = share - softmax(_odds(at, far), axis=1)
    by_spread = -(e @ slope_e) - sum(slope_mean) - len(z)
    odds = [excess[:, 1].sum(), excess[:, 2].sum(), far @ (excess[:, 1] + excess[:, 2])]
    return -float(whole.sum()), -np.array([-slope_e.sum() / spread, by_spread, *slope_mean, *odds])


def _odds(at: Float, far: Float) -> Float:
    """Log prior odds of none, above and below, shape (L, 3)."""
    return np.stack([np.zeros(len(far)), at[4] + at[6] * far, at[5] + at[6] * far], axis=1)


def _log_joint(at: Float, z: Float, far: Float) -> Float:
    """Log density of z times prior, for none, above and below, shape (L, 3)."""
    spread, above, below = np.exp(at[1:4])
    e = (z - at[0]) / spread
    density = [-np.square(e) / 2 - np.log(np.sqrt(2 * np.pi)), _skewed(e, above / spread), _skewed(-e, below / spread)]
    found: Float = np.stack(density, axis=1) - at[1] + log_softmax(_odds(at, far), axis=1)
    return found


def _skewed(e: Float, mean: float) -> Float:
    """Log density of a standard normal plus an exponential (Grushka 1972, doi:10.1021/ac60319a011)."""
    found: Float = log_ndtr(e - 1 / mean) - np.log(mean) + (0.5 / mean - e) / mean
    return found
