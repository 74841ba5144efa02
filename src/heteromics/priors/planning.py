"""What a builder may look at to say how much it would make: sources at hand, and what is known of earlier tables.

Rows are extrapolated from the first megabytes of each source that is at hand, so that a plan takes about a second.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path

from heteromics.errors import UnreadableFile
from heteromics.priors._files import is_gzip, truncated
from heteromics.priors.assembly import read_sizes
from heteromics.priors.known_sources import belongs
from heteromics.priors.sources import SIZES, AtHand, Sources

SAMPLE_BYTES = 4 << 20

Estimated = dict[str, int | None]
"""Rows by table; None where nothing is known."""


class PlanContext:
    """What is known before a build.

    Attributes
    ----------
    rows
        Rows of the tables planned so far; None where nothing is known.
    row_bytes
        Bytes of a row by table, to be set for tables whose rows are as long as the recipe asks (arrays).
    genome
        Bases of the assembly, None where its sizes are not at hand.
    """

    def __init__(self, sources: Sources, at_hand: Mapping[str, AtHand]) -> None:
        self._sources, self._at_hand = sources, at_hand
        self.genome: int | None = None
        self.rows: dict[str, int | None] = {}
        self.row_bytes: dict[str, int] = {}
        path = self.path(SIZES)
        if path is not None:
            sizes = read_sizes(path)
            self.genome = sum(sizes.values())
            self.rows["chromosome"] = len(sizes)
        else:
            self.rows["chromosome"] = None

    def path(self, name: str) -> Path | None:
        """Return the file of a source, None where it is not at hand."""
        source = self._at_hand.get(name)
        if source is None or source.where in {"missing", "to fetch"}:
            return None
        return source.path or self._sources(name).path

    def family(self, pattern: str) -> list[str]:
        """Return the names of the given sources of a family (``regions_*``)."""
        return [name for name in self._at_hand if belongs(name, pattern)]

    def count(self, name: str, count: Callable[[list[str]], float]) -> int | None:
        """Return ``count`` of the first lines of a text source, scaled to the whole; None where it is not at hand."""
        path = self.path(name)
        if path is None:
            return None
        lines, factor = sample_lines(path)
        return round(count(lines) * factor)


def sample_lines(path: Path) -> tuple[list[str], float]:
    """Return the complete lines among the first megabytes of a text, gzip or not, and the factor to the whole.

    Raises
    ------
    UnreadableFile
        For a file that is empty or a gzip that is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if is_gzip(path) else raw
        try:
            head = stream.read(SAMPLE_BYTES)
            whole = not stream.read(1)
        except (EOFError, gzip.BadGzipFile) as error:
            raise truncated(path, str(error)) from error
        used = raw.tell()
    if not head:
        raise UnreadableFile(f"{path} is empty.")
    lines = head.decode("utf-8", errors="replace").splitlines()
    return (lines, 1.0) if whole else (lines[:-1], max(1.0, size / used))
