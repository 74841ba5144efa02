"""The recipe of :func:`heteromics.graphs.multiomics`."""

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
class MultiomicsRecipe:
    """Parameters of :func:`heteromics.graphs.multiomics`; a modality that is null is left out."""

    store: ClassVar[Literal["needed", "used", "unused"]] = "needed"

    recipe: Literal[1]
    graph: Literal["multiomics"]
    rna: LayerConfig = field(default_factory=lambda: LayerConfig(transform="log1p_cp10k"))
    protein: LayerConfig | None = None
    atac: LayerConfig | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    edges: tuple[str, ...] | None = None
    min_score: dict[str, float] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inductive: bool = True
    n_components: int = 128
    seed: int = 0

    @property
    def _given(self) -> dict[str, LayerConfig]:
        listed = {"rna": self.rna, "protein": self.protein, "atac": self.atac}
        return {modality: layer for modality, layer in listed.items() if layer is not None}

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads."""
        return tuple(self._given.values())

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built; edge types by source, name and destination, for two of them have one name."""
        from heteromics.graphs._prior_edges import EDGES
        from heteromics.graphs.multiomics import EXPRESSES, OPENS, REVERSES

        size = dict(zip(self._given, sizes, strict=True))
        ntype_of = {"rna": "gene", "protein": "protein", "atac": "peak"}
        nodes: dict[str, int | None] = {"cell": size["rna"].cells}
        nodes |= {ntype_of[modality]: one.features for modality, one in size.items()}
        measured = {EXPRESSES: size["rna"]} | ({OPENS: size["atac"]} if "atac" in size else {})
        known = [
            etype
            for table, etype in EDGES.items()
            if (self.edges is None or table in self.edges) and {etype[0], etype[2]} <= nodes.keys()
        ]
        edges: dict[str, int | None] = {}
        for etype in [*measured, *known]:
            number = measured[etype].values if etype in measured else None
            edges |= {"-".join(one): number for one in (etype, REVERSES.get(etype)) if one}
        return Outline(nodes, edges, bytes_of(measured.values()))

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph."""
        from heteromics.graphs.multiomics import multiomics

        assert store is not None
        given = dict(zip(self._given, data, strict=True))
        return multiomics(
            given,
            store,
            edges=self.edges,
            min_score=self.min_score,
            sources=self.sources,
            training_cells=self.training.cells(given["rna"]),
            inductive=self.inductive,
            n_components=self.n_components,
            seed=self.seed,
        )
