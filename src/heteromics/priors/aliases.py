"""Reading the other names of genes: HGNC, NCBI Gene, MGI, STRING, and tables that name a gene and another name.

Layouts as their makers document them: HGNC complete set, custom download and withdrawn entries (HUGO Gene Nomenclature
Committee, genenames.org), NCBI ``gene_info`` (README of NCBI Gene), MGI marker lists (``MRK_List``), STRING
``protein.aliases``. A file is recognised by the names of its columns, not by its own name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from heteromics.errors import UnreadableFile, some
from heteromics.priors._files import text_lines
from heteromics.priors._string_files import (
    ENTREZ_SOURCES,
    GENE_ID_SOURCES,
    PREVIOUS_SOURCES,
    SYMBOL_SOURCES,
    SYNONYM_SOURCES,
    UNIPROT_SOURCES,
    read_aliases,
)
from heteromics.priors.gene_names import is_gene_id

EMPTY = frozenset({"", "-", "NA", "None", "null"})
_SEVERAL = re.compile(r"[|]|, ")
_MERGED_INTO = re.compile(r"HGNC:\d+[|/]([^|/,]+)[|/]Approved")


class Entry(NamedTuple):
    """One gene as a source of names describes it: its Ensembl ids, its current symbol, its other names with kinds."""

    gene_ids: tuple[str, ...]
    symbol: str
    names: tuple[tuple[str, str], ...]


class Listed(NamedTuple):
    """What a source of names lists: genes, and by name without successor, why it is no longer in use."""

    entries: list[Entry]
    withdrawn: dict[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a known file: those it is recognised by, and what they hold; names in lower case, blanks as ``_``."""

    what: str
    columns: tuple[str, ...]
    symbol: str
    others: Mapping[str, str] = field(default_factory=dict)
    gene_ids: str = ""
    status: str = ""
    taxon: str = ""
    merged_into: str = ""


LAYOUTS = (
    Layout(
        "HGNC complete set",
        ("hgnc_id", "symbol", "alias_symbol", "prev_symbol"),
        "symbol",
        {
            "prev_symbol": "previous_symbol",
            "alias_symbol": "alias",
            "hgnc_id": "hgnc",
            "entrez_id": "entrez",
            "uniprot_ids": "uniprot",
        },
        gene_ids="ensembl_gene_id",
        status="status",
    ),
    Layout(
        "HGNC custom download",
        ("hgnc_id", "approved_symbol", "previous_symbols", "alias_symbols"),
        "approved_symbol",
        {
            "previous_symbols": "previous_symbol",
            "alias_symbols": "alias",
            "hgnc_id": "hgnc",
            "ncbi_gene_id": "entrez",
            "uniprot_id(supplied_by_uniprot)": "uniprot",
        },
        gene_ids="ensembl_gene_id",
        status="status",
    ),
    Layout(
        "HGNC withdrawn entries",
        ("hgnc_id", "status", "withdrawn_symbol"),
        "withdrawn_symbol",
        status="status",
        merged_into="merged_into_report",
    ),
    Layout(
        "NCBI gene_info",
        ("tax_id", "geneid", "symbol", "synonyms", "dbxrefs"),
        "symbol",
        {"synonyms": "alias", "geneid": "entrez", "dbxrefs": "dbxrefs"},
        taxon="tax_id",
    ),
    Layout(
        "MGI marker list",
        ("mgi_accession_id", "marker_symbol", "marker_synonyms_(pipe-separated)"),
        "marker_symbol",
        {"marker_synonyms_(pipe-separated)": "alias", "mgi_accession_id": "mgi"},
        status="status",
        merged_into="current_marker_symbol_(if_withdrawn)",
    ),
)


def read_names(path: Path, columns: Sequence[str] = (), taxon: int | None = None) -> Listed:
    """Read the other names of genes from a table, plain or gzip, separated by tabs or commas.

    Parameters
    ----------
    path
        One of :data:`LAYOUTS`, or a table of two columns: Ensembl id and current symbol, or symbol and alias.
    columns
        For any other table: the column that names the gene by id or symbol, the column with its other name, and the
        kind of that name (one of :data:`~heteromics.priors.gene_names.KINDS`, ``alias`` when left out).
    taxon
        NCBI taxon whose lines count, where a file holds several.

    Raises
    ------
    UnreadableFile
        For a file without the columns expected, a line that is too short (its number is named), a damaged gzip, or
        several taxa when none is asked for.
    """
    lines = _fields(path)
    first = next(lines, None)
    if first is None:
        raise UnreadableFile(f"{path} is empty.")
    header = [_plain(name) for name in first[1]]
    if columns:
        return Listed(list(_chosen(path, header, lines, columns)), {})
    layout = next((one for one in LAYOUTS if set(one.columns) <= set(header)), None)
    if layout is not None:
        return _laid_out(path, layout, header, lines, taxon)
    if len(header) == 2:
        return Listed([_pair(*first[1]), *(_pair(*fields[:2]) for _, fields in _long(path, lines, 2))], {})
    known = ", ".join(f"{one.what} ({' '.join(one.columns)})" for one in LAYOUTS)
    raise UnreadableFile(
        f"{path}, line 1: found columns {some(first[1], 12)}, expected those of {known}, or two columns.\n"
        "  Fix: say which columns to use, `nodes: {identifiers: {columns: {NAME: [GENE, OTHER_NAME]}}}` for source "
        "aliases_NAME."
    )


def read_string_names(path: Path) -> Listed:
    """Read the names of STRING's proteins, each as a name of its gene; the protein without its taxon among them.

    Raises
    ------
    UnreadableFile
        As :func:`heteromics.priors._string_files.read_aliases`.
    """
    kinds = {
        "ensembl": GENE_ID_SOURCES,
        "symbol": SYMBOL_SOURCES,
        "previous_symbol": PREVIOUS_SOURCES,
        "alias": SYNONYM_SOURCES,
        "entrez": ENTREZ_SOURCES,
        "uniprot": UNIPROT_SOURCES,
    }
    proteins: dict[str, list[tuple[str, str]]] = {}
    for protein, alias, kind in read_aliases(path, kinds):
        proteins.setdefault(protein, []).append((alias, kind))
    entries = []
    for protein, names in proteins.items():
        ids = tuple(name for name, kind in names if kind == "ensembl")
        symbols = [name for name, kind in names if kind == "symbol"]
        stem = protein.partition(".")[2]
        others = [(name, kind) for name, kind in names if kind != "ensembl"]
        if stem.startswith("ENS"):
            others.append((stem, "ensembl_protein"))
        entries.append(Entry(ids, symbols[0] if len(symbols) == 1 else "", tuple(others)))
    return Listed(entries, {})


def _laid_out(
    path: Path, layout: Layout, header: list[str], lines: Iterator[tuple[int, list[str]]], taxon: int | None
) -> Listed:
    place = {name: header.index(name) for name in header}
    merged = next((name for name in header if layout.merged_into and name.startswith(layout.merged_into)), "")
    listed, taxa = Listed([], {}), set()
    width = 1 + max(place[name] for name in layout.columns)
    for _, fields in _long(path, lines, width):
        row = {name: fields[at] if at < len(fields) else "" for name, at in place.items()}
        if layout.taxon:
            taxa.add(row[layout.taxon])
            if taxon is not None and row[layout.taxon] != str(taxon):
                continue
        status = row.get(layout.status, "")
        if layout.merged_into and not _current(status):
            _withdraw(listed, row[layout.symbol], row.get(merged, ""))
        elif "withdrawn" in status.lower():
            listed.withdrawn[row[layout.symbol].removesuffix("~withdrawn")] = status.lower()
        else:
            listed.entries.append(_entry(layout, row))
    if len(taxa) > 1 and taxon is None:
        raise UnreadableFile(
            f"{path}: genes of {len(taxa):,} taxa ({some(sorted(taxa))}), expected one. "
            "Fix: set `nodes.identifiers.taxon`, such as 9606 for human."
        )
    if taxa and not listed.entries:
        raise UnreadableFile(f"{path}: no gene of taxon {taxon}; found {some(sorted(taxa))}.")
    return listed


def _current(status: str) -> bool:
    return status.lower() in {"approved", "o"}


def _withdraw(listed: Listed, name: str, merged_into: str) -> None:
    """List a name that was merged into one gene as a name of that gene, any other as withdrawn."""
    now = _MERGED_INTO.findall(merged_into) if "HGNC:" in merged_into else _several(merged_into)
    if len(now) == 1:
        listed.entries.append(Entry((), now[0], ((name, "withdrawn"),)))
    else:
        listed.withdrawn[name] = f"split into {', '.join(now)}" if now else "withdrawn, without successor"


def _entry(layout: Layout, row: Mapping[str, str]) -> Entry:
    ids = _several(row.get(layout.gene_ids, ""))
    names = [
        (name, kind)
        for column, kind in layout.others.items()
        if kind != "dbxrefs"
        for name in _several(row.get(column, ""))
    ]
    for name in _several(row.get("dbxrefs", "")):
        database, _, named = name.partition(":")  # Ensembl:ENSG00000121410, HGNC:HGNC:5, MIM:138670
        if database == "Ensembl":
            ids.append(named)
        elif database in {"HGNC", "MGI"}:
            names.append((named, database.lower()))
    return Entry(tuple(ids), row[layout.symbol], tuple(names))


def _chosen(
    path: Path, header: list[str], lines: Iterator[tuple[int, list[str]]], columns: Sequence[str]
) -> Iterator[Entry]:
    gene, other, kind = (*columns, "alias")[:3]
    absent = [name for name in (gene, other) if _plain(name) not in header]
    if absent:
        raise UnreadableFile(
            f"{path}, line 1: found columns {some(header, 12)}, expected {', '.join(absent)}, as "
            "`nodes.identifiers.columns` says."
        )
    at_gene, at_other = header.index(_plain(gene)), header.index(_plain(other))
    for _, fields in _long(path, lines, 1 + max(at_gene, at_other)):
        named = fields[at_gene]
        names = tuple((name, kind) for name in _several(fields[at_other]))
        yield Entry((named,), "", names) if is_gene_id(named) else Entry((), named, names)


def _pair(gene: str, other: str) -> Entry:
    """Return a line of a table of two columns: id and current symbol, or symbol and alias."""
    if is_gene_id(gene):
        return Entry((gene,), "" if other in EMPTY else other, ())
    return Entry((), gene, tuple((name, "alias") for name in _several(other)))


def _several(cell: str) -> list[str]:
    parts = (part.strip() for part in _SEVERAL.split(cell))
    return [part for part in parts if part not in EMPTY]


def _plain(name: str) -> str:
    return name.strip().lstrip("#").strip().lower().replace(" ", "_")


def _long(path: Path, lines: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    for number, fields in lines:
        if len(fields) < width:
            raise UnreadableFile(
                f"{path}, line {number}: found {len(fields)} columns, expected {width} or more: {some(fields)}."
            )
        yield number, fields


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields); blank lines and comments after the first line are left out."""
    delimiter = ""
    for number, line in text_lines(path):
        if not line.strip() or (line.startswith("#") and (delimiter or "\t" not in line)):
            continue
        delimiter = delimiter or ("\t" if "\t" in line else ",")
        split = line.split("\t") if delimiter == "\t" else next(csv.reader([line]))
        yield number, [cell.strip().strip('"') for cell in split]
