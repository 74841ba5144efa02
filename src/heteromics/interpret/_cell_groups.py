"""Groups of cells: their labels, and what the cells of each express."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, did_you_mean, some

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

ONE_GROUP = "all"
"""Group of cells, or of links, that have none."""


def expressed_share(rna: AnnData, groups: str | ArrayLike | None = None) -> DataFrame:
    """Return the share of the cells of each group in which each gene is not zero.

    Parameters
    ----------
    rna
        Cells x genes, zeros where nothing was seen.
    groups
        Column of ``obs``, or a label per cell; None takes all cells as one group, ``all``.

    Returns
    -------
    DataFrame
        Genes x groups, float64.

    Examples
    --------
    >>> import anndata as ad
    >>> rna = ad.AnnData(np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]))
    >>> expressed_share(rna, ["A", "A", "B"]).loc["0"].to_dict()
    {'A': 0.5, 'B': 1.0}
    """
    import pandas as pd
    from scipy import sparse

    from heteromics.models.baselines import as_csr

    labels = labels_of(rna, groups)
    words, code = np.unique(labels, return_inverse=True)
    size = np.bincount(code)
    member = sparse.csr_array((1 / size[code], (code, np.arange(len(code)))), shape=(len(words), len(code)))
    share = (member @ as_csr(rna).astype(bool).astype(np.float64)).toarray()  # bounded: groups x genes
    return pd.DataFrame(share.T, index=rna.var_names, columns=words)


def labels_of(cells: AnnData, groups: str | ArrayLike | None) -> NDArray[np.str_]:
    """Return a label per cell as an array of text.

    Raises
    ------
    DataError
        When ``obs`` has no such column, or there is not one label for each cell.
    """
    if groups is None:
        return np.full(cells.n_obs, ONE_GROUP)
    if isinstance(groups, str):
        if groups not in cells.obs:
            raise DataError(
                f"groups: obs has no column '{groups}'. {did_you_mean(groups, cells.obs)}"
                f"Columns: {some(cells.obs.columns, 10)}."
            )
        return checked_labels(cells.obs[groups].to_numpy(), cells.n_obs)
    return checked_labels(groups, cells.n_obs)


def checked_labels(groups: ArrayLike, n_cells: int, what: str = "groups") -> NDArray[np.str_]:
    """Return labels as text when there is one for each cell; ``what`` names them in errors.

    Raises
    ------
    DataError
        When there is not, or labels are missing.
    """
    import pandas as pd

    labels = np.asarray(groups, dtype=object)
    if labels.shape != (n_cells,):
        raise DataError(f"{what}: found shape {labels.shape} for {n_cells} cells, expected one label per cell.")
    if missing := int(pd.isna(labels).sum()):
        raise DataError(f"{what}: {missing} of {n_cells} cells have no label. Fix: leave these cells out.")
    return labels.astype(str)
