"""Reading collections of TF targets: DoRothEA, CollecTRI, OmniPath and TRRUST, told apart by their columns."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import UnreadableFile, some
from heteromics.priors._delimited import Fields, first_fields, numbers, present, read_fields

CLASSES = ("A", "B", "C", "D", "E")
"""Confidence classes of DoRothEA, best first."""

_MODES = {"activation": 1, "repression": -1, "unknown": 0}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_EXPECTED = (
    "DoRothEA (tf, target, mor, confidence), CollecTRI (source, target, weight), OmniPath (source_genesymbol, "
    "target_genesymbol, is_stimulation, is_inhibition) or TRRUST (TF, target, mode, PubMed ids, without a header)"
)


class Regulons(NamedTuple):
    """Lines of a collection, each field of length n.

    ``sign``: 1, -1 or 0, int8; ``rank``: place in ``CLASSES``, 0 throughout where it is not ``graded``; ``weight``: 0
    to 1; ``evidence``: what the line adds to the name of the file.
    """

    format: str
    tf: list[str]
    target: list[str]
    sign: NDArray[np.int8]
    rank: NDArray[np.int64]
    weight: NDArray[np.float64]
    evidence: list[str]
    graded: bool


def read_regulons(path: Path) -> Regulons:
    """Read a collection, plain or gzip, separated by tabs or commas.

    The sign is that of DoRothEA's ``mor`` or CollecTRI's ``weight``, OmniPath's stimulation or inhibition (0 where it
    says both or neither), TRRUST's mode. The weight is the size of ``mor`` or ``weight`` where that is not 0, and 1
    where a collection grades nothing, as in DoRothEA's releases, whose ``mor`` is 1 or -1.

    Raises
    ------
    UnreadableFile
        For other columns, a broken line, a sign outside -1 to 1, a class that is not A to E, a mode that is not known,
        or a damaged gzip.
    """
    first, delimiter = first_fields(path)
    if len(first) == 4 and first[2].casefold() in _MODES:
        return _trrust(path, read_fields(path, delimiter, header=False))
    columns = {name.casefold(): place for place, name in enumerate(first)}
    if {"tf", "target", "mor"} <= columns.keys():
        return _signed(path, read_fields(path, delimiter, header=True), "DoRothEA", ("tf", "target", "mor"))
    if {"source_genesymbol", "target_genesymbol", "is_stimulation", "is_inhibition"} <= columns.keys():
        return _omnipath(path, read_fields(path, delimiter, header=True))
    if {"source", "target", "weight"} <= columns.keys():
        return _signed(path, read_fields(path, delimiter, header=True), "CollecTRI", ("source", "target", "weight"))
    raise UnreadableFile(f"{path}, line 1: found columns {some(first, 8)}, expected those of {_EXPECTED}.")


def _places(fields: Fields) -> dict[str, int]:
    return {name.casefold(): place for place, name in enumerate(fields.header)}


def _signed(path: Path, fields: Fields, layout: str, names: tuple[str, str, str]) -> Regulons:
    places = _places(fields)
    tf, target, effect = (places[name] for name in names)
    present(path, fields, (tf, target))
    value = numbers(path, fields, effect, -1, 1, names[2])
    rank = np.zeros(value.size, np.int64)
    evidence = _mentions(fields, "references")
    if "confidence" in places:
        rank = _ranks(path, fields, places["confidence"])
        evidence = [f", confidence {CLASSES[place]}{more}" for place, more in zip(rank, evidence, strict=True)]
    return Regulons(
        layout,
        fields.columns[tf],
        fields.columns[target],
        np.sign(value).astype(np.int8),
        rank,
        np.where(value == 0, 1.0, np.abs(value)),
        evidence,
        graded="confidence" in places,
    )


def _omnipath(path: Path, fields: Fields) -> Regulons:
    places = _places(fields)
    tf, target = places["source_genesymbol"], places["target_genesymbol"]
    present(path, fields, (tf, target))
    up, down = (_truths(path, fields, places[name], name) for name in ("is_stimulation", "is_inhibition"))
    return Regulons(
        "OmniPath",
        fields.columns[tf],
        fields.columns[target],
        up.astype(np.int8) - down.astype(np.int8),
        np.zeros(up.size, np.int64),
        np.ones(up.size),
        _mentions(fields, "references"),
        graded=False,
    )


def _trrust(path: Path, fields: Fields) -> Regulons:
    tf, target, mode, articles = fields.columns
    present(path, fields, (0, 1))
    if strange := [row for row, word in enumerate(mode) if word.casefold() not in _MODES]:
        raise UnreadableFile(
            f"{path}, line {fields.line[strange[0]]}: found {mode[strange[0]]!r}, expected Activation, Repression or "
            f"Unknown ({len(strange):,} of {len(mode):,} lines)."
        )
    return Regulons(
        "TRRUST",
        tf,
        target,
        np.array([_MODES[word.casefold()] for word in mode], np.int8),
        np.zeros(len(tf), np.int64),
        np.ones(len(tf)),
        [f", PubMed {ids}" if ids else "" for ids in articles],
        graded=False,
    )


def _ranks(path: Path, fields: Fields, column: int) -> NDArray[np.int64]:
    text = fields.columns[column]
    if strange := [row for row, name in enumerate(text) if name not in CLASSES]:
        raise UnreadableFile(
            f"{path}, line {fields.line[strange[0]]}: found confidence {text[strange[0]]!r}, expected A to E "
            f"({len(strange):,} of {len(text):,} lines)."
        )
    return np.array([CLASSES.index(name) for name in text], np.int64)


def _truths(path: Path, fields: Fields, column: int, what: str) -> NDArray[np.bool_]:
    text = fields.columns[column]
    if strange := [row for row, word in enumerate(text) if word.casefold() not in _TRUTH]:
        raise UnreadableFile(
            f"{path}, line {fields.line[strange[0]]}: found {text[strange[0]]!r} as {what}, expected True or False."
        )
    return np.array([_TRUTH[word.casefold()] for word in text], bool)


def _mentions(fields: Fields, name: str) -> list[str]:
    place = _places(fields).get(name)
    if place is None:
        return [""] * len(fields.line)
    return [f", {text}" if text else "" for text in fields.columns[place]]
