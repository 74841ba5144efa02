"""Sequence of peaks and promoters: GC, CpG observed over expected, share of unknown bases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
Floats = npt.NDArray[np.float64]

_KEY = "attributes.sequence"


class Composition(NamedTuple):
    """What sequences are made of, each field of shape (n,): shares between 0 and 1, NaN where undefined."""

    gc: Floats
    cpg_oe: Floats
    n_share: Floats


@dataclass(frozen=True, slots=True)
class SequenceConfig(FastaConfig):
    """Recipe keys of ``attributes.sequence``.

    Attributes
    ----------
    fasta
        Read source ``fasta``. Without it, only widths are known and the other columns are NULL.
    partial_fasta, chrom_style
        As in :class:`~heteromics.priors.fasta.FastaConfig`; peaks outside the FASTA get NULL.
    promoters
        Describe the promoter of each gene too (table ``promoter_attribute``).
    promoter_bp
        Bases upstream of the transcription start that make the promoter, the start itself included; 2 kb as in GLUE.
    """

    fasta: bool = False
    promoters: bool = False
    promoter_bp: int = 2_000

    def __post_init__(self) -> None:
        if self.promoter_bp < 1:
            raise ValueError(f"found promoter_bp {self.promoter_bp}, expected 1 or more.")
        if not self.fasta and (self.promoters or self.partial_fasta or self.chrom_style):
            raise ValueError("promoters, partial_fasta and chrom_style need `fasta: true`.")

    def source_names(self) -> tuple[str, ...]:
        """Source ``fasta``, if it is asked for."""
        return ("fasta",) if self.fasta else ()


def composition(bases: npt.NDArray[np.uint8], offsets: Ints) -> Composition:
    """Describe sequences that lie one after the other in one array.

    Parameters
    ----------
    bases
        ASCII codes of the bases, shape (B,), uint8; upper and lower (soft-masked) case count alike.
    offsets
        Where each sequence begins, and the end of the last, shape (n + 1,).

    Returns
    -------
    Composition
        ``gc``: (C + G) / (A + C + G + T). ``cpg_oe``: CpG x N / (C x G) with N the number of A, C, G, T
        (Gardiner-Garden and Frommer, J Mol Biol 1987). ``n_share``: bases that are not A, C, G or T, over all.

    Examples
    --------
    >>> import numpy as np
    >>> bases = np.frombuffer(b"ACGTcgNN", np.uint8)
    >>> found = composition(bases, np.array([0, 4, 8]))
    >>> found.gc.tolist(), found.cpg_oe.tolist(), found.n_share.tolist()
    ([0.5, 1.0], [4.0, 2.0], [0.0, 0.5])
    """
    upper = bases & np.uint8(0xDF)
    is_c, is_g = upper == ord("C"), upper == ord("G")
    begin, end = offsets[:-1], offsets[1:]
    n_c, n_g = _count(is_c, begin, end), _count(is_g, begin, end)
    known = n_c + n_g + _count((upper == ord("A")) | (upper == ord("T")), begin, end)
    is_cpg = is_c & np.append(is_g[1:], False)
    n_cpg = _count(is_cpg, begin, np.maximum(end - 1, begin))
    return Composition(
        _ratio(n_c + n_g, known), _ratio(n_cpg * known, n_c * n_g), _ratio(end - begin - known, end - begin)
    )


def _count(mask: npt.NDArray[np.bool_], begin: Ints, end: Ints) -> Ints:
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(mask, dtype=np.int64)])
    return total[end] - total[begin]


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def build_peak_sequence(context: BuildContext, config: SequenceConfig) -> Built:
    """Build table ``peak_attribute`` and, if asked for, ``promoter_attribute``.

    Raises
    ------
    BeyondChromosome
        When a chromosome of the FASTA is not as long as in the assembly.
    PriorError
        When peaks lie outside the FASTA, unless the recipe says ``partial_fasta: true``; when all of them do.
    ChromNamesDisagree, UnreadableFile, RecipeError
        When FASTA and assembly share no chromosome, the FASTA cannot be read, or promoters are asked for without genes.
    """
    wanted = {"peak_attribute": peaks(context)}
    if config.promoters:
        wanted["promoter_attribute"] = promoters(context, config.promoter_bp, _KEY)
    if not config.fasta:
        return Built({name: _table(regions, None) for name, regions in wanted.items()})
    with open_genome(context, config, _KEY) as genome:
        matches = {name: outside(regions, genome, name, config) for name, regions in wanted.items()}
        tables = {name: _table(regions, _describe(regions, genome, context)) for name, regions in wanted.items()}
    counts = {name: counted(regions, genome, matches[name]) for name, regions in wanted.items()}
    return Built(tables, {name: [genome.source] for name in tables}, matches, counts)


def _describe(regions: pa.Table, genome: Genome, context: BuildContext) -> Composition:
    """Describe regions a batch at a time; NaN where they lie outside the FASTA."""
    found = Composition(*(np.full(regions.num_rows, np.nan) for _ in Composition._fields))
    for batch in read_batches(regions, genome):
        context.progress(f"sequence from {regions.column(0)[int(batch.rows[0])]}")
        for column, values in zip(found, composition(batch.bases, batch.offsets), strict=True):
            column[batch.rows] = values
    return found


def _table(regions: pa.Table, described: Composition | None) -> pa.Table:
    key, start, end = (regions.column(place) for place in (0, 2, 3))
    columns: dict[str, Any] = {regions.column_names[0]: key, "width": end.to_numpy() - start.to_numpy()}
    for place, name in enumerate(Composition._fields):
        values = pa.nulls(regions.num_rows, pa.float64()) if described is None else described[place]
        columns[name] = pa.array(values, pa.float64(), from_pandas=True)
    return pa.table(columns)


def estimate_sequence(plan: PlanContext, config: SequenceConfig) -> Estimated:
    """Estimate the number of peaks and promoters."""
    made = {"peak_attribute": plan.rows["peak"]}
    return {**made, "promoter_attribute": plan.rows["gene"]} if config.promoters else made
