"""Checksums of what a gzip file holds, and of several files as one."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from heteromics._files import sha256_of


def sha256_unpacked(path: Path) -> str:
    """Hash what a gzip file holds, read in blocks."""
    with gzip.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: list[Path]) -> str:
    """Hash several files as one: the SHA-256 of their ``sha256sum`` lines, sorted by name."""
    if len(paths) == 1:
        return sha256_of(paths[0])
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
