"""Cells in space, and their counts: RNA, ATAC and protein, drawn in blocks of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, softmax

from heteromics.data.synthetic.config import SyntheticConfig
from heteromics.data.synthetic.genome import Float, Genome, Int
from heteromics.data.synthetic.regulation import Opening, Regulation, mean_openness

_BLOCK_VALUES = 2**22  # cells x peaks held at a time
_SECTION_UM = 1_000.0
_PROTEIN_DISPERSION = 10.0


@dataclass(frozen=True, slots=True)
class Cells:
    """Type and batch codes, shape (N,), and coordinates in micrometres within the section, shape (N, 2)."""

    cell_type: Int
    batch: Int
    spatial: Float


def place_cells(config: SyntheticConfig, rng: np.random.Generator) -> Cells:
    """Scatter cells over sections of one tissue, whose types form smooth domains.

    Type k has a random field ``f_k``, a sum of 32 cosines of random directions with a wave length of about a
    section (random Fourier features; Rahimi and Recht, NIPS 2007); sections are neighbouring slices of the same
    fields. A cell's type is drawn from ``softmax(6 (f + b))`` with b such that the types' shares are as drawn.
    """
    n, k = config.n_cells, config.n_cell_types
    share = 0.5 / k + 0.5 * rng.dirichlet(np.full(k, 5.0))
    batch = np.sort(np.arange(n) % config.n_batches)
    spatial = rng.uniform(0.0, _SECTION_UM, (n, 2))
    place = np.column_stack([spatial / _SECTION_UM, 0.1 * batch])
    wave = rng.normal(0.0, 2 * np.pi, (k, 32, 3))
    phase = rng.uniform(0.0, 2 * np.pi, (k, 32))
    field = np.stack([np.cos(place @ w.T + p).mean(axis=1) * 8 for w, p in zip(wave, phase, strict=True)], axis=1)
    shift = np.zeros(k)
    for _ in range(50):
        shift += np.log(share / softmax(6 * (field + shift), axis=1).mean(axis=0)) / 6
    odds = softmax(6 * (field + shift), axis=1)
    cell_type = (rng.random((n, 1)) > np.cumsum(odds, axis=1)[:, :-1]).sum(axis=1)
    return Cells(cell_type, batch, spatial)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts as CSR int32 of shapes (N, G), (N, P), (N, A), and the gene row of each protein, shape (A,)."""

    rna: sparse.csr_matrix
    atac: sparse.csr_matrix
    protein: sparse.csr_matrix
    protein_gene: Int


@dataclass(frozen=True, slots=True)
class _Expression:
    """Log mean of genes: ``base + profile[type] + (openness - centre) @ effect + activity @ tf_effect``."""

    base: Float
    profile: Float
    batch: Float
    centre: Float
    effect: sparse.csr_matrix
    tf_effect: sparse.csr_matrix


@dataclass(frozen=True, slots=True)
class _Protein:
    """Mean of proteins: ``background + signal * exp(log mean of gene - its base + batch)``."""

    gene: Int
    background: Float
    signal: Float
    batch: Float


def count(
    cells: Cells,
    genome: Genome,
    regulation: Regulation,
    opening: Opening,
    tf_mean: Float,
    config: SyntheticConfig,
    rng: np.random.Generator,
) -> Counts:
    """Draw the counts of all cells.

    With z and e independent standard normal, for cell c of type k and batch b, peak p, gene g, TF t:

    - activity: ``a[c,t] = tf_mean[k,t] + cell_effect * z[c,t]``
    - openness: ``o[c,p] = logistic(base[p] + profile[k,p] + shared[p] * z[c,tf(p)] + private[p] * e[c,p])``
    - ATAC: ``min(Poisson(depth[c] * atac_mean * exp(batch[b,p]) * o[c,p]), atac_cap)``
    - gene: ``m[c,g] = base[g] + profile[k,g] + sum over its links of sign * strength * (o[c,p] - centre[p])``, plus
      ``tf_expression * a[c,t]`` for the gene of TF t; ``centre[p]`` is the mean of o over cell types
    - RNA: ``NB(mean = depth[c] * exp(m[c,g] + batch[b,g]), size = rna_dispersion)``
    - protein of gene g: ``NB(mean = depth[c] * (background + signal * exp(m[c,g] - base[g] + batch[b])), size = 10)``

    The depths are log-normal with median 1, apart for each modality. The cost is one openness per cell and peak,
    held for a block of cells at a time: O(block x (P + G)) memory beside the sparse result.
    """
    expression = _expression(genome, regulation, opening, config, rng)
    protein = _proteins(genome, config, rng)
    rows = max(1, _BLOCK_VALUES // (config.n_peaks + config.n_genes))
    parts: tuple[list[sparse.csr_matrix], ...] = ([], [], [])
    for low in range(0, config.n_cells, rows):
        cell_type, batch = cells.cell_type[low : low + rows], cells.batch[low : low + rows]
        z = rng.standard_normal((cell_type.size, config.n_tfs), dtype=np.float32)
        depth = np.exp(rng.normal(0.0, config.depth_spread, (3, cell_type.size, 1)))
        openness = _openness(opening, cell_type, z, rng)
        log_mean = _log_mean(expression, regulation, openness, cell_type, tf_mean, z, config)
        rna = depth[0] * np.exp(log_mean + expression.batch[batch])
        openness *= (depth[1] * config.atac_mean).astype(np.float32)
        openness *= np.exp(opening.batch[batch])
        fold = np.exp((log_mean - expression.base)[:, protein.gene] + protein.batch[batch])
        adt = depth[2] * (protein.background + protein.signal * fold)
        drawn = (
            _negative_binomial(rna, config.rna_dispersion, rng),
            np.minimum(rng.poisson(openness), config.atac_cap),
            _negative_binomial(adt, _PROTEIN_DISPERSION, rng),
        )
        for part, values in zip(parts, drawn, strict=True):
            part.append(sparse.csr_matrix(values.astype(np.int32)))
    rna, atac, adt = (sparse.vstack(part, format="csr") for part in parts)
    return Counts(rna, atac, adt, protein.gene)


def _openness(opening: Opening, cell_type: Int, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the openness of a block of cells, shape (n, P), float32."""
    logit = rng.standard_normal((cell_type.size, opening.base.size), dtype=np.float32)
    logit *= opening.private
    logit += (opening.base + opening.profile)[cell_type]
    bound = np.flatnonzero(opening.tf >= 0)
    logit[:, bound] += opening.shared[bound] * z[:, opening.tf[bound]]
    return expit(logit, out=logit)


def _log_mean(
    expression: _Expression,
    regulation: Regulation,
    openness: np.ndarray,
    cell_type: Int,
    tf_mean: Float,
    z: np.ndarray,
    config: SyntheticConfig,
) -> Float:
    """Return the log mean of a block of cells before batch and depth, shape (n, G)."""
    driven = (openness[:, regulation.peak] - expression.centre) @ expression.effect
    activity = tf_mean[cell_type] + config.cell_effect * z
    return expression.base + expression.profile[cell_type] + driven + activity @ expression.tf_effect


def _expression(
    genome: Genome, regulation: Regulation, opening: Opening, config: SyntheticConfig, rng: np.random.Generator
) -> _Expression:
    G, L = config.n_genes, regulation.gene.size
    signed = regulation.sign * regulation.strength
    tf = np.arange(config.n_tfs)
    by_tf = (np.full(config.n_tfs, config.tf_expression), (tf, genome.tf_gene))
    return _Expression(
        base=np.log(config.rna_mean) + np.clip(rng.normal(0.0, 0.8, G), -1.6, 1.6),
        profile=rng.normal(0.0, config.gene_effect, (config.n_cell_types, G)),
        batch=rng.normal(0.0, config.batch_effect, (config.n_batches, G)),
        centre=mean_openness(opening, regulation.peak).mean(axis=0),
        effect=sparse.csr_matrix((signed, (np.arange(L), regulation.gene)), shape=(L, G)),
        tf_effect=sparse.csr_matrix(by_tf, shape=(config.n_tfs, G)),
    )


def _proteins(genome: Genome, config: SyntheticConfig, rng: np.random.Generator) -> _Protein:
    n = config.n_proteins
    surface = rng.permutation(np.setdiff1d(np.flatnonzero(genome.coding), genome.tf_gene))
    backup = rng.permutation(genome.tf_gene)  # only where nearly every gene is a TF
    mean = config.protein_mean * np.exp(rng.normal(0.0, 0.8, n))
    ambient = rng.uniform(0.05, 0.3, n)
    return _Protein(
        gene=np.sort(np.concatenate([surface, backup])[:n]),
        background=mean * ambient,
        signal=mean * (1 - ambient),
        batch=rng.normal(0.0, config.batch_effect, (config.n_batches, n)),
    )


def _negative_binomial(mean: Float, size: float, rng: np.random.Generator) -> Int:
    """Draw counts with the given mean and variance ``mean + mean**2 / size``: a Poisson with gamma-distributed rate."""
    return rng.poisson(rng.standard_gamma(size, mean.shape) * (mean / size))
