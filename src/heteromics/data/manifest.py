"""The data manifest: what each data set is, where it comes from, and the checksum of every file.

``data_manifest.yaml`` is read once into frozen dataclasses; an unknown key, a missing licence or a file with two
sources is an error that names the place. Nothing here touches the network: see :mod:`heteromics.data.fetch`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from heteromics._config import build, read_yaml
from heteromics._resources import resource
from heteromics.errors import FetchError, did_you_mean, some

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+")


@dataclass(frozen=True, slots=True)
class Package:
    """A file inside a published Python package.

    Attributes
    ----------
    member
        Path inside the wheel, or inside the source distribution below its ``name-version/`` folder.
    wheel, sdist
        The pinned requirement, ``scmidas==0.3.0``; exactly one of the two.
    """

    member: str
    wheel: str | None = None
    sdist: str | None = None

    def __post_init__(self) -> None:
        if (self.wheel is None) == (self.sdist is None):
            raise ValueError("a package source names either wheel or sdist.")
        if not _PINNED.fullmatch(self.requirement):
            raise ValueError(f"found '{self.requirement}', expected a pinned package such as scmidas==0.3.0.")

    @property
    def requirement(self) -> str:
        """The pinned requirement that pip is asked for."""
        return self.wheel or self.sdist or ""


@dataclass(frozen=True, slots=True)
class Published:
    """Checksum and size of the bytes a source hands out, where they are packed or unpacked before they are kept."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)


@dataclass(frozen=True, slots=True)
class File:
    """One file of an item.

    Attributes
    ----------
    name
        Path below the folder of the item, with ``/``.
    urls, package, derived_from
        The one source: addresses of the same bytes, tried in turn; a member of a package; or, for a file that exists in
        mirrors only, what it was made from and how.
    sha256, bytes
        Of the file as it lies in a mirror. ``unverified`` marks a file nobody could check yet.
    packing
        What is done to the published bytes before they get this name: nothing, ``gzip`` or ``gunzip``.
    published
        Checksum and size before packing.
    note
        What else to know, for example the name at the source.
    """

    name: str
    urls: tuple[str, ...] = ()
    package: Package | None = None
    derived_from: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    unverified: bool = False
    packing: Literal["none", "gzip", "gunzip"] = "none"
    published: Published | None = None
    note: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if not self.name or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"found file name '{self.name}', expected a path below the folder of the item.")
        sources = [bool(self.urls), self.package is not None, self.derived_from is not None]
        if sum(sources) != 1:
            raise ValueError(f"found {sum(sources)} sources, expected exactly one of urls, package, derived_from.")
        for url in self.urls:
            if not url.startswith(("https://", "http://")):
                raise ValueError(f"found address '{url}', expected http(s).")
        if (self.sha256 is None) != self.unverified:
            raise ValueError("give sha256, or `unverified: true` where nobody could compute it.")
        if self.sha256 is not None:
            _check_sha256(self.sha256)
        if self.published is not None and self.packing == "none":
            raise ValueError("`published` needs `packing: gzip` or `packing: gunzip`.")
        if self.packing == "gzip" and self.sha256 is not None and self.published is None:
            raise ValueError("`packing: gzip` needs `published`: compressed bytes depend on the compressor.")

    @property
    def source(self) -> str:
        """Where the file comes from, in a word or two for a table."""
        if self.package is not None:
            return f"package {self.package.requirement}"
        return self.urls[0].split("/")[2] if self.urls else "mirror only"

    @property
    def transfer(self) -> tuple[str | None, int | None]:
        """Checksum and size, where known, of the bytes that travel."""
        if self.published is not None:
            return self.published.sha256, self.published.bytes
        return (self.sha256, self.bytes) if self.packing == "none" else (None, None)


@dataclass(frozen=True, slots=True)
class Item:
    """A data set: one folder of files with a common origin."""

    name: str
    description: str
    organism: str
    version: str
    licence: str
    citation: str
    format: str
    files: tuple[File, ...]
    assembly: str | None = None

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        if not names:
            raise ValueError("found no file, expected at least one.")
        if len(set(names)) < len(names):
            raise ValueError(f"file names are used twice: {some(sorted({n for n in names if names.count(n) > 1}))}.")

    @property
    def bytes(self) -> int | None:
        """Size of all files together, None while one of them is unknown."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def verified(self) -> bool:
        """Whether every file has a checksum."""
        return not any(file.unverified for file in self.files)

    def __getitem__(self, file_name: str) -> File:
        for file in self.files:
            if file.name == file_name:
                return file
        raise FetchError(_unknown("file", file_name, [file.name for file in self.files], f"item '{self.name}'"))


class Manifest(Mapping[str, Item]):
    """All items by name, in the order of the file.

    Examples
    --------
    >>> manifest = load_manifest()
    >>> manifest["cite_mosaic_pbmc_midas"].files[0].package.requirement
    'scmidas==0.3.0'
    """

    def __init__(self, items: Mapping[str, Item], source: str = "manifest") -> None:
        self._items = dict(items)
        self._source = source

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            raise FetchError(_unknown("item", name, list(self._items), self._source))
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def rows(self) -> list[dict[str, Any]]:
        """One plain mapping per item, fit for a printed table and for JSON.

        Keys: name, organism, assembly, format, files (count), bytes (None while unknown), verified, source, version,
        licence, citation, description.
        """
        return [
            {
                "name": item.name,
                "organism": item.organism,
                "assembly": item.assembly,
                "format": item.format,
                "files": len(item.files),
                "bytes": item.bytes,
                "verified": item.verified,
                "source": ", ".join(dict.fromkeys(file.source for file in item.files)),
                "version": item.version,
                "licence": item.licence,
                "citation": item.citation,
                "description": item.description,
            }
            for item in self.values()
        ]


@dataclass(frozen=True, slots=True)
class _Document:
    manifest: Literal[1]
    datasets: dict[str, dict[str, Any]]


def load_manifest(path: str | Path | None = None) -> Manifest:
    """Read a manifest and check every entry.

    Parameters
    ----------
    path
        A YAML file; the one that ships with heteromics when None.

    Returns
    -------
    Manifest
        Items by name.

    Raises
    ------
    RecipeError
        For an unknown key, a missing field or an impossible value; the message names item and file.
    """
    source = Path(path) if path is not None else resource("data_manifest.yaml")
    return _load(source, source.stat().st_mtime_ns if source.is_file() else 0)


@lru_cache(maxsize=8)
def _load(source: Path, _changed_ns: int) -> Manifest:
    document = build(_Document, read_yaml(source), source.name)
    items = {
        name: build(Item, {"name": name, **entry}, f"{source.name}: {name}")
        for name, entry in document.datasets.items()
    }
    return Manifest(items, source.name)


def _check_sha256(value: str) -> None:
    if not _SHA256.fullmatch(value):
        raise ValueError(f"found sha256 '{value}', expected 64 hexadecimal digits in lower case.")


def _unknown(kind: str, name: str, known: list[str], where: str) -> str:
    return f"{where} has no {kind} '{name}'. {did_you_mean(name, known)}Known: {some(known, 5)}."
