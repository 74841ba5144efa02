"""The one table of how files spell their modalities."""

from __future__ import annotations

import re

import pandas as pd

SPELLINGS: dict[str, frozenset[str]] = {
    "rna": frozenset({"rna", "gex", "gene expression", "gene", "genes", "mrna", "scrna", "transcriptome"}),
    "atac": frozenset({"atac", "peak", "peaks", "scatac", "chromatin accessibility", "chromatin"}),
    "protein": frozenset({"protein", "proteins", "adt", "antibody capture", "antibody", "prot", "surface protein"}),
}

INTERVAL = re.compile(r"[^\s:]+:\d+-\d+")


def canonical(spelling: str) -> str:
    """Return ``rna``, ``atac`` or ``protein`` for any known spelling, and any other name as it is.

    Examples
    --------
    >>> canonical("Gene Expression"), canonical("ADT"), canonical("Peaks"), canonical("hashtags")
    ('rna', 'protein', 'atac', 'hashtags')
    """
    plain = re.sub(r"[\s_-]+", " ", spelling.strip().lower())
    return next((name for name, spellings in SPELLINGS.items() if plain in spellings), spelling)


def are_intervals(names: pd.Index) -> bool:
    """Whether all feature names are genome intervals, ``chr1:100-200``."""
    return len(names) > 0 and all(INTERVAL.fullmatch(name) for name in names)
