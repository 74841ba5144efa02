"""The recipe of :func:`heteromics.graphs.mutual_neighbors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from heteromics.graphs.recipes._common import LayerConfig, Outline, TrainingConfig

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data._loaded import Size
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore

_BYTES_PER_CELL = 8
"""Bounds of the rows of both directions, int32; how many edges, only the places tell."""


@dataclass(frozen=True, slots=True)
class SpaceConfig:
    """Where cells are compared: a slot of both, or a space made of the features that both have."""

    obsm: str | None = None
    n_components: int = 30


@dataclass(frozen=True, slots=True)
class MutualNeighborsRecipe:
    """Parameters of :func:`heteromics.graphs.mutual_neighbors`."""

    store: ClassVar[Literal["needed", "used", "unused"]] = "unused"

    recipe: Literal[1]
    graph: Literal["mutual_neighbors"]
    left: LayerConfig = field(default_factory=lambda: LayerConfig(transform="log1p_cp10k"))
    right: LayerConfig = field(default_factory=lambda: LayerConfig(modality="atac", transform="log1p_cp10k"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    k: int = 5
    metric: Literal["cosine", "euclidean"] = "cosine"
    batch: str | None = None
    second_order: Literal["none", "pair", "bipartite"] = "bipartite"
    within: int = 0
    method: Literal["exact", "approximate"] = "exact"
    seed: int = 0
    obs: tuple[str, ...] = ("batch", "cell_type")
    keep_embedding: bool = False

    def __post_init__(self) -> None:
        if self.left.modality == self.right.modality:
            raise ValueError(f"found modality {self.left.modality} on both sides, expected two different ones.")

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads."""
        return (self.left, self.right)

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built."""
        nodes: dict[str, int | None] = {
            f"{layer.modality}_cell": size.cells for layer, size in zip(self.layers, sizes, strict=True)
        }
        edges: dict[str, int | None] = {"mutual": None}
        if self.second_order != "none":
            edges["second_order"] = None
        if self.within:
            edges["neighbors"] = None
        cells = sum(size.cells for size in sizes)
        return Outline(nodes, edges, len(edges) * cells * _BYTES_PER_CELL)

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph."""
        from heteromics.graphs.neighbors import mutual_neighbors

        left, right = data
        return mutual_neighbors(
            left,
            right,
            self.k,
            modalities=(self.left.modality, self.right.modality),
            rep=self.space.obsm,
            n_components=self.space.n_components,
            training=(self.training.column, self.training.value) if self.training.column else None,
            metric=self.metric,
            batch=self.batch,
            second=self.second_order,
            within=self.within,
            method=self.method,
            seed=self.seed,
            obs=self.obs,
            keep_embedding=self.keep_embedding,
        )
