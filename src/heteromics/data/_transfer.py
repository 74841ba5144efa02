"""Moving bytes: a pooch downloader that resumes, checksums, and a member taken out of a pinned package.

``pooch.HTTPDownloader`` starts at byte 0 after every break and does not look at what a server answers to a range;
pooch keeps its other parts here: retries, the check of the hash and the move to the final name.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from heteromics._files import sha256_of
from heteromics._progress import stderr
from heteromics.data._hash import sha256_unpacked
from heteromics.data.manifest import File, Package
from heteromics.errors import ChecksumMismatch, FetchError

NETWORK_CHUNK = 1 << 16  # what a broken connection costs: an incomplete chunk is lost
BLOCK = 1 << 20
TIMEOUT_SECONDS = 30


def matches(file: File, path: Path) -> bool:
    """Whether ``path`` holds what the manifest promises; a gzip file may also match by its content."""
    if file.sha256 is None or sha256_of(path) == file.sha256:
        return True
    if file.packing != "gzip" or file.published is None:
        return False
    try:
        return sha256_unpacked(path) == file.published.sha256
    except (OSError, EOFError):
        return False


def mismatch(what: str, path: Path, sha256: str | None, size: int | None, fix: str) -> ChecksumMismatch:
    """Say what was expected, what was found, and what to do."""
    return ChecksumMismatch(
        f"{what} is not the file the manifest promises.\n"
        f"  expected: sha256 {sha256 or 'unknown'}, {'unknown number of' if size is None else f'{size:,}'} bytes\n"
        f"  found:    sha256 {sha256_of(path)}, {path.stat().st_size:,} bytes\n"
        f"  Fix: {fix}"
    )


@contextmanager
def progress_of_bytes(description: str, total: int | None, *, enabled: bool) -> Iterator[tuple[Progress, Any]]:
    """Show bytes done, speed and time left on stderr; silent when disabled or when stderr is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not (enabled and stderr.is_terminal)) as progress:
        yield progress, progress.add_task(description, total=total)


class ResumingDownloader:
    """A pooch downloader that keeps what has arrived in ``part`` and asks the server for the rest only.

    Parameters
    ----------
    part
        Where bytes are kept between attempts, also between runs; ``<part>.tag`` holds the version tag of the server.
    sha256, size
        What the whole must be, where known. Without a checksum a part is continued only under the same version tag.
    progress
        Whether to show a bar on a terminal.
    """

    def __init__(self, part: Path, *, sha256: str | None, size: int | None, progress: bool = True) -> None:
        self._part, self._sha256, self._size, self._progress = part, sha256, size, progress
        self._tag = part.with_name(part.name + ".tag")

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Bring the whole of ``url`` to ``output_file``.

        Raises
        ------
        ChecksumMismatch
            When all bytes came and are not the promised ones; what came is removed.
        requests.RequestException
            When the connection broke; what came is kept for the next attempt.
        """
        have = self._part.stat().st_size if self._part.exists() else 0
        if have and self._sha256 is None and not self._tag.exists():
            have = 0
        if not have or have != self._size:
            self._get(url, have)
        size = self._part.stat().st_size
        if self._size is not None and size < self._size:
            raise requests.ConnectionError(f"the transfer ended after {size:,} of {self._size:,} bytes")
        if self._sha256 is not None and sha256_of(self._part) != self._sha256:
            error = mismatch(
                url, self._part, self._sha256, self._size, "fetch again, or compare versions at the source."
            )
            self._drop()
            raise error
        shutil.move(self._part, output_file)
        self._drop()

    def _get(self, url: str, have: int) -> None:
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._tag.exists():
                headers["If-Range"] = self._tag.read_text(encoding="utf-8")
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return
                self._drop()
                raise requests.ConnectionError(f"the server no longer has the {have:,} bytes that came before")
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            if tag := response.headers.get("ETag") or response.headers.get("Last-Modified"):
                self._tag.write_text(tag, encoding="utf-8")
            self._write(response, have if resumed else 0)

    def _write(self, response: requests.Response, have: int) -> None:
        rest = response.headers.get("Content-Length")
        total = have + int(rest) if rest else self._size
        with (
            self._part.open("ab" if have else "wb") as handle,
            progress_of_bytes(self._part.stem, total, enabled=self._progress) as (bar, task),
        ):
            bar.update(task, completed=have)
            for block in response.iter_content(NETWORK_CHUNK):
                handle.write(block)
                bar.advance(task, len(block))

    def _drop(self) -> None:
        self._part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)


class Packages:
    """Pinned packages from the package index, each downloaded once by pip and never installed.

    pip is asked because it knows the index, the proxy and the credentials of its user. A wheel is only unpacked; for a
    source distribution pip also runs the package's own build hook to read its metadata.
    """

    def __init__(self, *, progress: bool = True) -> None:
        self._progress, self._stack, self._archives = progress, ExitStack(), dict[str, Path]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def extract(self, package: Package, target: Path) -> None:
        """Write the member of a package to ``target``."""
        if package.requirement not in self._archives:
            self._archives[package.requirement] = self._download(package)
        archive = self._archives[package.requirement]
        with open_member(archive, package) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, BLOCK)

    def _download(self, package: Package) -> Path:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="heteromics-package-")))
        name = package.requirement.partition("==")[0]
        kind = ["--only-binary", ":all:"] if package.wheel else ["--no-binary", name]
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", "--quiet"]
        pip += ["--disable-pip-version-check", "--dest", str(folder), *kind, package.requirement]
        shown = self._progress and stderr.is_terminal
        with stderr.status(f"pip download {package.requirement}") if shown else ExitStack():
            done = subprocess.run(pip, capture_output=True, text=True, check=False)
        archives = sorted(folder.iterdir())
        if done.returncode or len(archives) != 1:
            raise FetchError(_pip_failure(package.requirement, done.stderr))
        return archives[0]


def _pip_failure(requirement: str, log: str) -> str:
    if "No module named pip" in log:
        return f"{requirement} could not be had: {sys.executable} has no pip. Fix: python -m ensurepip."
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    cause = next((line for line in reversed(lines) if line.lower().startswith("error")), lines[-1] if lines else "")
    return (
        f"pip could not download {requirement}: {cause or 'it gave no reason'}\n"
        "  Fix: check the network and the index pip is set to, or name a mirror by --mirror or HETEROMICS_DATA."
    )


@contextmanager
def open_member(archive: Path, package: Package) -> Iterator[IO[bytes]]:
    """Open one member of a wheel, or of a source distribution below its top folder."""
    absent = FetchError(f"{archive.name} has no member '{package.member}'. Fix: correct `member` in the manifest.")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if _below(name, package)]
            if not names:
                raise absent
            with opened.open(names[0]) as handle:
                yield handle
        return
    with tarfile.open(archive) as opened_tar:
        for entry in opened_tar:
            if _below(entry.name, package) and (found := opened_tar.extractfile(entry)) is not None:
                with found:
                    yield found
                return
    raise absent


def _below(name: str, package: Package) -> bool:
    return name == package.member if package.wheel else name.partition("/")[2] == package.member


def repack(source: Path, target: Path, packing: str) -> None:
    """Bring published bytes into the form they are kept in; compression carries no time, so it can be repeated."""
    if packing == "gunzip":
        try:
            with gzip.open(source) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, BLOCK)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise FetchError(
                f"{target.name}: what came is not a whole gzip file ({error}). Fix: fetch again."
            ) from error
    elif packing == "gzip":
        with (
            source.open("rb") as plain,
            target.open("wb") as out,
            gzip.GzipFile("", "wb", compresslevel=9, fileobj=out, mtime=0) as packer,
        ):
            shutil.copyfileobj(plain, packer, BLOCK)
    else:
        source.replace(target)
