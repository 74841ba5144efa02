"""Gene-peak links by distance, by correlation and by attention, on the same candidates, and how well they find a truth.

All tables have columns ``gene``, ``peak`` and ``score``, larger is stronger. Attention comes from
:meth:`heteromics.models.Bi2Former.links` with ``candidates=``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from heteromics.errors import DataError, DuplicateNames, GraphError, some
from heteromics.graphs.hashing import other_store
from heteromics.interpret._cell_groups import checked_labels
from heteromics.interpret._joining import columns_of
from heteromics.interpret._ties import tied_runs
from heteromics.models._links import joint_counts
from heteromics.models.baselines import as_csr, log_normalised
from heteromics.tasks.metrics import link_recovery

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame, MultiIndex

    from heteromics.graphs import HeteroGraph
    from heteromics.priors import PriorStore

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def candidate_links(graph: HeteroGraph, store: PriorStore, within_bp: int | None = None) -> DataFrame:
    """Return the gene-peak pairs of a graph that the prior store links, under the graph's names.

    Parameters
    ----------
    graph
        From :func:`heteromics.graphs.bipartite` with this store.
    store
        With table ``gene_peak``.
    within_bp
        Keep gaps up to this many bp; None keeps the store's whole window.

    Returns
    -------
    DataFrame
        ``gene, peak, distance, signed_offset, weight`` in the order of the store; see its table ``gene_peak``. Where
        two names of the graph mean one gene or peak of the store, its pairs stand under each. ``attrs["match"]`` counts
        ``pairs`` of the store, ``pairs_absent`` of which the graph lacks an end, and names these ends:
        ``genes_absent, peaks_absent``.

    Raises
    ------
    GraphError
        When the graph was built from another store.
    """
    import pandas as pd

    if why := other_store(graph.meta["store"], store.info):
        raise GraphError(f"{store.path}: {why}. Fix: open the store the graph was built from, or build it again.")
    links = store.frame("gene_peak")
    links = links if within_bp is None else links[links["distance"] <= within_bp]
    table, absent = links.assign(pair=np.arange(len(links))), {}
    for side in ("gene", "peak"):
        row = graph.ndata(side)["store_row"].numpy()
        ids = store.frame(side)[f"{side}_id"].to_numpy()
        names = pd.DataFrame({f"{side}_id": ids[row[row >= 0]], side: graph.names[side][row >= 0]})
        absent[f"{side}s_absent"] = sorted(set(links[f"{side}_id"]) - set(names[f"{side}_id"]))
        table = table.merge(names, on=f"{side}_id")
    table = table.sort_values("pair", kind="stable", ignore_index=True)
    table.attrs["match"] = {"pairs": len(links), "pairs_absent": len(links) - table["pair"].nunique(), **absent}
    return table[["gene", "peak", "distance", "signed_offset", "weight"]]


def distance_links(candidates: DataFrame) -> DataFrame:
    """Score candidates by nearness alone: ``score = -distance`` in bp, the baseline every method has to beat.

    Parameters
    ----------
    candidates
        Columns ``gene``, ``peak`` and ``distance``, as of :func:`candidate_links`.

    Examples
    --------
    >>> import pandas as pd
    >>> distance_links(pd.DataFrame({"gene": ["A", "A"], "peak": ["p", "q"], "distance": [0, 500]}))["score"].tolist()
    [0.0, -500.0]
    """
    return candidates[["gene", "peak"]].assign(score=0.0 - candidates["distance"])


def correlation_links(
    rna: AnnData,
    atac: AnnData,
    candidates: DataFrame,
    *,
    cells: ArrayLike | None = None,
    method: Literal["pearson", "spearman"] = "pearson",
    within: ArrayLike | None = None,
    log_normalise: bool = True,
) -> DataFrame:
    """Score candidates by the correlation of gene and peak over cells.

    Parameters
    ----------
    rna, atac
        The same cells in the same order, counts in ``X``.
    candidates
        Columns ``gene`` and ``peak``, names in ``var_names``.
    cells
        Boolean mask of the cells to use, as a rule those of training; None takes all.
    method
        ``"spearman"`` correlates ranks over all cells, zeros sharing theirs.
    within
        A label per cell, such as its type: both sides are centred within each label first, so that differences between
        types do not count. None centres over all cells.
    log_normalise
        Scale each cell to 10,000 counts and take ``log(1 + x)`` first.

    Returns
    -------
    DataFrame
        ``gene, peak, score``, in the order of the candidates; the score is signed, and 0 where gene or peak does not
        vary.

    Raises
    ------
    DataError
        When the cells of the modalities differ, candidates are not in the data, ``cells`` or ``within`` do not fit the
        cells, or values to be ranked are negative.
    DuplicateNames
        When names of genes or peaks of the data stand twice.

    Notes
    -----
    Both matrices stay sparse; only products of the candidates' columns are formed, 50,000 at a time.
    """
    left_names, right_names = list(map(str, rna.obs_names)), list(map(str, atac.obs_names))
    if left_names != right_names:
        only = sorted(set(left_names) ^ set(right_names))
        raise DataError(
            f"found {len(left_names)} RNA and {len(right_names)} ATAC cells, {len(only)} in one of them only "
            f"({some(only) or 'the order differs'}). Fix: index both with the cells they share, in one order."
        )
    if method not in ("pearson", "spearman"):
        raise DataError(f"correlation_links: found method={method!r}, expected 'pearson' or 'spearman'.")
    chosen = np.ones(len(left_names), dtype=bool) if cells is None else np.asarray(cells)
    labels = None if within is None else checked_labels(within, len(left_names), "within")
    if chosen.dtype != bool or chosen.shape != (len(left_names),):
        raise DataError(
            f"cells: found {chosen.dtype} of shape {chosen.shape}, expected a boolean mask over the {len(left_names)} "
            "cells."
        )
    sides = []
    for data, side in ((rna, "gene"), (atac, "peak")):
        column = columns_of(data, candidates[side], "rna" if side == "gene" else "atac")
        if absent := sorted(set(candidates[side][column < 0].astype(str))):
            raise DataError(
                f"candidates: {len(absent)} of {candidates[side].nunique()} {side} names are not in the data: "
                f"{some(absent)}."
            )
        matrix = as_csr(data)[chosen].astype(np.float64)
        matrix = log_normalised(matrix) if log_normalise else matrix
        sides.append((sparse.csc_matrix(matrix), column))
    (left, i), (right, j) = sides
    if method == "spearman":
        left, right = shifted_ranks(left), shifted_ranks(right)
    groups = None if labels is None else labels[chosen]
    return candidates[["gene", "peak"]].assign(score=column_correlations(left, right, i, j, groups))


def column_correlations(
    left: sparse.csc_matrix, right: sparse.csc_matrix, i: Int, j: Int, groups: ArrayLike | None = None
) -> Float:
    """Pearson's r of chosen pairs of columns.

    Parameters
    ----------
    left, right
        Same rows.
    i, j
        Columns of each, shape (L,).
    groups
        A label per row: columns are centred within each. None is one group.

    Returns
    -------
    ndarray
        Shape (L,), float64, 0 where a column does not vary within any group.

    Examples
    --------
    >>> columns = sparse.csc_matrix([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    >>> column_correlations(columns, columns, np.array([0]), np.array([1])).round(6)
    array([1.])
    """
    rows = left.shape[0]
    code = np.zeros(rows, int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    size = np.bincount(code)
    member = sparse.csr_matrix((np.ones(rows), (code, np.arange(rows))), shape=(size.size, rows))
    sums = [(member @ matrix).toarray() for matrix in (left, right)]  # bounded: groups x features
    means = [total / size[:, None] for total in sums]
    squares = [
        np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel() - (size[:, None] * np.square(mean)).sum(axis=0)
        for matrix, mean in zip((left, right), means, strict=True)
    ]
    centre = np.zeros(len(i))
    for number, mean_left, mean_right in zip(size, *means, strict=True):
        centre += number * mean_left[i] * mean_right[j]
    covariance = joint_counts(left, right, i, j) - centre
    spread = np.sqrt(np.maximum(squares[0][i], 0) * np.maximum(squares[1][j], 0))
    tiny = 1e-12 * rows
    return np.clip(np.divide(covariance, spread, out=np.zeros(len(i)), where=spread > tiny), -1.0, 1.0)


def shifted_ranks(matrix: sparse.csc_matrix) -> sparse.csc_matrix:
    """Rank each column, ties sharing their mean rank, minus the rank of zero, so that the result stays sparse.

    Correlations do not feel the shift.

    Raises
    ------
    DataError
        For negative values, which rank below the zeros that are not stored.

    Examples
    --------
    >>> shifted_ranks(sparse.csc_matrix([[0.0], [5.0], [0.0], [2.0]])).toarray().ravel()
    array([0. , 2.5, 0. , 1.5])
    """
    if below := int((matrix.data < 0).sum()):
        raise DataError(
            f"ranks: {below} of {matrix.nnz} values are negative, expected 0 or more. Fix: method='pearson', or counts."
        )
    result = matrix.copy()
    result.eliminate_zeros()
    filled = np.diff(result.indptr)
    column = np.repeat(np.arange(result.shape[1]), filled)
    order = np.lexsort((result.data, column))
    owner = column[order]
    new, run = tied_runs(result.data[order], owner)
    middle = np.repeat(new + (run + 1) / 2, run) - result.indptr[owner]  # mean rank among the column's non-zeros
    zeros = result.shape[0] - filled[owner]
    result.data[order] = middle + zeros - (zeros + 1) / 2 * (zeros > 0)
    return result


def score_links(
    links: DataFrame, truth: DataFrame, candidates: DataFrame, *, absolute: bool = False
) -> dict[str, float]:
    """Score how well a table of links finds true ones among the candidates.

    Parameters
    ----------
    links
        ``gene, peak, score``; each pair at most once. Pairs that are no candidates are left out, and a candidate
        without a score ranks below all others.
    truth
        ``gene, peak`` of the true links.
    candidates
        ``gene, peak``: all pairs that count.
    absolute
        Rank by the size of the score, for signed scores of links that may repress. The sign of the truth is not used.

    Returns
    -------
    dict
        ``auprc``, ``auroc``, ``prevalence``, ``lift``, ``n`` (see :func:`heteromics.tasks.metrics.link_recovery`),
        ``n_true`` among the candidates, ``n_outside`` true links that are no candidates and thus cannot be found, and
        ``n_unscored`` candidates without a score.

    Raises
    ------
    DuplicateNames
        For a pair that stands twice among links or candidates.
    DataError
        When no candidate is true, or all are.

    Examples
    --------
    >>> import pandas as pd
    >>> candidates = pd.DataFrame({"gene": list("AAB"), "peak": list("pqp")})
    >>> found = score_links(candidates.assign(score=[0.1, 0.9, 0.2]), candidates[1:2], candidates)
    >>> found["auprc"], found["n_true"]
    (1.0, 1)
    """
    index = _index(candidates, "candidates")
    known = _index(truth.drop_duplicates(["gene", "peak"]), "truth")
    values = links["score"].to_numpy(np.float64)
    values = np.abs(values) if absolute else values
    scored = _index(links, "links")
    place = scored.get_indexer(index)
    lowest = np.nextafter(values.min(initial=0.0), -np.inf)
    ranked = np.where(place >= 0, values[np.maximum(place, 0)], lowest) if values.size else np.full(len(index), lowest)
    is_link = index.isin(known)
    found: dict[str, float] = link_recovery(is_link, ranked)
    return {
        **found,
        "n_true": int(is_link.sum()),
        "n_outside": int((~known.isin(index)).sum()),
        "n_unscored": int((place < 0).sum()),
    }


def compare_links(
    tables: Mapping[str, DataFrame], truth: DataFrame, candidates: DataFrame, *, absolute: tuple[str, ...] = ()
) -> DataFrame:
    """Score several tables of links alike.

    Parameters
    ----------
    tables
        By method, as ``links`` of :func:`score_links`.
    truth, candidates
        As in :func:`score_links`.
    absolute
        Methods ranked by the size of their score.

    Returns
    -------
    DataFrame
        ``method`` and the values of :func:`score_links`, best ``auprc`` first.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = [
        {"method": name, **score_links(table, truth, candidates, absolute=name in absolute)}
        for name, table in tables.items()
    ]
    return pd.DataFrame(rows).sort_values("auprc", ascending=False, kind="stable", ignore_index=True)


def _index(table: DataFrame, what: str) -> MultiIndex:
    import pandas as pd

    index = pd.MultiIndex.from_arrays([table["gene"].astype(str), table["peak"].astype(str)])
    if not index.is_unique:
        twice = index[index.duplicated()]
        raise DuplicateNames(
            f"{what}: {len(twice)} of {len(index)} rows repeat a gene-peak pair: "
            f"{some(' '.join(pair) for pair in twice)}. Fix: aggregate them, or score one group at a time."
        )
    return index
