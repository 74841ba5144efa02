"""The recipe of :func:`heteromics.graphs.cell_feature`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from heteromics.graphs.recipes._common import BYTES_PER_EDGE, LayerConfig, Outline, TrainingConfig

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data._loaded import Size
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore


@dataclass(frozen=True, slots=True)
class PathwayConfig:
    """Feature-feature edges from the store's ``gene_pathway``; see :func:`heteromics.graphs.cell_feature`."""

    weighting: Literal["cosine", "one"] = "cosine"
    threshold: float = 0.1


@dataclass(frozen=True, slots=True)
class CellFeatureRecipe:
    """Parameters of :func:`heteromics.graphs.cell_feature`."""

    store: ClassVar[Literal["needed", "used", "unused"]] = "used"

    recipe: Literal[1]
    graph: Literal["cell_feature"]
    data: LayerConfig = field(default_factory=LayerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    obs: tuple[str, ...] = ()
    pathways: PathwayConfig = field(default_factory=PathwayConfig)

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads."""
        return (self.data,)

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built."""
        (only,) = sizes
        edges: dict[str, int | None] = {"expresses": only.values, "expressed_by": only.values}
        if store:
            edges["pathway"] = None
        nodes: dict[str, int | None] = {"cell": only.cells, "feature": only.features}
        return Outline(nodes, edges, (only.values + only.cells) * BYTES_PER_EDGE)

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph."""
        from heteromics.graphs.cell_feature import cell_feature

        (only,) = data
        return cell_feature(
            only,
            pathways=store,
            training_cells=self.training.cells(only),
            weighting=self.pathways.weighting,
            threshold=self.pathways.threshold,
            obs=self.obs,
        )
