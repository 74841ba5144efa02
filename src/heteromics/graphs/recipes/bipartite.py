"""The recipe of :func:`heteromics.graphs.bipartite`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from heteromics.graphs.recipes._common import LayerConfig, Outline, TrainingConfig, bytes_of

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data._loaded import Size
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore


@dataclass(frozen=True, slots=True)
class BipartiteRecipe:
    """Parameters of :func:`heteromics.graphs.bipartite`."""

    store: ClassVar[Literal["needed", "used", "unused"]] = "needed"

    recipe: Literal[1]
    graph: Literal["bipartite"]
    rna: LayerConfig = field(default_factory=LayerConfig)
    atac: LayerConfig = field(default_factory=lambda: LayerConfig(modality="atac"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mask: Literal["chromosome", "window"] = "chromosome"
    within_bp: int = 150_000
    cell_type: str = "cell_type"
    batch: str = "batch"
    gene_attributes: tuple[str, ...] | None = None
    peak_attributes: tuple[str, ...] | None = None

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads."""
        return (self.rna, self.atac)

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built."""
        rna, atac = sizes
        nodes: dict[str, int | None] = {
            "rna_cell": rna.cells,
            "atac_cell": atac.cells,
            "gene": rna.features,
            "peak": atac.features,
        }
        edges: dict[str, int | None] = {"expresses": rna.values, "opens": atac.values}
        if self.mask == "window":
            edges["reaches"] = None
        return Outline(nodes, edges, bytes_of(sizes))

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph."""
        from heteromics.graphs.bipartite import bipartite

        assert store is not None
        rna, atac = data
        return bipartite(
            rna,
            atac,
            store,
            mask=self.mask,
            within_bp=self.within_bp,
            training_cells=self.training.cells_of_all(rna, atac),
            gene_attributes=self.gene_attributes,
            peak_attributes=self.peak_attributes,
            cell_type=self.cell_type,
            batch=self.batch,
        )
