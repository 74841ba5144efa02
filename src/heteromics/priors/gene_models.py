"""Genes, their transcripts and the parts of these, as every annotation reader returns them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heteromics.priors.intervals import union
from heteromics.priors.links import Intervals

Ints = NDArray[np.int64]


class Kind(IntEnum):
    """What a line of an annotation says; ``STOP`` codons count as coding, the side of ``UTR`` follows from the CDS."""

    GENE = 0
    TRANSCRIPT = 1
    EXON = 2
    CODING = 3
    STOP = 4
    UTR = 5
    FIVE_PRIME = 6
    THREE_PRIME = 7


@dataclass(frozen=True, slots=True)
class Parts:
    """Exons, coding parts and untranslated parts as written, every field of shape (E,).

    Attributes
    ----------
    kind
        A :class:`Kind` from ``EXON`` on, int8.
    gene, transcript
        Rows of :class:`GeneModels`, int64; transcript -1 where the part names none.
    start, end
        Bounds in bp, 0-based half-open, int64.
    """

    kind: NDArray[np.int8]
    gene: Ints
    transcript: Ints
    start: Ints
    end: Ints

    def of(self, *kinds: Kind) -> Parts:
        """Return the parts of these kinds."""
        return self.where(np.isin(self.kind, kinds))

    def where(self, chosen: NDArray[np.bool_]) -> Parts:
        """Return the parts chosen, in their order."""
        gene, transcript, start, end = (column[chosen] for column in (self.gene, self.transcript, self.start, self.end))
        return Parts(self.kind[chosen], gene, transcript, start, end)


@dataclass(frozen=True, slots=True)
class GeneModels:
    """What an annotation says.

    Attributes
    ----------
    genes
        One row per gene and place: ``gene_id`` as written, ``symbol`` and ``biotype`` (empty where not given),
        ``chrom``, ``chrom_start``, ``chrom_end`` (0-based half-open), ``strand`` (``+``, ``-`` or ``.``). An id that
        stands at two places has two rows; the one to keep comes first.
    transcripts
        One row per transcript and place: ``transcript_id``, ``gene`` (row in ``genes``), ``symbol``, ``biotype``,
        ``chrom_start``, ``chrom_end``; chromosome and strand are those of the gene.
    parts
        Exons, coding parts and untranslated parts.
    aggregated
        How many genes had no line of their own and were put together from their transcripts and parts.
    astray
        How many parts name a parent that leads to no gene.
    """

    genes: pd.DataFrame
    transcripts: pd.DataFrame
    parts: Parts
    aggregated: int
    astray: int = 0


def transcription_start(start: Ints, end: Ints, strand: NDArray[np.str_]) -> Ints:
    """Return the first transcribed base, 0-based: ``start`` on ``+`` or ``.``, ``end - 1`` on ``-``; shapes (G,).

    Examples
    --------
    >>> import numpy as np
    >>> transcription_start(np.array([10, 10]), np.array([20, 20]), np.array(["+", "-"])).tolist()
    [10, 19]
    """
    return np.where(strand == "-", end - 1, start)


def union_length(owner: Ints, start: Ints, end: Ints, n: int) -> Ints:
    """Count, owner by owner, the bases that lie in at least one of its intervals.

    Parameters
    ----------
    owner
        Row number of each interval's gene or transcript, shape (E,), int64, in ``range(n)``, any order.
    start, end
        Bounds in bp, 0-based half-open, shape (E,), int64.
    n
        Number of owners.

    Returns
    -------
    Bases covered, shape (n,), int64; 0 for an owner without intervals.

    Examples
    --------
    >>> import numpy as np
    >>> union_length(np.array([0, 0, 1]), np.array([0, 5, 7]), np.array([10, 12, 9]), 3).tolist()
    [12, 2, 0]
    """
    merged = union(Intervals(owner, start, end))
    total = np.zeros(n, dtype=np.int64)
    np.add.at(total, merged.chrom, merged.end - merged.start)
    return total


def spans(owner: Ints, start: Ints, end: Ints, n: int) -> tuple[Ints, Ints]:
    """Return first start and last end of each owner's intervals, shapes (n,); every owner has one at least."""
    first = np.full(n, np.iinfo(np.int64).max, dtype=np.int64)
    last = np.zeros(n, dtype=np.int64)
    np.minimum.at(first, owner, start)
    np.maximum.at(last, owner, end)
    return first, last
