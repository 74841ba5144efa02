"""Where the files of a recipe come from: the manifest, a path, or nowhere yet; never an address."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heteromics._files import sha256_of
from heteromics.errors import RecipeError, UnreadableFile, did_you_mean
from heteromics.priors.known_sources import KNOWN_SOURCES, describe
from heteromics.priors.tables import Source

if TYPE_CHECKING:
    from heteromics.data.manifest import Item

BLOCK = 1_000_000
SHOWN_FROM = 64 * BLOCK
"""Bytes from which on the reading of a file is worth a bar."""

Track = Callable[[Iterable[Any], str, int | None], Iterable[Any]]

FOLDER = "folder"
SIZES = "sizes"
_OWN = {SIZES: "chromosome sizes, two columns", FOLDER: "folder that file names are looked up in"}


def untracked(items: Iterable[Any], _description: str, _total: int | None) -> Iterable[Any]:
    """Yield from items without a bar."""
    return items


def what_is(name: str) -> str:
    """Say what file a source is; empty for one nobody knows."""
    return _OWN.get(name) or describe(name) or ""


@dataclass(frozen=True, slots=True)
class Location:
    """What a recipe says about one source.

    ``kind`` tells how to read ``text``: ``manifest`` (ITEM/FILE), ``path``, or ``required`` (how the user gives it).
    """

    name: str
    kind: Literal["manifest", "path", "required"]
    text: str
    shared: bool = False
    """Another source has a file of the same name."""

    @property
    def label(self) -> str:
        """What provenance and the recipe hash show: the manifest's name, or the file name without its folder.

        The source is named too where another one has a file of that name.
        """
        if self.kind == "manifest":
            return f"manifest:{self.text}"
        return f"{Path(self.text).name} ({self.name})" if self.shared else Path(self.text).name

    @property
    def item(self) -> Item:
        """Its item in the manifest."""
        from heteromics.data.manifest import load_manifest

        return load_manifest()[self.text.partition("/")[0]]

    def problem(self) -> str:
        """Say in one line why the file cannot be had, or nothing; the manifest is not asked."""
        if self.kind == "required":
            return f"source {self.name} ({what_is(self.name)}) is not given yet: {self.text}"
        if self.kind == "path" and not Path(self.text).is_file():
            return f"source {self.name}: no file {self.text}. Fix: --set source.{self.name}=FILE"
        return ""


@dataclass(frozen=True, slots=True)
class AtHand:
    """Whether a source is at hand, for a plan: ``where`` is file, mirror, cache, to fetch or missing.

    ``path`` is given for plain files; ``bytes`` also for files of the manifest; ``fix`` says how to get it.
    """

    name: str
    label: str
    where: str
    path: Path | None
    bytes: int | None
    fix: str = ""


def parse_locations(given: Mapping[str, str | None], beside: Path, where: str) -> dict[str, Location]:
    """Read the ``sources`` of a recipe.

    File names are looked up in ``folder`` when that is given, else beside the recipe. Sources that are null are left
    out.

    Raises
    ------
    RecipeError
        For a source nobody knows; the nearest is offered.
    """
    for name in given:
        if not what_is(name):
            raise _unknown(name, f"{where}.sources")
    folder = given.get(FOLDER)
    found = {
        name: _location(name, text, folder, beside)
        for name, text in given.items()
        if text is not None and name != FOLDER
    }
    files = {(one.label, one.text) for one in found.values() if one.kind == "path"}
    times = Counter(label for label, _ in files)
    return {name: dataclasses.replace(one, shared=times[one.label] > 1) for name, one in found.items()}


def _unknown(name: str, where: str) -> RecipeError:
    """Return the error for a source nobody knows; one of a family is offered with the rest of the name given."""
    known, rest = sorted({**KNOWN_SOURCES, **_OWN}), name.partition("_")[2]
    spelled = [key.replace("*", rest) for key in known if rest or not key.endswith("*")]
    near = f"Did you mean '{name}_NAME'? " if f"{name}_*" in known else did_you_mean(name, spelled)
    return RecipeError(f"{where}: unknown key '{name}'. {near}Known keys: {', '.join(known)}.")


def _location(name: str, text: str, folder: str | None, beside: Path) -> Location:
    kind, sign, rest = text.partition(":")
    if sign and kind == "manifest":
        return Location(name, "manifest", rest)
    if sign and kind == "required":
        return Location(name, "required", rest.strip())
    path = Path(text).expanduser()
    if path.is_absolute():
        return Location(name, "path", str(path))
    if folder is not None and folder.startswith("required:"):
        return Location(name, "required", folder.removeprefix("required:").strip())
    return Location(name, "path", str((beside / Path(folder or "").expanduser() / path).absolute()))


def normalise_sets(sets: Sequence[str]) -> list[str]:
    """Spell ``--set source.x=FILE`` as the recipe does: ``sources.x``, ``assembly.sizes``, paths made absolute.

    Paths given here are relative to the working directory.

    Examples
    --------
    >>> normalise_sets(["edges.gene_peak.within_bp=5000", "source.gtf=manifest:a/b.gtf"])
    ['edges.gene_peak.within_bp=5000', 'sources.gtf="manifest:a/b.gtf"']
    """
    result = []
    for assignment in sets:
        key, sign, value = assignment.partition("=")
        group, dot, name = key.partition(".")
        is_source = bool(dot) and group in {"source", "sources"}
        if not sign or not (is_source or key == "assembly.sizes"):
            result.append(assignment)
            continue
        key = "assembly.sizes" if name == SIZES else f"sources.{name}"
        if value in {"null", "~", ""}:
            result.append(f"{key}=null")
            continue
        if not value.startswith(("manifest:", "required:")):
            value = str(Path(value).expanduser().absolute())
        result.append(f"{key}={json.dumps(value)}")
    return result


class Sources:
    """The files of one recipe, resolved when they are asked for; each is checksummed once."""

    def __init__(
        self, locations: Mapping[str, Location], *, mirror: str | Path | None = None, progress: bool = True
    ) -> None:
        self.locations = dict(locations)
        self._mirror, self._progress = mirror, progress
        self._paths: dict[str, Path] = {}
        self._resolved: dict[str, Source] = {}

    def __call__(self, name: str) -> Source:
        """Return the file of a source, fetched when it is in the manifest and not at hand."""
        return self.read(name)

    def fetch(self, names: Sequence[str]) -> None:
        """Fetch the sources that are in the manifest and not at hand."""
        for name in names:
            self._path(name)

    def read(self, name: str, track: Track = untracked) -> Source:
        """Return the file of a source; ``track`` shows how far its checksum is, as :attr:`BuildContext.track`."""
        if name not in self._resolved:
            location, path = self.require(name), self._path(name)
            item = location.item if location.kind == "manifest" else None
            version, licence = (item.version, item.licence) if item else ("", "")
            self._resolved[name] = Source(path, checksum(path, track), version, licence, location.label)
        return self._resolved[name]

    def promised(self, name: str) -> Source | None:
        """Return a source as it would be read, None where that is not known; nothing is fetched.

        For a file of the manifest the checksum is the one the manifest states.
        """
        location = self.locations.get(name)
        if location is None or location.problem():
            return None
        if location.kind == "path":
            return self.read(name)
        item, file = location.item, location.item[location.text.partition("/")[2]]
        return Source(Path(), file.sha256, item.version, item.licence, location.label) if file.sha256 else None

    def require(self, name: str) -> Location:
        """Return where a source is; a :class:`RecipeError` says how to give it where it is not given."""
        if name not in self.locations:
            raise RecipeError(f"source {name} ({what_is(name)}) is not given. Fix: --set source.{name}=FILE")
        location = self.locations[name]
        problem = location.problem()
        if problem:
            raise RecipeError(problem)
        return location

    def check(self, names: Sequence[str]) -> None:
        """Stop with all sources that cannot be had, at once and before any work.

        Raises
        ------
        RecipeError
            Naming each, what it is and how to give it.
        """
        problems = []
        for name in names:
            try:
                self.require(name)
            except RecipeError as error:
                problems.append(str(error))
        if problems:
            lines = "\n".join(f"  {line}" for line in dict.fromkeys(problems))
            raise RecipeError(f"{len(problems)} of {len(names)} sources cannot be had:\n{lines}")

    def at_hand(self, name: str) -> AtHand:
        """Say where a source lies now; nothing is fetched or read."""
        location = self.locations.get(name)
        if location is None:
            return AtHand(name, "", "missing", None, None, f"--set source.{name}=FILE")
        problem = location.problem()
        if problem:
            return AtHand(name, location.label if location.kind == "path" else "", "missing", None, None, problem)
        if location.kind == "path":
            path = Path(location.text)
            return AtHand(name, location.label, "file", path, path.stat().st_size)
        return self._in_manifest(location)

    def _in_manifest(self, location: Location) -> AtHand:
        from heteromics.data.fetch import whereabouts

        item, file = location.item, location.item[location.text.partition("/")[2]]
        where = whereabouts(dataclasses.replace(item, files=(file,)), mirror=self._mirror)
        fix = f"heteromics data fetch {item.name}" if where == "to fetch" else ""
        return AtHand(location.name, location.label, where, None, file.bytes, fix)

    def _path(self, name: str) -> Path:
        if name not in self._paths:
            location = self.require(name)
            self._paths[name] = Path(location.text) if location.kind == "path" else self._located(location)
        return self._paths[name]

    def _located(self, location: Location) -> Path:
        from heteromics.data.fetch import locate

        return locate(location.text, mirror=self._mirror, progress=self._progress)


def checksum(path: Path, track: Track = untracked) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    try:
        size = path.stat().st_size
        if size < SHOWN_FROM:
            return sha256_of(path)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            blocks = iter(partial(file.read, BLOCK), b"")
            for block in track(blocks, f"checksum of {path.name} (MB)", -(-size // BLOCK)):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from error
