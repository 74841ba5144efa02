"""Read one matrix of one modality, exactly as asked for, into an AnnData that the whole package can rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import anndata
import h5py
import numpy as np
from scipy import sparse

from heteromics.data._h5ad import H5ad, H5mu
from heteromics.data._hash import sha256_of_all
from heteromics.data._loaded import Loaded, Size
from heteromics.data._loom import Loom
from heteromics.data._modality import SPELLINGS, canonical
from heteromics.data._tenx import TenxH5, TenxMtx
from heteromics.data.checks import check_counts, check_finite, check_unique_names
from heteromics.errors import DataError, MissingModality, UnreadableFile

Expect = Literal["counts", "normalised", "any"]
Source = H5ad | H5mu | TenxH5 | TenxMtx | Loom  # each: modalities(), layers(modality), load(modality, layer)

FORMATS = ".h5ad, .h5mu, .zarr (AnnData, MuData), .h5 (10x), .loom, .mtx, .mtx.gz, or a folder with matrix.mtx (10x)"


def read(path: str | Path, *, modality: str, layer: str, expect: Expect = "counts") -> anndata.AnnData:
    """Read one layer of one modality.

    Parameters
    ----------
    path
        ``.h5ad``, ``.h5mu``, the folder ``.zarr`` of either, 10x ``.h5`` (versions 2 and 3), ``.loom``, a 10x folder
        with ``matrix.mtx``, or its matrix.
    modality
        ``rna``, ``atac`` or ``protein``, in any usual spelling, or another name that the file uses. A file that does
        not say what it holds (many ``.h5ad``) is taken to be what is asked for.
    layer
        ``X`` for the main matrix, the name of a layer, ``raw``, or ``obsm/KEY`` for a matrix beside the main one.
    expect
        ``counts``: finite whole numbers >= 0. ``normalised``: finite. ``any``: not looked at.

    Returns
    -------
    anndata.AnnData
        ``X`` cells x features, CSR float32 with sorted indices and no stored zeros; ``obs``, ``var``, ``obsm`` and
        ``uns`` of the file; ``var["gene_id"]`` where the file has identifiers. Names are those of the file; for 10x,
        and for loom with ``Accession``, the identifiers, with symbols in ``var["symbol"]``.
        ``uns["heteromics"]`` notes modality, layer, source (file name) and sha256.

    Raises
    ------
    MissingModality, MissingLayer
        What is not there, and what is.
    NotCounts, DataError
        How many values are not as expected, and where the first is.
    DuplicateNames
        How many names of cells or features repeat. They are never made unique in silence.
    UnreadableFile
        For a file that is missing, of another format, or broken.

    Examples
    --------
    >>> import tempfile, anndata, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anndata.AnnData(np.array([[0, 2], [1, 0]], np.float32)).write_h5ad(f"{folder}/tiny.h5ad")
    ...     cells = read(f"{folder}/tiny.h5ad", modality="rna", layer="X")
    >>> cells.X.format, cells.X.nnz, cells.uns["heteromics"]["source"]
    ('csr', 2, 'tiny.h5ad')
    """
    path, wanted = Path(path), canonical(modality)
    if expect not in get_args(Expect):
        raise DataError(f"found expect={expect!r}, expected one of {', '.join(map(repr, get_args(Expect)))}.")
    with opened(path) as source:
        check_modality(source, path, modality)
        loaded = source.load(wanted, layer)
        what = f"{path.name}, {wanted}, layer '{layer}' (there: {', '.join(source.layers(wanted))})"
        hashed = source.files if isinstance(source, TenxMtx) else None
    if expect == "counts":
        check_counts(loaded.matrix, what)
    elif expect == "normalised":
        check_finite(loaded.matrix, what)
    matrix = sparse.csr_matrix(loaded.matrix, dtype=np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    loaded.matrix = matrix
    return assembled(loaded, path, wanted, layer, hashed)


def check_modality(source: Source, path: Path, modality: str) -> None:
    """Raise MissingModality for a modality nobody knows, which no file without one is taken to hold."""
    wanted = canonical(modality)
    if wanted not in SPELLINGS and wanted not in source.modalities():
        there = ", ".join(source.modalities()) or f"not said; known names are {', '.join(SPELLINGS)}"
        raise MissingModality(
            f"{path.name} has no modality '{modality}'. There: {there}.\n  Fix: ask for one of these."
        )


def modalities(path: str | Path) -> list[str]:
    """Name the modalities in a file, in canonical spelling; an empty list when the file does not say.

    Parameters
    ----------
    path
        A file or folder as for :func:`read`.

    Raises
    ------
    UnreadableFile
        For a file that is missing, of another format, or broken.
    """
    with opened(Path(path)) as source:
        return list(source.modalities())


def size_of(path: str | Path, *, modality: str, layer: str) -> Size:
    """Tell cells, features and stored values of a layer from the metadata of an AnnData or MuData file or store.

    Parameters
    ----------
    path, modality, layer
        As for :func:`read`.

    Returns
    -------
    Size
        ``cells``, ``features`` and ``values``, the stored ones, zeros that are stored among them; None for a dense
        matrix, and where one matrix mixes modalities.

    Raises
    ------
    DataError
        For a format whose metadata does not say.
    MissingModality, MissingLayer, UnreadableFile
        As :func:`read`.
    """
    with opened(Path(path)) as source:
        if isinstance(source, H5ad | H5mu):
            return source.size(canonical(modality), layer)
    raise DataError(
        f"{Path(path).name}: its size is known once it is read. Fix: convert it to .h5ad, .h5mu or .zarr, or build."
    )


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a file or folder with the reader of its format."""
    if not path.exists():
        raise UnreadableFile(f"{path}: no such file or folder.")
    if path.suffix == ".zarr":
        group = _zarr(path)
        yield H5mu(group, path.name) if "mod" in group else H5ad(group, path.name)
        return
    if path.is_dir() or path.name.endswith(("matrix.mtx", "matrix.mtx.gz")):
        yield TenxMtx(path)
        return
    formats: dict[str, Callable[[h5py.File, str], Source]]
    formats = {".h5ad": H5ad, ".h5mu": H5mu, ".h5": TenxH5, ".hdf5": TenxH5, ".loom": Loom}
    if path.suffix not in formats:
        raise UnreadableFile(f"{path.name}: found ending '{path.suffix}', expected {FORMATS}.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableFile(
            f"{path.name} ({path.stat().st_size:,} bytes) is no whole HDF5 file: {error}.\n"
            "  Fix: fetch or copy it again."
        ) from error
    with file:
        yield formats[path.suffix](file, path.name)


def _zarr(path: Path) -> Any:
    import zarr

    try:
        return zarr.open_group(path, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableFile(
            f"{path.name} is no zarr store: {error}.\n  Fix: copy the whole folder again, or write it with anndata."
        ) from error


def assembled(
    loaded: Loaded, path: Path, modality: str, layer: str, hashed: list[Path] | None = None
) -> anndata.AnnData:
    """Make an AnnData of what was loaded: names are checked, the matrix is taken as it is, its source is noted."""
    obs, var, where = loaded.obs, loaded.var, path.name
    obs.index, var.index = obs.index.astype(str), var.index.astype(str)
    check_unique_names(obs.index, f"{where}: cells", fix="add the batch or sample to the names in the file.")
    unique = [column for column in var if var[column].dtype.kind == "O" and var[column].is_unique]
    instead = f"name the features by var['{unique[0]}'], which is unique." if unique else "name them by identifiers."
    check_unique_names(var.index, f"{where}: features", fix=f"{instead} Repeats are never made unique in silence.")
    if "gene_ids" in var and "gene_id" not in var:
        var["gene_id"] = var["gene_ids"]
    data = anndata.AnnData(loaded.matrix, obs=obs, var=var, obsm=loaded.obsm, uns=loaded.uns)
    files = hashed or ([path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()])
    data.uns["heteromics"] = {
        "modality": modality, "layer": layer, "source": path.name, "sha256": sha256_of_all(files)
    }  # fmt: skip
    return data
