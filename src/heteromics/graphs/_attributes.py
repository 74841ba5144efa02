"""Attributes of genes and peaks: from the prior store, and summaries over training cells; standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heteromics._config import unknown_key
from heteromics.errors import GraphError, RecipeError

if TYPE_CHECKING:
    from scipy import sparse

    from heteromics.priors import PriorStore

Float = NDArray[np.float64]
Int = NDArray[np.int64]

GENE_SUMMARIES = ("mean", "variance", "share")
PEAK_SUMMARIES = ("share",)


def summaries(counts: sparse.csr_array, chosen: NDArray[np.bool_]) -> dict[str, Float]:
    """Summarise every feature over some cells, zeros included; no cells x features array is formed, nor a copy.

    Parameters
    ----------
    counts
        Cells x features, each cell with at least one count.
    chosen
        The cells, shape (N,).

    Returns
    -------
    dict
        ``mean`` and ``variance`` (of the population) of ``log(1 + x * m / total of the cell)``, m being the median of
        the totals, and ``share``, the share of cells with a count; each of shape (features,), float64.

    Examples
    --------
    >>> from scipy import sparse
    >>> found = summaries(sparse.csr_array([[1.0, 1.0], [0.0, 2.0]]), np.array([True, True]))
    >>> found["share"].tolist(), found["mean"].round(3).tolist()
    ([0.5, 1.0], [0.347, 0.896])
    """
    from heteromics.data.blocks import row_blocks

    cells, features = int(chosen.sum()), counts.shape[1]
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.median(totals[chosen]) / totals
    mean, square, share = np.zeros((3, features))
    for first, block in row_blocks(counts):
        rows = np.flatnonzero(chosen[first : first + block.shape[0]])
        seen = block if rows.size == block.shape[0] else block[rows]
        logs = np.log1p(seen.data * np.repeat(scale[first + rows], np.diff(seen.indptr)))
        mean += np.bincount(seen.indices, logs, minlength=features)
        square += np.bincount(seen.indices, np.square(logs), minlength=features)
        share += np.bincount(seen.indices, minlength=features)
    mean, square, share = mean / cells, square / cells, share / cells
    return {"mean": mean, "variance": np.maximum(square - np.square(mean), 0.0), "share": share}


def gene_columns(store: PriorStore, row: Int) -> dict[str, Float]:
    """Attributes of genes by their row in the store's gene table, -1 where there is none: NaN there."""
    if "gene_attribute" not in store.tables():
        return {}
    genes = store.frame("gene")[["gene_id"]].merge(store.frame("gene_attribute"), on="gene_id", how="left")
    found = {
        "strand": genes["strand_sign"].to_numpy(np.float64, na_value=np.nan),
        "log_length": np.log10(genes["length"].to_numpy(np.float64, na_value=np.nan)),
        "log_exon_length": np.log10(genes["exon_length"].to_numpy(np.float64, na_value=np.nan)),
    }
    return _taken(found, row)


def peak_columns(store: PriorStore, row: Int) -> dict[str, Float]:
    """Attributes of peaks by their row in the store's peak table, as :func:`gene_columns`."""
    if "peak_attribute" not in store.tables():
        return {}
    peaks = store.frame("peak")[["peak_id"]].merge(store.frame("peak_attribute"), on="peak_id", how="left")
    found = {name: peaks[name].to_numpy(np.float64, na_value=np.nan) for name in ("gc", "cpg_oe")}
    found["log_width"] = np.log10(peaks["width"].to_numpy(np.float64, na_value=np.nan))
    return _taken(found, row)


def _taken(columns: Mapping[str, Float], row: Int) -> dict[str, Float]:
    """Columns that hold at least one number, for the rows asked for."""
    known = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    return {name: np.where(row >= 0, values[np.maximum(row, 0)], np.nan) for name, values in known.items()}


def attribute_table(
    columns: Mapping[str, Float], wanted: Sequence[str] | None, size: int, what: str, *, standardise: bool
) -> tuple[list[str], NDArray[np.float32]]:
    """Choose and scale attributes.

    Parameters
    ----------
    columns
        By name, shape (size,), NaN where unknown.
    wanted
        Names in order; None takes all that vary.
    size
        Number of genes or peaks.
    what
        The parameter's name, for messages.
    standardise
        Mean 0 and standard deviation 1 over the features of the graph that have the value. Unknown values become the
        mean, which is 0 when standardised.

    Returns
    -------
    names, table
        Table of shape (size, names), float32.

    Raises
    ------
    GraphError
        For an attribute that is not there; says which are, and the nearest name.
    """
    varying = (name for name, values in columns.items() if np.unique(values[np.isfinite(values)]).size > 1)
    names = list(varying) if wanted is None else list(wanted)
    table = np.zeros((size, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        if name not in columns:
            raise _absent(name, columns, what)
        values = columns[name]
        centre, spread = (np.nanmean(values), np.nanstd(values)) if np.isfinite(values).any() else (0.0, 0.0)
        filled = np.where(np.isnan(values), centre, values)
        table[:, place] = (filled - centre) / (spread or 1.0) if standardise else filled
    return names, table


def _absent(name: str, columns: Mapping[str, Float], what: str) -> GraphError:
    problem: RecipeError = unknown_key(name, columns, what)
    return GraphError(
        f"{str(problem).replace('key', 'attribute')} Sequence attributes need a store that was built with FASTA, "
        "attributes of the annotation one with gene_attribute or peak_attribute."
    )
