"""What a cell-feature graph takes from AnnData: names, values, codes of cells, and cells that modalities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.data.blocks import Assembled, assemble
from heteromics.errors import DataError, EmptyCells, GraphError, MissingLayer, some

if TYPE_CHECKING:
    from anndata import AnnData

Expect = Literal["counts", "normalised"]
Text = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality on the cells of the graph.

    Attributes
    ----------
    ntype
        Node type of its features.
    data
        Where it came from.
    features
        Names, shape (G,).
    values
        Cells of the graph x features, CSR float32 in canonical form, no stored zeros, memory of its own.
    """

    ntype: str
    data: AnnData
    features: Text
    values: sparse.csr_array


def check_form(data: object, builder: str) -> None:
    """Raise GraphError for what is no AnnData, nor AnnData by name."""
    if hasattr(data, "mod"):
        raise GraphError(f"{builder}: found MuData, expected AnnData by modality. Fix: give its .mod.")
    for part in data.values() if isinstance(data, Mapping) else (data,):
        if not all(hasattr(part, slot) for slot in ("X", "obs_names", "var_names")):
            raise GraphError(f"{builder}: found a {type(part).__name__}, expected AnnData.")


def checked_names(data: AnnData, of: str = "") -> dict[str, Text]:
    """Return the names of cells and features, each unique; ``of`` begins the message.

    Raises
    ------
    DuplicateNames
        For cells or features of the same name.
    """
    from heteromics.data.checks import check_unique_names

    check_unique_names(data.obs_names, f"{of}cells (obs_names)", fix="add the batch or sample to the names.")
    check_unique_names(data.var_names, f"{of}features (var_names)", fix="name them by identifiers, or sum the repeats.")
    return {"cell": np.asarray(data.obs_names, dtype=str), "feature": np.asarray(data.var_names, dtype=str)}


def shared_cells(data: Mapping[str, AnnData], cells: Literal["same", "shared"]) -> tuple[Text, dict[str, Any] | None]:
    """Return the cells of the graph in the order of the first modality, and for several modalities who has how many.

    Raises
    ------
    DuplicateNames
        For cells or features of the same name.
    GraphError
        When modalities differ in their cells and ``cells="same"``, or none is in all of them.
    """
    several = len(data) > 1
    for name, part in data.items():
        checked_names(part, f"{name}: " if several else "")
    named = {name: np.asarray(part.obs_names, dtype=str) for name, part in data.items()}
    first = next(iter(named.values()))
    if not several:
        return first, None
    common = first
    for names in named.values():
        common = common[np.isin(common, names)]
    match: dict[str, Any] = {"cells": {name: len(names) for name, names in named.items()}, "in_all": len(common)}
    for name, names in named.items():
        lost = names[~np.isin(names, common)]
        if lost.size:
            match[f"{name}_alone"] = {"number": int(lost.size), "examples": lost[:5].tolist()}
    if not common.size or (cells == "same" and any(len(names) != len(common) for names in named.values())):
        has = "; ".join(
            f"{name} has {len(names):,}" + (f", {_alone(names, common)}" if len(names) != len(common) else "")
            for name, names in named.items()
        )
        raise GraphError(
            f"cell_feature: the modalities have {len(common):,} cells in common: {has}.\n"
            "  Fix: give the modalities the same cells, or pass cells='shared' to keep those that all of them have."
        )
    return common, match


def _alone(names: Text, common: Text) -> str:
    lost = names[~np.isin(names, common)]
    return f"{lost.size:,} not in all of them: {some(lost)}"


def read_values(data: AnnData, what: str, cells: Text, expect: Expect) -> Assembled:
    """Assemble the values of the cells from ``X``, in memory or backed, and count the stored zeros left out.

    Raises
    ------
    MissingLayer
        When there is no ``X``.
    NotCounts, DataError
        For values that are not as expected.
    EmptyCells
        For cells without a value.
    """
    if data.X is None:
        raise MissingLayer(f"{what}: X is empty. Fix: copy the layer that holds the values to X.")
    values, zeros = assemble(data.X, what, expect)
    names = np.asarray(data.obs_names, dtype=str)
    if not np.array_equal(names, cells):
        rows = {name: row for row, name in enumerate(names.tolist())}
        values = sparse.csr_array(values[[rows[name] for name in cells.tolist()]])
        values.has_canonical_format = True
    empty = np.flatnonzero(np.diff(values.indptr) == 0)
    if empty.size:
        raise EmptyCells(
            f"{what}: {empty.size} of {len(cells)} cells have no value but zero: {some(cells[empty])}.\n"
            "  Fix: remove them, for example adata = adata[adata.X.getnnz(axis=1) > 0].copy()."
        )
    return Assembled(values, zeros)


def cell_codes(
    data: Mapping[str, AnnData], cells: Text, obs: Sequence[str] | None
) -> tuple[dict[str, NDArray[np.int64]], dict[str, list[str]], list[str]]:
    """Codes and their words by name, the first column under the name ``batch``, and the columns they came from.

    A column is that of the first modality that has it.

    Raises
    ------
    MissingLayer
        For a column that no modality has.
    DataError
        For cells without a value, or with different values in two modalities.
    GraphError
        For columns that would take the place of the batch or of the statistics.
    """
    columns = obs
    if columns is None:
        columns = [name for name in ("batch",) if any(name in part.obs for part in data.values())]
    there = list(dict.fromkeys(name for part in data.values() for name in part.obs.columns))
    if missing := [name for name in columns if name not in there]:
        raise MissingLayer(
            f"obs has no column {some(missing)}; it has {some(there, 8) or 'none'}.\n"
            "  Fix: name a column that is there, or pass obs=() to treat all cells as one batch."
        )
    taken = [name for name in columns[1:] if name == "batch" or name in columns[:1]]
    taken += [name for name in columns[1:] if name == "statistics" or name.endswith("_statistics")]
    if taken:
        raise GraphError(
            f"obs: found {', '.join(columns)}; the first is kept as batch and statistics have a name too, so that "
            f"{', '.join(taken)} would be overwritten.\n  Fix: put batch first, or rename the column."
        )
    codes = {"batch": np.zeros(len(cells), dtype=np.int64)}
    categories = {"batch": ["all"]}
    for place, name in enumerate(columns):
        words, code = np.unique(_column(data, cells, name), return_inverse=True)
        kept_as = name if place else "batch"
        codes[kept_as], categories[kept_as] = code.astype(np.int64), words.tolist()
    return codes, categories, list(columns)


def _column(data: Mapping[str, AnnData], cells: Text, name: str) -> Text:
    found: Text | None = None
    for modality, part in data.items():
        if name not in part.obs:
            continue
        column = part.obs[name]
        column = column.set_axis(column.index.astype(str)).loc[cells]
        if unknown := int(column.isna().sum()):
            raise DataError(f"obs['{name}']: {unknown} of {len(column)} cells have no value. Fix: fill or drop them.")
        words = column.astype(str).to_numpy(str)
        if found is not None and (differ := int((found != words).sum())):
            raise DataError(
                f"obs['{name}']: {differ} of {len(cells)} cells have another value in {modality} than in the modality "
                "before.\n  Fix: drop the column where it is wrong."
            )
        found = words
    assert found is not None
    return found


def training_mask(training_cells: Any, cells: Text) -> NDArray[np.bool_]:
    """Return which cells are for training, from names or a mask; None is all.

    Raises
    ------
    GraphError
        For a mask of another length, names that are no cells, or no training cell.
    """
    if training_cells is None:
        return np.ones(len(cells), dtype=bool)
    given = np.asarray(training_cells if hasattr(training_cells, "dtype") else list(training_cells))
    if given.dtype == bool:
        if given.shape != cells.shape:
            raise GraphError(
                f"training_cells: found a mask of shape {given.shape}, expected {cells.shape}: one per cell."
            )
        mask = given
    else:
        given = given.astype(str)
        if unknown := sorted(set(given.tolist()) - set(cells.tolist())):
            raise GraphError(
                f"training_cells: {len(unknown)} of {given.size} names are not among the {len(cells)} cells: "
                f"{some(unknown)}.\n  The data have: {some(cells)}."
            )
        mask = np.isin(cells, given)
    if not mask.any():
        raise GraphError(f"training_cells: none of {len(cells)} cells is for training, expected one or more.")
    return mask
