"""The recipe of :func:`heteromics.graphs.cell_feature`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from heteromics.errors import GraphError
from heteromics.graphs.recipes._common import LayerConfig, Outline, TrainingConfig, bytes_of

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data._loaded import Size
    from heteromics.graphs.cell_feature import Interactions
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore


@dataclass(frozen=True, slots=True)
class PathwayConfig:
    """Feature-feature edges from the store's ``gene_pathway``; see :func:`heteromics.graphs.cell_feature`."""

    weighting: Literal["cosine", "one"] = "cosine"
    threshold: float = 0.1


@dataclass(frozen=True, slots=True)
class InteractionConfig:
    """Feature-feature edges from the store's ``gene_gene`` and, between proteins, ``protein_protein``.

    See :class:`heteromics.graphs.cell_feature.Interactions`.
    """

    use: bool = False
    weighting: Literal["score", "one"] = "score"
    threshold: float | None = None
    sources: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CellFeatureRecipe:
    """Parameters of :func:`heteromics.graphs.cell_feature`; with other modalities the graph is one of several."""

    store: ClassVar[Literal["needed", "used", "unused"]] = "used"

    recipe: Literal[1]
    graph: Literal["cell_feature"]
    data: LayerConfig = field(default_factory=LayerConfig)
    other_modalities: tuple[LayerConfig, ...] = ()
    cells: Literal["same", "shared"] = "same"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    obs: tuple[str, ...] = ()
    pathways: PathwayConfig = field(default_factory=PathwayConfig)
    interactions: InteractionConfig = field(default_factory=InteractionConfig)

    def __post_init__(self) -> None:
        if twice := [name for name, times in Counter(self._names).items() if times > 1]:
            raise ValueError(f"other_modalities: found {', '.join(twice)} more than once, expected each modality once.")

    @property
    def _names(self) -> tuple[str, ...]:
        from heteromics.data._modality import canonical

        return tuple(canonical(layer.modality) for layer in self.layers)

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads."""
        return (self.data, *self.other_modalities)

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built; edge types of several modalities by source, name and destination."""
        several = bool(self.other_modalities)
        known = dict(zip(self._names, sizes, strict=True))
        nodes: dict[str, int | None] = {"cell": None if several and self.cells == "shared" else sizes[0].cells}
        edges: dict[str, int | None] = {}
        for name, size in known.items():
            ntype = f"{name}_feature" if several else "feature"
            nodes[ntype] = size.features
            number = None if nodes["cell"] is None else size.values
            edges[f"cell-expresses-{ntype}" if several else "expresses"] = number
            edges[f"{ntype}-expressed_by-cell" if several else "expressed_by"] = number
            if store and (not several or name == "rna"):
                edges[f"{ntype}-pathway-{ntype}" if several else "pathway"] = None
            if store and self.interactions.use and (not several or name in ("rna", "protein")):
                edges[f"{ntype}-interacts-{ntype}" if several else "interacts"] = None
        return Outline(nodes, edges, bytes_of(sizes))

    def linked(self, store: PriorStore | None) -> Interactions | None:
        """Return the links that are asked for.

        Raises
        ------
        GraphError
            When there is no store to take them from.
        """
        from heteromics.graphs.cell_feature import Interactions

        how = self.interactions
        if not how.use:
            return None
        if store is None:
            raise GraphError(
                "interactions come from a prior store, found none. Fix: --db FILE, or interactions.use=false."
            )
        return Interactions(store, how.weighting, how.threshold, how.sources)

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph."""
        from heteromics.graphs.cell_feature import cell_feature

        several = dict(zip(self._names, data, strict=True))
        pathways = store if store is not None and (len(data) == 1 or "rna" in several) else None
        return cell_feature(
            several if self.other_modalities else data[0],
            pathways=pathways,
            interactions=self.linked(store),
            training_cells=self.training.cells(data[0]),
            weighting=self.pathways.weighting,
            threshold=self.pathways.threshold,
            obs=self.obs,
            cells=self.cells,
        )
