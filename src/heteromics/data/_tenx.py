"""10x Genomics matrices, HDF5 and Matrix Market, versions 2 and 3, gzip or not.

``scanpy.read_10x_h5`` and ``read_10x_mtx`` take symbols as names, which are rarely unique, raise a bare Exception on
broken files, and do not find version 2 files that were compressed later. Here names are the stable identifiers.
Formats: 10x Genomics, Cell Ranger "Feature-Barcode Matrices".
"""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import pandas as pd
import scipy.io
from scipy import sparse

from heteromics.data._loaded import Loaded, by_feature_type, require_layer, require_modality
from heteromics.data._modality import canonical
from heteromics.errors import UnreadableFile, some

GENES = "Gene Expression"  # version 2 files hold nothing else


class TenxH5:
    """A ``.h5`` file of Cell Ranger."""

    def __init__(self, file: h5py.File, where: str) -> None:
        self._where = where
        if "matrix/features" in file:
            self._group = file["matrix"]
            self._id, self._name = "features/id", "features/name"
        else:
            genomes = [key for key, group in file.items() if isinstance(group, h5py.Group) and "gene_names" in group]
            if len(genomes) != 1:
                raise UnreadableFile(
                    f"{where} is no 10x matrix of one genome: found {len(genomes)} genomes ({some(genomes) or 'none'}) "
                    f"among {some(file) or 'nothing'}.\n"
                    "  Fix: split it by genome, or name a 10x feature-barcode matrix."
                )
            self._group = file[genomes[0]]
            self._id, self._name = "genes", "gene_names"
        missing = [k for k in ("barcodes", "data", "indices", "indptr", "shape", self._id) if k not in self._group]
        if missing:
            raise UnreadableFile(f"{where}: a 10x matrix lacks {some(missing)}. Fix: fetch or copy it again.")

    def modalities(self) -> dict[str, str]:
        """Modalities by feature type."""
        return by_feature_type(self._features()["feature_types"])

    def layers(self, modality: str) -> list[str]:
        """Name the one matrix there is."""
        return ["X"]

    def load(self, modality: str, layer: str) -> Loaded:
        """Load the features of one modality."""
        group, var = self._group, self._features()
        n_features, n_cells = (int(size) for size in group["shape"][:])
        stored = group["data"][:], group["indices"][:], group["indptr"][:]
        obs = pd.DataFrame(index=pd.Index(_text(group["barcodes"])))
        _check_sizes(self._where, (n_features, n_cells), len(var), len(obs))
        matrix = sparse.csr_matrix(stored, shape=(n_cells, n_features))  # features x cells by column = cells by row
        return _of_modality(Loaded(matrix, obs, var), modality, layer, self._where)

    def _features(self) -> pd.DataFrame:
        group = self._group
        ids = _text(group[self._id])
        types = _text(group["features/feature_type"]) if "features/feature_type" in group else [GENES] * len(ids)
        var = _feature_table(ids, _text(group[self._name]), types)
        if "features/genome" in group:
            var["genome"] = _text(group["features/genome"])
        return var


class TenxMtx:
    """A folder of ``matrix.mtx``, ``features.tsv`` or ``genes.tsv``, ``barcodes.tsv``; or its matrix, any prefix."""

    def __init__(self, path: Path) -> None:
        self._where = path.name
        folder, prefix = (path, "") if path.is_dir() else (path.parent, path.name.partition("matrix.mtx")[0])
        self.matrix = path if path.is_file() else _one_of(folder, prefix, ("matrix.mtx",))
        self.features = _one_of(folder, prefix, ("features.tsv", "genes.tsv"))
        self.barcodes = _one_of(folder, prefix, ("barcodes.tsv",))

    @property
    def files(self) -> list[Path]:
        """The three files."""
        return [self.matrix, self.features, self.barcodes]

    def modalities(self) -> dict[str, str]:
        """Modalities by feature type; genes only for version 2."""
        return by_feature_type(self._features()["feature_types"])

    def layers(self, modality: str) -> list[str]:
        """Name the one matrix there is."""
        return ["X"]

    def load(self, modality: str, layer: str) -> Loaded:
        """Load the features of one modality."""
        try:
            stored = scipy.io.mmread(self.matrix)
        except (ValueError, EOFError, OSError) as error:
            raise UnreadableFile(f"{self.matrix.name} is no whole Matrix Market file: {error}.") from error
        obs = pd.DataFrame(index=pd.Index(_table(self.barcodes)[0].to_numpy(dtype=str)))
        var = self._features()
        _check_sizes(self.matrix.name, stored.shape, len(var), len(obs))
        return _of_modality(Loaded(sparse.csr_matrix(stored.T), obs, var), modality, layer, self._where)

    def _features(self) -> pd.DataFrame:
        table = _table(self.features)
        n_columns = table.shape[1]
        types = table[2] if n_columns > 2 else [GENES] * len(table)
        return _feature_table(list(table[0]), list(table[1 if n_columns > 1 else 0]), list(types))


def _of_modality(loaded: Loaded, modality: str, layer: str, where: str) -> Loaded:
    require_layer(["X"], layer, where)
    types = loaded.var["feature_types"]
    require_modality(by_feature_type(types), modality, where)
    return loaded.features(types.map(canonical).to_numpy() == modality)


def _feature_table(ids: list[str], names: list[str], types: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"gene_id": ids, "symbol": names, "feature_types": types}, index=pd.Index(ids))


def _check_sizes(where: str, shape: tuple[int, ...], n_features: int, n_cells: int) -> None:
    if tuple(shape) != (n_features, n_cells):
        raise UnreadableFile(
            f"{where} is {shape[0]:,} features x {shape[1]:,} cells, "
            f"but {n_features:,} features and {n_cells:,} barcodes are named.\n  Fix: take all files from one run."
        )


def _text(stored: h5py.Dataset) -> list[str]:
    return [str(value) for value in stored.asstr()[:]]


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", header=None, dtype=str, quoting=csv.QUOTE_NONE, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, EOFError, OSError) as error:
        raise UnreadableFile(f"{path.name} is no readable table: {error}.") from error


def _one_of(folder: Path, prefix: str, names: tuple[str, ...]) -> Path:
    wanted = [f"{prefix}{name}{gz}" for name in names for gz in ("", ".gz")]
    for name in wanted:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())
    raise UnreadableFile(
        f"{folder} has none of {', '.join(wanted)}. There: {some(there, 6) or 'nothing'}.\n"
        "  Fix: put matrix.mtx, features.tsv (or genes.tsv) and barcodes.tsv, gzip or not, into one folder."
    )
