"""Sequence base by base, as codes or one-hot, in windows of one width around peaks and transcription starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
    read_batches,
    require_genes,
)
from heteromics.priors.tables import Built

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Codes = npt.NDArray[np.uint8]

UNKNOWN = 4
_KEY = "attributes.bases"
_CODE = np.full(256, UNKNOWN, np.uint8)
_CODE[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3, 0, 1, 2, 3]


def encode_bases(bases: Codes) -> Codes:
    """Return 0 for A, 1 for C, 2 for G, 3 for T and 4 for anything else, whatever the case.

    Parameters
    ----------
    bases
        ASCII codes of the bases, any shape, uint8.

    Examples
    --------
    >>> encode_bases(np.frombuffer(b"ACgtN", np.uint8)).tolist()
    [0, 1, 2, 3, 4]
    """
    return _CODE[bases]


def reverse_complement(codes: Codes) -> Codes:
    """Return the other strand, read in its own direction, of codes along the last axis; 4 stays 4.

    Examples
    --------
    >>> reverse_complement(np.array([0, 0, 1, 4], np.uint8)).tolist()
    [4, 2, 3, 3]
    """
    return np.where(codes < UNKNOWN, np.uint8(3) - codes, codes)[..., ::-1]


def one_hot(codes: Codes) -> Codes:
    """Return four places for each base, 1 at its code and 0 elsewhere; an unknown base is 0 in all four.

    Parameters
    ----------
    codes
        As :func:`encode_bases` gives them, shape (...,).

    Returns
    -------
    numpy.ndarray
        Shape (..., 4), uint8.

    Examples
    --------
    >>> one_hot(np.array([2, 4], np.uint8)).tolist()
    [[0, 0, 1, 0], [0, 0, 0, 0]]
    """
    return (codes[..., None] == np.arange(4)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class BasesConfig(FastaConfig):
    """Recipe keys of ``attributes.bases``.

    Attributes
    ----------
    partial_fasta, chrom_style
        As in :class:`~heteromics.priors.fasta.FastaConfig`; windows outside the FASTA are unknown throughout.
    width_bp
        Bases of each window. The middle of the peak, ``(start + end) // 2``, or the transcription start is its base
        ``width_bp // 2``, counted from 0. Places beyond the ends of the chromosome are unknown bases.
    form
        ``integer``: a code for each base. ``one_hot``: four places for each base, base after base.
    promoters
        Also the sequence around the transcription start of each gene (table ``promoter_bases``), on its own strand:
        the reverse complement for genes on minus.
    """

    width_bp: int = 512
    form: Literal["integer", "one_hot"] = "integer"
    promoters: bool = False

    def __post_init__(self) -> None:
        if self.width_bp < 1:
            raise ValueError(f"found width_bp {self.width_bp}, expected 1 or more.")


def build_bases(context: BuildContext, config: BasesConfig) -> Built:
    """Build table ``peak_bases`` and, if asked for, ``promoter_bases``.

    Raises
    ------
    PriorError
        When windows reach outside the FASTA, unless the recipe says ``partial_fasta: true``; when all of them do.
    BeyondChromosome, ChromNamesDisagree, UnreadableFile, RecipeError
        As :func:`~heteromics.priors.fasta.open_genome`, and when promoters are asked for without genes.
    """
    wanted = {"peak_bases": _peak_windows(context, config.width_bp)}
    if config.promoters:
        require_genes(context, _KEY)
        wanted["promoter_bases"] = _promoter_windows(context, config.width_bp)
    with open_genome(context, config, _KEY) as genome:
        matches = {name: outside(_clipped(windows), genome, name, config) for name, windows in wanted.items()}
        tables = {name: _table(windows, genome, config, context) for name, windows in wanted.items()}
    return Built(
        tables,
        {name: [genome.source] for name in tables},
        matches,
        {name: counted(windows, genome, matches[name]) for name, windows in wanted.items()},
        {(name, "codes"): _labels(config) for name in tables},
    )


def _peak_windows(context: BuildContext, width_bp: int) -> pa.Table:
    table = peaks(context)
    middle = (table["chrom_start"].to_numpy() + table["chrom_end"].to_numpy()) // 2
    return _windows(table, middle - width_bp // 2, width_bp, np.zeros(table.num_rows, bool), context)


def _promoter_windows(context: BuildContext, width_bp: int) -> pa.Table:
    table = context.query(
        "SELECT gene_id, g.chrom, tss, strand = '-' AS minus FROM gene g JOIN chromosome c ON g.chrom = c.chrom "
        "ORDER BY code, tss, gene_id"
    )
    tss, minus = table["tss"].to_numpy(), table["minus"].to_numpy()
    half = width_bp // 2
    return _windows(table, np.where(minus, tss + half - width_bp + 1, tss - half), width_bp, minus, context)


def _windows(
    table: pa.Table,
    start: npt.NDArray[np.int64],
    width_bp: int,
    minus: npt.NDArray[np.bool_],
    context: BuildContext,
) -> pa.Table:
    """Return windows cut at the ends of their chromosomes, the number of bases cut off before, and whether to turn."""
    chrom = table["chrom"].to_pylist()
    size = np.array([context.chromosomes[name] for name in chrom], np.int64)
    first = np.clip(start, 0, size)
    return pa.table(
        {
            table.column_names[0]: table.column(0),
            "chrom": table["chrom"],
            "chrom_start": first,
            "chrom_end": np.clip(start + width_bp, first, size),
            "skip": first - start,
            "minus": minus,
        }
    )


def _clipped(windows: pa.Table) -> pa.Table:
    return windows.select(windows.column_names[:4])


def _table(windows: pa.Table, genome: Genome, config: BasesConfig, context: BuildContext) -> pa.Table:
    skip, minus = windows["skip"].to_numpy(), windows["minus"].to_numpy()
    codes = np.full((windows.num_rows, config.width_bp), UNKNOWN, np.uint8)
    for batch in read_batches(_clipped(windows), genome):
        context.progress(f"bases from {windows.column(0)[int(batch.rows[0])]}")
        width = np.diff(batch.offsets)
        within = np.arange(batch.bases.size) - np.repeat(batch.offsets[:-1], width)
        codes[np.repeat(batch.rows, width), np.repeat(skip[batch.rows], width) + within] = encode_bases(batch.bases)
    codes[minus] = reverse_complement(codes[minus])
    values = one_hot(codes).reshape(windows.num_rows, -1) if config.form == "one_hot" else codes
    arrays = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.table({windows.column_names[0]: windows.column(0), "codes": arrays})


def _labels(config: BasesConfig) -> list[str]:
    """Say which place of the window each place of the arrays is, from the middle or the start, in bp."""
    places = [f"{place:+d}" if place else "0" for place in range(-(config.width_bp // 2), -(-config.width_bp // 2))]
    return [f"{place} {base}" for place in places for base in "ACGT"] if config.form == "one_hot" else places


def estimate_bases(plan: PlanContext, config: BasesConfig) -> Estimated:
    """Estimate the number of peaks and promoters."""
    length = config.width_bp * (4 if config.form == "one_hot" else 1)
    plan.row_bytes.update(dict.fromkeys(("peak_bases", "promoter_bases"), length))
    made = {"peak_bases": plan.rows["peak"]}
    return {**made, "promoter_bases": plan.rows["gene"]} if config.promoters else made
