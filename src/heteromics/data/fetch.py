"""Get the files of the manifest: from a local mirror first, else from their source, always checked."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pooch
import requests

from heteromics._files import sha256_of
from heteromics.data._transfer import Packages, ResumingDownloader, matches, mismatch, repack
from heteromics.data.manifest import File, Item, Manifest, load_manifest
from heteromics.errors import ChecksumMismatch, FetchError

log = logging.getLogger(__name__)

RETRIES = 2


def fetch(
    name: str,
    *,
    to: str | Path | None = None,
    mirror: str | Path | None = None,
    progress: bool = True,
    manifest: Manifest | None = None,
) -> Path:
    """Get all files of an item and return their folder.

    Parameters
    ----------
    name
        Item of the manifest.
    to
        Folder to hold ``<item>/<file>``; the cache of the user when None.
    mirror
        Local mirror that is looked at first, ``<mirror>/<item>/<file>``; ``HETEROMICS_DATA`` when None. Without ``to``
        an item that is whole in the mirror stays there and is returned in place.
    progress
        Whether to show bytes, speed and time left on a terminal.
    manifest
        Another manifest than the one that ships with heteromics.

    Returns
    -------
    Path
        Folder with every file of the item, each of them verified where a checksum is known.

    Raises
    ------
    ChecksumMismatch
        When bytes in the mirror, in the cache or from the source are not the promised ones.
    FetchError
        When the item is unknown, or any of its files could not be had; the files that came are named and kept.
    """
    item = (manifest or load_manifest())[name]
    source, target = _mirror(mirror), _cache(to)
    if to is None and source is not None and all((source / name / file.name).is_file() for file in item.files):
        for file in item.files:
            _check(item, file, source / name / file.name)
        return source / name
    failed: dict[str, FetchError] = {}
    with Packages(progress=progress) as packages:
        for file in item.files:
            try:
                _obtain(item, file, target, source, packages, progress=progress, copy=True)
            except ChecksumMismatch:
                raise
            except FetchError as error:
                failed[file.name] = error
    if failed:
        causes = "\n".join(f"  {file}: {error}" for file, error in failed.items())
        raise FetchError(
            f"{len(failed)} of {len(item.files)} files of '{name}' could not be had; the others are in "
            f"{target / name}.\n{causes}"
        )
    return target / name


def locate(
    item_and_file: str,
    *,
    to: str | Path | None = None,
    mirror: str | Path | None = None,
    progress: bool = True,
    manifest: Manifest | None = None,
) -> Path:
    """Get one file, ``"ITEM/FILE"``, and return its path; parameters and errors as in :func:`fetch`.

    Examples
    --------
    >>> locate("collectri")
    Traceback (most recent call last):
        ...
    heteromics.errors.FetchError: 'collectri' names no file. Expected ITEM/FILE, for example collectri/...
    """
    name, sign, file_name = item_and_file.partition("/")
    if not sign or not file_name:
        raise FetchError(f"'{item_and_file}' names no file. Expected ITEM/FILE, for example {name or 'collectri'}/...")
    item = (manifest or load_manifest())[name]
    file = item[file_name]
    cache, source = _cache(to), _mirror(mirror)
    with Packages(progress=progress) as packages:
        try:
            return _obtain(item, file, cache, source, packages, progress=progress, copy=to is not None)
        except ChecksumMismatch:
            raise
        except FetchError as error:
            raise FetchError(f"{item_and_file}: {error}") from error


def whereabouts(
    item: Item, *, to: str | Path | None = None, mirror: str | Path | None = None
) -> Literal["mirror", "cache", "partly", "to fetch"]:
    """Say where an item lies now, without reading or checking its files."""
    source, target = _mirror(mirror), _cache(to)
    in_mirror = [source is not None and (source / item.name / file.name).is_file() for file in item.files]
    in_cache = [(target / item.name / file.name).is_file() for file in item.files]
    if all(in_mirror):
        return "mirror"
    if all(in_cache):
        return "cache"
    return "partly" if any(in_mirror) or any(in_cache) else "to fetch"


def _mirror(given: str | Path | None) -> Path | None:
    folder = given if given is not None else os.environ.get("HETEROMICS_DATA") or None
    if folder is None:
        return None
    if not Path(folder).is_dir():
        named = "--mirror" if given is not None else "HETEROMICS_DATA"
        raise FetchError(f"the mirror {folder}, named by {named}, is not a folder. Fix: correct or unset it.")
    return Path(folder).resolve()


def _cache(given: str | Path | None) -> Path:
    return Path(given if given is not None else pooch.os_cache("heteromics")).expanduser().resolve()


def _obtain(
    item: Item, file: File, cache: Path, mirror: Path | None, packages: Packages, *, progress: bool, copy: bool
) -> Path:
    target = cache / item.name / file.name
    mirrored = mirror / item.name / file.name if mirror is not None else None
    if mirrored is not None and mirrored.is_file():
        _check(item, file, mirrored)
        if not copy or mirrored == target:
            return mirrored
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            incoming = target.with_name(target.name + ".incoming")
            shutil.copyfile(mirrored, incoming)
            _keep(item, file, incoming, target)
            return target
    if target.is_file():
        _check(item, file, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    published = target.with_name(target.name + ".published")
    incoming = target.with_name(target.name + ".incoming")
    try:
        _take_published(file, published, packages, progress=progress)
        repack(published, incoming, file.packing)
        _keep(item, file, incoming, target)
    finally:
        published.unlink(missing_ok=True)
        incoming.unlink(missing_ok=True)
    return target


def _take_published(file: File, published: Path, packages: Packages, *, progress: bool) -> None:
    """Bring the bytes the source hands out to ``published``, checked where their checksum is known."""
    sha256, size = file.transfer
    if file.derived_from is not None:
        raise FetchError(
            f"it is to be had from a mirror only: made from {file.derived_from}. "
            "Fix: name a mirror by --mirror or HETEROMICS_DATA."
        )
    if file.package is not None:
        packages.extract(file.package, published)
        if sha256 is not None and sha256_of(published) != sha256:
            what = f"{file.package.member} of {file.package.requirement}"
            raise mismatch(what, published, sha256, size, "correct the pin or the checksum in the manifest.")
        return
    _download(file, published, sha256, size, progress=progress)


def _download(file: File, published: Path, sha256: str | None, size: int | None, *, progress: bool) -> None:
    part = published.with_name(published.name.removesuffix(".published") + ".part")
    causes = []
    for url in file.urls:
        store = pooch.create(
            path=published.parent,
            base_url="",
            registry={published.name: f"sha256:{sha256}" if sha256 else None},
            urls={published.name: url},
            retry_if_failed=RETRIES,
        )
        downloader = ResumingDownloader(part, sha256=sha256, size=size, progress=progress)
        try:
            with _quiet_pooch(enabled=not progress):
                store.fetch(published.name, downloader=downloader)
        except requests.RequestException as error:
            causes.append(f"{url}: {error}")
        else:
            return
    kept = f" {part.stat().st_size:,} bytes are kept and will be continued." if part.exists() else ""
    raise FetchError(
        f"could not be downloaded.{kept}\n    "
        + "\n    ".join(causes)
        + "\n    Fix: check the network, or name a mirror by --mirror or HETEROMICS_DATA."
    )


@contextmanager
def _quiet_pooch(*, enabled: bool) -> Iterator[None]:
    """Keep pooch from announcing each download on stderr.

    A filter, because the level of its logger is remembered: pooch makes it outside the tree that forgets together.
    """
    logger = pooch.get_logger()
    if enabled:
        logger.addFilter(_is_warning)
    try:
        yield
    finally:
        logger.removeFilter(_is_warning)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _check(item: Item, file: File, path: Path) -> None:
    if file.unverified:
        seen = _seen(path)
        if seen.is_file() and (expected := seen.read_text(encoding="utf-8").split()[0]) != sha256_of(path):
            raise mismatch(str(path), path, expected, None, f"remove {path} and {seen.name}, and fetch again.")
        return
    if not matches(file, path):
        fix = f"remove {path} and fetch '{item.name}' again, or repair the mirror."
        raise mismatch(str(path), path, file.sha256, file.bytes, fix)


def _keep(item: Item, file: File, incoming: Path, target: Path) -> None:
    """Give checked bytes their final name in one step; note the checksum of bytes nobody promised."""
    if file.unverified:
        found = sha256_of(incoming)
        log.warning(
            "%s/%s has no checksum in the manifest: its sha256 is %s; kept in %s to notice later changes.",
            item.name, file.name, found, _seen(target).name,
        )  # fmt: skip
        _seen(target).write_text(f"{found}  {target.name}\n", encoding="utf-8")
    else:
        _check(item, file, incoming)
    incoming.replace(target)


def _seen(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
