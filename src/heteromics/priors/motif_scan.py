"""Where motifs lie in sequences: log-odds scores of both strands, with exact p-values.

lightmotif finds the places, with vector instructions and without a step of compilation. The p-values are computed here:
log-odds are rounded to whole hundredths of a bit, and the distribution of their sum over random sequences follows
exactly by dynamic programming, one position after the other (Staden, Comput Appl Biosci 1989), as in FIMO (Grant,
Bailey and Noble, Bioinformatics 2011). lightmotif is given the whole numbers: its sums in single precision are exact,
so that score, threshold and p-value always belong together. ``memelite.fimo``, the other library at hand, rounds to
tenths of a bit for the p-values and not for the scores, which makes p-values of short motifs up to three times too
large, has an even background only and scores unknown bases; it stands in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

UNIT_BITS = 0.01
"""Scores are whole multiples of this."""

_LETTER = np.full(256, ord("N"), np.uint8)
_LETTER[np.frombuffer(b"ACGTacgt", np.uint8)] = np.frombuffer(b"ACGTACGT", np.uint8)


class ScoreMatrix(NamedTuple):
    """A motif ready to be looked for.

    ``weights`` are log-odds of A, C, G, T at each position, shape (L, 4), in units of ``UNIT_BITS``; ``least`` is the
    smallest sum that passes, and ``p_values[s - least]`` the p-value of a sum s. No sum passes where it is empty.
    """

    weights: Ints
    least: int
    p_values: Floats


class Hits(NamedTuple):
    """Places that pass, each field of shape (H,): sequence, first base in it, strand, sum of weights."""

    sequence: Ints
    start: Ints
    forward: npt.NDArray[np.bool_]
    score: Ints


class BestHits(NamedTuple):
    """Motif and sequence of each pair with a hit, (R,): how many hits, and place, strand and sum of the best."""

    motif: Ints
    sequence: Ints
    hits: Ints
    start: Ints
    forward: npt.NDArray[np.bool_]
    score: Ints


def log_odds(p: Floats, background: Floats) -> Ints:
    """Return ``log2(p / background)``, rounded to whole multiples of ``UNIT_BITS``.

    Parameters
    ----------
    p
        Probabilities of A, C, G, T at each position, shape (L, 4), all above 0.
    background
        Probabilities of A, C, G, T elsewhere, shape (4,), all above 0.

    Examples
    --------
    >>> log_odds(np.array([[0.5, 0.25, 0.125, 0.125]]), np.full(4, 0.25)).tolist()
    [[100, 0, -100, -100]]
    """
    return np.rint(np.log2(p / background) / UNIT_BITS).astype(np.int64)


def tail_probabilities(weights: Ints, background: Floats) -> tuple[int, Floats]:
    """Return the smallest sum of weights, and the probability of each sum from it on, or of a larger one.

    Parameters
    ----------
    weights
        Whole numbers for A, C, G, T at each position, shape (L, 4).
    background
        Probabilities of A, C, G, T, the same and independent at all positions, shape (4,).

    Returns
    -------
    lowest : int
        The smallest possible sum.
    tail : numpy.ndarray
        ``tail[i] = P(sum >= lowest + i)``, up to the largest possible sum.

    Examples
    --------
    >>> tail_probabilities(np.array([[2, 0, 0, 0], [2, 0, 0, 0]]), np.full(4, 0.25))
    (0, array([1.    , 0.4375, 0.4375, 0.0625, 0.0625]))
    """
    above = weights - weights.min(axis=1, keepdims=True)
    mass = np.zeros(int(above.max(axis=1).sum()) + 1)
    mass[0] = 1
    reached = 1
    for row in above.tolist():
        following = np.zeros_like(mass)
        for shift, probability in zip(row, background.tolist(), strict=True):
            following[shift : shift + reached] += probability * mass[:reached]
        mass, reached = following, reached + max(row)
    return int(weights.min(axis=1).sum()), mass[::-1].cumsum()[::-1]


def score_matrix(p: Floats, background: Floats, p_value: float) -> ScoreMatrix:
    """Return the weights of a motif and the sums whose p-value is below ``p_value``.

    Parameters
    ----------
    p, background
        As in :func:`log_odds`. Background must be that of both strands, A as T and C as G: then a p-value holds for
        either.
    p_value
        Hits have a smaller one: the probability that a random place scores as high, on one strand.
    """
    weights = log_odds(p, background)
    lowest, tail = tail_probabilities(weights, background)
    first = int(np.searchsorted(-tail, -p_value, side="right"))
    return ScoreMatrix(weights, lowest + first, tail[first:])


def best_p_value(p: Floats, background: Floats) -> float:
    """Return the p-value of the best possible match of a motif."""
    return float(tail_probabilities(log_odds(p, background), background)[1][-1])


class Striped(NamedTuple):
    """Sequences in the form lightmotif reads: its own, where each begins in it, (n,), and N so far at each place."""

    striped: Any
    begin: Ints
    unknown: Ints


def stripe(bases: Bytes, offsets: Ints, longest: int) -> Striped:
    """Join sequences, parted by an unknown base each, in upper case and with N for all that is not A, C, G or T.

    Parameters
    ----------
    bases
        ASCII codes of the bases, shape (B,), uint8.
    offsets
        Where each sequence begins, and the end of the last, shape (n + 1,).
    longest
        Positions of the longest motif; so many N follow the last sequence.
    """
    import lightmotif

    n = offsets.size - 1
    text = np.full(bases.size + n + longest, ord("N"), np.uint8)
    text[np.arange(bases.size) + np.repeat(np.arange(n), np.diff(offsets))] = _LETTER[bases]
    unknown = np.concatenate([np.zeros(1, np.int64), np.cumsum(text == ord("N"))])
    return Striped(lightmotif.stripe(text.tobytes().decode("ascii")), offsets[:-1] + np.arange(n), unknown)


def find_hits(matrix: ScoreMatrix, sequences: Striped) -> Hits:
    """Find all places of both strands where a motif's sum of weights passes.

    A place that touches an unknown base, or the end of its sequence, is none. A motif that is its own reverse
    complement is found on both strands of a place.

    Returns
    -------
    Hits
        Ordered by sequence, start and strand, + first; ``start`` is that of the leftmost base on either strand.
    """
    places, scores, strands = [], [], []
    for is_forward, weights in ((True, matrix.weights), (False, matrix.weights[::-1, ::-1])):
        found, sums = _passing(weights, matrix, sequences)
        places.append(found)
        scores.append(sums)
        strands.append(np.full(found.size, is_forward))
    place, score, forward = np.concatenate(places), np.concatenate(scores), np.concatenate(strands)
    order = np.lexsort((~forward, place))
    place, score, forward = place[order], score[order], forward[order]
    sequence = np.searchsorted(sequences.begin, place, side="right") - 1
    return Hits(sequence, place - sequences.begin[sequence], forward, score)


def _passing(weights: Ints, matrix: ScoreMatrix, sequences: Striped) -> tuple[Ints, Ints]:
    import lightmotif

    if not matrix.p_values.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    columns = {base: weights[:, row].tolist() for row, base in enumerate("ACGT")}
    pssm = lightmotif.ScoringMatrix({**columns, "N": weights.min(axis=1).tolist()})
    found = [
        (hit.position, hit.score) for hit in lightmotif.scan(pssm, sequences.striped, threshold=matrix.least - 0.5)
    ]
    place, score = np.array(found, np.float64).reshape(-1, 2).T.astype(np.int64)
    known = sequences.unknown[place + len(weights)] == sequences.unknown[place]
    return place[known], score[known]


def best_hits(matrices: Sequence[ScoreMatrix], bases: Bytes, offsets: Ints) -> BestHits:
    """Look for motifs in sequences, and keep for each pair of the two how many hits there are and the best of them.

    Parameters
    ----------
    matrices
        The motifs, M of them.
    bases, offsets
        As in :func:`stripe`, n sequences.

    Returns
    -------
    BestHits
        Pairs that have a hit, ordered by sequence and motif. The best hit has the largest sum; among equals the first
        from the left, and + before -, stands.

    Notes
    -----
    Memory is that of the sequences and their hits; no array of motifs x sequences is formed.

    Examples
    --------
    >>> sharp = np.where(np.eye(4)[[0, 1, 2, 3, 3, 3]], 0.97, 0.01)  # ACGTTT
    >>> matrix = score_matrix(sharp, np.full(4, 0.25), 1e-3)
    >>> found = best_hits([matrix], np.frombuffer(b"CCAAACGTCCACGTTTC", np.uint8), np.array([0, 9, 17]))
    >>> found.sequence.tolist(), found.start.tolist(), found.forward.tolist(), found.score.tolist()
    ([0, 1], [2, 1], [False, True], [1176, 1176])
    """
    sequences = stripe(bases, offsets, max((len(matrix.weights) for matrix in matrices), default=1))
    found = [_best(row, find_hits(matrix, sequences)) for row, matrix in enumerate(matrices)]
    if not found:
        empty = np.empty(0, np.int64)
        return BestHits(empty, empty, empty, empty, empty.astype(bool), empty)
    columns: list[Any] = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    joined = BestHits(*columns)
    order = np.lexsort((joined.motif, joined.sequence))
    columns = [values[order] for values in joined]
    return BestHits(*columns)


def _best(motif: int, hits: Hits) -> BestHits:
    order = np.lexsort((~hits.forward, hits.start, -hits.score, hits.sequence))
    sequence, first, number = np.unique(hits.sequence[order], return_index=True, return_counts=True)
    best = order[first]
    return BestHits(
        np.full(sequence.size, motif), sequence, number, hits.start[best], hits.forward[best], hits.score[best]
    )
