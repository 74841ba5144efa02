"""Activity of regulons in cells and in groups of cells: AUCell, univariate linear models, specificity, tests.

decoupler, pySCENIC and AUCell were weighed: all make each cell dense. Here cells stay sparse, because both scores are
sums over genes: AUCell of what a gene gives at its rank, the linear model of products with its weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from heteromics._progress import track
from heteromics.errors import DataError, DuplicateNames, some
from heteromics.interpret._cell_groups import checked_labels
from heteromics.interpret._joining import columns_of, need_columns
from heteromics.interpret._ties import tied_runs

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

Float = NDArray[np.float64]

BLOCK_CELLS = 4_096
"""Cells whose values are held at a time."""


def regulon_activity(
    rna: AnnData,
    regulons: DataFrame,
    *,
    method: Literal["aucell", "ulm"] = "aucell",
    top: float = 0.05,
    min_targets: int = 5,
    log_normalise: bool = True,
    progress: bool = False,
) -> DataFrame:
    """Score each regulon in each cell.

    Parameters
    ----------
    rna
        Cells x genes, sparse; zeros are not stored values. Counts, or values that are not negative.
    regulons
        ``tf`` and ``gene``, names of ``rna.var_names``, each pair once; optionally ``sign`` (1, -1, 0 not known) and
        ``weight``: from :func:`~heteromics.interpret.store_regulons`, or of one group from
        :func:`~heteromics.interpret.tf_gene_edges`.
    method
        ``"aucell"`` (Aibar et al., Nature Methods 2017): area under the curve that counts a regulon's targets down the
        cell's genes, highest first, within the ``top`` of all genes, as a share of the largest area that so many
        targets can have; 0 to 1. Targets with sign -1 are left out. Genes of equal value stand in random order there;
        here each gives the mean over all orders of what it gives, so that scores are exact and need no seed. The same
        holds for the genes at zero, which all follow the others: they count where a cell has fewer genes than ``top``.

        ``"ulm"`` (decoupler: Badia-i-Mompel et al., Bioinformatics Advances 2022): t of the slope of a cell's values
        over all genes on the targets' ``sign * weight``, 0 for genes that are no targets; positive where activated
        targets are high and repressed ones low. Signs not known count as 1. With G genes it has G - 2 degrees of
        freedom, ``attrs["df"]``.
    top
        Share of the genes at the head of a cell's list, rounded up.
    min_targets
        Regulons with fewer targets among the genes are left out.
    log_normalise
        ``"ulm"`` alone: scale cells to 10,000 counts and take ``log(1 + x)`` first. Ranks do not need it.
    progress
        Show the blocks of cells done.

    Returns
    -------
    DataFrame
        Cells x factors, float32; ``rna.obsm["regulon_activity"]`` takes it. ``attrs`` holds ``method``,
        ``targets_absent`` (pairs whose gene the data lack), ``targets_repressed`` (left out by ``"aucell"``) and
        ``regulons_left_out``, by name.

    Raises
    ------
    DataError
        For negative or missing values, columns or a method that are not there, ``top`` not within 0 and 1, or when no
        regulon has enough targets.
    DuplicateNames
        For a pair or a name of ``rna.var_names`` that stands twice.

    Notes
    -----
    Time follows the non-zeros of the cells times the factors of each gene; memory is the result and a block of cells.

    Examples
    --------
    >>> import anndata as ad
    >>> import pandas as pd
    >>> rna = ad.AnnData(sparse.csr_matrix([[9.0, 8.0, 1.0, 0.0], [0.0, 0.0, 5.0, 7.0]]))
    >>> regulons = pd.DataFrame({"tf": ["T", "T"], "gene": ["0", "1"]})
    >>> regulon_activity(rna, regulons, top=0.75, min_targets=1)["T"].round(2).tolist()
    [1.0, 0.0]
    """
    import pandas as pd

    from heteromics.models.baselines import as_csr, log_normalised

    if method not in ("aucell", "ulm"):
        raise DataError(f"method: found {method!r}, expected 'aucell' or 'ulm'.")
    if not 0 < top <= 1:
        raise DataError(f"top: found {top}, expected a share above 0 and up to 1.")
    counts = as_csr(rna)
    bad = int(((counts.data < 0) | ~np.isfinite(counts.data)).sum())
    if bad:
        raise DataError(
            f"rna: {bad} of {counts.nnz} values are negative or not finite, expected counts or values from 0 up. "
            "Fix: take the layer before scaling."
        )
    weights, factors, notes = _regulon_matrix(regulons, rna, method, min_targets)
    result = np.empty((counts.shape[0], len(factors)), dtype=np.float32)
    starts = range(0, counts.shape[0], BLOCK_CELLS)
    for start in track(starts, method, enabled=progress):
        block = counts[start : start + BLOCK_CELLS].astype(np.float64)
        if method == "aucell":
            scores = aucell(block, weights, int(np.ceil(top * counts.shape[1])))
        else:
            scores = linear_model_t(log_normalised(block) if log_normalise else block, weights)
        result[start : start + BLOCK_CELLS] = scores
    table = pd.DataFrame(result, index=rna.obs_names, columns=pd.Index(factors, name="tf"))
    table.attrs |= notes | {"method": method}
    return table


def aucell(cells: sparse.csr_array, members: sparse.csc_array, n_top: int) -> Float:
    """Score gene sets in cells by AUCell, ties broken in all orders at once.

    Parameters
    ----------
    cells
        Cells x genes, no value negative.
    members
        Genes x sets; a gene is a member where the value is not 0.
    n_top
        Genes at the head of the list; a member at rank r (1 is the highest) gives ``n_top - r``, if that is positive.

    Returns
    -------
    ndarray
        Cells x sets, float64, 0 to 1: the expected sum over random orders of tied genes, over the largest that a set
        of that size can have. As AUCell (R, ``normAUC=TRUE``) and decoupler define it; 0 where nothing can be had.

    Examples
    --------
    >>> tied = sparse.csr_array([[3.0, 1.0, 1.0, 0.0]])
    >>> aucell(tied, sparse.csc_array([[0.0], [1.0], [0.0], [0.0]]), 3)
    array([[0.25]])
    """
    n_genes = cells.shape[1]
    ladder = np.maximum(n_top - np.arange(1, n_genes + 1), 0).astype(np.float64)
    below = np.append(0.0, np.cumsum(ladder))  # what the first r ranks give together
    given = _canonical(cells)
    filled = np.diff(given.indptr)
    row = np.repeat(np.arange(given.shape[0]), filled)
    order = np.lexsort((-given.data, row))
    new, run = tied_runs(given.data[order], row[order])
    first = new - given.indptr[row[order][new]]  # rank before the run, within its cell
    given.data[order] = np.repeat((below[first + run] - below[first]) / run, run)
    zeros = n_genes - filled
    at_zero = np.divide(below[-1] - below[filled], zeros, out=np.zeros(zeros.size), where=zeros > 0)
    member = sparse.csc_array(members.astype(bool), dtype=np.float64)
    size = np.diff(member.indptr)
    seen = sparse.csr_array((np.ones(given.nnz), given.indices, given.indptr), shape=given.shape)
    total = (given @ member).toarray() + at_zero[:, None] * (size - (seen @ member).toarray())  # bounded: the result
    most = below[np.minimum(size, n_genes)]
    return np.divide(total, most, out=np.zeros_like(total), where=most > 0)


def linear_model_t(cells: sparse.csr_array, weights: sparse.csc_array) -> Float:
    """Return t of the slope of each cell's values on each column of weights, over all genes.

    Parameters
    ----------
    cells
        Cells x genes.
    weights
        Genes x regulons.

    Returns
    -------
    ndarray
        Cells x regulons, float64; ``r * sqrt((G - 2) / (1 - r ** 2))`` with Pearson's r over the G genes, 0 where a
        cell or regulon does not vary.

    Examples
    --------
    >>> cells = sparse.csr_array([[1.0, 2.0, 3.0, 5.0]])
    >>> linear_model_t(cells, sparse.csc_array([[0.0], [0.0], [1.0], [1.0]])).round(3)
    array([[2.236]])
    """
    n = cells.shape[1]
    mean = np.asarray(cells.sum(axis=1)).ravel() / n, np.asarray(weights.sum(axis=0)).ravel() / n
    square = (
        np.asarray(cells.multiply(cells).sum(axis=1)).ravel() - n * mean[0] ** 2,
        np.asarray(weights.multiply(weights).sum(axis=0)).ravel() - n * mean[1] ** 2,
    )
    covariance = (cells @ weights).toarray() - n * np.outer(mean[0], mean[1])  # bounded: cells x regulons, the result
    spread = np.sqrt(np.outer(np.maximum(square[0], 0), np.maximum(square[1], 0)))
    r = np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 1e-12 * n)
    return np.asarray(r * np.sqrt((n - 2) / np.maximum(1 - r * r, 1e-16)))


def activity_by_group(activity: DataFrame, groups: ArrayLike, *, progress: bool = False) -> DataFrame:
    """Summarise and test the activity of each factor in each group of cells.

    Parameters
    ----------
    activity
        Cells x factors, from :func:`regulon_activity`.
    groups
        A label per cell.
    progress
        Show the groups done.

    Returns
    -------
    DataFrame
        One row for each factor and group, most specific or highest first within a group: ``tf, group, n_cells, mean,
        mean_rest, auroc, p, fdr`` and, where no activity is negative, ``rss``.

        ``auroc`` is the chance that a cell of the group has a higher activity than one of the others, ``p`` that of
        the two-sided Mann-Whitney U test, as SciPy's ``mannwhitneyu(method="asymptotic")``, ``fdr`` by Benjamini and
        Hochberg over all rows. Cells of one animal are no independent samples, so that p-values rank and do not prove.

        ``rss`` is the regulon specificity score (Suo et al., Cell Reports 2018): one less the square root of the
        Jensen-Shannon divergence, in bits, between the activity over cells and the group over cells; 1 where the
        factor is active in all cells of the group alike and nowhere else, 0 where it is nowhere active.

    Raises
    ------
    DataError
        When labels do not fit the cells, there are fewer than two groups, or an activity is not finite.

    Examples
    --------
    >>> import pandas as pd
    >>> activity = pd.DataFrame({"T": [1.0, 1.0, 0.0, 0.0]})
    >>> activity_by_group(activity, ["A", "A", "B", "B"])[["tf", "group", "auroc", "rss"]].to_numpy().tolist()
    [['T', 'A', 1.0, 1.0], ['T', 'B', 0.0, 0.0]]
    """
    import pandas as pd
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    values = activity.to_numpy(np.float64)
    labels = checked_labels(groups, len(activity))
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"activity: {bad} of {values.size} values are not finite.")
    words = np.unique(labels)
    if len(words) < 2:
        raise DataError(f"groups: found {len(words)} group ({some(words)}), expected two or more to compare.")
    positive = bool((values >= 0).all())
    total = values.sum(axis=0)
    ranks = stats.rankdata(values, axis=0)
    ties = np.array([_tie_term(column) for column in ranks.T])
    parts = []
    for word in track(words, "groups", enabled=progress):
        inside = labels == word
        part = pd.DataFrame({"tf": activity.columns, "group": str(word), "n_cells": int(inside.sum())})
        part["mean"], part["mean_rest"] = values[inside].mean(axis=0), values[~inside].mean(axis=0)
        part["auroc"], part["p"] = _rank_test(ranks, ties, inside)
        if positive:
            share = np.divide(values, total, out=np.full_like(values, 1 / len(values)), where=total > 0)
            apart = jensenshannon(share, (inside / inside.sum())[:, None], base=2, axis=0)
            part["rss"] = np.where(total > 0, 1 - np.nan_to_num(apart), 0.0)
        parts.append(part.sort_values("rss" if positive else "mean", ascending=False, kind="stable"))
    table = pd.concat(parts, ignore_index=True)
    table.insert(7, "fdr", stats.false_discovery_control(table["p"]))
    return table


def _tie_term(ranks: Float) -> float:
    """Return the sum of ``t ** 3 - t`` over runs of t tied values."""
    size = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    return float((size**3 - size).sum())


def _rank_test(ranks: Float, ties: Float, inside: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Return the area under the ROC curve and p of the Mann-Whitney U test of the cells inside against the others.

    The ranks of all cells (cells x factors) are taken once for all groups. Normal approximation with ties and
    continuity corrected (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 2014, section 4.1).
    """
    from scipy import stats

    n, one = len(inside), int(inside.sum())
    pairs = one * (n - one)
    above = ranks[inside].sum(axis=0) - one * (one + 1) / 2
    sd = np.sqrt(np.maximum(pairs / 12 * (n + 1 - ties / (n * (n - 1))), 0))
    z = np.divide(np.abs(above - pairs / 2) - 0.5, sd, out=np.zeros_like(sd), where=sd > 1e-9 * pairs)
    return above / pairs, np.minimum(2 * stats.norm.sf(z), 1.0)


def _canonical(cells: sparse.csr_array) -> sparse.csr_array:
    """Return a copy with each value stored once and no stored zeros."""
    result = cells.astype(np.float64)
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def _regulon_matrix(
    regulons: DataFrame, rna: AnnData, method: str, min_targets: int
) -> tuple[sparse.csc_array, list[str], dict[str, Any]]:
    """Return weights, genes x factors, the factors, and what was left out."""
    need_columns(regulons, ["tf", "gene"], "regulons")
    twice = regulons.duplicated(["tf", "gene"])
    if twice.any():
        raise DuplicateNames(
            f"regulons: {int(twice.sum())} of {len(regulons)} rows repeat a pair: "
            f"{some(regulons.loc[twice, 'tf'] + ' ' + regulons.loc[twice, 'gene'])}. Fix: take the edges of one group."
        )
    gene = columns_of(rna, regulons["gene"], "rna")
    sign = regulons["sign"].to_numpy(np.float64) if "sign" in regulons else np.ones(len(regulons))
    weight = regulons["weight"].to_numpy(np.float64) if "weight" in regulons else np.ones(len(regulons))
    repressed = (gene >= 0) & (sign < 0) & (method == "aucell")
    kept = (gene >= 0) & ~repressed
    if method == "ulm" and (idle := int((weight[kept] == 0).sum())):
        raise DataError(
            f"regulons: {idle} of {int(kept.sum())} pairs have weight 0, as in a network those that no collection "
            "names. Fix: drop these rows, or column weight."
        )
    value = np.ones(len(regulons)) if method == "aucell" else np.where(sign == 0, 1.0, sign) * weight
    names, code = np.unique(regulons["tf"].astype(str), return_inverse=True)
    size = np.bincount(code[kept], minlength=len(names))
    enough = size >= max(min_targets, 1)
    if not enough.any():
        raise DataError(
            f"regulons: none of {len(names)} has {min_targets} targets among {rna.n_vars} genes, the largest has "
            f"{size.max(initial=0)} ({int((gene < 0).sum())} of {len(regulons)} pairs name no gene of the data). "
            "Fix: names as in rna.var_names, or a lower min_targets."
        )
    shape = rna.n_vars, len(names)
    matrix = sparse.csc_array((value[kept], (gene[kept], code[kept])), shape=shape)[:, np.flatnonzero(enough)]
    notes = {
        "targets_absent": int((gene < 0).sum()),
        "targets_repressed": int(repressed.sum()),
        "regulons_left_out": names[~enough].tolist(),
    }
    return matrix, names[enough].tolist(), notes | ({"df": rna.n_vars - 2} if method == "ulm" else {})
