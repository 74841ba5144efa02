"""Transcripts of the genes that a store keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.priors.gene_models import GeneModels, Ints, Kind, transcription_start, union_length
from heteromics.priors.identifiers import strip_version
from heteromics.priors.tables import Count, Match


class Transcripts(NamedTuple):
    """Table ``transcript``, names that did not simply join, counts, and how many each kept gene has, shape (G,)."""

    table: pa.Table
    matches: list[Match]
    counts: list[Count]
    per_gene: Ints


def transcript_table(
    models: GeneModels, genes: pd.DataFrame, left_out: Mapping[int, str], label: str, *, strip: bool
) -> Transcripts:
    """Return the transcripts of the genes kept, in the order of these and by start.

    Parameters
    ----------
    models
        The annotation.
    genes
        Genes kept, in the order of table ``gene``, with its columns; the index is their row in ``models.genes``.
    left_out
        Why a gene was not kept, by its row in ``models.genes``; its transcripts are counted so.
    label
        What the annotation is called in the match report.
    strip
        Leave out versions of transcript ids. Where that, or the annotation, makes two ids one, the first stands.
    """
    place = np.full(len(models.genes), -1, dtype=np.int64)
    place[genes.index.to_numpy()] = np.arange(len(genes))  # row of table gene
    listed = models.transcripts
    gene = place[listed["gene"].to_numpy(np.int64)] if len(listed) else np.empty(0, dtype=np.int64)
    reasons = Counter(left_out[row] for row in listed["gene"][gene < 0])
    rows = listed.assign(gene=gene, raw_id=listed["transcript_id"], row=np.arange(len(listed)))[gene >= 0]
    if strip:
        rows = rows.assign(transcript_id=[strip_version(name) for name in rows["transcript_id"]])
    rows, matches = _first_of_each(rows, genes, label)
    rows = rows.sort_values(["gene", "chrom_start", "chrom_end", "transcript_id"])
    found = Counter(match.outcome for match in matches) + reasons
    counts = [Count(label, "matched", len(rows)), *(Count(label, outcome, n) for outcome, n in sorted(found.items()))]
    per_gene = np.bincount(rows["gene"].to_numpy(np.int64), minlength=len(genes))
    return Transcripts(_arrow(models, rows, genes), matches, counts, per_gene)


def _first_of_each(rows: pd.DataFrame, genes: pd.DataFrame, label: str) -> tuple[pd.DataFrame, list[Match]]:
    """Keep the first of each id; the others are ``two_loci``, or ``duplicated`` where the place is the same."""
    again = rows["transcript_id"].duplicated()
    first = rows[~again].set_index("transcript_id") if again.any() else rows
    chroms = genes["chrom"].to_numpy(object)

    def named(row: Mapping[Any, Any]) -> str:
        return f"{chroms[row['gene']]}:{row['chrom_start']}-{row['chrom_end']}"

    matches = []
    for row in rows[again].to_dict("records"):
        here, kept = named(row), named(first.loc[row["transcript_id"]])
        outcome = "duplicated" if here == kept else "two_loci"
        matches.append(Match(label, str(row["raw_id"]), outcome, f"{here}, {kept} stands"))
    return rows[~again], matches


def _arrow(models: GeneModels, rows: pd.DataFrame, genes: pd.DataFrame) -> pa.Table:
    gene, start, end = (rows[name].to_numpy(np.int64) for name in ("gene", "chrom_start", "chrom_end"))
    of_gene = {name: genes[name].to_numpy(object)[gene] for name in ("gene_id", "chrom", "strand")}
    transcript_id = rows["transcript_id"].to_numpy(object)
    symbol = rows["symbol"].to_numpy(object)
    text = {
        "transcript_id": transcript_id,
        "gene_id": of_gene["gene_id"],
        "symbol": np.where(symbol == "", transcript_id, symbol),
        "chrom": of_gene["chrom"],
        "strand": of_gene["strand"],
        "biotype": rows["biotype"].to_numpy(object),
    }
    columns = {name: pa.array(values, pa.string()) for name, values in text.items()}
    covered = _exon_length(models, rows["row"].to_numpy(np.int64))
    columns |= {
        "chrom_start": pa.array(start),
        "chrom_end": pa.array(end),
        "tss": pa.array(transcription_start(start, end, of_gene["strand"].astype(str))),
        "exon_length": pa.array(covered, mask=covered == 0),
    }
    order = ("transcript_id", "gene_id", "symbol", "chrom", "chrom_start", "chrom_end", "strand", "tss")
    return pa.table({name: columns[name] for name in (*order, "exon_length", "biotype")})


def _exon_length(models: GeneModels, rows: NDArray[np.int64]) -> Ints:
    exons = models.parts.of(Kind.EXON)
    exons = exons.where(exons.transcript >= 0)
    return union_length(exons.transcript, exons.start, exons.end, len(models.transcripts))[rows]
