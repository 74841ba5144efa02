"""How many genes, transcripts and parts an annotation holds, from its first lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from heteromics.priors._feature_lines import COLUMNS, PART_KINDS, is_comment
from heteromics.priors.gene_models import Kind
from heteromics.priors.genepred import columns_of, header_columns
from heteromics.priors.gff3 import is_gene_type, is_transcript_type

PARTS_PER_EXON = 0.65
"""Rows of gene_part for each exon written: 0.58 in Ensembl's chr1, 0.65 in refGene, 0.68 in GENCODE's mouse chr19."""


class AnnotationSize(NamedTuple):
    """Numbers of genes, transcripts and merged parts; None where nothing is known."""

    genes: int | None
    transcripts: int | None
    parts: int | None


def annotation_size(lines: Sequence[str], factor: float) -> AnnotationSize:
    """Count genes and transcripts, by their lines or else by their ids, and guess the parts from the exons.

    Parameters
    ----------
    lines
        First lines of a GTF, GFF3 or UCSC gene table.
    factor
        How many times as many the whole file has.
    """
    rows = [line.split("\t") for line in lines if not is_comment(line) and not header_columns(line)]
    columns = next((found for found in map(header_columns, lines[:1]) if found), None)
    columns = columns or (columns_of(rows[0]) if rows else None)
    found = _of_table(rows, columns) if columns else _of_features([row for row in rows if len(row) == len(COLUMNS)])
    return AnnotationSize(*(round(number * factor) for number in found))


def _of_table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> tuple[int, int, float]:
    table = [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]
    genes = {row.get("name2") or row.get("geneName") or row.get("name") for row in table}
    exons = sum(row["exonStarts"].rstrip(",").count(",") + 1 for row in table)
    return len(genes), len(table), PARTS_PER_EXON * exons


def _of_features(rows: Sequence[Sequence[str]]) -> tuple[int, int, float]:
    types = Counter(row[2] for row in rows)
    genes = sum(n for feature, n in types.items() if is_gene_type(feature))
    transcripts = sum(n for feature, n in types.items() if is_transcript_type(feature))
    exons = sum(n for feature, n in types.items() if PART_KINDS.get(feature) == Kind.EXON)
    return genes or _distinct(rows, "gene_id"), transcripts or _distinct(rows, "transcript_id"), PARTS_PER_EXON * exons


def _distinct(rows: Sequence[Sequence[str]], key: str) -> int:
    return len({row[8].partition(key)[2].partition(";")[0] for row in rows if key in row[8]})
