"""Reading small tables of unknown dialect, plain or gzip: which delimiter, header or not, broken lines named."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import UnreadableFile, some
from heteromics.priors._files import text_lines

DELIMITERS = ("\t", ",", ";", " ")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


class Fields(NamedTuple):
    """A table of text: its names (empty without a header), its columns, and the number of each row's line."""

    header: tuple[str, ...]
    columns: list[list[str]]
    line: list[int]


def is_number(text: str) -> bool:
    """Tell whether a field is a number.

    Examples
    --------
    >>> is_number("-1.5e-3"), is_number("7157"), is_number("score"), is_number("")
    (True, True, False, False)
    """
    return _NUMBER.fullmatch(text.strip()) is not None


def first_fields(path: Path) -> tuple[list[str], str]:
    """Return the fields of the first line that is not blank, and the delimiter: tab, comma, semicolon or blank.

    Raises
    ------
    UnreadableFile
        When there is no such line, or none of the delimiters is in it.
    """
    for number, line in text_lines(path):
        if not line.strip():
            continue
        delimiter = next((one for one in DELIMITERS if one in line.strip()), None)
        if delimiter is None:
            raise UnreadableFile(
                f"{path}, line {number}: found {line[:60]!r}, expected columns separated by tab, comma, semicolon or "
                "blank. Fix: look whether the separators were lost when the file was saved."
            )
        fields = _split([line], delimiter)[0]
        return [fields[0].lstrip("#").strip(), *fields[1:]], delimiter
    raise UnreadableFile(f"{path} is empty.")


def read_fields(path: Path, delimiter: str, *, header: bool) -> Fields:
    """Read all columns as text; blank lines are skipped, double quotes are understood within a line.

    Raises
    ------
    UnreadableFile
        For a line with more or fewer fields than the first (its number is named), or a damaged gzip.
    """
    lines = [(number, line) for number, line in text_lines(path) if line.strip()]
    rows = _split([line for _, line in lines], delimiter)
    width = len(rows[0]) if rows else 0
    for (number, line), row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise UnreadableFile(
                f"{path}, line {number}: found {len(row)} columns in {line[:60]!r}, expected {width} as in line "
                f"{lines[0][0]}."
            )
    names = [name.lstrip("#").strip() for name in rows[0]] if header and rows else []
    body = slice(1 if header else 0, None)
    columns = [[field.strip() for field in column] for column in zip(*rows[body], strict=True)]
    return Fields(tuple(names), columns or [[] for _ in range(width)], [number for number, _ in lines[body]])


def numbers(path: Path, fields: Fields, column: int, least: float, most: float, what: str) -> NDArray[np.float64]:
    """Return a column as numbers from ``least`` to ``most``.

    Raises
    ------
    UnreadableFile
        For a field that is no number or outside that range; how many are, and the first line, are named.
    """
    text = fields.columns[column]
    if strange := [row for row, field in enumerate(text) if not is_number(field)]:
        raise UnreadableFile(
            f"{path}, line {fields.line[strange[0]]}: found {text[strange[0]]!r} as {what}, expected a number "
            f"({len(strange):,} of {len(text):,} lines have none)."
        )
    values = np.array(text, dtype=np.float64)
    outside = np.flatnonzero(~((values >= least) & (values <= most)))
    if outside.size:
        raise UnreadableFile(
            f"{path}, line {fields.line[outside[0]]}: found {text[outside[0]]} as {what}, expected {least:g} to "
            f"{most:g} ({outside.size:,} of {len(text):,} lines are outside)."
        )
    return values


def present(path: Path, fields: Fields, columns: tuple[int, ...]) -> None:
    """Check that no field of these columns is empty.

    Raises
    ------
    UnreadableFile
        Naming how many lines have an empty field, and the first of them.
    """
    empty = [fields.line[row] for column in columns for row, field in enumerate(fields.columns[column]) if not field]
    if empty:
        raise UnreadableFile(f"{path}, line {min(empty)}: a name is empty ({some(sorted(set(empty)))}).")


def _split(lines: list[str], delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        return [line.split() for line in lines]
    return [next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter) for line in lines]
