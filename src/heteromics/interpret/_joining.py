"""The genes and peaks of a table of links, found in a prior store by the store's own rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError
from heteromics.priors.peak_names import store_peaks

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import DataFrame, Index

    from heteromics.priors import PriorStore


def columns_of(data: AnnData, names: Iterable[object], what: str) -> NDArray[np.int64]:
    """Return the column of each name among ``var_names``, -1 where there is none.

    Raises
    ------
    DuplicateNames
        When names of the data stand twice, so that no column is meant for certain.
    """
    import pandas as pd

    from heteromics.data.checks import check_unique_names

    check_unique_names(data.var_names, f"{what}.var_names", fix=f"{what}.var_names_make_unique().")
    there = pd.Index(data.var_names.astype(str))
    return np.asarray(there.get_indexer([str(name) for name in names]), dtype=np.int64)


def stored_genes(names: Iterable[str], store: PriorStore) -> DataFrame:
    """Find genes by identifier, symbol or other name, see :func:`heteromics.priors.identifiers.join_store_genes`.

    Parameters
    ----------
    names
        Different names.

    Returns
    -------
    DataFrame
        Index ``names``; ``gene_id, symbol, chrom, tss, strand`` of the store, None or NA where no gene is meant for
        certain.
    """
    from heteromics.priors.identifiers import join_store_genes

    given = list(names)
    found = np.asarray(join_store_genes(store, given).gene_id, dtype=object)
    columns = ["gene_id", "symbol", "chrom", "tss", "strand"]
    genes = store.frame("gene")[columns].astype({"tss": "Int64"}).set_index("gene_id", drop=False)
    return genes.reindex(found).set_axis(_index(given))


def stored_peaks(names: Iterable[str], store: PriorStore) -> DataFrame:
    """Find peaks by identifier, else by the interval that their name gives, see :func:`store_peaks`.

    Parameters
    ----------
    names
        Different names.

    Returns
    -------
    DataFrame
        Index ``names``; ``peak_id, chrom, chrom_start, chrom_end`` (bp, 0-based half-open) of the store, NA where it
        has no such peak.
    """
    given = list(names)
    peaks = store.frame("peak")[["peak_id", "chrom", "chrom_start", "chrom_end"]]
    peaks = peaks.astype({"chrom_start": "Int64", "chrom_end": "Int64"})
    return peaks.reindex(store_peaks(store, given).row).set_axis(_index(given))


def _index(names: Iterable[str]) -> Index:
    import pandas as pd

    return pd.Index(np.array(list(names), dtype=object))


def need_columns(table: DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks columns.

    Raises
    ------
    DataError
        Naming those that are absent and those that are there.
    """
    if absent := [name for name in columns if name not in table]:
        raise DataError(
            f"{what}: found columns {', '.join(map(str, table.columns)) or 'none'}; {len(absent)} of {len(columns)} "
            f"expected ones are not there: {', '.join(absent)}."
        )
