"""Checksums of files, read in blocks."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

BLOCK = 1 << 20


def sha256_of(path: Path, *, unpacked: bool = False) -> str:
    """Hash a file, or what a gzip file holds."""
    digest = hashlib.sha256()
    with gzip.open(path) if unpacked else path.open("rb") as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_all(paths: list[Path]) -> str:
    """Hash several files as one: the SHA-256 of their ``sha256sum`` lines, sorted by name."""
    if len(paths) == 1:
        return sha256_of(paths[0])
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
