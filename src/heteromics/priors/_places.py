"""Places of cells in a tissue, from .h5ad or a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heteromics.data._h5ad import element
from heteromics.data.checks import check_unique_names
from heteromics.errors import DataError, MissingLayer, UnreadableFile, did_you_mean, some
from heteromics.priors._delimited import first_fields, numbers, read_fields

Floats = NDArray[np.float64]

DIMENSIONS = ("x", "y", "z")
LIBRARY = "library"


class Places(NamedTuple):
    """Cells in the order of the file: names, library of each, coordinates of shape (N, 2) or (N, 3)."""

    cell: list[str]
    library: list[str]
    points: Floats


class Where(NamedTuple):
    """What of a file to read.

    ``obsm`` is a key of an .h5ad, unless ``columns`` name the coordinates; ``cell`` is a column of a table; without
    ``library``, column ``library`` is taken where there is one, else all cells are of one.
    """

    obsm: str = "spatial"
    columns: tuple[str, ...] = ()
    cell: str = "cell"
    library: str | None = None


def read_places(path: Path, where: Where) -> Places:
    """Read the places of all cells; in order of the file.

    Raises
    ------
    UnreadableFile
        For a file that is broken, or a coordinate that is no number (its line is named).
    MissingLayer
        For a column or a key of obsm that is not there; those that are, are listed.
    DuplicateNames
        For cells of one name.
    DataError
        For coordinates that are not finite (the cells are named), or not two or three of them; for cells
        without a name.
    """
    if path.suffix == ".h5ad":
        places = _of_h5ad(path, where)
    elif path.suffix == ".parquet":
        places = _of_frame(path, where)
    else:
        places = _of_text(path, where)
    if not places.cell:
        raise DataError(f"{path}: no cell in it. Expected a line for each cell, with its name and coordinates.")
    if places.points.ndim != 2 or places.points.shape[1] not in (2, 3):
        raise DataError(f"{path}: found coordinates of shape {places.points.shape}, expected two or three a cell.")
    if nameless := places.cell.count(""):
        raise DataError(
            f"{path}: {nameless:,} of {len(places.cell):,} cells have no name. Fix: name them, or leave them out."
        )
    check_unique_names(places.cell, f"cells of {path.name}", fix="put the library into their names.")
    lost = np.flatnonzero(~np.isfinite(places.points).all(axis=1))
    if lost.size:
        raise DataError(
            f"{path}: {lost.size:,} of {len(places.cell):,} cells have a coordinate that is not finite: "
            f"{some(places.cell[row] for row in lost)}.\n  Fix: leave them out, or give them their place."
        )
    return places


def _of_h5ad(path: Path, where: Where) -> Places:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableFile(f"{path} is not a readable HDF5 file: {error}") from error
    with file:
        if "obs" not in file:
            raise UnreadableFile(f"{path}: found {some(file, 8) or 'nothing'}, expected obs of an .h5ad.")
        obs = element(file["obs"])
        if where.columns:
            _require(path, "obs", where.columns, list(obs.columns))
            points = obs[list(where.columns)]
        else:
            there = list(file["obsm"]) if "obsm" in file else []
            if where.obsm not in there:
                raise MissingLayer(
                    f"{path}: found no obsm['{where.obsm}']; obsm: {some(there, 8) or 'none'}; obs: "
                    f"{some(obs.columns, 12) or 'none'}.\n  Fix: name `obsm`, or the `columns` of obs that are x and y."
                )
            points = element(file["obsm"][where.obsm])
    return Places([str(name) for name in obs.index], _libraries(path, obs, where), _as_floats(path, points))


def _of_frame(path: Path, where: Where) -> Places:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path} is not a readable Parquet file: {error}") from error
    if frame.index.name == where.cell:
        frame = frame.reset_index()
    columns = _columns(path, where, list(frame.columns))
    names = [
        "" if lacking else str(name) for name, lacking in zip(frame[where.cell], frame[where.cell].isna(), strict=True)
    ]
    return Places(names, _libraries(path, frame, where), _as_floats(path, frame[list(columns)]))


def _of_text(path: Path, where: Where) -> Places:
    _, delimiter = first_fields(path)
    fields = read_fields(path, delimiter, header=True)
    columns = _columns(path, where, fields.header)
    values = [numbers(path, fields, fields.header.index(name), -np.inf, np.inf, name) for name in columns]
    frame = pd.DataFrame({name: fields.columns[fields.header.index(name)] for name in fields.header}, dtype=str)
    return Places(list(frame[where.cell]), _libraries(path, frame, where), np.stack(values, axis=1))


def _columns(path: Path, where: Where, there: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that hold coordinates; those asked for, or x, y and z where there is one."""
    columns = where.columns or DIMENSIONS[: 3 if "z" in there else 2]
    _require(path, "columns", (where.cell, *columns), there)
    return columns


def _libraries(path: Path, table: pd.DataFrame, where: Where) -> list[str]:
    if where.library is not None:
        _require(path, "columns", (where.library,), list(table.columns))
    name = where.library or LIBRARY
    if name not in table.columns:
        return [""] * len(table)
    lacking = table[name].isna() | (table[name].astype(str) == "")
    if lacking.any():
        raise DataError(
            f"{path}: {int(lacking.sum()):,} of {len(table):,} cells have no {name}. Fix: fill the column, or leave "
            "these cells out."
        )
    return [str(one) for one in table[name]]


def _require(path: Path, what: str, names: Sequence[str], there: Sequence[str]) -> None:
    for name in names:
        if name not in there:
            raise MissingLayer(
                f"{path}: found no column '{name}'. {did_you_mean(name, there)}{what}: {some(there, 12)}.\n"
                "  Fix: name the columns of the cell, its coordinates and its library in the recipe."
            )


def _as_floats(path: Path, values: Any) -> Floats:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: found coordinates that are no numbers ({error}).") from error
