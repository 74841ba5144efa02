"""Two groups of cells compared by their regulatory networks: edges gained and lost, hubs, and co-expression changed."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from heteromics._progress import track
from heteromics.errors import DataError, some
from heteromics.interpret._cell_groups import labels_of
from heteromics.interpret._joining import columns_of
from heteromics.interpret.network import tf_gene_edges

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

Float = NDArray[np.float64]
Int = NDArray[np.int64]

BLOCK_EDGES = 512
"""Edges tested at a time."""

VARIES = 1e-5
"""Variances of standardised values, and ``1 - r ** 2``, below it are zero: sums are of single precision."""


@dataclass(frozen=True, slots=True)
class NetworkComparison:
    """What differs between the networks of two groups.

    Attributes
    ----------
    edges
        One row for each factor and gene that either group has, largest difference first: ``tf, gene, status`` (lost:
        in a alone; gained: in b alone; kept), ``n_peaks_a, n_peaks_b, best_a, best_b`` (0 where there is none),
        ``difference`` (best of b less that of a; as scores rank edges within a group, a difference of ranks),
        ``sign, tf_id, gene_id``. With cells also ``r_a, r_b, dz, p, fdr``, NaN where factor or gene is not measured.
    hubs
        One row for each factor, most targets first: ``tf, targets_a, targets_b`` (out-degrees), ``difference, shared,
        gained, lost`` and ``jaccard`` of the two sets of targets.
    summary
        ``groups``; numbers of ``edges``, ``factors`` and ``genes`` as (a, b, shared) and the ``jaccard`` index of each;
        with cells also ``cells`` (a, b), ``edges_tested`` and ``edges_not_measured``.
    """

    edges: DataFrame
    hubs: DataFrame
    summary: dict[str, Any]


def compare_networks(
    network: DataFrame,
    a: str,
    b: str,
    *,
    rna: AnnData | None = None,
    groups: str | ArrayLike = "cell_type",
    permutations: int = 1_000,
    log_normalise: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> NetworkComparison:
    """Compare the networks of two groups, edge by edge over peaks.

    Parameters
    ----------
    network
        From :func:`~heteromics.interpret.regulatory_network`, with both groups.
    a, b
        The groups; changes are told from a to b.
    rna
        Cells to test edges with; factors and genes are found among ``var_names`` by name, else by the identifier of the
        store. None leaves the comparison descriptive.
    groups
        Column of ``rna.obs``, or a label per cell.
    permutations
        How often cells are dealt anew; p-values are no smaller than one part in as many and one.
    log_normalise
        Scale cells to 10,000 counts and take ``log(1 + x)`` first.
    seed
        The same seed gives the same p-values.
    progress
        Show the blocks of edges tested.

    Returns
    -------
    NetworkComparison

    Raises
    ------
    DataError
        When the network or the cells lack a group, or a group has fewer than 4 cells.
    DuplicateNames
        When a name of ``rna.var_names`` stands twice.

    Notes
    -----
    The test asks whether factor and gene are correlated otherwise in b than in a, which the links and motifs of the
    network do not enter. It is no evidence apart from them where the links come from the same cells. ``dz`` is the
    difference of Fisher's z over its standard error (differential correlation: McKenzie et al., BMC Systems Biology
    2016), ``p`` the share of permutations of the cells between a and b with a ``dz`` as large,
    ``(1 + k) / (1 + permutations)`` (Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology
    2010), ``fdr`` by Benjamini and Hochberg over the edges tested. Genes are centred and scaled within each group
    first, so that differences in level and spread are no differences in correlation.

    Groups that are equally correlated need not be alike otherwise: where the cells of one differ more in depth, the
    correlations of all its genes vary more. The standard error is therefore that of values of any law,
    ``var(xy - r / 2 (x^2 + y^2)) / (1 - r^2)^2 / (n - 3)`` for standardised x and y (Hawkins, The American Statistician
    43, 235, 1989; 1 over n - 3 for a normal law), made anew from the moments of each permutation: such a test of equal
    correlations holds for large groups whatever else differs (Chung and Romano, doi:10.1214/13-AOS1090). With few
    cells, of which some are far deeper than others, p is still too small: for a scale common to all genes with standard
    deviation 0.6 of its logarithm in 100 of 400 cells, p below 0.05 came 6 times in 100; with 1.0 in 40 of 340, 19
    times. Cells of one sample are not independent: where groups differ in samples too, so may correlations.

    Time: permutations times cells times edges. Memory: permutations times cells (4 bytes each, 200 MB for 1,000 times
    50,000), and cells times the genes of 512 edges, a few such arrays.
    """
    edges = tf_gene_edges(network)
    known = sorted(set(edges["group"]))
    if unknown := [name for name in (a, b) if name not in known]:
        raise DataError(f"compare_networks: no edges of group {some(unknown)}. Groups: {some(known, 10)}.")
    if a == b:
        raise DataError(f"compare_networks: found group '{a}' twice, expected two groups.")
    table = _edge_table(edges, a, b)
    summary = {"groups": (a, b)} | _overlaps(edges, a, b)
    if rna is not None:
        matrix, in_b = _cells_of(rna, groups, a, b, log_normalise=log_normalise)
        tf, gene = (_columns(rna, table, side) for side in ("tf", "gene"))
        measured = (tf >= 0) & (gene >= 0)
        rng = np.random.default_rng(seed)
        found = changed_correlations(
            matrix, in_b, tf[measured], gene[measured], permutations=permutations, rng=rng, progress=progress
        )
        table = _with_tests(table, found, measured)
        summary["cells"] = int((~in_b).sum()), int(in_b.sum())
        summary |= {"edges_tested": int(measured.sum()), "edges_not_measured": int((~measured).sum())}
    return NetworkComparison(table, _hubs(table), summary)


def changed_correlations(
    cells: sparse.csc_array,
    in_b: NDArray[np.bool_],
    i: Int,
    j: Int,
    *,
    permutations: int,
    rng: np.random.Generator,
    progress: bool = False,
) -> Float:
    """Test whether pairs of columns are correlated otherwise in one group of rows than in the other.

    Parameters
    ----------
    cells
        Rows of both groups.
    in_b
        Which rows are of group b.
    i, j
        Columns of each pair, shape (E,).
    permutations, rng, progress
        See :func:`compare_networks`.

    Returns
    -------
    ndarray
        Shape (E, 4), float64: Pearson's r in a and in b (0 where a column does not vary), ``dz`` and ``p``.
    """
    deals = np.zeros((permutations + 1, len(in_b)), dtype=np.float32)
    deals[0] = in_b
    for deal in deals[1:]:
        deal[rng.permutation(len(in_b))[: int(in_b.sum())]] = 1
    found = np.empty((len(i), 4))
    for start in track(range(0, len(i), BLOCK_EDGES), "edges", enabled=progress):
        block = slice(start, start + BLOCK_EDGES)
        columns, place = np.unique(np.concatenate([i[block], j[block]]), return_inverse=True)
        values = cells[:, columns].toarray().astype(np.float64)  # bounded: cells x genes of a block of edges
        for group in (in_b, ~in_b):
            part = values[group] - values[group].mean(axis=0)
            spread = part.std(axis=0)
            values[group] = np.divide(part, spread, out=np.zeros_like(part), where=spread > 1e-9)
        left, right = place[: len(place) // 2], place[len(place) // 2 :]
        (r_a, error_a), (r_b, error_b) = _dealt_correlations(values.astype(np.float32), left, right, deals)
        dz = (np.arctanh(r_b) - np.arctanh(r_a)) / np.sqrt(error_a + error_b)
        as_large = (np.abs(dz[1:]) >= np.abs(dz[0]) - 1e-9).sum(axis=0)
        found[block] = np.stack([r_a[0], r_b[0], dz[0], (1 + as_large) / (1 + permutations)], axis=1)
    return found


def _dealt_correlations(
    values: NDArray[np.float32], left: Int, right: Int, deals: NDArray[np.float32]
) -> list[tuple[Float, Float]]:
    """Return r of pairs of columns and the squared error of its Fisher's z, shape (deals, E) each.

    First over the rows that each deal does not give to b, then over those that it does.
    """
    whole, in_b = {}, {}
    for power in (1, 2, 3, 4):
        total, part = _sums(values**power, deals)
        for which, columns in (((power, 0), left), ((0, power), right)):
            whole[which], in_b[which] = total[columns], part[:, columns]
    for powers in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3)):
        product = values[:, left] ** powers[0] * values[:, right] ** powers[1]
        whole[powers], in_b[powers] = _sums(product, deals)
    n_b = float(deals[0].sum())
    n_a = len(values) - n_b
    of_a = {powers: (whole[powers] - part) / n_a for powers, part in in_b.items()}
    of_b = {powers: part / n_b for powers, part in in_b.items()}
    return [_correlation(moments, n) for moments, n in ((of_a, n_a), (of_b, n_b))]


def _sums(matrix: NDArray[np.float32], deals: NDArray[np.float32]) -> tuple[Float, Float]:
    """Return the sums of columns over all rows, shape (columns,), and over those of each deal, (deals, columns)."""
    return matrix.sum(axis=0, dtype=np.float64), (deals @ matrix).astype(np.float64)


def _correlation(moments: dict[tuple[int, int], Float], n: float) -> tuple[Float, Float]:
    """Return r and the squared error of its Fisher's z from mean products of powers of two variables.

    Where r cannot vary, as one of them does not or they are one, the error is that for a normal law.
    """

    def central(a: int, b: int) -> Float:
        terms = [
            comb(a, i) * comb(b, j) * (-moments[1, 0]) ** (a - i) * (-moments[0, 1]) ** (b - j)
            * (moments[i, j] if i + j else 1.0)
            for i in range(a + 1)
            for j in range(b + 1)
        ]  # fmt: skip
        return np.sum(terms, axis=0)

    spread = central(2, 0), central(0, 2)
    varies = (spread[0] > VARIES) & (spread[1] > VARIES)
    x, y = (np.sqrt(np.where(varies, one, 1.0)) for one in spread)
    r = np.where(varies, central(1, 1) / (x * y), 0.0)
    r = np.clip(r, -1 + 1e-9, 1 - 1e-9)
    mixed = central(2, 2) / (x * y) ** 2
    skewed = central(3, 1) / (x**3 * y) + central(1, 3) / (x * y**3)
    variance = mixed - r * skewed + r**2 / 4 * (central(4, 0) / x**4 + 2 * mixed + central(0, 4) / y**4)
    free = 1 - r**2
    known = varies & (free > VARIES) & (variance > VARIES * free**2)
    return r, np.where(known, variance / np.where(known, free, 1.0) ** 2, 1.0) / (n - 3)


def _edge_table(edges: DataFrame, a: str, b: str) -> DataFrame:
    columns = ["tf", "gene", "n_peaks", "best", "sign", "tf_id", "gene_id"]
    one, other = (edges.loc[edges["group"] == name, columns].set_index(["tf", "gene"]) for name in (a, b))
    joined = one.join(other, how="outer", lsuffix="_a", rsuffix="_b")
    in_a, in_b = (joined[f"n_peaks_{side}"].notna() for side in "ab")
    table = joined.index.to_frame(index=False)
    table["status"] = np.select([in_a & in_b, in_a], ["kept", "lost"], "gained")
    for name, kind in (("n_peaks", np.int64), ("best", np.float64)):
        for side in "ab":
            table[f"{name}_{side}"] = joined[f"{name}_{side}"].fillna(0).to_numpy(kind)
    table["difference"] = table["best_b"] - table["best_a"]
    table["sign"] = joined["sign_a"].fillna(joined["sign_b"]).to_numpy(np.int8)
    for name in ("tf_id", "gene_id"):
        table[name] = joined[f"{name}_a"].fillna(joined[f"{name}_b"]).to_numpy(object)
    order = np.argsort(-table["difference"].abs().to_numpy(), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def _overlaps(edges: DataFrame, a: str, b: str) -> dict[str, Any]:
    sides = [edges[edges["group"] == name] for name in (a, b)]
    sets = {
        "edges": [set(zip(side["tf"], side["gene"], strict=True)) for side in sides],
        "factors": [set(side["tf"]) for side in sides],
        "genes": [set(side["gene"]) for side in sides],
    }
    counts = {name: (len(one), len(other), len(one & other)) for name, (one, other) in sets.items()}
    jaccard = {name: shared / (one + other - shared) for name, (one, other, shared) in counts.items()}
    return {**counts, "jaccard": jaccard}


def _hubs(table: DataFrame) -> DataFrame:
    import pandas as pd

    counts = pd.crosstab(table["tf"], table["status"]).reindex(columns=["kept", "lost", "gained"], fill_value=0)
    shared, lost, gained = (counts[name].to_numpy(np.int64) for name in ("kept", "lost", "gained"))
    hubs = pd.DataFrame({"tf": counts.index, "targets_a": shared + lost, "targets_b": shared + gained})
    hubs["difference"] = hubs["targets_b"] - hubs["targets_a"]
    hubs = hubs.assign(shared=shared, gained=gained, lost=lost, jaccard=shared / (shared + lost + gained))
    order = np.lexsort((hubs["tf"], -hubs[["targets_a", "targets_b"]].max(axis=1)))
    return hubs.iloc[order].reset_index(drop=True)


def _cells_of(
    rna: AnnData, groups: str | ArrayLike, a: str, b: str, *, log_normalise: bool
) -> tuple[sparse.csc_array, NDArray[np.bool_]]:
    """Return the cells of both groups, by column, and which of them are of b."""
    from heteromics.models.baselines import as_csr, log_normalised

    labels = labels_of(rna, groups)
    sizes = {name: int((labels == name).sum()) for name in (a, b)}
    if small := [f"{name} has {size}" for name, size in sizes.items() if size < 4]:
        raise DataError(
            f"compare_networks: group {some(small)} cells, expected 4 or more of each. "
            f"Labels: {some(np.unique(labels), 10)}."
        )
    kept = np.flatnonzero((labels == a) | (labels == b))
    counts = as_csr(rna)[kept].astype(np.float64)
    return sparse.csc_array(log_normalised(counts) if log_normalise else counts), labels[kept] == b


def _columns(rna: AnnData, table: DataFrame, side: str) -> Int:
    """Return the columns of factors or genes, by name, else by identifier; -1 where they are not measured."""
    by_name, by_id = (columns_of(rna, table[name], "rna") for name in (side, f"{side}_id"))
    return np.where(by_name >= 0, by_name, by_id)


def _with_tests(table: DataFrame, found: Float, measured: NDArray[np.bool_]) -> DataFrame:
    from scipy import stats

    fdr = stats.false_discovery_control(found[:, 3]) if len(found) else found[:, 3]
    columns = [*found.T, fdr]
    for name, values in zip(("r_a", "r_b", "dz", "p", "fdr"), columns, strict=True):
        full = np.full(len(table), np.nan)
        full[measured] = values
        table[name] = full
    return table
