"""The transformations that models of this field expect of their input, by scanpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from heteromics.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

Transform = Literal["none", "log1p", "log1p_cp10k"]


def transform(data: AnnData, how: Transform) -> AnnData:
    """Return a transformed copy of counts.

    Parameters
    ----------
    data
        Cells x features, counts in ``X`` (sparse or dense); it is not changed.
    how
        ``"log1p_cp10k"``: scaled to 10,000 per cell, then log1p, as usual for RNA. ``"log1p"``: only the latter, as
        for proteins, whose totals follow the panel. ``"none"``: a copy.

    Notes
    -----
    ``scanpy.pp.normalize_total`` and ``scanpy.pp.log1p``; zeros stay zeros, so sparse stays sparse.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> float(np.expm1(transform(AnnData(np.array([[1.0, 3.0]], dtype="float32")), "log1p_cp10k").X).sum().round())
    10000.0
    """
    if how not in ("none", "log1p", "log1p_cp10k"):
        raise DataError(f"transform: found {how!r}, expected 'none', 'log1p' or 'log1p_cp10k'.")
    changed = data.copy()
    if how == "none":
        return changed
    import scanpy as sc

    if how == "log1p_cp10k":
        sc.pp.normalize_total(changed, target_sum=1e4)
    sc.pp.log1p(changed)
    return changed
