"""Null models of edges as pairs of arrays: swaps that keep every degree, and moves within a distance bin."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics._progress import track

Int = NDArray[np.int64]
Mode = Literal["bipartite", "directed", "undirected"]

_ACTIVE = 0.9  # share of groups that try in a round; below 1, so that any single swap can happen alone
_CANDIDATES = 1 << 22  # pairs of a node and one in its reach that are held at a time


class Swapped(NamedTuple):
    """New ends of edges, shape (E,) each; swaps that were made, and the share of edges as before, half-way and last."""

    src: Int
    dst: Int
    made: int
    unchanged: tuple[float, float]


def swap_edges(
    src: Int, dst: Int, nodes: int, mode: Mode, *, rounds: int, rng: np.random.Generator, progress: bool = False
) -> Swapped:
    """Swap ends of edges at random, all degrees kept.

    In a round, all edges are put into random pairs; a pair a-b, c-d becomes a-d, c-b. All pairs swap at once, except
    those that would make a loop, or whose old or new edges any other pair wants too, or that are there already.

    Parameters
    ----------
    src, dst
        Ends of the edges, shape (E,), int64: distinct pairs, of undirected edges each once and in either order.
    nodes
        Number of destinations; of all nodes where the two ends are of one type.
    mode
        ``"bipartite"``: ends of two types. ``"directed"``: of one type, no loops; every second round moves three edges
        at a time, since swaps alone cannot turn a cycle of three around. ``"undirected"``: of one type, no loops.
    rounds
        How often each edge is tried.
    rng
        Generator.
    progress
        Show a bar over rounds.

    Returns
    -------
    Swapped
        Edge e has the source it had (undirected: one of its ends is carried on).

    Notes
    -----
    Double edge swaps: Maslov and Sneppen 2002, doi:10.1126/science.1065103. Cycles of three: Berger and
    Mueller-Hannemann 2010, doi:10.1007/978-3-642-16926-7_11. The result tends to the uniform distribution over all
    graphs of these degrees: single swaps reach each of them, and a round and its reverse are as likely. For that it is
    not enough that new edges are free. With E the edges and N all that are wanted, a pair swaps only when its new edges
    occur once among E and N together, and its old ones too; then the same pairs are refused in the round that leads
    back, for the same reasons. Time: one sort of 2 E keys a round. Curveball (Strona et al. 2014,
    doi:10.1038/ncomms5114) was weighed: it trades more at once, but its form for undirected graphs is another chain.
    """
    src, dst = src.copy(), dst.copy()
    first, half, made = np.sort(_keys(src, dst, nodes, mode)), 1.0, 0
    turns = range(rounds)
    for turn in track(turns, "swapping edges") if progress else turns:
        size = 3 if mode == "directed" and turn % 2 else 2
        group = rng.permutation(src.size)[: src.size // size * size].reshape(size, -1)
        group = group[:, rng.random(group.shape[1]) < _ACTIVE]
        a, b = src[group], dst[group]
        if mode == "undirected":
            turned = rng.random(group.shape) < 0.5
            a, b = np.where(turned, b, a), np.where(turned, a, b)
        wanted = np.roll(b, 1, axis=0)
        if mode != "bipartite":
            free = (a != wanted).all(0)
            group, a, wanted = group[:, free], a[:, free], wanted[:, free]
        present, new = _keys(src, dst, nodes, mode), _keys(a, wanted, nodes, mode)
        several = _repeated(np.concatenate([present, new.ravel()]))
        swaps = ~(_among(new, several) | _among(present[group], several)).any(0)
        chosen = group[:, swaps]
        src[chosen], dst[chosen] = a[:, swaps], wanted[:, swaps]
        made += int(swaps.sum())
        if turn == rounds // 2 - 1:
            half = _overlap(first, _keys(src, dst, nodes, mode))
    return Swapped(src, dst, made, (half, _overlap(first, _keys(src, dst, nodes, mode))))


def _keys(src: Int, dst: Int, nodes: int, mode: Mode) -> Int:
    """One number per edge."""
    if mode == "undirected":
        return np.minimum(src, dst) * nodes + np.maximum(src, dst)
    return src * nodes + dst


def _repeated(keys: Int) -> Int:
    """Return, sorted, the numbers that occur more than once; sorts in place."""
    keys.sort()
    return keys[1:][keys[1:] == keys[:-1]]


def _among(keys: Int, ordered: Int) -> NDArray[np.bool_]:
    if not ordered.size:
        return np.zeros(keys.shape, dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, keys), ordered.size - 1)] == keys


def _overlap(ordered: Int, keys: Int) -> float:
    return float(_among(keys, ordered).mean()) if keys.size else 1.0


class Places(NamedTuple):
    """Chromosome code (-1 unknown) and position in bp of nodes, shape (N,) each, int64."""

    chrom: Int
    position: Int


class Moved(NamedTuple):
    """New other ends of links (E,); which have moved (E,); which are in no bin (E,)."""

    other: Int
    moved: NDArray[np.bool_]
    outside: NDArray[np.bool_]


def move_links(anchor: Int, other: Int, at: Places, to: Places, bounds: Int, rng: np.random.Generator) -> Moved:
    """Move links to nodes that are as far away from the same anchor and not linked to it.

    Parameters
    ----------
    anchor, other
        Ends of the links, shape (E,): rows of ``at`` and of ``to``; distinct pairs.
    at, to
        Where both kinds of node are.
    bounds
        Bounds of the distance bins in bp, rising, at least two; a bin holds its lower bound and not its upper one.
    rng
        Generator.

    Returns
    -------
    Moved
        Of m links of an anchor in a bin where f nodes are not linked, min(m, f), chosen at random, go to different ones
        of the f, chosen at random. Time and memory grow with the nodes in reach of anchors with links, 4 M at a time.
    """
    known = (at.chrom[anchor] >= 0) & (at.chrom[anchor] == to.chrom[other])
    far = np.abs(to.position[other] - at.position[anchor])
    bins = len(bounds) - 1
    bin_ = np.where(known, np.searchsorted(bounds, far, side="right") - 1, -1)
    outside = (bin_ < 0) | (bin_ >= bins)
    result, moved = other.copy(), np.zeros(other.size, dtype=bool)
    inside = np.flatnonzero(~outside)
    inside = inside[np.argsort(anchor[inside], kind="stable")]
    order = np.lexsort((to.position, to.chrom))
    there = Places(to.chrom[order], to.position[order])
    linked = np.sort(anchor * len(order) + other)
    for rows, first, count in _runs(np.unique(anchor[inside]), at, there, int(bounds[-1]) - 1):
        local = np.repeat(np.arange(rows.size), count)
        node = order[np.arange(local.size) + np.repeat(first - (np.cumsum(count) - count), count)]
        place = np.searchsorted(bounds, np.abs(to.position[node] - at.position[rows[local]]), side="right") - 1
        here = inside[np.searchsorted(anchor[inside], rows[0]) : np.searchsorted(anchor[inside], rows[-1], "right")]
        group = np.searchsorted(rows, anchor[here]) * bins + bin_[here]
        number = np.bincount(group, minlength=rows.size * bins)
        free = (place >= 0) & ~_among(rows[local] * len(order) + node, linked)
        free[free] = number[(local * bins + place)[free]] > 0
        node, target = node[free], (local * bins + place)[free]
        moving = np.minimum(number, np.bincount(target, minlength=number.size))
        from_, onto = _some_of_each(group, moving, rng), _some_of_each(target, moving, rng)
        result[here[from_]], moved[here[from_]] = node[onto], True
    return Moved(result, moved, outside)


def _runs(anchors: Int, at: Places, there: Places, within: int) -> list[tuple[Int, Int, Int]]:
    """Split anchors into parts with a bounded number of nodes in reach: (anchors, first node of each, how many)."""
    wide = 1 + max(int(there.position.max(initial=0)), int(at.position.max(initial=0))) + within
    key = there.chrom * 2 * wide + there.position
    centre = at.chrom[anchors] * 2 * wide + at.position[anchors]
    first = np.searchsorted(key, centre - within, "left")
    count = np.searchsorted(key, centre + within, "right") - first
    part = np.cumsum(count) // _CANDIDATES
    cuts = np.flatnonzero(np.diff(part)) + 1
    parts = zip(np.split(anchors, cuts), np.split(first, cuts), np.split(count, cuts), strict=True)
    return [each for each in parts if each[0].size]


def _some_of_each(group: Int, number: Int, rng: np.random.Generator) -> Int:
    """Choose ``number[g]`` places of every group g at random; ordered by group, in random order within it."""
    order = np.lexsort((rng.random(group.size), group))
    size = np.bincount(group, minlength=number.size)
    rank = np.arange(group.size) - np.repeat(np.cumsum(size) - size, size)
    return order[rank < number[group[order]]]
