"""The simulator's result: a MuData with its genome and the planted truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData, set_options
from scipy import sparse

from heteromics._config import as_dict
from heteromics.data.synthetic.cells import Cells, Counts, count, place_cells
from heteromics.data.synthetic.config import SyntheticConfig
from heteromics.data.synthetic.genome import Float, Genome, Int, lay_out
from heteromics.data.synthetic.regulation import Regulation, openings, plant
from heteromics.data.synthetic.sequence import MotifSites, draw_chromosome, draw_motifs, place_sites
from heteromics.errors import DataError, RecipeError, some

_STREAMS = ("genome", "regulation", "motifs", "opening", "cells", "counts", "sequence", "networks")


@dataclass(frozen=True, slots=True)
class SyntheticMultiome:
    """Synthetic cells and the regulation that was planted in them.

    Attributes
    ----------
    mdata
        Modalities ``rna``, ``atac`` and ``protein`` of the same cells: counts (int32 CSR) in ``X``; ``cell_type`` and
        ``batch`` in ``obs``, ``spatial`` in ``obsm`` (micrometres within the section of the batch); gene ids without
        version in ``var["gene_id"]``, peaks named ``chrom:start-end``. ``uns["synthetic"]`` is true everywhere.
    truth
        One row per planted link: ``gene, gene_id, peak, chrom, distance, sign, strength, tf``; distance is the gap in
        bp from the start site to the nearest base of the peak, ``tf`` the gene name of the factor that opens it.
    distractors
        One row per distractor: ``gene, peak, matched_peak, distance``.
    genes
        ``gene, gene_id, version, chrom, chrom_start, chrom_end, strand, tss, biotype, protein_id`` (empty for genes
        that make none); coordinates 0-based half-open.
    peaks
        ``peak, chrom, chrom_start, chrom_end, role, tf``; ``role`` is driver, distractor, bystander or background.
    motifs
        Position weight matrix, shape (width, 4) over A, C, G, T, of each TF.
    genome, regulation, sites
        The same as arrays of rows.
    config, seed
        What it was made from.
    """

    mdata: MuData
    truth: pd.DataFrame
    distractors: pd.DataFrame
    genes: pd.DataFrame
    peaks: pd.DataFrame
    motifs: dict[str, Float]
    genome: Genome
    regulation: Regulation
    sites: MotifSites
    config: SyntheticConfig
    seed: int

    def sequence(self, chrom: str) -> str:
        """Return the DNA of a chromosome; drawn anew on every call, always the same letters.

        Raises
        ------
        DataError
            When there is no chromosome of that name.
        """
        if chrom not in self.genome.chrom:
            raise DataError(f"no chromosome named '{chrom}'; the synthetic genome has {some(self.genome.chrom, 5)}.")
        code = self.genome.chrom.index(chrom)
        rng = np.random.default_rng([code, *_stream("sequence", self.seed).generate_state(4)])
        return draw_chromosome(code, self.genome, self.sites, list(self.motifs.values()), rng).tobytes().decode()

    def write(self, folder: Path | str) -> Path:
        """Write data, genome, priors and truth, each in the format that real data would come in.

        ``heteromics.data.synthetic.write`` lists the files. A synthetic multiome that is there already is replaced.

        Raises
        ------
        DataError
            When ``folder`` exists and holds something else than a synthetic multiome.
        """
        from heteromics.data.synthetic.write import write

        return write(self, folder, np.random.default_rng(_stream("networks", self.seed)))


def simulate(config: SyntheticConfig | None = None, seed: int = 0) -> SyntheticMultiome:
    """Simulate RNA, ATAC and protein of the same cells with planted peak-gene regulation.

    Transcription factors (TFs) vary between cell types and between the cells of a type. A TF opens the peaks that
    carry its motif; some of these drive a gene within the window, with a sign and a strength. Distractor peaks open
    as often as driving peaks in every cell type, but on their own. The formulas are with
    :func:`~heteromics.data.synthetic.cells.count` and :func:`~heteromics.data.synthetic.regulation.openings`.

    Parameters
    ----------
    config
        Sizes and effects; the defaults are those of the demo.
    seed
        Non-negative. The same seed gives the same bits; genome, regulation, cells and counts draw from separate
        streams, so that, say, ``n_cells`` leaves the genome as it is.

    Raises
    ------
    RecipeError
        For a negative seed, when too few genes have a peak within reach, or (from the config) when sizes do not fit.

    Examples
    --------
    >>> small = SyntheticConfig(n_cells=90, n_cell_types=3, n_genes=40, n_peaks=200, n_proteins=5, n_tfs=6)
    >>> made = simulate(small, seed=1)
    >>> made.mdata.mod["atac"].shape
    (90, 200)
    >>> list(made.truth)
    ['gene', 'gene_id', 'peak', 'chrom', 'distance', 'sign', 'strength', 'tf']
    >>> int((made.truth["distance"] > small.window_bp).sum())
    0
    """
    if seed < 0:
        raise RecipeError(f"simulate: found seed {seed}, expected a whole number of at least 0.")
    config = config or SyntheticConfig()
    rng = {name: np.random.default_rng(_stream(name, seed)) for name in _STREAMS}
    genome = lay_out(config, rng["genome"])
    regulation = plant(genome, config, rng["regulation"])
    motifs = draw_motifs(config.n_tfs, rng["motifs"])
    sites = place_sites(genome, regulation, motifs, rng["motifs"])
    tf_mean = rng["opening"].normal(0.0, config.type_effect, (config.n_cell_types, config.n_tfs))
    opening = openings(regulation, tf_mean, config, rng["opening"])
    cells = place_cells(config, rng["cells"])
    counts = count(cells, genome, regulation, opening, tf_mean, config, rng["counts"])

    genes = _gene_table(genome)
    peaks = _peak_table(genome, regulation, genes)
    return SyntheticMultiome(
        mdata=_mudata(cells, counts, genes, peaks, config, seed),
        truth=_truth(regulation, genes, peaks),
        distractors=_distractors(regulation, genes, peaks),
        genes=genes,
        peaks=peaks,
        motifs=dict(zip(genes["gene"].to_numpy()[genome.tf_gene], motifs, strict=True)),
        genome=genome,
        regulation=regulation,
        sites=sites,
        config=config,
        seed=seed,
    )


def _stream(name: str, seed: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed).spawn(len(_STREAMS))[_STREAMS.index(name)]


def _gene_table(genome: Genome) -> pd.DataFrame:
    n = genome.tss.size
    number = np.arange(1, n + 1)
    symbol = np.array([f"SYN{i:05d}" for i in number], dtype=object)
    symbol[genome.tf_gene] = [f"SYNTF{i:03d}" for i in range(1, genome.tf_gene.size + 1)]
    return pd.DataFrame(
        {
            "gene": symbol,
            "gene_id": [f"ENSG99{i:09d}" for i in number],
            "version": 1 + number % 7,
            "chrom": np.array(genome.chrom, dtype=object)[genome.gene_chrom],
            "chrom_start": genome.gene_start,
            "chrom_end": genome.gene_end,
            "strand": np.where(genome.strand > 0, "+", "-"),
            "tss": genome.tss,
            "biotype": np.where(genome.coding, "protein_coding", "lncRNA"),
            "protein_id": np.where(genome.coding, [f"9999.ENSP99{i:09d}" for i in number], ""),
        }
    )


def _peak_table(genome: Genome, regulation: Regulation, genes: pd.DataFrame) -> pd.DataFrame:
    chrom = np.array(genome.chrom, dtype=object)[genome.peak_chrom]
    role = np.full(genome.peak_start.size, "background", dtype=object)
    role[regulation.peak], role[regulation.distractor_peak] = "driver", "distractor"
    role[regulation.bystander_peak] = "bystander"
    tf = np.full(role.size, "", dtype=object)
    tf_name = genes["gene"].to_numpy()[genome.tf_gene]
    tf[regulation.peak], tf[regulation.bystander_peak] = tf_name[regulation.tf], tf_name[regulation.bystander_tf]
    bounds = zip(chrom, genome.peak_start, genome.peak_end, strict=True)
    return pd.DataFrame(
        {
            "peak": [f"{name}:{start}-{end}" for name, start, end in bounds],
            "chrom": chrom,
            "chrom_start": genome.peak_start,
            "chrom_end": genome.peak_end,
            "role": role,
            "tf": tf,
        }
    )


def _truth(regulation: Regulation, genes: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    gene, peak = genes.iloc[regulation.gene], peaks.iloc[regulation.peak]
    return pd.DataFrame(
        {
            "gene": gene["gene"].to_numpy(),
            "gene_id": gene["gene_id"].to_numpy(),
            "peak": peak["peak"].to_numpy(),
            "chrom": peak["chrom"].to_numpy(),
            "distance": regulation.distance,
            "sign": regulation.sign.astype(np.int8),
            "strength": regulation.strength,
            "tf": peak["tf"].to_numpy(),
        }
    )


def _distractors(regulation: Regulation, genes: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    name = peaks["peak"].to_numpy()
    return pd.DataFrame(
        {
            "gene": genes["gene"].to_numpy()[regulation.gene[regulation.distractor_link]],
            "peak": name[regulation.distractor_peak],
            "matched_peak": name[regulation.peak[regulation.distractor_link]],
            "distance": regulation.distractor_distance,
        }
    )


def _mudata(
    cells: Cells, counts: Counts, genes: pd.DataFrame, peaks: pd.DataFrame, config: SyntheticConfig, seed: int
) -> MuData:
    digits = len(str(config.n_cells))
    names = [f"cell_{i:0{digits}d}" for i in range(1, config.n_cells + 1)]
    obs = pd.DataFrame(
        {
            "cell_type": _codes("type", cells.cell_type, config.n_cell_types),
            "batch": _codes("section", cells.batch, config.n_batches),
        },
        index=names,
    )
    made = genes.iloc[counts.protein_gene]
    features = {
        "rna": genes[["gene_id", "biotype"]].set_axis(genes["gene"].to_numpy()),
        "atac": peaks[["chrom", "chrom_start", "chrom_end"]].set_axis(peaks["peak"].to_numpy()),
        "protein": made[["gene", "gene_id", "protein_id"]].set_axis((made["gene"] + "_ADT").to_numpy()),
    }
    matrices: dict[str, sparse.csr_matrix] = {"rna": counts.rna, "atac": counts.atac, "protein": counts.protein}
    label = {"synthetic": True, "seed": seed}
    parts = {}
    for name, var in features.items():
        parts[name] = AnnData(matrices[name], obs=obs.copy(), var=var)
        parts[name].obsm["spatial"] = cells.spatial.copy()
        parts[name].uns.update(label)
    with set_options(pull_on_update=False):
        mdata = MuData(parts)
    mdata.obs = obs.copy()
    mdata.obsm["spatial"] = cells.spatial
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in as_dict(config).items()}
    mdata.uns.update({**label, "synthetic_config": settings})
    return mdata


def _codes(prefix: str, codes: Int, n: int) -> pd.Categorical:
    digits = len(str(n))
    names = [f"{prefix}_{i:0{digits}d}" for i in range(1, n + 1)]
    return pd.Categorical(np.array(names, dtype=object)[codes], categories=names)
