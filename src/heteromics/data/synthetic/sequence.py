"""DNA: letters with regional GC content, CpG islands at start sites, and motif instances in the peaks that TFs open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heteromics.data.synthetic.config import MARGIN_BP
from heteromics.data.synthetic.genome import Float, Genome, Int
from heteromics.data.synthetic.regulation import Regulation

Bytes = npt.NDArray[np.uint8]

LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)
_REGION_BP = 5_000
_ISLAND_BP = 500


@dataclass(frozen=True, slots=True)
class MotifSites:
    """One motif instance in every peak that a TF opens.

    Attributes
    ----------
    peak, tf, start, strand
        Rows, first base on its chromosome and strand (+1 or -1) of each instance; shape (S,).
    """

    peak: Int
    tf: Int
    start: Int
    strand: Int


def draw_motifs(n: int, rng: np.random.Generator) -> list[Float]:
    """Draw n position weight matrices, each (width, 4) over A, C, G, T with rows that sum to 1.

    Widths are 9 to 12; the consensus letter has a probability of 0.85 to 0.97. Two consensus sequences differ in at
    least two letters at every overlap of eight letters or more, on either strand.
    """
    consensus: list[npt.NDArray[np.int64]] = []
    while len(consensus) < n:
        drawn = rng.integers(0, 4, rng.integers(9, 13))
        if all(_differ(drawn, other) and _differ(drawn, 3 - other[::-1]) for other in consensus):
            consensus.append(drawn)
    motifs = []
    for letters in consensus:
        best = rng.uniform(0.85, 0.97, letters.size)
        rest = rng.dirichlet(np.ones(3), letters.size) * (1 - best)[:, None]
        pwm = np.empty((letters.size, 4))
        pwm[np.arange(letters.size), letters] = best
        pwm[np.arange(4) != letters[:, None]] = rest.ravel()
        motifs.append(pwm)
    return motifs


def _differ(one: Int, other: Int) -> bool:
    for shift in range(8 - other.size, one.size - 7):
        a, b = one[max(shift, 0) :], other[max(-shift, 0) :]
        overlap = min(a.size, b.size)
        if (a[:overlap] != b[:overlap]).sum() < 2:
            return False
    return True


def place_sites(genome: Genome, regulation: Regulation, motifs: list[Float], rng: np.random.Generator) -> MotifSites:
    """Place one instance in each driving and bystander peak, mostly near its middle, on either strand."""
    peak = np.concatenate([regulation.peak, regulation.bystander_peak])
    tf = np.concatenate([regulation.tf, regulation.bystander_tf])
    order = np.argsort(peak)
    peak, tf = peak[order], tf[order]
    width = np.array([pwm.shape[0] for pwm in motifs])[tf]
    start, end = genome.peak_start[peak], genome.peak_end[peak]
    middle = (start + end - width) // 2 + rng.normal(0.0, 40.0, peak.size).astype(np.int64)
    return MotifSites(peak, tf, np.clip(middle, start, end - width), rng.choice(np.array([-1, 1]), peak.size))


def draw_chromosome(
    code: int, genome: Genome, sites: MotifSites, motifs: list[Float], rng: np.random.Generator
) -> Bytes:
    """Draw the letters of one chromosome as ASCII codes, shape (size,).

    GC content walks from region to region about 0.41 (5 kb steps, AR(1) with correlation 0.9, standard deviation
    0.05), is 0.06 higher in peaks and 0.2 higher within 500 bp of a start site. Elsewhere three of four CpG are lost to
    CpA, as methylated CpG are in mammals (Bird, Nucleic Acids Res 1980). Both ends are N. Motif instances are then
    sampled from their matrices and written over.
    """
    size = int(genome.size[code])
    gc, island = _gc_content(code, genome, rng)
    strong = rng.random(size, dtype=np.float32) < gc
    bases = np.where(strong, 1, 0).astype(np.uint8)
    other = rng.integers(0, 2, size, dtype=np.uint8)
    bases += other * np.where(strong, np.uint8(1), np.uint8(3))  # A 0, C 1, G 2, T 3
    lost = (bases[:-1] == 1) & (bases[1:] == 2) & ~island[1:] & (rng.random(size - 1, dtype=np.float32) < 0.75)
    bases[1:][lost] = 0
    bases[:MARGIN_BP] = bases[-MARGIN_BP:] = 4
    for site in np.flatnonzero(genome.peak_chrom[sites.peak] == code):
        pwm = motifs[sites.tf[site]]
        letters = (rng.random((pwm.shape[0], 1)) > np.cumsum(pwm, axis=1)[:, :-1]).sum(axis=1)
        begin = sites.start[site]
        bases[begin : begin + letters.size] = letters if sites.strand[site] > 0 else 3 - letters[::-1]
    return LETTERS[bases]


def _gc_content(code: int, genome: Genome, rng: np.random.Generator) -> tuple[np.ndarray, npt.NDArray[np.bool_]]:
    size = int(genome.size[code])
    regions = -(-size // _REGION_BP)
    step = rng.normal(0.0, 0.05 * np.sqrt(1 - 0.9**2), regions)
    walk = np.empty(regions)
    level = rng.normal(0.0, 0.05)
    for i in range(regions):
        level = 0.9 * level + step[i]
        walk[i] = level
    gc = np.repeat(0.41 + walk, _REGION_BP)[:size].astype(np.float32)
    on_chrom = genome.peak_chrom == code
    gc += 0.06 * _covered(genome.peak_start[on_chrom], genome.peak_end[on_chrom], size)
    tss = genome.tss[genome.gene_chrom == code]
    island = _covered(tss - _ISLAND_BP, tss + _ISLAND_BP, size)
    gc += 0.2 * island
    return np.clip(gc, 0.2, 0.8), island


def _covered(start: Int, end: Int, size: int) -> npt.NDArray[np.bool_]:
    """Tell for each base whether an interval covers it; intervals lie on the chromosome and may overlap."""
    change = np.bincount(start, minlength=size + 1) - np.bincount(end, minlength=size + 1)
    return np.cumsum(change)[:size] > 0


def consensus(pwm: Float) -> str:
    """Return the most probable letter at each position.

    Examples
    --------
    >>> consensus(np.array([[0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.2, 0.8]]))
    'AT'
    """
    return LETTERS[pwm.argmax(axis=1)].tobytes().decode()
