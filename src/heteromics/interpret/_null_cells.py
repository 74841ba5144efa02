"""The null of exchanged cells: what links are worth when the two profiles of a pair come from two cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heteromics._progress import bar
from heteromics.models._links import LinkSums
from heteromics.nn.segments import segment_ids

if TYPE_CHECKING:
    from heteromics.graphs import HeteroGraph
    from heteromics.models import Bi2Former

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BLOCK = 16  # cells that are exchanged among each other; wider ones let in what deep cells have in common
_HELD = 1024  # pairs whose links are held at a time
_ROUNDING = 1e-10  # share of a sum of squares that float32 effects leave when all are alike


@dataclass(frozen=True, slots=True)
class Chance:
    """Sums of effects over pairs under a null: mean, variance, degrees of freedom of that, third cumulant; (L,)."""

    mean: Float
    var: Float
    df: Float
    third: Float


def blocks_of(labels: Int, depth: Int, size: int = BLOCK) -> Int:
    """Cut the cells of each label into blocks of about ``size`` cells of like depth.

    Parameters
    ----------
    labels, depth
        Of each cell, shape (n,).

    Returns
    -------
    ndarray
        Block of each cell, shape (n,), int64, from 0. A block has ``size`` to less than twice ``size`` cells, those of
        a smaller label excepted.

    Examples
    --------
    >>> blocks_of(np.array([0, 0, 1, 0, 0]), np.array([5, 1, 2, 4, 0]), size=2).tolist()
    [1, 0, 2, 1, 0]
    """
    order = np.lexsort((depth, labels))
    number = np.bincount(labels)
    parts = np.maximum(number // size, 1)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(number) - number, number)
    label = labels[order]
    block = np.empty(len(labels), dtype=np.int64)
    block[order] = (np.cumsum(parts) - parts)[label] + rank * parts[label] // np.maximum(number[label], 1)
    return np.unique(block, return_inverse=True)[1]


def exchanged(
    model: Bi2Former,
    graph: HeteroGraph,
    pairs: Int,
    block: Int,
    wanted: Int,
    permutations: int,
    rng: np.random.Generator,
    device: str,
    *,
    progress: bool,
) -> Chance:
    """Sum effects over pairs whose ATAC profiles are permuted within blocks of cells.

    Parameters
    ----------
    pairs, block
        Rows of both profiles of each cell (n, 2), and its block (n,), from 0.
    wanted
        Keys ``gene * peaks + peak`` of links, sorted, distinct, shape (L,).
    permutations
        At least 2.

    Returns
    -------
    Chance
        The blocks are permuted apart from each other, so that the cumulants of a sum over all cells are the sums of
        those of its blocks, which unbiased k-statistics estimate (Fisher 1930; the third needs three permutations, and
        is 0 with two); ``df`` are those of Welch and Satterthwaite (Satterthwaite 1946, doi:10.2307/3002019).

    Notes
    -----
    Time grows with the kept links of the pairs, once for each permutation; the links of 1,024 pairs are held at a time.
    """
    mean, var, spread, third = (np.zeros(len(wanted)) for _ in range(4))
    order = np.argsort(block, kind="stable")
    bounds = np.searchsorted(block[order], np.arange(block.max(initial=-1) + 2))
    part = (bounds[:-1] * permutations) // _HELD
    with bar(enabled=progress) as shown:
        task = shown.add_task("exchanging cells", total=len(pairs) * permutations)
        for chunk in np.split(np.arange(len(part)), np.flatnonzero(np.diff(part)) + 1):
            rows, number = _permuted(pairs, [order[bounds[b] : bounds[b + 1]] for b in chunk], permutations, rng)
            sums = LinkSums()
            for at, effect, key in effects_of(model, graph, rows, device):
                place = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
                met = wanted[place] == key
                sums.add(number[at[met]] * len(wanted) + place[met], effect[met, None])
            _add_moments(*sums.totals(), permutations, (mean, var, spread, third))
            shown.advance(task, len(rows))
    df = np.divide(var**2 * (permutations - 1), spread, out=np.full(len(wanted), 1.0), where=spread > 0)
    return Chance(mean, var, df, third)


def _add_moments(key: Int, total: Float, permutations: int, onto: tuple[Float, ...]) -> None:
    """Add mean, variance, squared variance and third cumulant over permutations of each link in each block.

    ``key`` is (block * permutations + permutation) * links + link, of the sums ``total`` (n, 1) that are not 0.
    """
    if not key.size:
        return
    number, link = np.divmod(key, len(onto[0]))
    found, at = np.unique(number // permutations * len(onto[0]) + link, return_inverse=True)
    first, square, cube = (np.bincount(at, total[:, 0] ** power) for power in (1, 2, 3))
    mean = first / permutations
    around = square - permutations * mean**2
    varies = around > _ROUNDING * square
    var = np.where(varies, around, 0.0) / (permutations - 1)
    skewed = np.where(varies, cube - 3 * mean * square + 2 * permutations * mean**3, 0.0)
    third = skewed * permutations / ((permutations - 1) * max(permutations - 2, 1)) * (permutations > 2)
    for sums, values in zip(onto, (mean, var, var**2, third), strict=True):
        np.add.at(sums, found % len(sums), values)


def effects_of(model: Bi2Former, graph: HeteroGraph, pairs: Int, device: str) -> Iterator[tuple[Int, Float, Int]]:
    """Yield, batch by batch, the pair, the effect and the key of every kept link of every head."""
    peaks, first = graph.num_nodes("peak"), 0
    for batch in model._batches(graph, pairs, device, "", progress=False):
        pair_of_gene = segment_ids(batch.gene_offsets)
        for head, effect in zip(*model._fitted().effects(batch), strict=True):
            sent = head.messages
            key = batch.gene[sent.gene_row].long() * peaks + batch.peak[sent.peak_row].long()
            pair = first + pair_of_gene[sent.gene_row]
            yield pair.cpu().numpy(), effect.double().cpu().numpy(), key.cpu().numpy()
        first += len(batch)


def _permuted(pairs: Int, blocks: list[Int], permutations: int, rng: np.random.Generator) -> tuple[Int, Int]:
    """Permute each block several times: pairs (m, 2), and block * permutations + permutation of each (m,)."""
    rows, number = [], []
    for place, members in enumerate(blocks):
        for turn in range(permutations):
            rows.append(np.stack([pairs[members, 0], pairs[rng.permutation(members), 1]], axis=1))
            number.append(np.full(len(members), place * permutations + turn))
    return np.concatenate(rows), np.concatenate(number)
