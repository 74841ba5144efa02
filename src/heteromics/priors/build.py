"""The build engine: runs the builders of a recipe into a temporary file beside the target and renames it at the end.

Whatever interrupts a build, the old store stays as it was: the new one is written to ``<db>.building-<pid>``, flushed
to disk and renamed over the old in one step. Each step of a build is one transaction, so that what a killed build, or
one that stopped at a bad source, leaves behind holds finished steps only. The next build takes over those of equal
fingerprint, from there and from the store it replaces, and makes the others.

``<db>.lock`` holds the pid of the one writer. It is held by ``flock`` rather than by its existence, so that the system
frees it when a writer is killed, and a pid that is given out again cannot keep others away.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from heteromics._progress import Steps, steps
from heteromics.errors import HeteromicsError, PriorError, StoreError, UnreadableFile, some
from heteromics.priors._fingerprint import CHROMOSOME, earlier, fingerprints, permit
from heteromics.priors._former import Former, beside, leftovers, read_steps, read_table, remove
from heteromics.priors._writer import Writer
from heteromics.priors.assembly import chromosome_table, read_sizes, to_style
from heteromics.priors.recipe import Recipe, load_recipe
from heteromics.priors.registry import Builder
from heteromics.priors.sources import SIZES, Sources
from heteromics.priors.tables import BuildContext, TableConfig

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that say there is no room, wherever they are met."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did.

    Attributes
    ----------
    path
        The store.
    made, kept
        Keys of the builders that ran, and of those whose tables were taken over from an earlier build.
    up_to_date
        The store was there with every step unchanged, and was left as it is.
    """

    path: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    up_to_date: bool = False


def build_store(
    recipe: str | Path,
    db: str | Path,
    *,
    sets: Sequence[str] = (),
    force: bool = False,
    fresh: bool = False,
    mirror: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Build a prior store and return its path; :func:`run_build` also says what was made and what was kept.

    A table is kept when nothing it is made from has changed: the settings of its builder, its sources by checksum, the
    assembly, the code of this package, and the steps it builds on. Kept tables come from the store that is replaced
    and from what a build that was killed or stopped left beside it. A store in which every step is unchanged is left as
    it is.

    Parameters
    ----------
    recipe
        Name of a shipped recipe (``demo``) or path of a YAML file.
    db
        File to write. Its folder must exist.
    sets
        ``key=value`` assignments over the recipe, such as ``source.gtf=genes.gtf.gz``.
    force
        Replace a store that is there already and in which a step has changed.
    fresh
        Make every table anew and keep no answers of services; a store that is there needs ``force`` too.
    mirror
        Local mirror of the manifest that is looked at first.
    progress
        Whether to show the steps on stderr.

    Raises
    ------
    RecipeError
        When the recipe does not hold together or a source is not given; all missing sources are named at once.
    StoreError
        When ``db`` exists, a step has changed and ``force`` is not set, or another process is writing it; its pid is
        named.
    PriorError, DataError, FetchError
        When sources cannot be had or read, or do not fit together. The old store stays as it was; steps finished by
        then stay beside it for the next build.
    """
    return run_build(recipe, db, sets=sets, force=force, fresh=fresh, mirror=mirror, progress=progress).path


def run_build(
    recipe: str | Path,
    db: str | Path,
    *,
    sets: Sequence[str] = (),
    force: bool = False,
    fresh: bool = False,
    mirror: str | Path | None = None,
    progress: bool = True,
) -> BuildResult:
    """Build a prior store as :func:`build_store` does and return what was done; a link is followed to its file."""
    db = Path(db)
    db = db.resolve() if db.is_symlink() else db
    checked = load_recipe(recipe, sets)
    sources = Sources(checked.sources, mirror=mirror, progress=progress)
    sources.check(checked.used)
    if not db.parent.is_dir():
        raise StoreError(f"{db}: there is no folder {db.parent}. Fix: make it, or give another --db.")
    with _whole_or_as_before(db), _only_writer(db):
        if db.exists() and fresh and not force:
            raise StoreError(f"{db} exists already. Fix: --force to replace it, or give another --db.")
        sources.fetch(checked.used)
        with steps(len(checked.steps) + 2, "priors", enabled=progress) as step:
            step("sources")
            prints = fingerprints(checked, lambda name: sources.read(name, step.track))
            if db.exists() and not force:
                return _unchanged(db, prints)
            return _Build(db, checked, sources, prints, step).run(fresh=fresh)


def _unchanged(db: Path, prints: Mapping[str, str]) -> BuildResult:
    """Leave a store in which no step has changed; stop at another."""
    there = {key: former.fingerprint for key, former in read_steps(db).items()}
    if there == prints:
        return BuildResult(db, (), tuple(key for key in prints if key != CHROMOSOME), up_to_date=True)
    changed = [key for key, one in prints.items() if there.get(key) != one]
    gone = [key for key in there if key not in prints]
    told = [f"{len(changed)} of {len(prints)} steps have changed or are new: {some(changed, 8)}"] if changed else []
    told += [f"{len(gone)} steps are no longer in the recipe: {some(gone, 8)}"] if gone else []
    raise StoreError(
        f"{db} exists already. Fix: --force to replace it, or give another --db.\n"
        f"  {'; '.join(told)}. The tables of unchanged steps would be kept."
    )


class _Build:
    """One build: writes the store beside its place and renames it; what stops it before leaves finished steps."""

    def __init__(self, db: Path, recipe: Recipe, sources: Sources, prints: Mapping[str, str], step: Steps) -> None:
        self._db, self._recipe, self._sources, self._prints, self._step = db, recipe, sources, prints, step

    def run(self, *, fresh: bool) -> BuildResult:
        old = self._db if self._db.exists() and not fresh else None
        former = Former(old, [] if fresh else leftovers(self._db), self._prints)
        building, keep = _free(self._db), False
        try:
            with duckdb.connect(str(building)) as connection:
                writer = Writer(connection, self._recipe)
                try:
                    self._write(connection, writer, former, old)
                except (HeteromicsError, KeyboardInterrupt) as error:
                    if keep := bool(writer.made or writer.kept):
                        error.add_note(
                            f"What was finished stays in {building.name}; the next build goes on from there."
                        )
                    raise
                self._step("checkpoint")
                connection.execute("CHECKPOINT")
            _flush(building)
            self._db.with_name(f"{self._db.name}.wal").unlink(missing_ok=True)  # a log of the old store fits no other
            building.replace(self._db)
            _flush(self._db.parent)
        finally:
            if not keep:
                for path in beside(self._db):
                    remove(path)
        return BuildResult(self._db, tuple(writer.made), tuple(writer.kept))

    def _write(self, connection: duckdb.DuckDBPyConnection, writer: Writer, former: Former, old: Path | None) -> None:
        sizes = _sizes(self._recipe, self._sources)
        writer.chromosomes(chromosome_table(sizes, self._sources(SIZES)), self._prints[CHROMOSOME])
        context = BuildContext(
            connection=connection,
            assembly=self._recipe.assembly,
            chrom_style=self._recipe.chrom_style,
            chromosomes=sizes,
            resolve=self._sources,
            given=frozenset(name for name in self._recipe.used if name in self._recipe.sources),
            progress=self._step.say,
            track=self._step.track,
            former=lambda table: read_table(old, table) if old else None,
        )
        after = earlier(self._recipe)
        for builder, config in self._recipe.steps:
            self._step(builder.name)
            known = former.step(builder.key)
            if known is None or not writer.take_over(known):
                reported = writer.reported(after[builder.key])
                asking = dataclasses.replace(context, reported=reported, permit=permit(builder, config))
                self._make(writer, builder, config, asking)
            former.done(builder.key)
        writer.close()

    def _make(self, writer: Writer, builder: Builder, config: TableConfig, context: BuildContext) -> None:
        """Run one builder and insert its tables."""
        begun = time.perf_counter()
        try:
            built = builder.run(context, config)
        except OSError as error:
            if isinstance(error, HeteromicsError) or error.errno in FULL:
                raise
            read = [f"{name} ({self._sources(name).path})" for name in self._recipe.read_by(builder, config)]
            raise UnreadableFile(
                f"builder {builder.key} cannot read a file: {error}\n  It reads {some(read, 6)}.\n"
                "  Fix: fetch or write that file again."
            ) from error
        unknown = sorted(set(built.tables) - set(builder.makes))
        if unknown:
            raise PriorError(f"builder {builder.key} returned {some(unknown)}, expected {', '.join(builder.makes)}.")
        seconds = time.perf_counter() - begun
        writer.add(builder.key, self._prints[builder.key], built, seconds, derived_from=builder.uses)


def _free(db: Path) -> Path:
    """Return a name beside ``db`` that no build has used; a former one may have had the same pid."""
    used = {path.name for path in beside(db)}
    name = first = f"{db.name}.building-{os.getpid()}"
    for again in range(1, len(used) + 2):
        if name not in used:
            break
        name = f"{first}-{again}"
    return db.with_name(name)


@contextmanager
def _whole_or_as_before(db: Path) -> Iterator[None]:
    """Name the store when the system, not a source, stops its build: a full disk, a folder that may not be written."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, duckdb.OperationalError, duckdb.FatalException) as error:
        raise StoreError(
            f"{db} could not be written; a store that was there is as it was.\n  {error}\n"
            f"  Fix: make room in {db.parent.absolute()}, or give another --db."
        ) from error


@contextmanager
def _only_writer(db: Path) -> Iterator[None]:
    """Hold ``<db>.lock`` for this process."""
    path = db.with_name(f"{db.name}.lock")
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 20).decode().strip() or "unknown"
            os.close(lock)
            raise StoreError(
                f"{db} is being written by process {pid}. Only one process may write a store.\n"
                f"  Fix: wait until it ends, or stop it; the store that is there can be read meanwhile."
            ) from None
        with suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == path.stat().st_ino:
                break
        os.close(lock)  # the former writer removed its file between our open and our lock
    try:
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _flush(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sizes(recipe: Recipe, sources: Sources) -> dict[str, int]:
    """Return chromosome sizes with names in the style of the store."""
    sizes = read_sizes(sources(SIZES).path)
    names = to_style(sizes, recipe.chrom_style, known=sizes)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PriorError(
            f"{sources(SIZES).label}: several chromosomes become one in style {recipe.chrom_style}: {some(twice)}."
        )
    return dict(zip(names, sizes.values(), strict=True))
