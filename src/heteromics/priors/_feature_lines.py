"""Lines of nine columns, as GTF and GFF3 have them: split by Arrow, block by block, and explained where one is broken.

``pyranges`` turns every attribute of every line into a column: on 3 million lines that takes three times as long as
reading them here and making all tables, and seven times the memory; it names no broken line. Blocks are worked on by
two threads, a few at a time, so that memory follows what is kept and not the file.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from numpy.typing import NDArray

from heteromics.errors import UnreadableFile, some
from heteromics.priors._files import is_gzip, text_lines, truncated
from heteromics.priors.gene_models import Kind

T = TypeVar("T")

COLUMNS = ("chrom", "source", "feature", "start", "end", "score", "strand", "frame", "attributes")
_KEPT = ("chrom", "feature", "start", "end", "strand", "attributes")
STRANDS = ("+", "-", ".", "?")

PART_KINDS: Mapping[str, Kind] = {
    "exon": Kind.EXON,
    "pseudogenic_exon": Kind.EXON,
    "CDS": Kind.CODING,
    "stop_codon": Kind.STOP,
    "UTR": Kind.UTR,
    "five_prime_utr": Kind.FIVE_PRIME,
    "five_prime_UTR": Kind.FIVE_PRIME,
    "5UTR": Kind.FIVE_PRIME,
    "three_prime_utr": Kind.THREE_PRIME,
    "three_prime_UTR": Kind.THREE_PRIME,
    "3UTR": Kind.THREE_PRIME,
}
"""Features that are parts of a transcript, in all dialects."""

_BLOCK_BYTES = 8 << 20
_THREADS = 2
_WAITING = 4  # blocks


class Implausible(Exception):
    """A block has a line that cannot be right; which one, a second reading tells."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format is told and checked: its name, the features read, and what is wrong with a line's attributes."""

    name: str
    reads: Callable[[str], bool]
    problem: Callable[[str, str], str]


def blocks(path: Path, dialect: Dialect, extract: Callable[[pa.RecordBatch], T]) -> Iterator[T]:
    """Yield ``extract`` of each block of lines, in file order, comments left out.

    Raises
    ------
    UnreadableFile
        For a broken line (named by its number) or a truncated gzip.
    """
    if path.stat().st_size == 0:
        raise UnreadableFile(f"{path} is empty. Expected lines of {dialect.name}.")
    try:
        with pa.OSFile(str(path)) as raw, ThreadPoolExecutor(_THREADS) as pool:
            waiting: deque[Future[T]] = deque()
            for batch in _batches(pa.CompressedInputStream(raw, "gzip") if is_gzip(path) else raw):
                waiting.append(pool.submit(extract, batch))
                if len(waiting) > _WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except (pa.ArrowInvalid, Implausible) as error:
        raise broken_line(path, dialect, str(error)) from error
    except OSError as error:
        raise truncated(path, str(error)) from error


def _batches(stream: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    past_end = False

    def comment_or_broken(row: csv.InvalidRow) -> str:
        nonlocal past_end
        past_end = past_end or row.text.startswith("##FASTA")
        return "skip" if past_end or is_comment(row.text) else "error"

    batch = None
    for batch in csv.open_csv(
        stream,
        read_options=csv.ReadOptions(column_names=COLUMNS, block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=comment_or_broken),
        convert_options=csv.ConvertOptions(
            include_columns=_KEPT, column_types=dict.fromkeys(_KEPT, pa.string()), strings_can_be_null=False
        ),
    ):
        yield batch
    if batch is None:
        raise Implausible("no line in it but comments")


def is_comment(line: str) -> bool:
    """Tell whether a line says nothing of genes."""
    return line.startswith(("#", "track ", "browser ")) or not line.strip()


def chosen_lines(batch: pa.RecordBatch, chosen: pa.Array) -> pa.RecordBatch:
    """Return the lines chosen that are no comments; columns ``start`` (0-based) and ``end`` become numbers."""
    kept = batch.filter(pc.and_(chosen, pc.invert(pc.starts_with(batch["chrom"], "#"))))
    start, end = pc.cast(kept["start"], pa.int64()), pc.cast(kept["end"], pa.int64())
    right = pc.and_(pc.greater_equal(start, 1), pc.greater_equal(end, start))
    if not pc.all(pc.and_(right, pc.is_in(kept["strand"], pa.array(STRANDS)))).as_py() and kept.num_rows:
        raise Implausible("a line with a strand or an interval that cannot be")
    columns = {name: kept[name] for name in _KEPT}
    columns |= {"start": pc.subtract(start, 1), "end": end}
    columns["strand"] = pc.if_else(pc.equal(kept["strand"], "?"), ".", kept["strand"])
    return pa.RecordBatch.from_pydict(columns)


def in_list(values: pa.Array, listed: Sequence[str]) -> pa.Array:
    """Tell for each value whether it is one of those listed."""
    return pc.is_in(values, pa.array(listed, pa.string()))


def texts(values: pa.Array) -> list[str]:
    """Return an Arrow text column as a list, empty where it is null."""
    return [value or "" for value in values.to_pylist()]


def numbers(values: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Return an Arrow column of whole numbers as int64."""
    return values.to_numpy().astype(np.int64, copy=False)


def coded(table: pa.Table, name: str) -> tuple[NDArray[np.int64], pa.Array]:
    """Return codes and the distinct texts of a dictionary column; an empty table has none."""
    column = table[name].combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return numbers(array.indices), array.dictionary


def joined(batches: list[pa.RecordBatch]) -> pa.Table:
    """Put blocks together; dictionary columns get one dictionary for all."""
    return pa.Table.from_batches(batches).unify_dictionaries()


def broken_line(path: Path, dialect: Dialect, otherwise: str) -> UnreadableFile:
    """Return the error that names the first broken line; ``otherwise`` is said where none is found."""
    read = 0
    for number, line in text_lines(path):
        if line.startswith("##FASTA"):
            break
        if is_comment(line):
            continue
        read += 1
        problem = _problem(line.split("\t"), dialect)
        if problem:
            return UnreadableFile(f"{path}, line {number}: {problem}\n  {line[:120]}")
    return UnreadableFile(f"{path}: {otherwise} ({read:,} lines read). Expected lines of {dialect.name}.")


def _problem(fields: list[str], dialect: Dialect) -> str:
    """Say what is wrong with one line, or nothing."""
    if len(fields) != len(COLUMNS):
        hint = "" if len(fields) > 1 else " Were tabs replaced by blanks?"
        return f"found {len(fields)} tab-separated columns, expected 9.{hint or _bed_hint(fields)}"
    values = dict(zip(COLUMNS, fields, strict=True))
    if not dialect.reads(values["feature"]) and not _bed_hint(fields):
        return ""
    start, end = values["start"], values["end"]
    if not (re.fullmatch(r"\d{1,18}", start) and re.fullmatch(r"\d{1,18}", end)):
        return f"found start {start!r} and end {end!r}, expected whole numbers.{_bed_hint(fields)}"
    if not 1 <= int(start) <= int(end):
        return f"found start {start} and end {end}, expected 1 <= start <= end."
    if values["strand"] not in STRANDS:
        return f"found strand {values['strand']!r}, expected one of {some(STRANDS, 4)}."
    return dialect.problem(values["feature"], values["attributes"])


def _bed_hint(fields: list[str]) -> str:
    is_bed = len(fields) > 2 and fields[1].isdecimal() and fields[2].isdecimal()
    return " This looks like BED; genes are read from GTF, GFF3 or a refGene table." if is_bed else ""
