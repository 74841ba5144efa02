"""Exons, coding parts and untranslated ends of genes, merged over their transcripts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.priors.gene_models import Ints, Kind, Parts
from heteromics.priors.intervals import difference, union
from heteromics.priors.links import Intervals

PART_NAMES = ("exon", "coding", "five_prime_utr", "three_prime_utr")


class GeneParts(NamedTuple):
    """Parts of genes, each field of shape (P,), ordered by gene, part and start: gene row, place in PART_NAMES, bp."""

    gene: Ints
    part: Ints
    start: Ints
    end: Ints


def merged_parts(parts: Parts, reverse: NDArray[np.bool_], n_transcripts: int) -> GeneParts:
    """Merge the parts of each gene over its transcripts.

    Parameters
    ----------
    parts
        Parts as written, shape (E,); gene in ``range(G)``, transcript in ``range(n_transcripts)`` or -1.
    reverse
        Whether a gene lies on the minus strand, shape (G,); one without strand counts as plus.
    n_transcripts
        Number of transcripts.

    Returns
    -------
    GeneParts
        Exons; coding parts, stop codons with them; untranslated parts before and behind the coding part. Each is the
        union over transcripts, so that a base can be coding in one transcript and untranslated in another.

    Notes
    -----
    Dialects differ in the stop codon: the CDS of GTF ends before it, that of GFF3 and genePred holds it, and GENCODE
    counts it to the UTR (GENCODE, "Format description of GENCODE GTF"). Here it is coding. A transcript with lines for
    its untranslated parts has these; for others they are its exons without its coding part. Which side ``UTR`` lines
    and such exons are on follows from the coding part and the strand; those of a transcript without coding part have
    no side and are left out. Parts that name no transcript are taken as those of one transcript of the gene.
    O(E log E), by unions and differences of interval sets.

    Examples
    --------
    >>> import numpy as np
    >>> kind = np.array([Kind.EXON, Kind.CODING], dtype=np.int8)
    >>> zero = np.zeros(2, dtype=np.int64)
    >>> parts = Parts(kind, zero, zero, np.array([10, 20]), np.array([50, 40]))
    >>> found = merged_parts(parts, np.array([True]), n_transcripts=1)
    >>> [(PART_NAMES[p], s, e) for p, s, e in zip(found.part.tolist(), found.start.tolist(), found.end.tolist())]
    [('exon', 10, 50), ('coding', 20, 40), ('five_prime_utr', 40, 50), ('three_prime_utr', 10, 20)]
    """
    n_genes = reverse.size
    unit = np.where(parts.transcript >= 0, parts.transcript, n_transcripts + parts.gene)  # (E,)
    gene_of = np.zeros(n_transcripts + n_genes, dtype=np.int64)
    gene_of[unit] = parts.gene

    def of(*kinds: Kind) -> Intervals:
        chosen = np.isin(parts.kind, kinds)
        return Intervals(unit[chosen], parts.start[chosen], parts.end[chosen])

    exon, coding = of(Kind.EXON), union(of(Kind.CODING, Kind.STOP))
    told = np.zeros(gene_of.size, dtype=bool)
    told[of(Kind.UTR, Kind.FIVE_PRIME, Kind.THREE_PRIME).chrom] = True
    untold = _chosen(exon, ~told[exon.chrom])
    without_side = difference(_together(of(Kind.UTR), untold), coding)
    before, behind = _sides(without_side, coding, reverse[gene_of])
    five = _together(difference(of(Kind.FIVE_PRIME), coding), before)
    three = _together(difference(of(Kind.THREE_PRIME), coding), behind)
    merged = [union(Intervals(gene_of[one.chrom], one.start, one.end)) for one in (exon, coding, five, three)]
    part = np.repeat(np.arange(len(merged)), [one.start.size for one in merged])
    gene, start, end = (np.concatenate(columns) for columns in zip(*merged, strict=True))
    order = np.lexsort((start, part, gene))
    return GeneParts(gene[order], part[order], start[order], end[order])


def _chosen(intervals: Intervals, rows: NDArray[np.bool_]) -> Intervals:
    return Intervals(intervals.chrom[rows], intervals.start[rows], intervals.end[rows])


def _together(left: Intervals, right: Intervals) -> Intervals:
    return Intervals(*(np.concatenate(columns) for columns in zip(left, right, strict=True)))


def _sides(pieces: Intervals, coding: Intervals, reverse: NDArray[np.bool_]) -> tuple[Intervals, Intervals]:
    """Return the pieces before and those behind the coding part of their transcript, along its strand."""
    first = np.full(reverse.size, -1, dtype=np.int64)  # of a transcript without coding part: nothing lies left of it
    last = np.full(reverse.size, np.iinfo(np.int64).max, dtype=np.int64)
    first[coding.chrom[::-1]] = coding.start[::-1]  # a union is ordered by start
    last[coding.chrom] = coding.end
    left, right = pieces.end <= first[pieces.chrom], pieces.start >= last[pieces.chrom]
    on_reverse = reverse[pieces.chrom]
    return (
        _chosen(pieces, np.where(on_reverse, right, left)),
        _chosen(pieces, np.where(on_reverse, left, right)),
    )


def gene_part_table(parts: GeneParts, gene_id: pa.Array) -> pa.Table:
    """Return table ``gene_part``; ``gene_id`` are the ids by gene row."""
    return pa.table(
        {
            "gene_id": gene_id.take(pa.array(parts.gene)),
            "part": pa.array(PART_NAMES).take(pa.array(parts.part)),
            "chrom_start": parts.start,
            "chrom_end": parts.end,
        }
    )
