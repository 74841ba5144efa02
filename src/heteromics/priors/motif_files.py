"""Reading binding motifs: MEME, JASPAR and plain position frequency matrices, and the table that names their factors.

Own readers, although Biopython has some: they name file and line where a matrix is wrong, and they read the frequency
matrices of gimmemotifs, which stand on their side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from heteromics.errors import UnreadableFile
from heteromics.priors._files import text_lines

Floats = npt.NDArray[np.float64]

ASSUMED_SITES = 20
"""Sites of a matrix that gives probabilities and does not say from how many; as the MEME format has it."""
TOLERANCE = 0.01
"""How far the probabilities of a position may be from a sum of 1."""

_DATABASE_ID = re.compile(r"(?:[A-Z]{2,3}\d{4,}\.\d+[._])+(?=.)")
_ARCHETYPE = re.compile(r"[A-Z]+\d+:([^:]+):[^:]+")
_VARIANT = re.compile(r"\(var\.\d+\)$")
_LETTER_ROW = re.compile(r"([ACGT])\s*[|:]?\s*\[?([^\[\]]*)\]?", re.IGNORECASE)


class Motif(NamedTuple):
    """A motif as its source gives it: ``counts`` of A, C, G, T (in columns) at each position, shape (L, 4)."""

    motif_id: str
    name: str
    counts: Floats


class Factor(NamedTuple):
    """One line of a table of factors: a motif, the name of a factor that binds it, and how that is known."""

    motif_id: str
    name: str
    evidence: str


class _Row(NamedTuple):
    line: int
    text: str


class _Block(NamedTuple):
    line: int
    title: str
    rows: list[_Row]


def read_motifs(path: Path) -> list[Motif]:
    """Read motifs, gzip or not; which format it is, the file tells.

    Accepted are the MEME motif format (version 4 or later), JASPAR matrices (``>ID NAME`` and four lines of counts for
    A, C, G and T, with or without ``A [ ... ]``) and matrices of one line a position (``>ID`` and lines of four
    numbers, as gimmemotifs has them). A plain matrix whose rows all hold four numbers is taken as the last.
    Probabilities become counts through the number of sites the file states, else ``ASSUMED_SITES``.

    Raises
    ------
    UnreadableFile
        For a file without a matrix, a motif without one or given twice, and a matrix that is not one: negative or no
        numbers, lines of unequal length, probabilities that do not sum to 1, a position without a count.
    """
    lines = [_Row(number, line.strip()) for number, line in text_lines(path)]
    rows = [row for row in lines if row.text and not row.text.startswith("#")]
    if not rows:
        raise UnreadableFile(f"{path}: no motif in it. Expected MEME, JASPAR or position frequency matrices.")
    if rows[0].text.startswith("MEME version"):
        motifs = list(_meme(path, rows))
    elif rows[0].text.startswith(">"):
        motifs = list(_matrices(path, rows))
    else:
        raise UnreadableFile(
            f"{path}, line {rows[0].line}: found {rows[0].text[:60]!r}, expected 'MEME version', or '>' and a motif."
        )
    return [motif for _, motif in _once(path, motifs)]


def _once(path: Path, motifs: list[tuple[int, Motif]]) -> list[tuple[int, Motif]]:
    first: dict[str, int] = {}
    for line, motif in motifs:
        if motif.motif_id in first:
            before = first[motif.motif_id]
            raise UnreadableFile(f"{path}, line {line}: motif {motif.motif_id} was given in line {before} already.")
        first[motif.motif_id] = line
    return motifs


def _blocks(rows: list[_Row], sign: str) -> list[_Block]:
    """Split lines at those that begin a motif."""
    begins = [place for place, row in enumerate(rows) if row.text.startswith(sign)]
    return [
        _Block(rows[begin].line, rows[begin].text.removeprefix(sign).strip(), rows[begin + 1 : end])
        for begin, end in pairwise([*begins, len(rows)])
    ]


def _titled(path: Path, block: _Block, sign: str) -> tuple[str, str]:
    """Return the id of a motif, and its name; where it has none, the id."""
    title = block.title.split(maxsplit=1)
    if not title:
        raise UnreadableFile(f"{path}, line {block.line}: found {sign!r} alone, expected {sign!r} and a motif's id.")
    return title[0], _plain_name(title[-1])


def _meme(path: Path, rows: list[_Row]) -> Iterator[tuple[int, Motif]]:
    for row in rows:
        if row.text.startswith("ALPHABET=") and row.text.partition("=")[2].strip() != "ACGT":
            raise UnreadableFile(
                f"{path}, line {row.line}: found {row.text!r}, expected motifs of DNA, ALPHABET= ACGT."
            )
    blocks = _blocks(rows, "MOTIF")
    if not blocks:
        raise UnreadableFile(f"{path}: a MEME file without a motif. Expected lines that begin with MOTIF.")
    for block in blocks:
        motif_id, name = _titled(path, block, "MOTIF")
        begin = next((at for at, row in enumerate(block.rows) if row.text.startswith("letter-probability")), None)
        if begin is None:
            raise UnreadableFile(f"{path}, line {block.line}: motif {motif_id} has no letter-probability matrix.")
        matrix = list(takewhile(lambda row: re.match(r"[-+.\d]", row.text), block.rows[begin + 1 :]))
        stated = dict(re.findall(r"(\w+)=\s*([\d.]+(?:[eE][-+]?\d+)?)", block.rows[begin].text))
        if len(matrix) != float(stated.get("w", len(matrix))):
            raise UnreadableFile(
                f"{path}, line {block.line}: motif {motif_id}: found {len(matrix)} positions, expected {stated['w']}."
            )
        values = _numbers(path, motif_id, block.line, matrix)
        sums = values.sum(axis=1)
        if values.shape[1] != 4 or np.abs(sums - 1).max() > TOLERANCE:
            worst = matrix[int(np.abs(sums - 1).argmax())]
            raise UnreadableFile(
                f"{path}, line {worst.line}: motif {motif_id}: found {worst.text!r}, expected 4 probabilities that sum "
                "to 1."
            )
        sites = float(stated.get("nsites", 0)) or ASSUMED_SITES
        yield block.line, Motif(motif_id, name, values * sites)


def _matrices(path: Path, rows: list[_Row]) -> Iterator[tuple[int, Motif]]:
    blocks = _blocks(rows, ">")
    plain = [row.text for block in blocks for row in block.rows]
    by_position = all(text[0] not in "ACGTacgt[" and len(text.split()) == 4 for text in plain)
    for block in blocks:
        motif_id, name = _titled(path, block, ">")
        matrix = block.rows if by_position else _by_letter(path, motif_id, block)
        values = _numbers(path, motif_id, block.line, matrix)
        values = values if by_position else values.T
        empty = np.flatnonzero(values.sum(axis=1) <= 0)
        if empty.size:
            raise UnreadableFile(f"{path}, line {block.line}: motif {motif_id}: position {empty[0] + 1} has no counts.")
        if np.abs(values.sum(axis=1) - 1).max() <= TOLERANCE:
            values = values * ASSUMED_SITES
        yield block.line, Motif(motif_id, name, values)


def _by_letter(path: Path, motif_id: str, block: _Block) -> list[_Row]:
    """Return the lines of A, C, G and T, in this order, without letters and brackets."""
    found = [(row, _LETTER_ROW.fullmatch(row.text)) for row in block.rows]
    letters = "".join(match[1].upper() if match else "" for _, match in found)
    if (letters and letters != "ACGT") or (block.rows and len(block.rows) != 4):
        raise UnreadableFile(
            f"{path}, line {block.line}: motif {motif_id}: found {len(block.rows)} lines"
            f"{f' for {letters}' if letters else ''}, expected 4, for A, C, G and T."
        )
    return [_Row(row.line, (match[2] if match else row.text.strip("[]")).strip()) for row, match in found]


def _numbers(path: Path, motif_id: str, line: int, rows: list[_Row]) -> Floats:
    if not rows or not rows[0].text.strip():
        raise UnreadableFile(f"{path}, line {line}: motif {motif_id} has no positions.")
    width = len(rows[0].text.split())
    parsed = []
    for row in rows:
        try:
            values = [float(field) for field in row.text.split()]
        except ValueError:
            values = []
        if len(values) != width or not all(0 <= value < np.inf for value in values):
            raise UnreadableFile(
                f"{path}, line {row.line}: motif {motif_id}: found {row.text[:60]!r}, "
                f"expected {width} numbers, 0 or more."
            )
        parsed.append(values)
    return np.array(parsed, np.float64)


def _plain_name(name: str) -> str:
    """Leave out the database's id where it stands before the name.

    Examples
    --------
    >>> _plain_name("MA0059.1_MA0059.1.MAX::MYC"), _plain_name("MA0139.2"), _plain_name("CTCF")
    ('MAX::MYC', 'MA0139.2', 'CTCF')
    """
    return _DATABASE_ID.sub("", name, count=1) if _DATABASE_ID.match(name) else name


def factor_names(name: str) -> list[str]:
    """Return the transcription factors that the name of a motif speaks of.

    Both partners of a dimer, without JASPAR's number of the variant; of an archetype (``C002:CREB_XBP1:bZIP``) the
    families in the middle, of which some are genes too.

    Examples
    --------
    >>> factor_names("MAX::MYC"), factor_names("RARA(var.2)"), factor_names("C002:CREB_XBP1:bZIP")
    (['MAX', 'MYC'], ['RARA'], ['CREB', 'XBP1'])
    """
    archetype = _ARCHETYPE.fullmatch(name)
    parts = re.split(r"[_+]", archetype[1]) if archetype else _VARIANT.sub("", name).split("::")
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def read_factors(path: Path) -> list[Factor]:
    """Read which transcription factors bind which motif: tabs, with a header that has ``Motif`` and ``Factor``.

    That is the ``motif2factors.txt`` of gimmemotifs; its columns ``Evidence`` and ``Curated`` (Y or N) are kept as
    words. Factors are named as in table ``motif``, without an id of the database before them; repeated lines are one.

    Raises
    ------
    UnreadableFile
        Without these columns, for a line without them, and for a table without lines.
    """
    lines = ((number, line.split("\t")) for number, line in text_lines(path) if line.strip())
    _, header = next(lines, (0, [""]))
    places = {name.strip().casefold(): place for place, name in enumerate(header)}
    if not {"motif", "factor"} <= places.keys():
        raise UnreadableFile(f"{path}: found columns {', '.join(header)[:80]!r}, expected Motif and Factor, by tabs.")
    factors: dict[tuple[str, str], Factor] = {}
    for number, fields in lines:
        values = {name: fields[place].strip() for name, place in places.items() if place < len(fields)}
        motif_id, name = values.get("motif", ""), values.get("factor", "")
        if not motif_id or not name:
            raise UnreadableFile(f"{path}, line {number}: found {fields[:4]}, expected a motif and a factor.")
        curated = {"Y": "curated", "N": "not curated"}.get(values.get("curated", ""), "")
        words = ", ".join(word for word in (values.get("evidence", ""), curated) if word)
        factors.setdefault((motif_id, _plain_name(name)), Factor(motif_id, _plain_name(name), words))
    if not factors:
        raise UnreadableFile(f"{path}: a header and no factor below it.")
    return list(factors.values())
