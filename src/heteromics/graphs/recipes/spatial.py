"""The recipe of the ``heteromics.graphs.spatial_*`` builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from heteromics.graphs.recipes._common import LayerConfig, Outline

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.data._loaded import Size
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore

_BYTES_PER_CELL = 24
"""Two coordinates in float32, a library in int64, two row bounds in int32."""


@dataclass(frozen=True, slots=True)
class SpatialRecipe:
    """Which rule joins cells, and its parameters; ``kind`` is worded as in ``edges.spatial`` of a prior recipe.

    ``nearest`` is :func:`heteromics.graphs.spatial_knn`, ``radius`` :func:`heteromics.graphs.spatial_radius`,
    ``delaunay`` :func:`heteromics.graphs.spatial_delaunay`, ``grid`` :func:`heteromics.graphs.spatial_grid`.
    """

    store: ClassVar[Literal["needed", "used", "unused"]] = "unused"

    recipe: Literal[1]
    graph: Literal["spatial"]
    data: LayerConfig = field(default_factory=lambda: LayerConfig(values="normalised"))
    kind: Literal["nearest", "radius", "delaunay", "grid"] = "nearest"
    k: int = 6
    keep: Literal["union", "mutual", "directed"] = "union"
    radius: float | None = None
    longest_percentile: float | None = None
    n_neighbors: Literal[4, 6, 8] = 6
    n_rings: int = 1
    obsm: str = "spatial"
    columns: tuple[str, ...] = ()
    library: str | None = None
    unit: Literal["um", "as_given"] | None = None
    um_per_unit: float | None = None
    self_loops: bool = False

    def __post_init__(self) -> None:
        if (self.radius is not None) != (self.kind == "radius"):
            raise ValueError(
                f"found radius {self.radius} with kind {self.kind}; kind radius needs one, no other takes one."
            )
        if self.kind == "radius" and self.unit is None:
            raise ValueError(f"found radius {self.radius:g} without unit, expected `unit: um` or `unit: as_given`.")
        if self.longest_percentile is not None and self.kind != "delaunay":
            raise ValueError(f"found longest_percentile with kind {self.kind}; only kind delaunay takes one.")
        for name, kind in {"k": "nearest", "keep": "nearest", "n_neighbors": "grid", "n_rings": "grid"}.items():
            value = getattr(self, name)
            if self.kind != kind and value != self.__dataclass_fields__[name].default:
                raise ValueError(f"found {name} {value} with kind {self.kind}; only kind {kind} takes it.")

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrix whose cells it joins; its values are not used."""
        return (self.data,)

    def outline(self, sizes: Sequence[Size], *, store: bool) -> Outline:
        """Say what would be built; how many edges, only the places tell."""
        (only,) = sizes
        return Outline({"cell": only.cells}, {"adjoins": None}, only.cells * _BYTES_PER_CELL)

    def build(self, data: Sequence[AnnData], store: PriorStore | None) -> HeteroGraph:
        """Build the graph."""
        from heteromics.graphs import spatial

        (cells,) = data
        common: dict[str, Any] = {
            "obsm": self.obsm,
            "columns": self.columns,
            "library": self.library,
            "unit": self.unit or "as_given",
            "um_per_unit": self.um_per_unit,
            "self_loops": self.self_loops,
        }
        if self.kind == "radius" and self.radius is not None:
            return spatial.spatial_radius(cells, self.radius, **common)
        if self.kind == "delaunay":
            return spatial.spatial_delaunay(cells, longest_percentile=self.longest_percentile, **common)
        if self.kind == "grid":
            return spatial.spatial_grid(cells, n_neighbors=self.n_neighbors, n_rings=self.n_rings, **common)
        return spatial.spatial_knn(cells, self.k, keep=self.keep, **common)
