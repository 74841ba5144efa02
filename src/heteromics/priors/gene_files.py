"""Gene annotation from whichever of its formats a file is in; the content tells which, not the name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from heteromics.priors._feature_lines import COLUMNS, is_comment
from heteromics.priors._files import text_lines
from heteromics.priors.gene_models import GeneModels
from heteromics.priors.genepred import columns_of, header_columns, read_genepred
from heteromics.priors.gff3 import read_gff3
from heteromics.priors.gtf import read_gtf

_ASSIGNMENT = re.compile(r'\s*[^\s=";]+=')


def read_gene_models(path: Path) -> GeneModels:
    """Read genes, transcripts and their parts from GTF, GFF3 or a UCSC gene table (refGene, genePred, refFlat).

    Raises
    ------
    UnreadableFile
        For a file that is empty, truncated, broken at a named line, in none of these formats, or without genes.
    """
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], GeneModels]:
    """Choose by the first line that tells; what no reader knows goes to that of GTF, which names the line."""
    for _, line in text_lines(path):
        if header_columns(line):
            return read_genepred
        if is_comment(line):
            continue
        fields = line.split("\t")
        if len(fields) != len(COLUMNS):
            return read_genepred if columns_of(fields) else read_gtf
        if fields[-1] not in {"", "."}:
            return read_gff3 if _ASSIGNMENT.match(fields[-1]) else read_gtf
    return read_gtf
