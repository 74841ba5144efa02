"""Edges from motifs, and from the transcription factors that bind them, to the peaks they hit.

Peaks are read and scanned a batch at a time, batches side by side in as many processes as there are cores. joblib runs
them: its processes start from a script without a main guard and from a notebook too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import joblib
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heteromics.errors import PriorError
from heteromics.priors.bases import UNKNOWN, encode_bases
from heteromics.priors.fasta import (
    Batch,
    FastaConfig,
    Genome,
    batch_rows,
    counted,
    open_genome,
    outside,
    peaks,
    read_batches,
)
from heteromics.priors.motif_scan import UNIT_BITS, BestHits, ScoreMatrix, best_hits, best_p_value, score_matrix
from heteromics.priors.tables import Built, Count, Match

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BATCH_BASES = 1_000_000
"""Bases a process scans at a time."""
WORTH_A_PROCESS = 500_000_000
"""Bases x motifs, about half a second of scanning: fewer are done before another process has started."""

_KEY = "edges.motif_peak"
_PEAK_BP = 500
"""Width of a peak where a plan must guess one."""


@dataclass(frozen=True, slots=True)
class MotifPeakConfig(FastaConfig):
    """Recipe keys of ``edges.motif_peak``.

    Attributes
    ----------
    partial_fasta, chrom_style
        As in :class:`~heteromics.priors.fasta.FastaConfig`; peaks outside the FASTA have no edges.
    p_value
        A hit has a smaller p-value: the probability that a random place scores as high, on one strand. 1e-4 as in FIMO;
        a peak of 500 bp then has a hit of one motif by chance in about 1 of 10 cases. Motifs of up to 6 or 7 positions
        may have no match that rare (since 2024 JASPAR cuts its motifs short): they are named in the match report.
    background
        Random bases are drawn evenly (``uniform``), or with the shares they have in the peaks, both strands together
        (``peaks``), so that motifs rich in G and C do not hit more often only because peaks are.
    cores
        Most processes that scan; left out, as many as there are cores. The edges do not depend on it.
    """

    p_value: float = 1e-4
    background: Literal["peaks", "uniform"] = "peaks"
    cores: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.p_value <= 0.1:
            raise ValueError(f"found p_value {self.p_value:g}, expected more than 0 and not more than 0.1.")
        if self.cores is not None and self.cores < 1:
            raise ValueError(f"found cores {self.cores}, expected 1 or more.")


class _Motifs(NamedTuple):
    """The motifs of the store: ids, where they are from, probabilities."""

    motif_id: list[str]
    source: list[str]
    p: list[Floats]


class _Factors(NamedTuple):
    """Genes of the factors, and those of motif m as rows: ``gene[begin[m]:begin[m + 1]]``."""

    gene_id: list[str]
    gene: Ints
    begin: Ints


class _Rows(NamedTuple):
    """Rows of the two tables that one batch of peaks makes; fields of best hits as in ``BestHits``, peaks as rows."""

    best: BestHits
    p_value: Floats
    tf: Ints
    tf_peak: Ints
    tf_motifs: Ints
    tf_best: Ints
    """Place of the factor's best hit in ``best``."""


def base_shares(batches: Iterable[Batch]) -> Floats:
    """Return the shares of A, C, G, T in sequences and their reverse complements, shape (4,).

    Raises
    ------
    PriorError
        When one of the two pairs of bases does not occur at all.
    """
    total = np.zeros(UNKNOWN + 1, np.int64)
    for batch in batches:
        total += np.bincount(encode_bases(batch.bases), minlength=UNKNOWN + 1)
    both = total[:4] + total[3::-1]
    if not both.all():
        raise PriorError(
            f"the peaks hold {total[0] + total[3]:,} A or T and {total[1] + total[2]:,} C or G: no background can be "
            f"taken from them. Fix: look at the FASTA, or set `{_KEY}.background: uniform`."
        )
    return both / both.sum()


def factor_hits(best: BestHits, p_value: Floats, gene: Ints, begin: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Bring hits of motifs to the factors that bind them.

    Parameters
    ----------
    best, p_value
        Hits, R of them, one for each motif and sequence, and their p-values, shape (R,).
    gene, begin
        Factors of motif m are ``gene[begin[m]:begin[m + 1]]``, none twice.

    Returns
    -------
    factor, sequence, motifs, row
        Pairs with a hit, ordered by sequence and factor, each (F,): factor, sequence, the number of motifs that hit,
        and the row of the best hit: that with the smallest p-value; among equals that with the largest sum, then the
        first.
    """
    number = np.diff(begin)[best.motif]  # (R,)
    row = np.repeat(np.arange(best.motif.size), number)
    step = np.arange(row.size) - np.repeat(np.cumsum(number) - number, number)
    factor, sequence = gene[begin[best.motif[row]] + step], best.sequence[row]
    order = np.lexsort((row, -best.score[row], p_value[row], factor, sequence))
    factor, sequence, row = factor[order], sequence[order], row[order]
    new = np.ones(row.size, bool)
    new[1:] = (np.diff(factor) != 0) | (np.diff(sequence) != 0)
    first = np.flatnonzero(new)
    return factor[first], sequence[first], np.diff(np.append(first, row.size)), row[first]


def build_motif_peak(context: BuildContext, config: MotifPeakConfig) -> Built:
    """Build tables ``motif_peak`` and ``tf_peak``.

    Raises
    ------
    PriorError
        When peaks lie outside the FASTA, unless the recipe says ``partial_fasta: true``; when all of them do; when no
        motif can reach the p-value.
    BeyondChromosome, ChromNamesDisagree, UnreadableFile, RecipeError
        As :func:`~heteromics.priors.fasta.open_genome`.
    """
    regions = peaks(context)
    motifs = _motifs(context)
    factors = _factors(context, motifs)
    with open_genome(context, config, _KEY) as genome:
        matches = outside(regions, genome, "motif_peak", config)
        shares = np.full(4, 0.25)
        if config.background == "peaks" and regions.num_rows:
            context.progress("base shares of the peaks")
            shares = base_shares(read_batches(regions, genome))
        matrices = [score_matrix(p, shares, config.p_value) for p in motifs.p]
        weak = _weak(motifs, matrices, shares, config)
        rows = list(_scanned(regions, genome, matrices, factors, config, context))
    said = _said(genome, shares, config)
    usable = Count(", ".join(dict.fromkeys(motifs.source)), "matched", len(matrices) - len(weak))
    return Built(
        {
            "motif_peak": _motif_table(rows, regions, motifs, said),
            "tf_peak": _factor_table(rows, regions, factors, said),
        },
        {name: [genome.source] for name in ("motif_peak", "tf_peak")},
        {"motif_peak": [*matches, *weak]},
        {"motif_peak": [*counted(regions, genome, matches), usable, *_counted_weak(weak)]},
    )


def _motifs(context: BuildContext) -> _Motifs:
    table = context.query("SELECT motif_id, source, probabilities FROM motif ORDER BY motif_id")
    p = [np.array(values).reshape(-1, 4) for values in table["probabilities"].to_pylist()]
    return _Motifs(table["motif_id"].to_pylist(), table["source"].to_pylist(), p)


def _factors(context: BuildContext, motifs: _Motifs) -> _Factors:
    pairs = context.query("SELECT motif_id, gene_id FROM motif_tf ORDER BY motif_id, gene_id")
    gene_id = sorted(set(pairs["gene_id"].to_pylist()))
    row_of = {name: row for row, name in enumerate(gene_id)}
    motif_of = {name: row for row, name in enumerate(motifs.motif_id)}
    motif = np.array([motif_of[name] for name in pairs["motif_id"].to_pylist()], np.int64)
    gene = np.array([row_of[name] for name in pairs["gene_id"].to_pylist()], np.int64)
    return _Factors(gene_id, gene, np.searchsorted(motif, np.arange(len(motifs.motif_id) + 1)))


def _weak(motifs: _Motifs, matrices: Sequence[ScoreMatrix], shares: Floats, config: MotifPeakConfig) -> list[Match]:
    """Name the motifs whose best match is not rare enough: they are short or say little."""
    weak = [row for row, matrix in enumerate(matrices) if not matrix.p_values.size]
    if matrices and len(weak) == len(matrices):
        raise PriorError(
            f"none of {len(matrices):,} motifs has a match with a p-value below {config.p_value:g}.\n"
            f"  Fix: raise `{_KEY}.p_value`, or give longer motifs."
        )
    return [
        Match(
            motifs.source[row],
            motifs.motif_id[row],
            "filtered",
            f"its best match has p-value {best_p_value(motifs.p[row], shares):.2g}, not below {config.p_value:g}",
        )
        for row in weak
    ]


def _counted_weak(weak: list[Match]) -> list[Count]:
    sources = sorted({match.source for match in weak})
    return [Count(source, "filtered", sum(match.source == source for match in weak)) for source in sources]


def _scanned(
    regions: pa.Table,
    genome: Genome,
    matrices: Sequence[ScoreMatrix],
    factors: _Factors,
    config: MotifPeakConfig,
    context: BuildContext,
) -> Iterator[_Rows]:
    """Yield the rows of one batch of peaks after the other, in the order of the peaks."""
    start, end = (regions[name].to_numpy() for name in ("chrom_start", "chrom_end"))
    p_values = np.concatenate([np.empty(0), *(matrix.p_values for matrix in matrices)])
    number = np.array([matrix.p_values.size for matrix in matrices], np.int64)
    zero = np.cumsum(number) - number - np.array([matrix.least for matrix in matrices], np.int64)  # place of sum 0
    # The processes need to know no more than whether a sum passes.
    lean = [matrix._replace(p_values=matrix.p_values[:1]) for matrix in matrices]
    batches = batch_rows(regions, genome, batch_bases=BATCH_BASES)
    bases = sum(int((end[rows] - start[rows]).sum()) for _, rows in batches)
    cores = max(1, min(config.cores or joblib.cpu_count(), bases * len(matrices) // WORTH_A_PROCESS))
    work = (joblib.delayed(_scan)(lean, batch) for batch in read_batches(regions, genome, batch_bases=BATCH_BASES))
    scanned = joblib.Parallel(n_jobs=cores, return_as="generator", max_nbytes=None)(work)
    for rows, best in context.track(scanned, "motifs in peaks", len(batches)):
        p_value = p_values[zero[best.motif] + best.score]
        factor, sequence, motifs, row = factor_hits(best, p_value, factors.gene, factors.begin)
        peak = rows[best.sequence]
        placed = best._replace(sequence=peak, start=start[peak] + best.start)
        yield _Rows(placed, p_value, factor, rows[sequence], motifs, row)


def _scan(matrices: Sequence[ScoreMatrix], batch: Batch) -> tuple[Ints, BestHits]:
    return batch.rows, best_hits(matrices, batch.bases, batch.offsets)


def _names(names: pa.ChunkedArray | list[str], rows: Sequence[Ints]) -> pa.DictionaryArray:
    """Return names by their rows, each kept once: there are millions of rows."""
    each = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else pa.array(names, pa.string())
    return pa.DictionaryArray.from_arrays(_column(rows, np.int32), each)


def _column(parts: Sequence[npt.NDArray[np.generic]], dtype: type) -> npt.NDArray[np.generic]:
    return np.concatenate([np.empty(0, dtype), *parts], dtype=dtype, casting="unsafe")


def _said(genome: Genome, shares: Floats, config: MotifPeakConfig) -> str:
    drawn = " ".join(f"{base} {share:.3f}" for base, share in zip("ACGT", shares, strict=True))
    return f"{genome.source.label}, p < {config.p_value:g}, background {drawn}"


def _motif_table(rows: list[_Rows], regions: pa.Table, motifs: _Motifs, said: str) -> pa.Table:
    evidence = {source: f"motif of {source} in {said}" for source in dict.fromkeys(motifs.source)}
    place = {source: number for number, source in enumerate(evidence)}
    source_of = np.array([place[source] for source in motifs.source], np.int64)
    motif = [one.best.motif for one in rows]
    return pa.table(
        {
            "motif_id": _names(motifs.motif_id, motif),
            "peak_id": _names(regions["peak_id"], [one.best.sequence for one in rows]),
            "hits": _column([one.best.hits for one in rows], np.int32),
            "score": _column([one.best.score * UNIT_BITS for one in rows], np.float64),
            "p_value": _column([one.p_value for one in rows], np.float64),
            "hit_start": _column([one.best.start for one in rows], np.int64),
            "strand": _names(["-", "+"], [one.best.forward.astype(np.int64) for one in rows]),
            "evidence": _names(list(evidence.values()), [source_of[one] for one in motif]),
        }
    )


def _factor_table(rows: list[_Rows], regions: pa.Table, factors: _Factors, said: str) -> pa.Table:
    return pa.table(
        {
            "tf_id": _names(factors.gene_id, [one.tf for one in rows]),
            "peak_id": _names(regions["peak_id"], [one.tf_peak for one in rows]),
            "motifs": _column([one.tf_motifs for one in rows], np.int32),
            "p_value": _column([one.p_value[one.tf_best] for one in rows], np.float64),
            "score": _column([one.best.score[one.tf_best] * UNIT_BITS for one in rows], np.float64),
            "evidence": _names([f"its motifs in {said}"], [np.zeros_like(one.tf) for one in rows]),
        }
    )


def estimate_motif_peak(plan: PlanContext, config: MotifPeakConfig) -> Estimated:
    """Estimate the number of pairs with a hit by chance, and as many for the factors."""
    motifs, peak = plan.rows.get("motif"), plan.rows.get("peak")
    if motifs is None or peak is None:
        return {"motif_peak": None, "tf_peak": None}
    pairs = round(motifs * peak * -math.expm1(-2 * _PEAK_BP * config.p_value))
    return {"motif_peak": pairs, "tf_peak": pairs}
