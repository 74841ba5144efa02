"""Which peak drives which gene, which peaks distract, and how each peak opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heteromics.data.synthetic.config import SyntheticConfig
from heteromics.data.synthetic.genome import Float, Genome, Int, pairs_in_window
from heteromics.errors import RecipeError

Single = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Regulation:
    """Planted links (L), distractors (D) and bystanders (B), all as row numbers; no peak has two of these roles.

    Attributes
    ----------
    gene, peak, distance, sign, strength, tf
        The links, sorted by gene, then peak; ``distance`` in bp, ``sign`` +1 or -1, ``tf`` from 0. Shape (L,).
    distractor_peak, distractor_link, distractor_distance
        Each distractor, the link it is matched with, and its gap to the gene of that link. Shape (D,).
    bystander_peak, bystander_tf
        Peaks opened by a TF that drive nothing. Shape (B,).
    """

    gene: Int
    peak: Int
    distance: Int
    sign: Int
    strength: Float
    tf: Int
    distractor_peak: Int
    distractor_link: Int
    distractor_distance: Int
    bystander_peak: Int
    bystander_tf: Int


def plant(genome: Genome, config: SyntheticConfig, rng: np.random.Generator) -> Regulation:
    """Choose driving peaks and their distractors by the same odds of distance, so that distance tells them not apart.

    Every candidate pair gets the key ``log(odds) + Gumbel`` (the largest key is then a draw by the odds). A peak goes
    to the gene of its largest key, hence drives one gene at most; a gene takes the first of its peaks in order of
    their keys. The peaks left over are given away as distractors in the same way.

    Raises
    ------
    RecipeError
        When fewer genes have a peak within reach than are to be regulated.
    """
    gene, peak, distance = pairs_in_window(genome, config.window_bp)
    key = -config.distance_exponent * np.log1p(distance / config.near_bp) + rng.gumbel(size=gene.size)
    mine = _best_of_each(peak, key)
    able = np.setdiff1d(gene[mine], genome.tf_gene)
    wanted = round(config.regulated_share * config.n_genes)
    if able.size < wanted:
        raise RecipeError(
            f"SyntheticConfig: {wanted:,} genes are to be regulated, but only {able.size:,} of the {config.n_genes:,} "
            f"genes that are no TF have a peak of their own within {config.window_bp:,} bp. "
            "Fix: raise n_peaks or window_bp, or lower regulated_share."
        )
    n_links = np.zeros(config.n_genes, dtype=np.int64)
    n_links[rng.permutation(able)[:wanted]] = rng.integers(1, config.max_peaks_per_gene + 1, wanted)
    links = mine[_first_of_each(gene[mine], key[mine], n_links)]
    links = links[np.lexsort((peak[links], gene[links]))]
    rank = np.arange(links.size) - np.searchsorted(gene[links], gene[links])
    tf_order = np.argsort(rng.random((config.n_genes, config.n_tfs)), axis=1)  # genes x TFs: a few dozen TFs

    distractor, its_link = _distractors(gene, peak, key, links, config)
    used = np.concatenate([peak[links], peak[distractor]])
    bystander = np.setdiff1d(np.arange(config.n_peaks), used)
    bystander = bystander[rng.random(bystander.size) < config.bystander_share]
    return Regulation(
        gene=gene[links],
        peak=peak[links],
        distance=distance[links],
        sign=np.where(rng.random(links.size) < config.repressing_share, -1, 1),
        strength=rng.uniform(config.strength[0], config.strength[1], links.size),
        tf=tf_order[gene[links], rank],
        distractor_peak=peak[distractor],
        distractor_link=its_link,
        distractor_distance=distance[distractor],
        bystander_peak=bystander,
        bystander_tf=rng.integers(0, config.n_tfs, bystander.size),
    )


def _best_of_each(group: Int, key: Float) -> Int:
    """Return the row of the largest key in each group."""
    order = np.lexsort((-key, group))
    return order[np.flatnonzero(np.diff(group[order], prepend=-1))]


def _first_of_each(group: Int, key: Float, most: Int) -> Int:
    """Return the rows of the ``most[g]`` largest keys of each group g."""
    order = np.lexsort((-key, group))
    ordered = group[order]
    rank = np.arange(ordered.size) - np.searchsorted(ordered, ordered)
    return order[rank < most[ordered]]


def _distractors(gene: Int, peak: Int, key: Float, links: Int, config: SyntheticConfig) -> tuple[Int, Int]:
    n_links = np.bincount(gene[links], minlength=config.n_genes)
    free = np.flatnonzero(~np.isin(peak, peak[links]) & (n_links[gene] > 0))
    free = free[_best_of_each(peak[free], key[free])]
    chosen = free[_first_of_each(gene[free], key[free], n_links * config.distractors_per_link)]
    first = np.cumsum(n_links) - n_links  # links are sorted by gene
    rank = np.arange(chosen.size) - np.searchsorted(gene[chosen], gene[chosen])
    return chosen, first[gene[chosen]] + rank % n_links[gene[chosen]]


@dataclass(frozen=True, slots=True)
class Opening:
    """How each of the P peaks opens: ``logit(o) = base + profile[type] + shared * z[tf] + private * e``.

    ``z`` (cell by TF) and ``e`` (cell by peak) are independent standard normal numbers.

    Attributes
    ----------
    tf
        TF that opens each peak, -1 for none, shape (P,).
    base, shared, private
        Shape (P,), float32. ``shared`` is 0 where no TF opens the peak.
    profile
        Shape (types, P), float32.
    batch
        Log rate of each batch, a technical effect on counts that genes do not feel, shape (batches, P), float32.
    """

    tf: Int
    base: Single
    profile: Single
    shared: Single
    private: Single
    batch: Single


def openings(regulation: Regulation, tf_mean: Float, config: SyntheticConfig, rng: np.random.Generator) -> Opening:
    """Set how peaks open.

    A peak of TF t with loading l has ``profile = l * tf_mean[:, t]``, ``shared = l * cell_effect``,
    ``private = peak_effect``. A distractor takes base, profile and batch of the driving peak it is matched with, and
    ``private = sqrt(shared**2 + private**2)`` of that peak with ``shared = 0``: in every type and batch its openness
    has the very distribution of the driving peak's, but it moves alone.

    Parameters
    ----------
    tf_mean
        Mean activity of each TF in each cell type, shape (types, n_tfs).
    """
    P = config.n_peaks
    tf = np.full(P, -1, dtype=np.int64)
    tf[regulation.peak], tf[regulation.bystander_peak] = regulation.tf, regulation.bystander_tf
    bound = tf >= 0
    base = rng.normal(-1.3, 0.6, P)
    loading = rng.uniform(0.8, 1.6, P)
    profile = np.where(bound, tf_mean[:, tf], rng.normal(0.0, config.type_effect, (config.n_cell_types, P))) * loading
    shared = np.where(bound, loading * config.cell_effect, 0.0)
    private = np.where(bound, config.peak_effect, np.hypot(loading * config.cell_effect, config.peak_effect))
    batch = rng.normal(0.0, config.batch_effect, (config.n_batches, P))
    copy, model = regulation.distractor_peak, regulation.peak[regulation.distractor_link]
    base[copy], profile[:, copy], batch[:, copy] = base[model], profile[:, model], batch[:, model]
    private[copy] = np.hypot(shared[model], private[model])
    narrow = [part.astype(np.float32) for part in (base, profile, shared, private, batch)]
    return Opening(tf, *narrow)


def mean_openness(opening: Opening, peaks: Int) -> Float:
    """Mean openness of some peaks in each cell type, shape (types, peaks): E[logistic(m + s Z)], Z standard normal.

    Gauss-Hermite quadrature with 32 nodes (Abramowitz and Stegun, 25.4.46).
    """
    node, weight = np.polynomial.hermite_e.hermegauss(32)
    mean = (opening.base + opening.profile)[:, peaks].astype(np.float64)
    spread = np.hypot(opening.shared, opening.private)[peaks].astype(np.float64)
    logit = mean[..., None] + spread[:, None] * node  # (types, peaks, nodes)
    return (1 / (1 + np.exp(-logit))) @ (weight / weight.sum())
