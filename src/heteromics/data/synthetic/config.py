"""What can be asked of the simulator, and which wishes no genome can hold."""

from __future__ import annotations

from dataclasses import dataclass, fields

from heteromics.errors import RecipeError

SLOT_BP = 1_000
"""The genome is cut in slots of this width and a slot holds at most one peak, so peaks never overlap."""

MARGIN_BP = 10_000
"""Both ends of a chromosome: unknown sequence (N), no gene, no peak."""

GENE_GAP_BP = 2_000
"""Smallest gap between two transcription start sites."""

MAX_PEAK_BP = 800
"""Widest peak; the narrowest is 200 bp."""

_SHARES = ("regulated_share", "repressing_share", "bystander_share")
_POSITIVE = ("near_bp", "rna_mean", "rna_dispersion", "atac_mean", "protein_mean", "distance_exponent")
_EFFECTS = ("type_effect", "cell_effect", "peak_effect", "gene_effect", "tf_expression", "batch_effect", "depth_spread")
_AT_LEAST_ONE = (
    "n_cells", "n_cell_types", "n_batches", "n_genes", "n_peaks", "n_proteins", "n_tfs", "n_chromosomes",
    "max_peaks_per_gene", "atac_cap",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """Sizes and effects of a synthetic multiome; the defaults are those of the demo.

    All effects are chosen by us so that links can be recovered by a fair method and by no trivial one: at the
    defaults neither the distance to the start site nor the correlation of a pair gives the planted truth away.
    They imitate no one data set.

    Attributes
    ----------
    n_cells, n_cell_types, n_batches
        Cells, cell types (spatial domains) and batches (tissue sections).
    n_genes, n_peaks, n_proteins, n_tfs, n_chromosomes
        Features; the transcription factors are among the genes, the proteins are made by protein-coding genes.
    chromosome_bp
        Mean chromosome length in bp; lengths fall evenly from 1.3 to 0.7 times this.
    window_bp
        Largest gap in bp between a start site and a peak that drives or distracts its gene.
    near_bp, distance_exponent
        A peak at gap ``d`` is chosen to drive with odds ``(1 + d / near_bp) ** -distance_exponent``.
    regulated_share, max_peaks_per_gene
        Share of genes that are driven by peaks, and by how many at most.
    repressing_share
        Share of links with sign -1.
    strength
        Range of a link's effect on the log mean of its gene, from closed to open (natural log).
    distractors_per_link
        Peaks within the window of the driven gene that open as often as the driving peak in every cell type,
        but independently of the gene within a type.
    bystander_share
        Share of the remaining peaks that a transcription factor opens without any effect on a gene.
    type_effect, cell_effect
        Standard deviation of a TF's activity between cell types, and between cells of one type.
    peak_effect
        Standard deviation of a peak's own logit of openness from cell to cell, shared with nothing but its genes.
    gene_effect
        Standard deviation between cell types of a gene's log mean that no peak explains.
    tf_expression
        Change of the log mean of a TF's own gene per unit of its activity.
    batch_effect
        Standard deviation between batches of the log mean of a feature.
    depth_spread
        Standard deviation between cells of the log sequencing depth, drawn for each modality.
    rna_mean, rna_dispersion
        Median over genes of the mean count; size parameter of the negative binomial (variance
        ``m + m**2 / rna_dispersion``).
    atac_mean, atac_cap
        Mean count of an entirely open peak; larger counts are cut to the cap.
    protein_mean
        Median over proteins of the mean count.

    Raises
    ------
    RecipeError
        For sizes, shares or effects that cannot be; all problems are listed at once.

    Examples
    --------
    >>> SyntheticConfig(n_cells=300, n_cell_types=3).n_genes
    250
    >>> SyntheticConfig(n_peaks=10**6)
    Traceback (most recent call last):
    heteromics.errors.RecipeError: SyntheticConfig: n_peaks: found 1,000,000, expected at most 4,975 ...
    """

    n_cells: int = 1_500
    n_cell_types: int = 6
    n_batches: int = 2
    n_genes: int = 250
    n_peaks: int = 1_800
    n_proteins: int = 24
    n_tfs: int = 16
    n_chromosomes: int = 5
    chromosome_bp: int = 4_000_000
    window_bp: int = 150_000
    near_bp: int = 10_000
    distance_exponent: float = 1.5
    regulated_share: float = 0.7
    max_peaks_per_gene: int = 3
    repressing_share: float = 0.2
    strength: tuple[float, ...] = (1.0, 2.5)
    distractors_per_link: int = 1
    bystander_share: float = 0.25
    type_effect: float = 1.0
    cell_effect: float = 1.0
    peak_effect: float = 0.7
    gene_effect: float = 0.3
    tf_expression: float = 0.5
    batch_effect: float = 0.15
    depth_spread: float = 0.3
    rna_mean: float = 2.0
    rna_dispersion: float = 4.0
    atac_mean: float = 0.8
    atac_cap: int = 4
    protein_mean: float = 20.0

    def __post_init__(self) -> None:
        problems = [*self._wrong_numbers(), *self._wrong_sizes(), *self._wrong_relations()]
        if problems:
            raise RecipeError("SyntheticConfig: " + "\n  ".join(problems))

    @property
    def chromosome_sizes(self) -> tuple[int, ...]:
        """Length of each chromosome in bp, a whole number of slots, longest first."""
        steps = max(self.n_chromosomes - 1, 1)
        shares = [1.3 - 0.6 * i / steps for i in range(self.n_chromosomes)] if self.n_chromosomes > 1 else [1.0]
        return tuple(int(self.chromosome_bp * share) // SLOT_BP * SLOT_BP for share in shares)

    def _wrong_numbers(self) -> list[str]:
        expected = {
            **dict.fromkeys(_AT_LEAST_ONE, ("at least 1", lambda x: x >= 1)),
            **dict.fromkeys(_SHARES, ("a share from 0 to 1", lambda x: 0 <= x <= 1)),
            **dict.fromkeys(_POSITIVE, ("a positive number", lambda x: 0 < x < float("inf"))),
            **dict.fromkeys(_EFFECTS, ("a finite number of at least 0", lambda x: 0 <= x < float("inf"))),
            "window_bp": (f"at least {SLOT_BP:,} bp", lambda x: x >= SLOT_BP),
            "distractors_per_link": ("at least 0", lambda x: x >= 0),
            "strength": ("two positive numbers, low before high", lambda x: len(x) == 2 and 0 < x[0] <= x[1]),
        }
        return [
            f"{field.name}: found {getattr(self, field.name)}, expected {expected[field.name][0]}."
            for field in fields(self)
            if field.name in expected and not expected[field.name][1](getattr(self, field.name))
        ]

    def _wrong_sizes(self) -> list[str]:
        if self.n_chromosomes < 1:
            return []
        shortest, least = min(self.chromosome_sizes), 20 * MARGIN_BP
        if shortest < least:
            found = f"{self.chromosome_bp:,}, whose shortest chromosome has {shortest:,} bp"
            return [f"chromosome_bp: found {found}, expected at least {least:,} bp. Fix: raise chromosome_bp."]
        usable = sum(self.chromosome_sizes) - 2 * MARGIN_BP * self.n_chromosomes
        room = {"n_peaks": usable // (4 * SLOT_BP), "n_genes": usable // (4 * GENE_GAP_BP)}
        return [
            f"{name}: found {getattr(self, name):,}, expected at most {most:,} in a genome of "
            f"{sum(self.chromosome_sizes) / 1e6:.1f} Mb. Fix: raise chromosome_bp or n_chromosomes, or lower {name}."
            for name, most in room.items()
            if getattr(self, name) > most
        ]

    def _wrong_relations(self) -> list[str]:
        limits = [
            ("n_cells", 10 * max(self.n_cell_types, self.n_batches), "ten cells for every cell type and every batch"),
            ("n_genes", self.n_chromosomes, "a gene on every chromosome"),
            ("n_genes", self.n_tfs + round(self.regulated_share * self.n_genes), "one for every TF and driven gene"),
            ("n_genes", 2 * self.n_proteins, "twice the proteins, since not every gene is protein-coding"),
            ("n_tfs", self.max_peaks_per_gene, "max_peaks_per_gene, since the peaks of a gene have different TFs"),
        ]
        return [
            f"{name}: found {getattr(self, name):,}, expected at least {least:,}: {why}."
            for name, least, why in limits
            if getattr(self, name) < least
        ]
