"""Reading gene sets: GMT (Broad Institute) and the JSON of MSigDB (Liberzon et al., Cell Systems 2015)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from heteromics.errors import UnreadableFile, some
from heteromics.priors._files import text_lines


class GeneSet(NamedTuple):
    """One gene set; ``members`` are unique, in file order, ``repeated`` counts those listed again."""

    name: str
    description: str
    members: tuple[str, ...]
    repeated: int


def read_gene_sets(path: Path) -> list[GeneSet]:
    """Read gene sets from GMT or MSigDB JSON, plain or gzip, told apart by the first character.

    Raises
    ------
    UnreadableFile
        As :func:`read_gmt` and :func:`read_msigdb_json`.
    """
    first = next((line.lstrip() for _, line in text_lines(path) if line.strip()), "")
    return read_msigdb_json(path) if first.startswith("{") else read_gmt(path)


def read_gmt(path: Path) -> list[GeneSet]:
    """Read gene sets: name, description and members on each line, separated by tabs (Broad Institute, GMT format).

    A set without members is kept, with none; blank lines are skipped.

    Raises
    ------
    UnreadableFile
        For a line without tabs or without a name, a name given twice (both lines are named), no set at all, or a
        damaged gzip.
    """
    sets: list[GeneSet] = []
    first_line: dict[str, int] = {}
    for number, line in text_lines(path):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        if not name or not rest:
            raise UnreadableFile(
                f"{path}, line {number}: found {line[:60]!r}, expected name, description and genes separated by tabs."
            )
        if name in first_line:
            raise UnreadableFile(
                f"{path}, line {number}: gene set {name} was given in line {first_line[name]} already."
            )
        first_line[name] = number
        sets.append(_gene_set(name, rest[0], rest[1:]))
    if not sets:
        raise UnreadableFile(f"{path}: no gene set in it. Expected lines of name, description and genes.")
    return sets


def read_msigdb_json(path: Path) -> list[GeneSet]:
    """Read the JSON that MSigDB offers for a collection: by name of the set, ``geneSymbols`` and what is known of it.

    The description is the exact source, or else the web page of the set, after its collection.

    Raises
    ------
    UnreadableFile
        For broken JSON (the line is named), another layout, a name given twice, no set at all, or a damaged gzip.
    """
    text = "\n".join(line for _, line in text_lines(path))
    try:
        loaded = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise UnreadableFile(
            f"{path}, line {error.lineno}: broken JSON, {error.msg}. Fix: fetch the file again."
        ) from error
    if not isinstance(loaded, _Pairs) or not loaded:
        raise UnreadableFile(f"{path}: no gene set in it. Expected MSigDB JSON: {{SET: {{geneSymbols: [...]}}}}.")
    names = [name for name, _ in loaded]
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
        raise UnreadableFile(f"{path}: {len(twice):,} gene sets are given twice: {some(twice)}.")
    return [_of_msigdb(path, name, value) for name, value in loaded]


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in their order, repeated keys included."""


def _of_msigdb(path: Path, name: str, value: Any) -> GeneSet:
    known = dict(value) if isinstance(value, _Pairs) else {}
    members = known.get("geneSymbols")
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        found = some(known, 6) if known else type(value).__name__
        raise UnreadableFile(
            f"{path}: gene set {name} holds {found}, expected geneSymbols, a list of symbols, as in MSigDB JSON."
        )
    said = (known.get("collection"), known.get("exactSource") or known.get("msigdbURL"))
    return _gene_set(name, ", ".join(str(word) for word in said if word), members)


def _gene_set(name: str, description: str, listed: Iterable[str]) -> GeneSet:
    given = [member.strip() for member in listed if member.strip()]
    members = tuple(dict.fromkeys(given))
    return GeneSet(name, description, members, len(given) - len(members))
