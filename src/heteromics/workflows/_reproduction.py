"""What a reproduction works on: its data from manifest or file, whole or sampled, and its prior store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from heteromics import _config
from heteromics._files import sha256_of, write_text
from heteromics.data.fetch import locate, whereabouts
from heteromics.data.manifest import load_manifest
from heteromics.errors import DataError, FetchError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

TABLE = Path(__file__).with_name("reproductions.yaml")
SMALL_CELLS, SMALL_GENES, SMALL_PEAKS = 300, 200, 1_000
MODALITY = re.compile(r"[-_. ](rna|gex|atac)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """Two files of a manifest item, and cells, genes and peaks of the set, where known."""

    item: str
    rna: str
    atac: str
    size: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A data set of the paper: its name there, its assembly, the full set, and a reduced one that is easier to have."""

    paper: str
    assembly: str
    full: Source
    reduced: Source | None = None


@dataclass(frozen=True, slots=True)
class Assembly:
    """Chromosome sizes, and annotations of which the first that can be had is taken."""

    sizes: str
    gtf: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Document:
    assemblies: dict[str, Assembly]
    reproductions: dict[str, Reproduction]


@dataclass(frozen=True, slots=True)
class Input:
    """Counts of the cells with both profiles, in one order, what they are in words, and checksums of their files."""

    rna: AnnData
    atac: AnnData
    peaks_file: Path
    what: str
    sha256: dict[str, str]


def reproductions() -> dict[str, Reproduction]:
    """Return all by name.

    Examples
    --------
    >>> list(reproductions())[0]
    'bi2former-snare'
    """
    return _table().reproductions


def reproduction(name: str) -> Reproduction:
    """Return one by name.

    Raises
    ------
    DataError
        When there is none of that name.
    """
    known = reproductions()
    if name not in known:
        raise DataError(f"no reproduction called '{name}'. {did_you_mean(name, known)}Known: {', '.join(known)}.")
    return known[name]


def _table() -> _Document:
    return _config.build(_Document, _config.read_yaml(TABLE), TABLE.name)


def read_input(which: Reproduction, data: Sequence[Path], *, small: bool, seed: int = 0) -> Input:
    """Read the data of a reproduction.

    Parameters
    ----------
    which
        The reproduction.
    data
        One file with both modalities, or that of RNA and that of ATAC. Empty: from the manifest; the full set where it
        is in the mirror or the cache, else the reduced one where that is, else the full one is fetched.
    small
        Keep a sample of cells and of the features seen most often in them.
    seed
        Of the sample.

    Raises
    ------
    DataError
        For more than two files, or when no cell has both profiles.
    FetchError
        When the data could not be had; says how to give them.
    """
    from heteromics.data.readers import read

    files, what = _files(which, data)
    rna, atac = (read(path, modality=name, layer="X") for path, name in zip(files, ("rna", "atac"), strict=True))
    rna, atac = _paired(rna, atac)
    size = (rna.n_obs, rna.n_vars, atac.n_vars)
    what = f"{what}: {size[0]:,} cells x {size[1]:,} genes x {size[2]:,} peaks"
    if which.full.size and size != tuple(which.full.size):
        cells, genes, peaks = which.full.size
        what += f"; the paper's has {cells:,} x {genes:,} x {peaks:,}"
    if small:
        rna, atac, dropped = _sample(rna, atac, seed)
        what = (
            f"small sample, {rna.n_obs:,} cells x {rna.n_vars:,} genes x {atac.n_vars:,} peaks "
            f"({dropped} sampled cells without counts left out), of {what}"
        )
    checksums = {path.name: sha256_of(path) for path in dict.fromkeys(files)}
    return Input(rna, atac, files[1], what, checksums)


def _files(which: Reproduction, data: Sequence[Path]) -> tuple[tuple[Path, Path], str]:
    if len(data) > 2:
        raise DataError(f"--data: found {len(data)} files, expected one with both modalities, or RNA and ATAC.")
    if absent := [str(path) for path in data if not path.is_file()]:
        raise DataError(f"--data {', '.join(absent)}: no such file.")
    if data:
        return (data[0], data[-1]), f"given file {', '.join(path.name for path in data)}"
    if whereabouts(load_manifest()[which.full.item]) not in ("mirror", "cache") and which.reduced is not None:
        try:
            return _located(which.reduced), f"reduced version {which.reduced.item}"
        except FetchError:  # it lies in mirrors alone; the full set can be fetched
            pass
    try:
        return _located(which.full), f"full set {which.full.item}"
    except FetchError as error:
        raise FetchError(
            f"the {which.paper} data could not be had: {error}\n"
            "  Fix: give them, --data FILE.h5mu or --data RNA.h5ad --data ATAC.h5ad (counts, obs column cell_type)."
        ) from error


def _located(source: Source) -> tuple[Path, Path]:
    return locate(f"{source.item}/{source.rna}"), locate(f"{source.item}/{source.atac}")


def _paired(rna: AnnData, atac: AnnData) -> tuple[AnnData, AnnData]:
    """Keep the cells with both profiles, in the order of RNA; a suffix that names the modality is no part of a name."""
    if not rna.obs_names.isin(atac.obs_names).any():
        for side in (rna, atac):
            side.obs_names = side.obs_names.str.replace(MODALITY, "", regex=True)
    both = rna.obs_names[rna.obs_names.isin(atac.obs_names)]
    if both.empty:
        raise DataError(
            f"no cell has both profiles: rna has {rna.obs_names[0]}, atac {atac.obs_names[0]}. "
            "Fix: name cells alike in both."
        )
    return rna[both].copy(), atac[both].copy()


def _sample(rna: AnnData, atac: AnnData, seed: int) -> tuple[AnnData, AnnData, int]:
    """Sample cells, keep the features that most of them have, and drop cells that are left without a count."""
    from heteromics.data.splits import few_cells

    chosen = few_cells(rna.obs_names.to_numpy(str), min(SMALL_CELLS, rna.n_obs), seed=seed)
    sides = []
    for data, most in ((rna[chosen], SMALL_GENES), (atac[chosen], SMALL_PEAKS)):
        seen = np.asarray((data.X > 0).sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-seen, kind="stable")[:most])
        sides.append(data[:, kept].copy())
    alive = np.logical_and(*(np.asarray(side.X.sum(axis=1)).ravel() > 0 for side in sides))
    small_rna, small_atac = (side[alive].copy() for side in sides)
    return small_rna, small_atac, int((~alive).sum())


def build_store(which: Reproduction, data: Input, out: Path, *, progress: bool) -> Path:
    """Build the prior store of a reproduction in ``out``, its recipe beside it; what is unchanged there is kept."""
    from heteromics.priors import PriorStore

    recipe, db = out / "priors.yaml", out / "priors.duckdb"
    write_text(recipe, yaml.safe_dump(_recipe(which, data), sort_keys=False))
    PriorStore.build(recipe, db, force=True, progress=progress).close()
    return db


def _recipe(which: Reproduction, data: Input) -> dict[str, Any]:
    assembly = _table().assemblies[which.assembly]
    return {
        "recipe": 1,
        "assembly": {"name": which.assembly, "sizes": assembly.sizes, "chrom_style": "ucsc"},
        "sources": {"gtf": str(_first(assembly.gtf)), "peaks": str(data.peaks_file.resolve())},
        "nodes": {"gene": {"strip_version": True, "chrom_style": "ucsc"}, "peak": {"chrom_style": "ucsc"}},
        "edges": {"gene_peak": {"within_bp": 150_000}},
    }


def _first(names: Sequence[str]) -> Path:
    errors = []
    for name in names:
        try:
            return locate(name)
        except FetchError as error:
            errors.append(f"  {error}")
    raise RecipeError(
        "no annotation could be had:\n" + "\n".join(errors) + "\n  Fix: give a store built before, --db FILE."
    )
