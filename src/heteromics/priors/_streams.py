"""Matrices of .h5ad and .h5mu on disk, read a block of rows or of columns at a time, named cells only.

CSR and dense matrices are read by rows, CSC by columns, so that each byte is read once and no more than a block is in
memory. ``anndata`` in backed mode was weighed: it slices a CSC matrix by rows only by reading it whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from heteromics.data._h5ad import element
from heteromics.data._modality import are_intervals, canonical
from heteromics.errors import DataError, MissingLayer, UnreadableFile, some

Ints = NDArray[np.int64]

MODALITIES = ("rna", "atac", "protein")
BLOCK_ENTRIES = 1 << 20
"""Entries of a block: about 60 MiB with all that is made of them."""


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

    def blocks(self, rows: Ints, entries: int = BLOCK_ENTRIES) -> Iterator[Block]:
        """Yield all values of the cells in ``rows``, each once.

        Parameters
        ----------
        rows
            Rows of the cells, ascending, shape (n,); values of other cells are dropped as they are read.
        entries
            Most stored entries to read at a time; one row (CSR, dense) or column (CSC) is read whole always.
        """
        if isinstance(self.stored, h5py.Dataset):
            yield from self._dense(rows, entries)
        elif self.stored.attrs["encoding-type"] == "csc_matrix":
            yield from self._by_column(rows, entries)
        else:
            yield from self._by_row(rows, entries)

    def _dense(self, rows: Ints, entries: int) -> Iterator[Block]:
        height, width = self.stored.shape
        for start, stop in _ranges(np.arange(height + 1) * width, entries):
            chosen = _within(rows, start, stop)
            if chosen.size:
                yield Block(0, sparse.csr_array(np.asarray(self.stored[start:stop])[chosen][:, self.columns]))

    def _by_row(self, rows: Ints, entries: int) -> Iterator[Block]:
        bounds = self.stored["indptr"][:].astype(np.int64)
        width = int(self.stored.attrs["shape"][1])
        for start, stop in _ranges(bounds, entries):
            chosen = _within(rows, start, stop)
            if chosen.size:
                block = sparse.csr_array(self._parts(bounds, start, stop), shape=(stop - start, width))[chosen]
                yield Block(0, block if self.columns.size == width else block[:, self.columns])

    def _by_column(self, rows: Ints, entries: int) -> Iterator[Block]:
        bounds = self.stored["indptr"][:].astype(np.int64)
        height = int(self.stored.attrs["shape"][0])
        for start, stop in _ranges(bounds, entries):
            first = int(np.searchsorted(self.columns, start))
            chosen = _within(self.columns, start, stop)
            if chosen.size:
                block = sparse.csc_array(self._parts(bounds, start, stop), shape=(height, stop - start))
                yield Block(first, sparse.csc_array(block[:, chosen][rows]))

    def _parts(self, bounds: Ints, start: int, stop: int) -> tuple[Any, Any, Ints]:
        low, high = int(bounds[start]), int(bounds[stop])
        return self.stored["data"][low:high], self.stored["indices"][low:high], bounds[start : stop + 1] - low


def _ranges(bounds: Ints, entries: int) -> Iterator[tuple[int, int]]:
    """Cut lines that begin at ``bounds`` into ranges of at most so many entries, of at least one line."""
    start = 0
    while start < bounds.size - 1:
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + entries, side="right")) - 1)
        yield start, stop
        start = stop


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
