"""Gene-peak links of a matching model beside what chance gives: cells exchanged, and peaks rewired by distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, some
from heteromics.graphs.pairs import OPENS
from heteromics.graphs.transforms import BINS_BP
from heteromics.interpret._cell_groups import checked_labels
from heteromics.interpret._expected import expected_pairs
from heteromics.interpret._null_cells import blocks_of, exchanged
from heteromics.interpret._null_distance import rewired
from heteromics.interpret._null_mixture import link_probability
from heteromics.interpret._null_tests import Null, adjusted, of_peers, of_sums

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph
    from heteromics.models import Bi2Former

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Kind = Literal["cells", "distance"]
NULLS: tuple[Kind, ...] = ("cells", "distance")


def links(
    model: Bi2Former,
    graph: HeteroGraph,
    *,
    groups: Literal["cell_type"] | ArrayLike | None = "cell_type",
    cells: ArrayLike | None = None,
    candidates: DataFrame | None = None,
    null: Kind | Sequence[Kind] = NULLS,
    within: ArrayLike | None = None,
    permutations: int = 10,
    least_expected: float = 10.0,
    bins_bp: Sequence[int] = BINS_BP,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> DataFrame:
    """Return the links a matching model rests on, each beside what it would score by chance.

    Parameters
    ----------
    model
        Fitted.
    graph
        From :func:`heteromics.graphs.bipartite`, with the genes and peaks of the model.
    groups
        What links are aggregated by: ``"cell_type"`` of the graph, a label per cell, or None for all cells in one.
    cells
        Rows of the RNA and the ATAC profile of each cell, shape (n, 2); None takes all cells with both, see
        :func:`heteromics.tasks.paired_rows`. The null holds for cells the model was not trained on; it may have learnt
        the pairing of the others by heart, and their p are then too small. See ``n_training`` below.
    candidates
        Columns ``gene`` and ``peak``: test these and no others. None tests the links that the model kept in any pair,
        which were then chosen by the same data, so that their p are too small; give candidates where p-values matter.
    null
        ``"cells"``, ``"distance"`` or both, see below; which columns the table has, and in what order.
    within
        A label per cell: cells are exchanged only with those that share it. None takes the batches of the graph, if it
        has any. Group and cell type are always shared, as far as they are known.
    permutations
        Of the cells, 2 or more; with 2 no skewness can be told.
    least_expected
        Pairs expected to meet in fewer cells under exchange are not tested, see :func:`expected_pairs`; 0 tests all.
    bins_bp
        Bounds of the distance bins in bp, as of :func:`heteromics.graphs.transforms.rewire_within_distance`.
    seed
        The same seed gives the same table.
    device, progress
        As in :meth:`heteromics.models.Bi2Former.links`.

    Returns
    -------
    DataFrame
        Rows and columns of :meth:`heteromics.models.Bi2Former.links`: ``gene, peak``, with groups ``group``, then
        ``distance`` (bp from transcription start to peak midpoint; -1 where the chromosomes differ or are not known),
        ``score, attention, total, n_pairs, frequency``; then ``expected``, the ``n_pairs`` that exchange would give,
        and ``tested``. Of the null named first ``null_mean, null_sd, z, p``, ``fdr`` (p adjusted over the rows tested,
        by Benjamini and Hochberg, 1995) and ``fdr_above`` (the same of the one-sided p of a z as high: to choose links
        of z above 0 by, for choosing by sign among those of small ``fdr`` holds no rate); of a null named second the
        same, ending in its name, such as ``z_distance``. Mean and standard deviation are in units of ``score`` for
        cells, and of their z for distance; ``z`` is the normal deviate of ``p``, which is two-sided. With both nulls
        ``fdr_both``, the rate among links above both: of the larger one-sided p, since two lists do not hold their rate
        where they overlap. Last ``posterior``, the probability of being a link, above or below its null, given z and
        distance, see :func:`link_probability`: ranks links of either kind, of which z tells the sign. Where ``tested``
        is False (too few pairs expected, or a null that does not vary) z is 0, p and rates are 1 and ``posterior`` is
        0.

        ``attrs["null"]`` counts ``blocks`` of cells, ``cells_alone``, which had none to be exchanged with and speak
        neither for nor against a link, ``too_few`` rows by group, and ``n_training``, cells the model was trained on;
        it names ``groups_alone``, which have no other cells, and says whether the links were ``chosen_by_model``.

    Raises
    ------
    DataError
        For parameters out of range, labels that are not one per cell, or when no group has two cells to exchange.
    ModelError, GraphError
        As in :meth:`heteromics.models.Bi2Former.links`.

    Notes
    -----
    *Aggregation.* ``score`` is the mean effect of a link over the ``n_pairs`` cells that express the gene and have the
    peak open. What is tested is its sum, the score times ``n_pairs``: then both the share of cells in which gene and
    peak meet and the values they meet with count.

    *Cells.* The RNA profile of each cell is paired with the ATAC profile of another one and the sum made anew, with the
    same model. Cells are permuted in blocks of about 16 of one group, type and batch (or ``within``) and of like ATAC
    depth (number of open peaks). So under the null a gene and a peak are independent, given all these: what types or
    batches have in common makes no link, nor what deep cells have, but for the depth that differs within a block: in a
    type of fewer than 32 cells, which is one block, depth raises z a little. Cells without a type are one stratum. With
    B permutations of block b, the sum over blocks has null mean ``sum_b m_b`` and variance ``sum_b s_b^2`` (m_b and
    s_b^2 over the B) and Satterthwaite's degrees of freedom. ``(sum - mean) / (sd * sqrt(1 + 1 / B))`` is compared with
    Student's t, and its normal deviate with the gamma distribution of the skewness of the sum (Pearson's type III), for
    sums of few meetings are skewed; the larger p stands. That pools few permutations over blocks, not over links. It is
    the restricted permutation test (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, chapter 3)
    with a fitted tail in place of thousands of permutations, an approximation: in simulated sums of 10 expected
    meetings, one-sided p below 0.001 came 1.5 times too often where each meeting adds the same, 2.3 times where what it
    adds is exponential. A z above 0 says that gene and peak of one cell fit together better than those of two, one
    below 0 that they avoid each other, as a repressed gene does. What is rejected is independence in this model's eyes:
    a peak that opens together with the one that drives the gene, by the same factor, is a link too. A gene
    that has a link tends to z below 0 with its other peaks, and a peak that drives a gene with other genes: with 4,000
    simulated cells the means were -0.7 and -1.3, that of independent pairs -0.1, and of the links below 0 at an FDR of
    0.05 8 % were planted ones, of those above (``fdr_above``) 75 %. The null by distance takes such shifts away where
    they are common.

    *Distance.* The z of exchanged cells is compared with that of the links of the same group whose ends are as far
    apart, on the same chromosome, of any gene: what a link gets when its ends carry nothing but their distance, in the
    bins of :func:`heteromics.graphs.transforms.rewire_within_distance`, which keeps the gene and is not the same where
    all links of a gene are high. As some of these are true links, the null has the median for its mean and the median
    absolute deviation, scaled to a normal, for its standard deviation: the empirical null of Efron (2004,
    doi:10.1198/016214504000000089), by distance and chromosome. Both are estimated, from n links: the comparison is
    with Student's t of ``0.3675 (n - 1)`` degrees of freedom, 0.3675 the efficiency of the median absolute deviation
    (Rousseeuw and Croux 1993, doi:10.1080/01621459.1993.10476408), and the median adds ``pi / 2n`` of the variance. The
    null assumes that most links at a distance are none, and takes away what all links there share, such as a model that
    favours near ones. It is made of z and not of scores, which are far from normal.

    Time grows with the kept links of all pairs, ``permutations + 1`` times; memory with the number of links tested.
    """
    nulls = (null,) if isinstance(null, str) else tuple(null)
    bounds = _check(nulls, permutations, least_expected, bins_bp)
    rows = _rows_of(graph, cells)
    names = _group_names(graph, rows, groups)
    table = model.links(rows, names, candidates=candidates, graph=graph, device=device, progress=progress)
    gene, peak = (graph.index(side, table[side]) for side in ("gene", "peak"))
    distance, chrom = _lengths(graph, gene, peak)
    table.insert(table.columns.get_loc("score"), "distance", distance)
    labels, code = np.unique(["all"] * len(rows) if names is None else names, return_inverse=True)
    group = np.zeros(len(table), np.int64) if names is None else np.searchsorted(labels, table["group"].to_numpy(str))
    block = blocks_of(_strata(graph, rows, code, within), _open_peaks(graph, rows))
    alone = (np.bincount(block, minlength=1) < 2)[block]
    stuck = _not_exchangeable(alone, code, labels)
    expected, by_cells = np.zeros(len(table)), Null.of(len(table))
    key = gene * graph.num_nodes("peak") + peak
    for number in range(len(labels)):
        own, chosen = np.flatnonzero(group == number), np.flatnonzero(code == number)
        inside = np.unique(block[chosen], return_inverse=True)[1]
        expected[own] = expected_pairs(graph, rows[chosen], table.iloc[own], inside)
        at = own[expected[own] >= least_expected]
        if at.size:
            wanted, place = np.unique(key[at], return_inverse=True)
            rng = np.random.default_rng((seed, number))
            found = exchanged(model, graph, rows[chosen], inside, wanted, permutations, rng, device, progress=progress)
            by_cells.fill(at, of_sums(found, permutations), place)
    tested = by_cells.sd > 0
    tests, likely = _compared(table, by_cells, group, distance, chrom, bounds)
    table = table.assign(expected=expected, tested=tested)
    above = [tests[kind].pop("above") for kind in NULLS]
    for kind in nulls:
        for name, values in tests[kind].items():
            table[name if kind == nulls[0] else f"{name}_{kind}"] = values
    if len(nulls) == len(NULLS):
        table["fdr_both"] = adjusted(np.maximum(*above), tested)
    table["posterior"] = likely
    few = np.bincount(group[expected < least_expected], minlength=len(labels))
    table.attrs["null"] = {
        "blocks": int(block.max()) + 1,
        "cells_alone": int(alone.sum()),
        "groups_alone": stuck,
        "too_few": dict(zip(labels.tolist(), few.tolist(), strict=True)),
        "n_training": _trained_on(graph, rows),
        "chosen_by_model": candidates is None,
    }
    return table


def _compared(
    table: DataFrame, by_cells: Null, group: Int, distance: Int, chrom: Int, bounds: Int
) -> tuple[dict[str, dict[str, Float]], Float]:
    """Hold sums against the null of cells, and their z against links as long; return tests by null, and posteriors."""
    met, tested = table["n_pairs"].to_numpy(), by_cells.sd > 0
    cells = by_cells.tests(table["score"].to_numpy() * met)
    cells |= {name: cells[name] / np.maximum(met, 1) for name in ("null_mean", "null_sd")}
    z, by_distance, likely = cells["z"], Null.of(len(table)), np.zeros(len(table))
    for number in np.unique(group[tested]):
        at = np.flatnonzero((group == number) & tested)
        by_distance.fill(at, of_peers(*rewired(z[at], distance[at], chrom[at], bounds)))
        likely[at] = 1 - link_probability(z[at], distance[at])[:, 0]
    return {"cells": cells, "distance": by_distance.tests(z)}, likely


def _trained_on(graph: HeteroGraph, rows: Int) -> int:
    """Count the cells of which one profile or the other was for training, rows (n, 2)."""
    masks = [graph.ndata(side).get("training") for side in ("rna_cell", "atac_cell")]
    known = [mask.numpy()[rows[:, column]] for column, mask in enumerate(masks) if mask is not None]
    return int(np.logical_or.reduce(known).sum()) if known else 0


def _check(nulls: tuple[str, ...], permutations: int, least: float, bins_bp: Sequence[int]) -> Int:
    bounds = np.asarray(bins_bp)
    if not nulls or len(set(nulls)) < len(nulls) or not set(nulls) <= set(NULLS):
        raise DataError(f"null: found {some(nulls) or 'none'}, expected one or both of {some(NULLS)}, each once.")
    if permutations < 2:
        raise DataError(f"permutations: found {permutations}, expected 2 or more, or no variance can be told.")
    if not least >= 0:
        raise DataError(f"least_expected: found {least}, expected a number of cells, 0 or more.")
    if bounds.ndim != 1 or bounds.size < 2 or bounds[0] < 0 or (np.diff(bounds) <= 0).any():
        raise DataError(f"bins_bp: found {list(bins_bp)}, expected two or more bounds of 0 bp or more that rise.")
    return bounds


def _rows_of(graph: HeteroGraph, cells: ArrayLike | None) -> Int:
    if cells is None:
        from heteromics.tasks._paired import paired_cells

        return paired_cells(graph)
    rows = np.asarray(cells)
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "iu" or not len(rows):
        raise DataError(
            f"cells: found {rows.dtype} of shape {rows.shape}, expected rows of the RNA and the ATAC profile of each "
            "cell, shape (n, 2). Fix: some of tasks.paired_rows(graph)[0]."
        )
    return rows.astype(np.int64)


def _group_names(graph: HeteroGraph, rows: Int, groups: ArrayLike | None) -> NDArray[np.str_] | None:
    if groups is None:
        return None
    if isinstance(groups, str):
        code = _codes(graph, rows, groups)
        if groups != "cell_type" or code is None:
            raise DataError(
                f"groups={groups!r}: the graph has no such labels, expected 'cell_type', a label per cell or None. "
                "Fix: bipartite(..., cell_type='COLUMN') with a column of obs."
            )
        return np.array([*graph.meta["categories"]["cell_type"], "unknown"])[code]
    return checked_labels(groups, len(rows))


def _codes(graph: HeteroGraph, rows: Int, what: str) -> Int | None:
    data = graph.ndata("rna_cell")
    return data[what].numpy()[rows[:, 0]] if what in data else None


def _strata(graph: HeteroGraph, rows: Int, group: Int, within: ArrayLike | None) -> Int:
    """Give every group, type and batch a number: that of each cell, shape (n,)."""
    label = _codes(graph, rows, "batch") if within is None else checked_labels(within, len(rows), "within")
    parts = [group, *(part for part in (_codes(graph, rows, "cell_type"), label) if part is not None)]
    codes = np.stack([np.unique(part, return_inverse=True)[1] for part in parts], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].ravel()


def _open_peaks(graph: HeteroGraph, rows: Int) -> Int:
    indptr = graph.adjacency(OPENS)[0].numpy()
    return np.diff(indptr)[rows[:, 1]]


def _lengths(graph: HeteroGraph, gene: Int, peak: Int) -> tuple[Int, Int]:
    """Distance in bp from start to midpoint, and chromosome code; -1 where there is none in common."""
    ends = [(graph.ndata(side), row) for side, row in (("gene", gene), ("peak", peak))]
    chrom, other = (data["chrom"].numpy().astype(np.int64)[row] for data, row in ends)
    position, middle = (data["position"].numpy().astype(np.int64)[row] for data, row in ends)
    together = (chrom == other) & (chrom >= 0)
    return np.where(together, np.abs(position - middle), -1), np.where(together, chrom, -1)


def _not_exchangeable(alone: NDArray[np.bool_], code: Int, labels: NDArray) -> list[str]:
    """Return the groups without two cells to exchange; all of them are an error."""
    stuck = [str(label) for number, label in enumerate(labels) if alone[code == number].all()]
    if len(stuck) == len(labels):
        raise DataError(
            f"found {len(stuck)} of {len(labels)} groups ({some(stuck)}) with no two cells of one type and batch that "
            "could be exchanged. Fix: give wider labels in within=."
        )
    return stuck
