"""Reading STRING's links, info and aliases files, version 11 to 12, on DuckDB: fast, typed, with broken lines named."""

# Names put into SQL here are constants of this module, thresholds are whole numbers.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from heteromics.errors import UnreadableFile, some
from heteromics.priors._files import is_gzip, text_lines, truncated

if TYPE_CHECKING:
    import pyarrow as pa

CHANNELS = ("neighborhood", "fusion", "cooccurence", "coexpression", "experimental", "database", "textmining")
"""STRING's evidence channels, as its detailed files spell them."""

GENE_ID_SOURCES = frozenset(
    {
        "Ensembl_gene",
        "Ensembl_HGNC_ensembl_gene_id",
        "Ensembl_HGNC_Ensembl_ID(supplied_by_Ensembl)",
        "Ensembl_HGNC_Ensembl_Gene_ID",
    }
)
"""Sources of aliases that are Ensembl gene identifiers (v12: the first two)."""

SYMBOL_SOURCES = frozenset({"Ensembl_HGNC_symbol", "Ensembl_EntrezGene", "Ensembl_HGNC", "BioMart_HUGO"})
"""Sources of aliases that are current gene symbols; synonyms and earlier symbols have sources of their own."""

PREVIOUS_SOURCES = frozenset({"Ensembl_HGNC_prev_symbol", "Ensembl_HGNC_Previous_Symbols"})
"""Sources of aliases that were the gene symbol once."""

SYNONYM_SOURCES = frozenset(
    {"Ensembl_HGNC_alias_symbol", "Ensembl_HGNC_synonym", "Ensembl_HGNC_Synonyms", "Ensembl_EntrezGene_synonym"}
)
"""Sources of aliases that are other names of the gene."""

UNIPROT_SOURCES = frozenset(
    {"UniProt_AC", "Ensembl_HGNC_uniprot_ids", "Ensembl_HGNC_UniProt_ID(supplied_by_UniProt)_AC"}
)
"""Sources of aliases that are UniProt accessions."""

ENTREZ_SOURCES = frozenset(
    {
        "Ensembl_HGNC_entrez_id",
        "UniProt_DR_GeneID",
        "Ensembl_HGNC_Entrez_Gene_ID",
        "Ensembl_HGNC_Entrez_Gene_ID(supplied_by_NCBI)",
        "BLAST_UniProt_DR_GeneID",
        "Ensembl_UniProt_DR_GeneID",
    }
)
"""Sources of aliases that are Entrez gene identifiers (v12: the first two)."""

_PROTEIN = re.compile(r"\d+\.\S+")
_ENDS = ("protein1", "protein2")
TAB = "\t"
_SPELLINGS = {"cooccurrence": "cooccurence", "experiments": "experimental"}


class StringLinks(NamedTuple):
    """Links of a STRING file, each pair once.

    ``table``: ``protein_a < protein_b``, the file's channels and ``combined_score``, int32, 0 to 1000, ordered by
    the two proteins. ``rows``: lines read; ``below``: lines of two proteins below a threshold; ``self_loops``: lines
    of a protein with itself; ``conflicting``: pairs whose lines differ in a score.
    """

    table: pa.Table
    rows: int
    below: int
    self_loops: int
    conflicting: int


def read_links(path: Path, min_score: int = 0, min_channel: Mapping[str, int] | None = None) -> StringLinks:
    """Read ``protein.links``, ``protein.links.detailed`` or their physical variants, plain or gzip.

    A line is kept when its combined score and every channel named in ``min_channel`` reach their thresholds (0 to
    1000). STRING lists each pair in both directions; here it is stored once. Where lines of a pair differ, the
    higher score stands, channel by channel, whatever their order.

    Raises
    ------
    UnreadableFile
        For another header, a broken line (its number is named), a score outside 0 to 1000 or none, a damaged gzip, or
        a threshold on a channel that the file does not have.
    """
    header, delimiter = _links_header(path)
    thresholds = {"combined_score": min_score, **(min_channel or {})}
    if absent := [name for name in thresholds if name not in header]:
        raise UnreadableFile(
            f"{path}: a threshold is set for {', '.join(absent)}, which the file does not have.\n"
            f"  found: {', '.join(header)}\n  Fix: use protein.links.detailed, or take the threshold away."
        )
    scores = [*(name for name in CHANNELS if name in header), "combined_score"]
    types = {name: "VARCHAR" if name in _ENDS else "INTEGER" for name in header}
    with duckdb.connect() as connection, _named(path, types):
        connection.execute(_one_pass(_scan(path, types, delimiter), scores, thresholds), [str(path)])
        ((rows, below, loops, odd, conflicting),) = connection.execute(
            "SELECT coalesce(sum(lines), 0), coalesce(sum(below), 0), coalesce(sum(loops), 0), coalesce(sum(odd), 0), "
            "count(*) FILTER (WHERE conflicting AND protein_a IS NOT NULL) FROM pair"
        ).fetchall()
        if odd:
            raise UnreadableFile(
                f"{path}: {odd:,} of {rows:,} lines have a score outside 0 to 1000, or lack a protein or a score."
            )
        table = connection.sql(
            "SELECT * EXCLUDE (lines, below, loops, odd, conflicting) FROM pair WHERE protein_a IS NOT NULL "
            "ORDER BY protein_a, protein_b"
        ).to_arrow_table()
    return StringLinks(table, int(rows), int(below), int(loops), int(conflicting))


def _one_pass(scan: str, scores: Sequence[str], thresholds: Mapping[str, int]) -> str:
    """Return SQL that groups the lines by pair as they stream by; lines that are left out fall into one group, NULL."""
    reach = " AND ".join(f"{name} >= {int(least)}" for name, least in thresholds.items())
    listed = ", ".join(scores)
    lacking = " OR ".join(f"{name} IS NULL" for name in (*_ENDS, *scores))
    return (
        "CREATE TEMP TABLE pair AS SELECT protein_a, protein_b, "
        f"{', '.join(f'max({name}) AS {name}' for name in scores)}, "
        f"{' OR '.join(f'min({name}) <> max({name})' for name in scores)} AS conflicting, count(*) AS lines, "
        "count_if(NOT reach AND NOT loop) AS below, count_if(loop) AS loops, count_if(odd) AS odd FROM ("
        "SELECT CASE WHEN reach AND NOT loop THEN least(protein1, protein2) END AS protein_a, "
        "CASE WHEN reach AND NOT loop THEN greatest(protein1, protein2) END AS protein_b, * FROM ("
        f"SELECT *, {reach} AS reach, protein1 = protein2 AS loop, "
        f"{lacking} OR least({listed}) < 0 OR greatest({listed}) > 1000 AS odd FROM {scan})) "
        "GROUP BY protein_a, protein_b"
    )


def read_info(path: Path) -> dict[str, tuple[str, str]]:
    """Read ``protein.info``: by protein, its preferred name and its annotation.

    Raises
    ------
    UnreadableFile
        For another header, a broken line (its number is named) or a damaged gzip.
    """
    header = _first_line(path).split("\t")
    if len(header) != 4 or header[1] != "preferred_name" or header[3] != "annotation":
        raise UnreadableFile(
            f"{path}, line 1: found columns {', '.join(header)[:120]}, expected STRING protein.info: "
            "#string_protein_id, preferred_name, protein_size, annotation, separated by tabs."
        )
    types = dict.fromkeys(("protein_id", "preferred_name", "protein_size", "annotation"), "VARCHAR")
    with duckdb.connect() as connection, _named(path, types):
        rows = connection.execute(
            f"SELECT protein_id, preferred_name, annotation FROM {_scan(path, types, TAB)}", [str(path)]
        ).fetchall()
    return {protein: (name or protein, annotation or "") for protein, name, annotation in rows}


def read_aliases(path: Path, kinds: Mapping[str, Collection[str]]) -> list[tuple[str, str, str]]:
    """Read (protein, alias, kind) of ``protein.aliases`` in one pass, unique and sorted.

    Version 12 has one source a line, version 11 several separated by blanks; a header is recognised by its first
    field, which is no protein.

    Parameters
    ----------
    path
        The file, plain or gzip.
    kinds
        By kind, the sources of aliases that are of that kind; other lines are left out.

    Raises
    ------
    UnreadableFile
        For lines that are not protein, alias and source, or a damaged gzip.
    """
    first = _first_line(path).split("\t")
    if len(first) != 3:
        raise UnreadableFile(
            f"{path}, line 1: found {len(first)} columns, expected STRING protein.aliases: protein, alias and source, "
            "separated by tabs."
        )
    types = dict.fromkeys(("protein_id", "alias", "source"), "VARCHAR")
    scan = _scan(path, types, TAB, header=not _PROTEIN.fullmatch(first[0]))
    of_source = {source: kind for kind, sources in kinds.items() for source in sources}
    with duckdb.connect() as connection, _named(path, types):
        connection.execute(
            "CREATE TEMP TABLE wanted AS SELECT unnest(?::VARCHAR[]) AS source, unnest(?::VARCHAR[]) AS kind",
            [list(of_source), list(of_source.values())],
        )
        return connection.execute(
            "SELECT DISTINCT protein_id, alias, kind FROM (SELECT protein_id, alias, "
            f"unnest(string_split(source, ' ')) AS source FROM {scan}) JOIN wanted USING (source) ORDER BY ALL",
            [str(path)],
        ).fetchall()


def _links_header(path: Path) -> tuple[list[str], str]:
    line = _first_line(path)
    delimiter = "\t" if "\t" in line else " "
    header = [_SPELLINGS.get(name, name) for name in line.split(delimiter)]
    known = {*_ENDS, *CHANNELS, "combined_score"}
    strange = [name for name in header if name not in known]
    if strange or header[:2] != list(_ENDS) or "combined_score" not in header:
        raise UnreadableFile(
            f"{path}, line 1: found columns {some(header, 20)}, expected STRING protein.links or "
            f"protein.links.detailed: protein1 protein2 [{' '.join(CHANNELS)}] combined_score."
        )
    return header, delimiter


def _first_line(path: Path) -> str:
    for _, line in islice(text_lines(path), 1):
        return line
    raise UnreadableFile(f"{path} is empty.")


def _scan(path: Path, types: Mapping[str, str], delimiter: str, *, header: bool = True) -> str:
    """Return SQL that reads a text, plain or gzip, as it streams by, with these column types; its path is a parameter.

    Nothing is guessed, and a line that does not fit stops the reading.
    """
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    compression = "gzip" if is_gzip(path) else "none"
    return (
        f"read_csv(?, auto_detect = false, header = {header}, delim = '{delimiter}', quote = '', escape = '', "
        f"compression = '{compression}', columns = {{{columns}}})"
    )


@contextmanager
def _named(path: Path, types: Mapping[str, str]) -> Iterator[None]:
    """Name the file and the line where DuckDB cannot read on."""
    try:
        yield
    except duckdb.Error as error:
        raise _unreadable(path, types, error) from error


def _unreadable(path: Path, types: Mapping[str, str], error: duckdb.Error) -> UnreadableFile:
    """Turn DuckDB's message into ours: the line number and what stands there."""
    text = str(error)
    if "gzip" in text.lower():
        return truncated(path, text.splitlines()[0])
    line = re.search(r"CSV Error on Line: (\d+)", text)
    if line is None:
        return UnreadableFile(f"{path}: {text.splitlines()[0]}")
    stands = re.search(r"Original Line: ?(.*)", text)
    found = stands[1][:80] if stands else ""
    return UnreadableFile(
        f"{path}, line {line[1]}: found {found!r}, expected {len(types)} columns: {', '.join(types)}."
    )
