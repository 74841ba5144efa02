"""Values beside their null: z, p and false discovery rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heteromics.interpret._null_cells import Chance

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_LEAST_P = 1e-300  # of which z is 37
_MOST_SKEWED = 4.0
_MAD_EFFICIENCY = 0.3675  # of the median absolute deviation, beside the standard deviation, for a normal


@dataclass(frozen=True, slots=True)
class Null:
    """Mean, standard deviation, degrees of freedom and skewness under a null, shape (rows,); where sd is 0, no test.

    ``sd`` is that of the difference from the mean, which is estimated too.
    """

    mean: Float
    sd: Float
    df: Float
    skew: Float

    @classmethod
    def of(cls, rows: int) -> Null:
        return cls(*(np.zeros(rows) for _ in range(4)))

    def fill(self, at: Int, values: Null, place: Int | slice = slice(None)) -> None:
        for name in ("mean", "sd", "df", "skew"):
            getattr(self, name)[at] = getattr(values, name)[place]

    def tests(self, values: Float) -> dict[str, Float]:
        """Compare values with the null; ``above`` is the one-sided p, and z the normal deviate of p."""
        from scipy import stats

        at = np.flatnonzero(self.sd > 0)
        t = (values[at] - self.mean[at]) / self.sd[at]
        deviate = np.sign(t) * stats.norm.isf(np.maximum(stats.t.sf(np.abs(t), self.df[at]), _LEAST_P))
        skew = np.clip(self.skew[at], -_MOST_SKEWED, _MOST_SKEWED)
        tails = [  # the thin tail of a skewed sum ends somewhere, which is not known well: it is not taken for thinner
            np.maximum(stats.norm.sf(deviate), stats.pearson3.sf(deviate, skew)),
            np.maximum(stats.norm.cdf(deviate), stats.pearson3.cdf(deviate, skew)),
        ]
        z, p, above = np.zeros(len(values)), np.ones(len(values)), np.ones(len(values))
        above[at], half = tails[0], np.minimum(*tails)
        p[at] = np.minimum(2 * half, 1)
        z[at] = np.where(tails[0] < tails[1], 1, -1) * stats.norm.isf(np.minimum(half, 0.5))
        tested = self.sd > 0
        return {
            "null_mean": self.mean,
            "null_sd": self.sd,
            "z": z,
            "p": p,
            "fdr": adjusted(p, tested),
            "fdr_above": adjusted(above, tested),
            "above": above,
        }


def of_sums(chance: Chance, permutations: int) -> Null:
    """Return the null of a sum less the mean over B permutations: cumulants of both, and as many permutations."""
    sd = np.sqrt(chance.var * (1 + 1 / permutations))
    third = chance.third * (1 - 1 / permutations**2)
    return Null(chance.mean, sd, chance.df, np.divide(third, sd**3, out=np.zeros(len(sd)), where=sd > 0))


def of_peers(location: Float, scale: Float, peers: Int) -> Null:
    """Return the null of a value less the median of its peers, with as many degrees of freedom as their MAD has."""
    df = (_MAD_EFFICIENCY * (peers - 1)).astype(np.float64)
    return Null(location, scale * np.sqrt(1 + np.pi / 2 / peers), df, np.zeros(len(scale)))


def adjusted(p: Float, tested: NDArray[np.bool_]) -> Float:
    """Return p adjusted by Benjamini and Hochberg over the rows tested, 1 for the others."""
    from scipy import stats

    found = np.ones(len(p))
    if tested.any():
        found[tested] = stats.false_discovery_control(p[tested])
    return found
