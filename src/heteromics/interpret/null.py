"""Gene-peak links of a matching model beside what chance gives: cells exchanged, and peaks rewired by distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, some
from heteromics.graphs.pairs import OPENS
from heteromics.graphs.transforms import BINS_BP
from heteromics.interpret._null_cells import blocks_of, exchanged
from heteromics.interpret._null_distance import rewired
from heteromics.interpret._null_mixture import link_probability

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph
    from heteromics.models import Bi2Former

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Null = Literal["cells", "distance"]
NULLS: tuple[Null, ...] = ("cells", "distance")


def links(
    model: Bi2Former,
    graph: HeteroGraph,
    *,
    groups: Literal["cell_type"] | ArrayLike | None = "cell_type",
    cells: ArrayLike | None = None,
    candidates: DataFrame | None = None,
    null: Null | Sequence[Null] = NULLS,
    within: ArrayLike | None = None,
    permutations: int = 10,
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
        :func:`heteromics.tasks.paired_rows`. Cells the model was not trained on give the more honest scores, all cells
        the more powerful tests.
    candidates
        Columns ``gene`` and ``peak``: test these and no others. None tests the links that the model kept in any pair,
        which were then chosen by the same data; give candidates where p-values matter.
    null
        ``"cells"``, ``"distance"`` or both, see below; which columns the table has, and in what order.
    within
        A label per cell: cells are exchanged only with those that share it. None takes the batches of the graph, if it
        has any. Group and cell type are always shared, as far as they are known.
    permutations
        Of the cells, 2 or more.
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
        ``score, attention, total, n_pairs, frequency``. Then of the null named first ``null_mean, null_sd, z, p`` (the
        two-sided probability of a z as far from 0), ``fdr`` (p adjusted over all rows by Benjamini and Hochberg, 1995)
        and ``fdr_above`` (the same of the one-sided p of a z as high: to choose links of z above 0 by, for choosing by
        sign among those of small ``fdr`` holds no rate); of a null named second the same, ending in its name, such as
        ``z_distance``. Mean and standard deviation
        are in units of ``score`` for cells, and of their z for distance. Last ``posterior``, the probability of being a
        link given z and distance, see :func:`link_probability`: the column to rank by. A link that is never met, or
        whose null does not vary, has z 0, p 1 and posterior 0. ``attrs["null"]`` counts ``blocks`` of cells, and
        ``cells_alone``, which had none to be exchanged with and speak neither for nor against a link, and names
        ``groups_alone``, which have no other cells.

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
    same model. Cells are permuted in blocks of about 32 of one group, type and batch (or ``within``) and of like ATAC
    depth (number of open peaks). So under the null a gene and a peak are independent, given all these: what types,
    batches or deep cells have in common makes no link. With B permutations of block b, the sum over blocks has null
    mean ``sum_b m_b`` and variance ``sum_b s_b^2`` (m_b and s_b^2 over the B), Satterthwaite's degrees of freedom, and
    ``z = (sum - mean) / (sd * sqrt(1 + 1 / B))`` is compared with Student's t. That pools few permutations over blocks,
    not over links. It is the restricted permutation test (Good, Permutation, Parametric and Bootstrap Tests of
    Hypotheses, 2005, chapter 3) with a normal tail in place of thousands of permutations; the tail is an approximation,
    too thin where gene and peak meet in few cells: where 5 meetings are expected, p below 0.001 came 3 to 9 times too
    often in simulations, below 0.05 about as often as said. Leave such links out by :func:`expected_pairs`, or believe
    no single one of them. A z above 0 says that gene and peak of one cell fit together better than those of two, one
    below 0 that they avoid each other, as a repressed gene does. What is rejected is independence in this model's eyes:
    a peak that opens together with the one that drives the gene, by the same factor, is a link too, and a peak that the
    model hears well through another gene can have a z somewhat below 0 with all the rest. The null by distance takes
    such shifts away where they are common.

    *Distance.* The z of exchanged cells is compared with that of the links of the same group whose ends are as far
    apart, on the same chromosome, of any gene: what a link gets when its ends carry nothing but their distance, in the
    bins of :func:`heteromics.graphs.transforms.rewire_within_distance`, which keeps the gene and is not the same where
    all links of a gene are high. As some of these are true links, the null has the median for its mean and the median
    absolute deviation, scaled to a normal, for its standard deviation: the empirical null of Efron (2004,
    doi:10.1198/016214504000000089), by distance and chromosome. It assumes that most links at a distance are none, and
    takes away what all links there share, such as a model that favours near ones. It is made of z and not of scores,
    which are far from normal.

    Time grows with the kept links of all pairs, ``permutations + 1`` times; memory with the number of links tested.
    """
    nulls = (null,) if isinstance(null, str) else tuple(null)
    bounds = _check(nulls, permutations, bins_bp)
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
    met, keys = table["n_pairs"].to_numpy(), gene * graph.num_nodes("peak") + peak
    by_cells, by_distance, likely = _Null.of(len(table)), _Null.of(len(table)), np.zeros(len(table))
    for number in range(len(labels)):
        at, chosen = np.flatnonzero((group == number) & (met > 0)), np.flatnonzero(code == number)
        if not at.size:
            continue
        wanted, place = np.unique(keys[at], return_inverse=True)
        own, rng = np.unique(block[chosen], return_inverse=True)[1], np.random.default_rng((seed, number))
        found = exchanged(model, graph, rows[chosen], own, wanted, permutations, rng, device, progress=progress)
        by_cells.mean[at], by_cells.sd[at] = found.mean[place] / met[at], np.sqrt(found.var[place]) / met[at]
        by_cells.df[at] = found.df[place]
    tests = {"cells": by_cells.tests(table["score"].to_numpy(), 1 + 1 / permutations)}
    z = tests["cells"]["z"]
    for number in range(len(labels)):
        at = np.flatnonzero((group == number) & (by_cells.sd > 0))
        if not at.size:
            continue
        by_distance.mean[at], by_distance.sd[at] = rewired(z[at], distance[at], chrom[at], bounds)
        likely[at] = 1 - link_probability(z[at], distance[at])[:, 0]
    tests["distance"] = by_distance.tests(z)
    for kind in nulls:
        for name, values in tests[kind].items():
            table[name if kind == nulls[0] else f"{name}_{kind}"] = values
    table["posterior"] = likely
    table.attrs["null"] = {"blocks": int(block.max()) + 1, "cells_alone": int(alone.sum()), "groups_alone": stuck}
    return table


@dataclass(frozen=True, slots=True)
class _Null:
    """Mean, standard deviation and degrees of freedom of each row under a null, shape (rows,)."""

    mean: Float
    sd: Float
    df: Float

    @classmethod
    def of(cls, rows: int) -> _Null:
        return cls(np.zeros(rows), np.zeros(rows), np.full(rows, np.inf))

    def tests(self, values: Float, inflation: float = 1.0) -> dict[str, Float]:
        """Compare values with the null; ``inflation`` of the variance, for a mean that was estimated."""
        from scipy import stats

        varies = self.sd > 0
        z = np.divide(values - self.mean, self.sd * np.sqrt(inflation), out=np.zeros(len(values)), where=varies)
        p = np.where(varies, 2 * stats.t.sf(np.abs(z), self.df), 1.0)
        fdr = stats.false_discovery_control(p) if p.size else p
        above = np.where(varies, stats.t.sf(z, self.df), 1.0)
        fdr_above = stats.false_discovery_control(above) if p.size else p
        return {"null_mean": self.mean, "null_sd": self.sd, "z": z, "p": p, "fdr": fdr, "fdr_above": fdr_above}


def _check(nulls: tuple[str, ...], permutations: int, bins_bp: Sequence[int]) -> Int:
    bounds = np.asarray(bins_bp)
    if not nulls or len(set(nulls)) < len(nulls) or not set(nulls) <= set(NULLS):
        raise DataError(f"null: found {some(nulls) or 'none'}, expected one or both of {some(NULLS)}, each once.")
    if permutations < 2:
        raise DataError(f"permutations: found {permutations}, expected 2 or more, or no variance can be told.")
    if bounds.ndim != 1 or bounds.size < 2 or bounds[0] < 0 or (np.diff(bounds) <= 0).any():
        raise DataError(f"bins_bp: found {list(bins_bp)}, expected two or more bounds of 0 bp or more that rise.")
    return bounds


def _rows_of(graph: HeteroGraph, cells: ArrayLike | None) -> Int:
    if cells is None:
        from heteromics.tasks import paired_rows

        return np.asarray(paired_rows(graph)[0], dtype=np.int64)
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
    names = np.asarray(groups).astype(str)
    if names.shape != (len(rows),):
        raise DataError(f"groups: found shape {names.shape} for {len(rows)} cells, expected one label per cell.")
    return names


def _codes(graph: HeteroGraph, rows: Int, what: str) -> Int | None:
    data = graph.ndata("rna_cell")
    return data[what].numpy()[rows[:, 0]] if what in data else None


def _strata(graph: HeteroGraph, rows: Int, group: Int, within: ArrayLike | None) -> Int:
    """Give every group, type and batch a number: that of each cell, shape (n,)."""
    label = _codes(graph, rows, "batch") if within is None else np.asarray(within)
    if label is not None and label.shape != (len(rows),):
        raise DataError(f"within: found shape {label.shape} for {len(rows)} cells, expected one label per cell.")
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
