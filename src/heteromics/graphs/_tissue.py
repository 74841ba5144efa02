"""Where cells lie in a tissue and the libraries they belong to, from an AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import DataError, GraphError, MissingLayer, did_you_mean, some

if TYPE_CHECKING:
    from anndata import AnnData

Unit = Literal["um", "as_given"]
_LIBRARY = "library"


class Where(NamedTuple):
    """Cells with their places, in ``unit``, and their libraries.

    ``names`` (N,), ``points`` (N, 2 or 3), ``code`` (N,) of the library, ``libraries``, the words of the codes,
    ``said``, what was asked for, and ``provenance``.
    """

    names: NDArray[np.str_]
    points: NDArray[np.float64]
    code: NDArray[np.int64]
    libraries: list[str]
    said: dict[str, Any]
    provenance: dict[str, Any]


def places(
    adata: AnnData,
    obsm: str,
    columns: Sequence[str],
    library: str | None,
    unit: Unit,
    um_per_unit: float | None,
) -> Where:
    """Read places and libraries; parameters and errors as in :func:`heteromics.graphs.spatial_knn`."""
    from heteromics.data.checks import check_unique_names

    if unit not in get_args(Unit) or (unit == "um") != (um_per_unit is not None):
        raise GraphError(
            f"found unit={unit!r} and um_per_unit={um_per_unit}; unit 'um' needs um_per_unit, 1 where coordinates are "
            "in micrometres, and 'as_given' takes none."
        )
    if um_per_unit is not None and not 0 < um_per_unit < np.inf:
        raise GraphError(f"um_per_unit: found {um_per_unit:g}, expected above 0.")
    check_unique_names(adata.obs_names, "cells (obs_names)", fix="add the library to the names.")
    names = np.asarray(adata.obs_names, dtype=str)
    points = _coordinates(adata, obsm, columns) * (1.0 if um_per_unit is None else um_per_unit)
    code, words, column = _libraries(adata, library)
    said = {"coordinates": list(columns) or f"obsm/{obsm}", "library": column, "unit": unit, "um_per_unit": um_per_unit}
    known = adata.uns.get("heteromics", {})
    provenance = {"data": {key: str(value) for key, value in known.items()}} if known else {}
    return Where(names, points, code, words, said, provenance)


def _coordinates(adata: AnnData, obsm: str, columns: Sequence[str]) -> NDArray[np.float64]:
    if columns:
        _require(adata, columns)
        where, found = f"obs columns {', '.join(columns)}", adata.obs[list(columns)]
    elif obsm in adata.obsm:
        where, found = f"obsm['{obsm}']", adata.obsm[obsm]
    else:
        raise MissingLayer(
            f"found no obsm['{obsm}']; obsm: {some(adata.obsm, 8) or 'none'}; obs: "
            f"{some(adata.obs.columns, 12) or 'none'}.\n  Fix: name `obsm`, or the `columns` of obs that are x and y."
        )
    try:
        points = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: found coordinates that are no numbers ({error}).") from error
    if points.ndim != 2 or points.shape[1] not in (2, 3) or not len(points):
        raise DataError(f"{where}: found coordinates of shape {points.shape}, expected one or more cells by 2 or 3.")
    lost = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if lost.size:
        raise DataError(
            f"{where}: {lost.size:,} of {len(points):,} cells have no finite coordinates: "
            f"{some(adata.obs_names[lost])}.\n  Fix: leave them out, or give them their place."
        )
    return points


def _libraries(adata: AnnData, library: str | None) -> tuple[NDArray[np.int64], list[str], str | None]:
    """Return codes, their words in order, and the column they are of."""
    import pandas as pd

    column = library or (_LIBRARY if _LIBRARY in adata.obs else None)
    if column is None:
        return np.zeros(adata.n_obs, np.int64), ["all"], None
    _require(adata, [column])
    lacking = int(adata.obs[column].isna().sum())
    if lacking:
        raise DataError(
            f"obs['{column}']: {lacking:,} of {adata.n_obs:,} cells have no library. Fix: fill the column, or leave "
            "these cells out."
        )
    code, words = pd.factorize(adata.obs[column].astype(str), sort=True)
    return code.astype(np.int64), words.tolist(), column


def _require(adata: AnnData, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in adata.obs:
            raise MissingLayer(
                f"obs has no column '{name}'. {did_you_mean(name, adata.obs.columns)}"
                f"There: {some(adata.obs.columns, 12) or 'none'}."
            )
