"""Gene tables of the UCSC genome browser: refGene and others in the genePred forms, gzip or not.

A row is a transcript: bounds of transcript, coding part and exons, 0-based half-open already (UCSC format FAQ,
"GenePred table format"). The table has no genes: transcripts of one symbol that overlap on one strand make a gene.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heteromics.errors import UnreadableFile
from heteromics.priors._feature_lines import is_comment
from heteromics.priors._files import text_lines
from heteromics.priors.gene_models import GeneModels, Ints, Kind, Parts

_PLAIN = ["name", "chrom", "strand", "txStart", "txEnd", "cdsStart", "cdsEnd", "exonCount", "exonStarts", "exonEnds"]
_NEEDED = [name for name in _PLAIN if name != "exonCount"]
_EXTENDED = [*_PLAIN, "score", "name2", "cdsStartStat", "cdsEndStat", "exonFrames"]
_FORMS = (["bin", *_EXTENDED], _EXTENDED, ["geneName", *_PLAIN], ["bin", *_PLAIN], _PLAIN)
_LIST = re.compile(r"\d+(,\d+)*,?")


def header_columns(line: str) -> list[str] | None:
    """Return the columns a header names, None where the line is none."""
    fields = line.removeprefix("#").split("\t")
    return fields if {"chrom", "strand", "exonStarts", "exonEnds"} <= set(fields) else None


def columns_of(fields: Sequence[str]) -> list[str] | None:
    """Return the columns of a row without header: refGene, genePred (extended or not) or refFlat; None for no row."""
    for form in _FORMS:
        if len(fields) != len(form):
            continue
        row = dict(zip(form, fields, strict=True))
        right = row["strand"] in {"+", "-"} and row["txStart"].isdecimal() and _LIST.fullmatch(row["exonStarts"])
        if right and ("geneName" not in form or not fields[0].isdecimal()) and row.get("bin", "0").isdecimal():
            return form
    return None


def read_genepred(path: Path) -> GeneModels:
    """Read transcripts and put them together as genes, by symbol (``name2``; ``name`` where there is none) and place.

    A symbol at several places has several rows: first those on chromosomes without ``_`` in their name (``_alt``,
    ``_fix``, ``_random``), then those of more transcripts.

    Raises
    ------
    UnreadableFile
        For a broken row or a header that lacks a column, named by its line, a truncated gzip, or a table without rows.
    """
    rows, starts, ends = [], [], []
    columns = None
    for number, line in text_lines(path):
        header = header_columns(line)
        lacking = [name for name in _NEEDED if header and name not in header]
        if lacking:
            raise UnreadableFile(f"{path}, line {number}: the header lacks {', '.join(lacking)}; they are needed.")
        columns = header or columns
        if header or is_comment(line):
            continue
        fields = line.split("\t")
        columns = columns or columns_of(fields)
        problem = _problem(fields, columns)
        if problem:
            raise UnreadableFile(f"{path}, line {number}: {problem}\n  {line[:120]}")
        row = dict(zip(columns or (), fields, strict=True))
        rows.append(row)
        starts.append([int(place) for place in row["exonStarts"].rstrip(",").split(",")])
        ends.append([int(place) for place in row["exonEnds"].rstrip(",").split(",")])
    if not rows:
        raise UnreadableFile(f"{path}: no transcript in it. Expected rows of a refGene or genePred table.")
    table = pd.DataFrame(rows)
    for name in ("txStart", "txEnd", "cdsStart", "cdsEnd"):
        table[name] = table[name].astype(np.int64)
    symbol = table[next(name for name in ("name2", "geneName", "name") if name in table)]
    table["symbol"] = symbol.where(symbol != "", table["name"])
    genes, gene = _loci(table)
    transcripts = pd.DataFrame(
        {
            "transcript_id": table["name"],
            "gene": gene,
            "symbol": "",
            "biotype": "",
            "chrom_start": table["txStart"],
            "chrom_end": table["txEnd"],
        }
    )
    return GeneModels(genes, transcripts, _parts(table, gene, starts, ends), len(genes))


def _problem(fields: Sequence[str], columns: Sequence[str] | None) -> str:
    """Say what is wrong with one row, or nothing."""
    if columns is None or len(fields) != len(columns):
        expected = len(columns) if columns else "10 to 16"
        return f"found {len(fields)} tab-separated columns, expected {expected}."
    row = dict(zip(columns, fields, strict=True))
    if row["strand"] not in {"+", "-"}:
        return f"found strand {row['strand']!r}, expected + or -."
    bounds = [row[name] for name in ("txStart", "txEnd", "cdsStart", "cdsEnd")]
    if not all(bound.isdecimal() for bound in bounds) or not int(bounds[0]) < int(bounds[1]):
        return f"found txStart {bounds[0]} and txEnd {bounds[1]}, expected whole numbers, txStart < txEnd."
    lists = [row["exonStarts"], row["exonEnds"]]
    if not all(_LIST.fullmatch(one) for one in lists):
        return "found exonStarts or exonEnds that are no list of whole numbers."
    starts, ends = ([int(place) for place in one.rstrip(",").split(",")] for one in lists)
    if len(starts) != len(ends) or any(start >= end for start, end in zip(starts, ends, strict=True)):
        return f"found {len(starts)} exonStarts and {len(ends)} exonEnds, expected as many of both, start < end."
    return ""


def _loci(table: pd.DataFrame) -> tuple[pd.DataFrame, Ints]:
    """Put overlapping transcripts of one symbol and strand together; return the genes and each transcript's row."""
    keys = ["symbol", "chrom", "strand"]
    ordered = table.sort_values([*keys, "txStart"], kind="stable")
    reached = ordered.groupby(keys, sort=False)["txEnd"].cummax().shift()
    same = (ordered[keys] == ordered[keys].shift()).all(axis=1)
    locus = (~same | (ordered["txStart"] >= reached)).cumsum().rename("locus")
    loci = ordered.groupby(locus).agg(
        symbol=("symbol", "first"),
        chrom=("chrom", "first"),
        chrom_start=("txStart", "min"),
        chrom_end=("txEnd", "max"),
        strand=("strand", "first"),
        transcripts=("txStart", "size"),
    )
    loci["aside"] = loci["chrom"].str.contains("_", regex=False)
    loci = loci.sort_values(["aside", "transcripts"], ascending=[True, False], kind="stable")
    row = pd.Series(np.arange(len(loci)), index=loci.index)
    gene = locus.map(row).reindex(table.index).to_numpy(np.int64)
    genes = loci.assign(gene_id=loci["symbol"], biotype="")[
        ["gene_id", "symbol", "biotype", "chrom", "chrom_start", "chrom_end", "strand"]
    ]
    return genes.reset_index(drop=True), gene


def _parts(table: pd.DataFrame, gene: Ints, starts: list[list[int]], ends: list[list[int]]) -> Parts:
    """Return exons, and the coding part of each exon where it has one."""
    transcript = np.repeat(np.arange(len(table)), [len(listed) for listed in starts])
    start, end = (np.array([place for row in lists for place in row], dtype=np.int64) for lists in (starts, ends))
    left = np.maximum(start, table["cdsStart"].to_numpy()[transcript])
    right = np.minimum(end, table["cdsEnd"].to_numpy()[transcript])
    coding = left < right
    kind = np.repeat(np.array([Kind.EXON, Kind.CODING], dtype=np.int8), [start.size, int(coding.sum())])
    owner = np.concatenate([transcript, transcript[coding]])
    return Parts(kind, gene[owner], owner, np.concatenate([start, left[coding]]), np.concatenate([end, right[coding]]))
