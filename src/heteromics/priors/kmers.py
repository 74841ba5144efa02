"""k-mer frequencies of peaks and promoters, a k-mer and its reverse complement counted as one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heteromics.priors.bases import encode_bases
from heteromics.priors.fasta import (
    FastaConfig,
    Genome,
    counted,
    open_genome,
    outside,
    peaks,
    promoters,
    read_batches,
)
from heteromics.priors.tables import Built

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]

LONGEST = 8
_KEY = "attributes.kmers"
_COUNTS = 16_000_000
"""Counts held at a time, so that long k-mers do not make batches large."""


def canonical_kmers(k: int) -> list[str]:
    """Return the k-mers that stand for themselves and their reverse complements, in alphabetical order.

    There are (4^k + 4^(k/2)) / 2 for even k, where some are their own reverse complement, and 4^k / 2 for odd k.

    Examples
    --------
    >>> canonical_kmers(1), len(canonical_kmers(3)), len(canonical_kmers(4))
    (['A', 'C'], 32, 136)
    """
    place, _ = _canonical(k)
    letters = ["".join(word) for word in product("ACGT", repeat=k)]
    return [letters[row] for row in place.tolist()]


def _canonical(k: int) -> tuple[Ints, Ints]:
    """Return the codes of the canonical k-mers, and for each of all 4^k codes its place among them."""
    codes = np.arange(4**k)
    digits = codes[:, None] // 4 ** np.arange(k - 1, -1, -1) % 4  # (4^k, k), first base first
    reverse = ((3 - digits) * 4 ** np.arange(k)).sum(axis=1)
    canonical, place = np.unique(np.minimum(codes, reverse), return_inverse=True)
    return canonical, place


def kmer_frequencies(bases: npt.NDArray[np.uint8], offsets: Ints, k: int) -> npt.NDArray[np.float32]:
    """Return the share of each canonical k-mer in sequences that lie one after the other in one array.

    Parameters
    ----------
    bases
        ASCII codes of the bases, shape (B,), uint8; upper and lower (soft-masked) case count alike.
    offsets
        Where each sequence begins, and the end of the last, shape (n + 1,).
    k
        Bases of a k-mer, 1 to 8.

    Returns
    -------
    numpy.ndarray
        Shape (n, number of canonical k-mers), float32, in the order of :func:`canonical_kmers`. A row sums to 1, or is
        NaN where the sequence has no k-mer without an unknown base. A k-mer at each start is counted, also where
        two overlap; one that holds any base but A, C, G, T is not.

    Examples
    --------
    >>> import numpy as np
    >>> kmer_frequencies(np.frombuffer(b"ACGTN", np.uint8), np.array([0, 3, 5]), 1).round(2).tolist()
    [[0.33000001311302185, 0.6700000166893005], [1.0, 0.0]]
    """
    if not 1 <= k <= LONGEST:
        raise ValueError(f"found k {k}, expected 1 to {LONGEST}.")
    n = offsets.size - 1
    canonical, place = _canonical(k)
    codes = encode_bases(bases)
    starts = max(codes.size - k + 1, 0)
    code, known = np.zeros(starts, np.int32), np.ones(starts, bool)
    for shift in range(k):
        base = codes[shift : shift + starts]
        code = 4 * code + base
        known &= base < 4
    sequence = np.repeat(np.arange(n), np.diff(offsets))[:starts]
    known &= np.arange(starts) + k <= offsets[1:][sequence]
    cell = sequence[known] * canonical.size + place[code[known]]
    counts = np.bincount(cell, minlength=n * canonical.size).reshape(n, canonical.size)
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (counts / total).astype(np.float32)


@dataclass(frozen=True, slots=True)
class KmerConfig(FastaConfig):
    """Recipe keys of ``attributes.kmers``.

    Attributes
    ----------
    partial_fasta, chrom_style
        As in :class:`~heteromics.priors.fasta.FastaConfig`; regions outside the FASTA get NaN.
    k
        Bases of a k-mer, 1 to 8. Each region gets 136 numbers for 4, 2,080 for 6, 32,896 for 8.
    promoters
        Describe the promoter of each gene too (table ``promoter_kmer``).
    promoter_bp
        As in ``attributes.sequence``.
    """

    k: int = 4
    promoters: bool = False
    promoter_bp: int = 2_000

    def __post_init__(self) -> None:
        if not 1 <= self.k <= LONGEST:
            raise ValueError(f"found k {self.k}, expected 1 to {LONGEST}.")
        if self.promoter_bp < 1:
            raise ValueError(f"found promoter_bp {self.promoter_bp}, expected 1 or more.")


def build_kmers(context: BuildContext, config: KmerConfig) -> Built:
    """Build table ``peak_kmer`` and, if asked for, ``promoter_kmer``.

    Raises
    ------
    PriorError
        When regions lie outside the FASTA, unless the recipe says ``partial_fasta: true``; when all of them do.
    BeyondChromosome, ChromNamesDisagree, UnreadableFile, RecipeError
        As :func:`~heteromics.priors.fasta.open_genome`, and when promoters are asked for without genes.
    """
    wanted = {"peak_kmer": peaks(context)}
    if config.promoters:
        wanted["promoter_kmer"] = promoters(context, config.promoter_bp, _KEY)
    with open_genome(context, config, _KEY) as genome:
        matches = {name: outside(regions, genome, name, config) for name, regions in wanted.items()}
        tables = {name: _table(regions, genome, config.k, context) for name, regions in wanted.items()}
    return Built(
        tables,
        {name: [genome.source] for name in tables},
        matches,
        {name: counted(regions, genome, matches[name]) for name, regions in wanted.items()},
        {(name, "frequency"): canonical_kmers(config.k) for name in tables},
    )


def _table(regions: pa.Table, genome: Genome, k: int, context: BuildContext) -> pa.Table:
    width = len(canonical_kmers(k))
    frequency = np.full((regions.num_rows, width), np.nan, np.float32)
    for batch in read_batches(regions, genome, most_rows=max(1, _COUNTS // width)):
        context.progress(f"{k}-mers from {regions.column(0)[int(batch.rows[0])]}")
        frequency[batch.rows] = kmer_frequencies(batch.bases, batch.offsets, k)
    arrays = pa.FixedSizeListArray.from_arrays(pa.array(frequency.ravel()), width)
    return pa.table({regions.column_names[0]: regions.column(0), "frequency": arrays})


def estimate_kmers(plan: PlanContext, config: KmerConfig) -> Estimated:
    """Estimate the number of peaks and promoters."""
    plan.row_bytes.update(dict.fromkeys(("peak_kmer", "promoter_kmer"), 4 * len(canonical_kmers(config.k))))
    made = {"peak_kmer": plan.rows["peak"]}
    return {**made, "promoter_kmer": plan.rows["gene"]} if config.promoters else made
