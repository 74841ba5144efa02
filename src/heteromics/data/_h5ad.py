"""AnnData and MuData, as HDF5 files or zarr stores: single elements are read, by anndata's own element reader.

``anndata.read_h5ad`` and ``mudata.read_h5mu`` bring every layer and every dense matrix whole into memory; here only the
asked matrix and the tables are read, and a dense one in blocks of rows; or the matrix is left on disk.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from anndata import OldFormatWarning
from anndata.io import read_elem, sparse_dataset
from scipy import sparse

from heteromics.data._loaded import Loaded, Size, by_feature_type, require_layer, require_modality
from heteromics.data._modality import are_intervals, canonical
from heteromics.data._sparse import is_sparse
from heteromics.data._stored import plain
from heteromics.data.blocks import as_csr, assemble
from heteromics.errors import DataError, MissingModality, UnreadableFile

FEATURE_TYPE_COLUMNS = ("feature_types", "feature_type")


def element(node: Any) -> Any:
    """Read one element; files written before encodings were stored are read like others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldFormatWarning)
        return read_elem(node)


class H5ad:
    """An ``.h5ad`` file or its twin in zarr, or one modality inside an ``.h5mu`` file."""

    def __init__(self, group: Any, where: str) -> None:
        missing = [name for name in ("obs", "var") if name not in group]
        if missing:
            raise UnreadableFile(f"{where} is no AnnData file: found no {' and no '.join(missing)}.")
        self._group, self._where = group, where

    def modalities(self) -> dict[str, str]:
        """Modalities by feature type, by an earlier reading of ours, or by names that all are intervals."""
        var = self._frame("var")
        if types := by_feature_type(_feature_types(var)):
            return types
        known = self._group.get("uns/heteromics/modality")
        if known is not None:
            spelling = str(element(known))
            return {canonical(spelling): spelling}
        return {"atac": "peak names"} if are_intervals(var.index) else {}

    def layers(self, modality: str) -> list[str]:
        """X, the layers, raw, and matrices beside the main one as ``obsm/KEY``."""
        there = ["X"] if "X" in self._group else []
        there += sorted(self._group.get("layers", ()))
        there += ["raw"] if "raw/X" in self._group and "raw" not in there else []
        return there + [f"obsm/{key}" for key in sorted(self._group.get("obsm", ()))]

    def size(self, modality: str, layer: str, *, all_features: bool = False) -> Size:
        """Size of a layer from its metadata; values are unknown of a dense one, and of one with other features too."""
        require_layer(self.layers(modality), layer, self._where)
        where, var = (layer, None) if layer.startswith("obsm/") else self._place(layer)
        if var is not None and not all_features and (there := self.modalities()):
            require_modality(there, modality, self._where)
        stored = self._group[where]
        if not _is_array(stored) and "shape" not in stored.attrs:
            raise DataError(f"{self._where}: the size of layer '{layer}' is known once it is read. Fix: build.")
        rows, columns = (int(n) for n in (stored.shape if _is_array(stored) else stored.attrs["shape"]))
        values = None if _is_array(stored) else int(stored["indices"].shape[0])
        types = None if var is None or all_features else _feature_types(self._frame(var))
        if types is not None and (chosen := int(_are(types, modality).sum())) != columns:
            return Size(rows, chosen, None)
        return Size(rows, columns, values)

    def _place(self, layer: str) -> tuple[str, str]:
        """Where a layer and the table of its features are."""
        if layer == "raw" and "raw" not in self._group.get("layers", ()):
            return "raw/X", "raw/var"
        return "X" if layer == "X" else f"layers/{layer}", "var"

    def load(self, modality: str, layer: str, *, backed: bool = False) -> Loaded:
        """Load a layer of the features of one modality; ``backed`` leaves its values on disk where it has no other."""
        require_layer(self.layers(modality), layer, self._where)
        if layer.startswith("obsm/"):
            return self._load_beside(layer.removeprefix("obsm/"))
        there = self.modalities()
        if there:
            require_modality(there, modality, self._where)
        return self.load_all(layer, backed=backed, only=modality)

    def load_all(self, layer: str, *, backed: bool = False, only: str | None = None) -> Loaded:
        """Load a layer of all features, or of those whose type is ``only``, where they have types.

        ``backed`` leaves the values of all features on disk; some are taken out block by block.
        """
        where, table = self._place(layer)
        var, obs = self._frame(table), self._frame("obs")
        types = None if only is None else _feature_types(var)
        chosen = np.ones(len(var), dtype=bool) if types is None or only is None else _are(types, only)
        what = f"{self._where}: layer '{layer}'"
        matrix = _matrix(self._group[where], what, backed or not chosen.all())
        if matrix.shape != (len(obs), len(var)):
            raise UnreadableFile(
                f"{what} is {matrix.shape[0]} x {matrix.shape[1]}, expected {len(obs)} cells x {len(var)} features."
            )
        if not chosen.all():
            matrix = assemble(matrix, what, "any", matrix.dtype, columns=np.flatnonzero(chosen)).csr
            var = var[chosen].copy()
        return Loaded(matrix, obs, var, self._mapping("obsm"), self._mapping("uns"))

    def _load_beside(self, key: str) -> Loaded:
        """Load a matrix of ``obsm``; its names are its columns, or the one array of as many names in ``uns``."""
        obsm, uns = self._mapping("obsm"), self._mapping("uns")
        stored = obsm.pop(key)
        names = list(stored.columns) if isinstance(stored, pd.DataFrame) else None
        matrix: Any = stored if is_sparse(stored) else np.asarray(stored)
        if matrix.ndim != 2:
            raise UnreadableFile(f"{self._where}: obsm/{key} has {matrix.ndim} dimensions, expected 2.")
        if names is None:
            fitting = [k for k, v in uns.items() if k.endswith("_names") and np.shape(v) == (matrix.shape[1],)]
            if len(fitting) != 1:
                raise DataError(
                    f"{self._where}: obsm/{key} has {matrix.shape[1]} columns without names; "
                    f"found {len(fitting)} arrays of {matrix.shape[1]} names in uns, expected one.\n"
                    "  Fix: store it as a DataFrame, or its names in uns as '<what>_names'."
                )
            names = list(uns[fitting[0]])
        var = pd.DataFrame(index=pd.Index(names, dtype=str))
        return Loaded(sparse.csr_matrix(matrix), self._frame("obs"), var, obsm, uns)

    def _frame(self, key: str) -> pd.DataFrame:
        frame = element(self._group[key])
        if not isinstance(frame, pd.DataFrame):
            raise UnreadableFile(
                f"{self._where}: {key} is stored as {type(frame).__name__}, as before AnnData 0.7.\n"
                "  Fix: write the file again with a current anndata."
            )
        frame.index = frame.index.astype(str)
        return frame

    def _mapping(self, key: str) -> dict[str, Any]:
        return dict(element(self._group[key])) if key in self._group else {}


class H5mu:
    """An ``.h5mu`` file or its twin in zarr: modalities are groups under ``mod``; each gets the tables of all cells."""

    def __init__(self, file: Any, where: str) -> None:
        if "mod" not in file:
            raise UnreadableFile(f"{where} is no MuData file: found no group 'mod'.")
        self._file, self._where = file, where

    def modalities(self) -> dict[str, str]:
        """Canonical names of the groups under ``mod``."""
        there: dict[str, str] = {}
        for key in sorted(self._file["mod"]):  # zarr lists folders in any order
            if (name := canonical(key)) in there:
                raise MissingModality(
                    f"{self._where}: '{there[name]}' and '{key}' both mean {name}.\n"
                    "  Fix: rename one of them in the file."
                )
            there[name] = key
        return there

    def layers(self, modality: str) -> list[str]:
        """Layers of one modality."""
        return self._modality(modality).layers(modality)

    def size(self, modality: str, layer: str) -> Size:
        """Size of a layer of one modality."""
        return self._modality(modality).size(modality, layer, all_features=True)

    def load(self, modality: str, layer: str, *, backed: bool = False) -> Loaded:
        """Load one modality and give it the columns, coordinates and marks of all cells that it lacks itself."""
        part = self._modality(modality)
        require_layer(part.layers(modality), layer, f"{self._where}, modality '{modality}'")
        loaded = part._load_beside(layer[5:]) if layer.startswith("obsm/") else part.load_all(layer, backed=backed)
        every = H5ad(self._file, self._where)
        obs = every._frame("obs")
        rows = obs.index.get_indexer(loaded.obs.index) if obs.index.is_unique else np.array([-1])
        if (rows < 0).any():
            raise UnreadableFile(
                f"{self._where}: the cells of '{modality}' are not all, each once, in its obs of all cells."
            )
        keys = self._file["mod"].keys()
        for column in obs.columns:
            if column not in loaded.obs and not any(column.startswith(f"{key}:") for key in keys):
                loaded.obs[column] = obs[column].array[rows]
        for key, value in every._mapping("obsm").items():
            if key not in keys and key not in loaded.obsm:
                loaded.obsm[key] = value.iloc[rows] if isinstance(value, pd.DataFrame) else value[rows]
        loaded.uns = {**every._mapping("uns"), **loaded.uns}
        return loaded

    def _modality(self, modality: str) -> H5ad:
        there = self.modalities()
        require_modality(there, modality, self._where)
        return H5ad(self._file["mod"][there[modality]], f"{self._where}, modality '{modality}'")


def _is_array(stored: Any) -> bool:
    """Whether it is a dense array of HDF5 or zarr."""
    return hasattr(stored, "chunks")


def _matrix(stored: Any, what: str, backed: bool) -> Any:
    """Read a matrix, or leave it on disk, where only its form is checked."""
    if _is_array(stored) and len(stored.shape) == 2:
        return stored if backed else as_csr(stored, what, "any", stored.dtype)
    form = str(stored.attrs.get("encoding-type", ""))
    if form in ("csr_matrix", "csc_matrix"):
        if backed:
            return sparse_dataset(stored)
        if plain(stored["data"].dtype) != stored["data"].dtype:
            return as_csr(stored, what, "any", stored["data"].dtype)
    matrix: Any = element(stored)
    if not is_sparse(matrix):
        raise UnreadableFile(f"{what} is a {type(matrix).__name__}, expected a matrix.")
    return matrix


def _are(types: pd.Series, modality: str) -> np.ndarray:
    return types.astype(str).map(canonical).to_numpy() == modality


def _feature_types(var: pd.DataFrame) -> pd.Series | None:
    return next((var[column] for column in FEATURE_TYPE_COLUMNS if column in var), None)
