"""Loom files, read with h5py: genes x cells dense on disk, made sparse block by block.

``anndata.io.read_loom`` needs loompy, which nobody maintains, and brings every layer whole into memory.
Format: Loom file format specs 3.0 (linnarssonlab.org/loompy/format).
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pandas as pd

from heteromics.data._loaded import Loaded, by_feature_type, require_layer, require_modality
from heteromics.data._modality import are_intervals, canonical
from heteromics.data.blocks import as_csr
from heteromics.errors import UnreadableFile, some

FEATURE_NAMES = ("Accession", "Gene", "var_names")
CELL_NAMES = ("CellID", "obs_names")


class Loom:
    """A ``.loom`` file. Features are named by ``Accession`` where it is there, else by ``Gene``."""

    def __init__(self, file: h5py.File, where: str) -> None:
        missing = [key for key in ("matrix", "row_attrs", "col_attrs") if key not in file]
        if missing:
            raise UnreadableFile(f"{where} is no loom file: found no {some(missing)}.")
        self._file, self._where = file, where

    def modalities(self) -> dict[str, str]:
        """Modalities by a row attribute of feature types, or by names that all are intervals."""
        var = self._table("row_attrs", 0, FEATURE_NAMES)[0]
        if "feature_types" in var:
            return by_feature_type(var["feature_types"])
        return {"atac": "peak names"} if are_intervals(var.index) else {}

    def layers(self, modality: str) -> list[str]:
        """X for the main matrix, and the layers."""
        return ["X", *self._file.get("layers", ())]

    def load(self, modality: str, layer: str) -> Loaded:
        """Load a layer; attributes with two dimensions go to ``obsm``."""
        require_layer(self.layers(modality), layer, self._where)
        if there := self.modalities():
            require_modality(there, modality, self._where)
        stored = self._file["matrix" if layer == "X" else f"layers/{layer}"]
        var, _ = self._table("row_attrs", 0, FEATURE_NAMES)
        obs, obsm = self._table("col_attrs", 1, CELL_NAMES)
        if "Accession" in var:
            var["gene_id"] = var["Accession"]
        if "Gene" in var:
            var["symbol"] = var["Gene"]
        loaded = Loaded(as_csr(stored, self._where, "any", stored.dtype).T, obs, var, obsm)
        if "feature_types" not in var:
            return loaded
        return loaded.features(var["feature_types"].map(canonical).to_numpy() == modality)

    def _table(self, key: str, axis: int, name_keys: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, Any]]:
        group = self._file[key]
        n = self._file["matrix"].shape[axis]
        values = {name: _values(stored) for name, stored in group.items() if isinstance(stored, h5py.Dataset)}
        wrong = [name for name, value in values.items() if len(value) != n]
        if wrong:
            raise UnreadableFile(f"{self._where}: {key} {some(wrong)} have not {n} entries, as the matrix has.")
        names = next((name for name in name_keys if name in values), None)
        if names is None:
            raise UnreadableFile(
                f"{self._where}: {key} has none of {', '.join(name_keys)}. There: {some(values, 6) or 'nothing'}.\n"
                f"  Fix: add {key}/{name_keys[-1]} with {n} unique names."
            )
        columns = {name: value for name, value in values.items() if value.ndim == 1}
        frame = pd.DataFrame(columns, index=pd.Index(columns[names].astype(str)))
        return frame, {name: value for name, value in values.items() if value.ndim > 1}


def _values(stored: h5py.Dataset) -> np.ndarray:
    value = stored[:]
    if value.dtype.kind not in "SO":
        return value
    text = [item.decode() if isinstance(item, bytes) else str(item) for item in value.ravel()]
    return np.array(text, dtype=object).reshape(value.shape)
