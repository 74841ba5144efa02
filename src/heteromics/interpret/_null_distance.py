"""The null of rewired peaks: what links score that are as long and on the same chromosome."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

FEWEST = 30  # links that a null is made of
_MAD = 1.4826022185056018  # standard deviation of a normal over its median absolute deviation


def rewired(score: Float, distance: Int, chrom: Int, bounds: Int) -> tuple[Float, Float, Int]:
    """Return location and scale of the scores of links on the same chromosome in the same distance bin, and how many.

    Parameters
    ----------
    score, distance, chrom
        Of each link, shape (L,); ``distance`` in bp, -1 where gene and peak are on two chromosomes.
    bounds
        Of the bins in bp, rising; a bin holds its lower bound and not its upper one. Longer links are one bin, and
        those between chromosomes another.

    Returns
    -------
    location, scale, peers
        Median, median absolute deviation times 1.4826, and the number of links they are of, shape (L,). Where a
        chromosome has fewer than 30 links in a bin, those of all chromosomes in it; where these are fewer too, all
        links.

    Examples
    --------
    >>> score = np.r_[np.arange(31.0), 99.0]
    >>> location, scale, peers = rewired(score, np.full(32, 7), np.r_[np.zeros(31, int), 1], np.array([0, 10]))
    >>> location[[0, 31]].tolist(), peers[[0, 31]].tolist()
    ([15.0, 15.5], [31, 32])
    """
    bin_ = np.where(distance < 0, 0, 1 + np.searchsorted(bounds, distance, side="right"))
    levels = [np.zeros(len(score), dtype=np.int64), bin_, (chrom + 1) * (len(bounds) + 2) + bin_]
    location, scale, peers = np.zeros(len(score)), np.zeros(len(score)), np.zeros(len(score), dtype=np.int64)
    for level in levels:
        group = np.unique(level, return_inverse=True)[1]
        size = np.bincount(group)[group]
        enough = (size >= FEWEST) | (level is levels[0])
        middle = _medians(score, group)[group]
        around = _MAD * _medians(np.abs(score - middle), group)[group]
        location, scale = np.where(enough, middle, location), np.where(enough, around, scale)
        peers = np.where(enough, size, peers)
    return location, scale, peers


def _medians(values: Float, group: Int) -> Float:
    """Return the median of each group, numbered from 0 without gaps."""
    order = np.lexsort((values, group))
    size = np.bincount(group)
    first = np.cumsum(size) - size
    return (values[order[first + (size - 1) // 2]] + values[order[first + size // 2]]) / 2
