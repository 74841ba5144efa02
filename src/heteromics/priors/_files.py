"""Reading text, gzip or not, and the feature names of AnnData and MuData files without their matrices."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from heteromics.data._modality import canonical
from heteromics.errors import MissingModality, UnreadableFile, some

if TYPE_CHECKING:
    import pandas as pd

GZIP_MAGIC = b"\x1f\x8b"


def is_gzip(path: Path) -> bool:
    """Tell by the first two bytes, not by the name, whether a file is gzip (bgzip included)."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 text, gzip or not, Unix or DOS line ends.

    Raises
    ------
    UnreadableFile
        For a truncated or corrupt gzip stream or bytes that are not UTF-8, with the line reached.
    """
    number = 0
    with path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if is_gzip(path) else raw
        try:
            with io.TextIOWrapper(stream, encoding="utf-8-sig") as text:  # some editors write a mark first
                for number, line in enumerate(text, start=1):
                    yield number, line.rstrip("\r\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(path, f"after line {number}: {error}") from error
        except UnicodeDecodeError as error:
            raise UnreadableFile(f"{path}, near line {number + 1}: bytes that are not UTF-8 text ({error}).") from error


def truncated(path: Path, detail: str) -> UnreadableFile:
    """Return the error for a gzip stream that stops early or is damaged."""
    return UnreadableFile(f"{path}: truncated or damaged gzip, {detail}\n  Fix: fetch the file again.")


def feature_names(path: Path, modality: str) -> list[str]:
    """Read the var names of one modality from ``.h5ad`` or ``.h5mu``; see :func:`feature_table`."""
    return [str(name) for name in feature_table(path, modality).index]


def feature_table(path: Path, modality: str) -> pd.DataFrame:
    """Read the var table of one modality from ``.h5ad`` or ``.h5mu``; no matrix is read.

    An ``.h5ad`` file is taken to hold that modality, unless its var has ``feature_types``, which then selects.

    Raises
    ------
    MissingModality
        When the file has no such modality; those it has are listed.
    UnreadableFile
        When it is no HDF5 file or has no var table.
    """
    from heteromics.data._h5ad import element

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableFile(f"{path} is not a readable HDF5 file: {error}") from error
    with file:
        group = file
        if "mod" in file:
            found = [name for name in file["mod"] if canonical(name) == modality]
            if not found:
                raise _no_modality(path, modality, list(file["mod"]))
            group = file["mod"][found[0]]
        if "var" not in group:
            raise UnreadableFile(f"{path} has no var table: found {some(list(group), 6)}. Expected .h5ad or .h5mu.")
        var: pd.DataFrame = element(group["var"])
    if "feature_types" in var.columns:
        kinds = var["feature_types"].astype(str)
        chosen = [kind for kind in kinds.unique() if canonical(kind) == modality]
        if not chosen:
            raise _no_modality(path, modality, sorted(kinds.unique()))
        var = var[kinds.isin(chosen)]
    return var


def _no_modality(path: Path, modality: str, found: Sequence[str]) -> MissingModality:
    return MissingModality(f"{path} holds no {modality} modality: found {some(found, 8)}.")
