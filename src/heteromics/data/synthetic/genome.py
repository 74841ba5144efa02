"""Where genes, exons and peaks lie. All coordinates are 0-based half-open bp, int64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heteromics.data.synthetic.config import GENE_GAP_BP, MARGIN_BP, MAX_PEAK_BP, SLOT_BP, SyntheticConfig

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

_MIN_PEAK_BP = 200
_MIN_PIECE_BP = 60  # shortest exon or intron
_PROMOTER_SHARE, _CLUSTERED_SHARE = 0.35, 0.5  # of peaks aimed at start sites and at their surroundings
_CLUSTER_BP = 25_000


@dataclass(frozen=True, slots=True)
class Genome:
    """Chromosomes, genes sorted by (chromosome, start site) and peaks sorted by (chromosome, start).

    Attributes
    ----------
    chrom, size
        Names and lengths of the C chromosomes.
    gene_chrom, tss, strand, gene_start, gene_end, coding
        Chromosome code, start site (the first transcribed base), +1 or -1, bounds, and whether the gene is
        protein-coding; each shape (G,).
    tf_gene
        Rows of the genes that are transcription factors, shape (n_tfs,).
    exon_gene, exon_start, exon_end
        Exons in rising order within each gene, shape (E,).
    peak_chrom, peak_start, peak_end
        Shape (P,).
    """

    chrom: tuple[str, ...]
    size: Int
    gene_chrom: Int
    tss: Int
    strand: Int
    gene_start: Int
    gene_end: Int
    coding: npt.NDArray[np.bool_]
    tf_gene: Int
    exon_gene: Int
    exon_start: Int
    exon_end: Int
    peak_chrom: Int
    peak_start: Int
    peak_end: Int


def lay_out(config: SyntheticConfig, rng: np.random.Generator) -> Genome:
    """Draw a genome: genes spread over the chromosomes by length, peaks at and around start sites and between."""
    size = np.array(config.chromosome_sizes, dtype=np.int64)
    gene_chrom, tss = _start_sites(size, config.n_genes, rng)
    strand = rng.choice(np.array([-1, 1]), config.n_genes)
    body = np.clip(np.exp(rng.normal(np.log(20_000), 1.0, config.n_genes)), 2_000, 200_000).astype(np.int64)
    start = np.where(strand > 0, tss, np.maximum(tss + 1 - body, MARGIN_BP))
    end = np.where(strand > 0, np.minimum(tss + body, size[gene_chrom] - MARGIN_BP), tss + 1)
    coding = np.zeros(config.n_genes, dtype=bool)
    shuffled = rng.permutation(config.n_genes)
    coding[shuffled[: max(round(0.8 * config.n_genes), config.n_tfs, config.n_proteins)]] = True
    peak_chrom, peak_start, peak_end = _peaks(config, size, gene_chrom, tss, rng)
    return Genome(
        tuple(f"chr{i + 1}" for i in range(size.size)), size,
        gene_chrom, tss, strand, start, end, coding, np.sort(shuffled[: config.n_tfs]),
        *_exons(start, end, rng),
        peak_chrom, peak_start, peak_end,
    )  # fmt: skip


def _start_sites(size: Int, n: int, rng: np.random.Generator) -> tuple[Int, Int]:
    """Spread n start sites, at least one per chromosome; neighbours are ``GENE_GAP_BP`` apart or more."""
    quota = (n - size.size) * size / size.sum()
    count = 1 + quota.astype(np.int64)
    count[np.argsort(count - quota, kind="stable")[: n - int(count.sum())]] += 1
    sites = []
    for length, k in zip(size, count, strict=True):
        room = length - 4 * MARGIN_BP - k * GENE_GAP_BP
        sites.append(2 * MARGIN_BP + np.sort(rng.integers(0, room, k)) + np.arange(k) * GENE_GAP_BP)
    return np.repeat(np.arange(size.size), count), np.concatenate(sites)


def _exons(start: Int, end: Int, rng: np.random.Generator) -> tuple[Int, Int, Int]:
    """Cut each gene body in exon, intron, ..., exon: exons short, the outer ones at the ends of the gene."""
    exons = 1 + np.minimum(rng.poisson(4.0, start.size), 11)
    pieces = 2 * exons - 1
    gene = np.repeat(np.arange(start.size), pieces)  # (pieces in all,)
    first = np.cumsum(pieces) - pieces
    is_exon = (np.arange(gene.size) - first[gene]) % 2 == 0
    share = rng.exponential(np.where(is_exon, 0.05, 1.0))
    spare = (end - start - _MIN_PIECE_BP * pieces)[gene]
    length = _MIN_PIECE_BP + (spare * share / np.add.reduceat(share, first)[gene]).astype(np.int64)
    stop = np.cumsum(length)
    stop += (start - (stop - length)[first])[gene]
    begin = stop - length
    stop[first + pieces - 1] = end
    return gene[is_exon], begin[is_exon], stop[is_exon]


def _peaks(
    config: SyntheticConfig, size: Int, gene_chrom: Int, tss: Int, rng: np.random.Generator
) -> tuple[Int, Int, Int]:
    """Draw peak centres at start sites, around them and anywhere, and keep the first that falls in each slot."""
    offset = np.cumsum(size) - size  # sizes are whole slots, so a slot belongs to one chromosome
    slots, centres = np.empty(0, np.int64), np.empty(0, np.int64)
    promoters = rng.permutation(config.n_genes)[: round(_PROMOTER_SHARE * config.n_peaks)]
    chrom, centre = gene_chrom[promoters], tss[promoters]
    while slots.size < config.n_peaks:
        inside = (centre >= MARGIN_BP) & (centre < size[chrom] - MARGIN_BP)
        centres = np.concatenate([centres, (offset[chrom] + centre)[inside]])
        slots, first = np.unique(centres // SLOT_BP, return_index=True)
        kept = np.argsort(first)[: config.n_peaks]  # the earliest drawn, so promoters stay
        slots, centres = slots[kept], centres[first[kept]]
        near = rng.random(config.n_peaks) < _CLUSTERED_SHARE / (1 - _PROMOTER_SHARE)
        gene = rng.integers(0, config.n_genes, config.n_peaks)
        anywhere = rng.integers(0, size.sum(), config.n_peaks)
        its_chrom = np.searchsorted(offset, anywhere, side="right") - 1
        around = tss[gene] + rng.laplace(0.0, _CLUSTER_BP, config.n_peaks).astype(np.int64)
        chrom = np.where(near, gene_chrom[gene], its_chrom)
        centre = np.where(near, around, anywhere - offset[its_chrom])
    slots, centres = np.sort(slots), np.sort(centres)
    width = np.clip(np.exp(rng.normal(np.log(450), 0.35, slots.size)), _MIN_PEAK_BP, MAX_PEAK_BP).astype(np.int64)
    start = np.clip(centres - width // 2, slots * SLOT_BP, (slots + 1) * SLOT_BP - width)
    chrom = np.searchsorted(offset, start, side="right") - 1
    return chrom, start - offset[chrom], start - offset[chrom] + width


def pairs_in_window(genome: Genome, window_bp: int) -> tuple[Int, Int, Int]:
    """Pair every gene with every peak of its chromosome whose nearest base is within the window.

    Parameters
    ----------
    genome
        Its peaks must be sorted and must not overlap, as :func:`lay_out` makes them.
    window_bp
        Largest gap in bp between start site and nearest base; a pair at exactly this gap is kept.

    Returns
    -------
    gene, peak
        Rows, shape (L,), sorted by gene, then peak.
    distance
        Gap in bp, 0 where the peak covers the start site, shape (L,).

    Notes
    -----
    Peaks do not overlap, so starts and ends rise together and two sorted searches give each gene's run of peaks.
    """
    offset = np.arange(genome.size.size) * (genome.size.max() + 2 * window_bp + 2)
    tss = genome.tss + offset[genome.gene_chrom]
    start, end = genome.peak_start + offset[genome.peak_chrom], genome.peak_end + offset[genome.peak_chrom]
    low = np.searchsorted(end - 1, tss - window_bp, side="left")
    hits = np.searchsorted(start, tss + window_bp, side="right") - low
    gene = np.repeat(np.arange(tss.size), hits)
    peak = np.arange(gene.size) + np.repeat(low - (np.cumsum(hits) - hits), hits)
    distance = np.maximum(np.maximum(start[peak] - tss[gene], tss[gene] - (end[peak] - 1)), 0)
    return gene, peak, distance
