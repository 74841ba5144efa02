"""Matrices of .h5ad and .h5mu on disk, read a block of rows or of columns at a time, named cells only.

CSR and dense matrices are read by rows, CSC by columns (:mod:`heteromics.data._stored`), so that each byte is read once
and no more than a block is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from heteromics.data._h5ad import element
from heteromics.data._modality import are_intervals, canonical
from heteromics.data._stored import MOST_VALUES, stored
from heteromics.errors import DataError, MissingLayer, UnreadableFile, some

Ints = NDArray[np.int64]

MODALITIES = ("rna", "atac", "protein")


class Block(NamedTuple):
    """Values of the cells asked for in the features ``first`` to ``first + values.shape[1]``."""

    first: int
    values: sparse.csr_array | sparse.csc_array


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix of an open file, cells x features.

    Attributes
    ----------
    where
        File, modality and layer, for messages.
    cells, features
        Names as the file has them.
    ids
        Identifiers of the features (``gene_ids`` of 10x), or their names where there are none.
    columns
        Where ``features`` stand among all columns of the stored matrix, ascending, shape (F,).
    stored
        HDF5 dataset (dense) or group (sparse).
    """

    where: str
    cells: list[str]
    features: list[str]
    ids: list[str]
    columns: Ints
    stored: h5py.Dataset | h5py.Group

    def blocks(self, rows: Ints, entries: int = MOST_VALUES) -> Iterator[Block]:
        """Yield all values of the cells in ``rows``, each once.

        Parameters
        ----------
        rows
            Rows of the cells, ascending, shape (n,); values of other cells are dropped as they are read.
        entries
            Most stored entries to read at a time; one row (CSR, dense) or column (CSC) is read whole always.
        """
        source = stored(self.stored, self.where)
        for start, stop in source.ranges(entries):
            chosen = _within(rows if source.by_row else self.columns, start, stop)
            if not chosen.size:
                continue
            block = source.read(start, stop)
            if source.by_row:
                values = block[chosen]
                yield Block(0, values if self.columns.size == values.shape[1] else values[:, self.columns])
            else:
                first = int(np.searchsorted(self.columns, start))
                yield Block(first, sparse.csc_array(block[:, chosen][rows]))


def _within(rows: Ints, start: int, stop: int) -> Ints:
    """Return those of the ascending ``rows`` from ``start`` to ``stop``, counted from ``start``."""
    low, high = np.searchsorted(rows, [start, stop])
    return rows[low:high] - start


@contextmanager
def open_matrices(path: Path, layers: dict[str, str], holds: str | None = None) -> Iterator[dict[str, Matrix]]:
    """Open the RNA, ATAC and protein matrices of ``.h5ad`` or ``.h5mu``, by modality; none is read.

    Parameters
    ----------
    path
        The file.
    layers
        Layer by modality, ``raw`` among them; ``X`` where a modality is not named.
    holds
        The modality of an ``.h5ad`` whose var has no ``feature_types``; without it, ATAC if all features are
        intervals, else RNA.

    Raises
    ------
    UnreadableFile
        When it is no HDF5 file, or has no such matrix in a form that can be streamed.
    DataError
        When it holds none of these modalities, or names of a modality or a layer twice.
    MissingLayer
        When a modality has no such layer; those it has are listed.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableFile(f"{path} is not a readable HDF5 file: {error}") from error
    with file:
        groups = file.get("mod", {"": file})
        matrices: dict[str, Matrix] = {}
        for key, group in groups.items():
            for modality, matrix in _of_group(group, f"{path.name}{f', {key}' if key else ''}", key, layers, holds):
                if modality in matrices:
                    raise DataError(f"{path.name} holds {modality} twice: {matrices[modality].where}; {matrix.where}.")
                matrices[modality] = matrix
        if not matrices:
            raise DataError(f"{path.name} holds neither rna nor atac nor protein: found {some(groups, 8)}.")
        yield matrices


def _of_group(
    group: h5py.Group, where: str, key: str, layers: dict[str, str], holds: str | None
) -> Iterator[tuple[str, Matrix]]:
    if not {"var", "obs"} <= group.keys():
        raise UnreadableFile(f"{where}: found {some(group, 8)}, expected X, obs and var of .h5ad or .h5mu.")
    for modality in MODALITIES:
        layer = layers.get(modality, "X")
        var = element(group["raw/var" if layer == "raw" and "raw/var" in group else "var"])
        columns = np.flatnonzero(_kinds(var, key, holds) == modality)
        if columns.size:
            features = [str(name) for name in var.index[columns]]
            ids = [str(one) for one in var["gene_ids"].iloc[columns]] if "gene_ids" in var.columns else features
            cells, stored = _index(group["obs"], where), _stored(group, layer, where)
            yield modality, Matrix(f"{where}, {modality}, {layer}", cells, features, ids, columns, stored)


def _kinds(var: pd.DataFrame, key: str, holds: str | None) -> NDArray[np.str_]:
    """Return the modality of each feature; ``key`` is that of a modality in an .h5mu."""
    if key:
        return np.full(len(var), canonical(key))
    if "feature_types" in var.columns:
        return np.array([canonical(str(kind)) for kind in var["feature_types"]])
    return np.full(len(var), holds or ("atac" if are_intervals(var.index.astype(str)) else "rna"))


def _stored(group: h5py.Group, layer: str, where: str) -> h5py.Dataset | h5py.Group:
    own = {name: group[path] for name, path in (("X", "X"), ("raw", "raw/X")) if path in group}
    there = own | dict(group.get("layers", {}).items()) | own  # a layer cannot take the name of X or of .raw
    if layer not in there:
        raise MissingLayer(f"{where} has no layer '{layer}': found {some(there, 8) or 'none'}.")
    stored = there[layer]
    form = "dense" if isinstance(stored, h5py.Dataset) else stored.attrs.get("encoding-type", "a group")
    if form not in {"dense", "csr_matrix", "csc_matrix"}:
        raise UnreadableFile(
            f"{where}: layer '{layer}' is {form}, expected a dense, CSR or CSC matrix of AnnData 0.7 on."
        )
    return stored


def _index(frame: h5py.Group | h5py.Dataset, where: str) -> list[str]:
    if "_index" not in frame.attrs:
        raise UnreadableFile(
            f"{where}: obs is stored as before AnnData 0.7. Fix: write the file with a current anndata."
        )
    return [str(name) for name in frame[frame.attrs["_index"]].asstr()[:]]
