"""Cells with a place in a tissue and their neighbours, library by library: tables ``cell`` and ``cell_cell``.

The pairs are made in :mod:`heteromics.priors.neighbours`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import h5py
import numpy as np
import pyarrow as pa

from heteromics.priors._places import Places, Where, read_places
from heteromics.priors.neighbours import Ints, Pairs, delaunay, nearest, within_radius
from heteromics.priors.tables import Built, Count, Match

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

SOURCE = "spatial"
PAIRS_PER_LINK = 0.6
"""Undirected pairs over links of cells to their nearest ones: many are mutual. Points scattered evenly: 0.59 for 6."""


@dataclass(frozen=True, slots=True)
class SpatialConfig:
    """Recipe keys of ``edges.spatial``.

    Attributes
    ----------
    kind
        ``nearest``: the ``k`` nearest cells; ``radius``: all cells within ``radius``; ``delaunay``: cells that share
        an edge of the Delaunay triangulation, whose longest edges can be left out.
    k
        Number of nearest cells; a library of fewer cells gets as many as it has.
    radius
        In ``unit``, inclusive.
    unit
        Unit of all coordinates and distances in the store: ``um``, or ``as_given``, that of the file. It has to be
        stated for a radius.
    um_per_unit
        Micrometres of one unit of the file, such as the pixel size; has to be stated with ``unit: um``, 1 where the
        file is in micrometres already.
    longest_percentile
        Leave out Delaunay edges longer than this percentile of the edges of their library.
    obsm
        Where coordinates are in an ``.h5ad``, unless ``columns`` are named.
    columns
        Columns of the coordinates, of obs or of a table; of a table, ``x``, ``y`` and, where there is one, ``z``.
    cell
        Column of a table with the names of the cells.
    library
        Column of the library (section, slide, field of view): no neighbours across. Left out, column ``library`` is
        taken where there is one; else all cells are of one library.
    """

    kind: Literal["nearest", "radius", "delaunay"] = "nearest"
    k: int = 6
    radius: float | None = None
    unit: Literal["um", "as_given"] | None = None
    um_per_unit: float | None = None
    longest_percentile: float | None = None
    obsm: str = "spatial"
    columns: tuple[str, ...] = ()
    cell: str = "cell"
    library: str | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: found {self.k}, expected 1 or more.")
        if (self.radius is not None) != (self.kind == "radius"):
            raise ValueError(
                f"found radius {self.radius} with kind {self.kind}; kind radius needs one, no other takes one."
            )
        if self.radius is not None and not (self.radius > 0 and self.unit):
            raise ValueError(
                f"found radius {self.radius:g} and unit {self.unit}, expected more than 0, and `unit: um` or "
                "`unit: as_given`."
            )
        if (self.unit == "um") != (self.um_per_unit is not None):
            raise ValueError(
                f"found unit {self.unit} and um_per_unit {self.um_per_unit}; `unit: um` needs um_per_unit, 1 where the "
                "file is in micrometres, and nothing else does."
            )
        if self.um_per_unit is not None and self.um_per_unit <= 0:
            raise ValueError(f"um_per_unit: found {self.um_per_unit:g}, expected above 0.")
        if self.longest_percentile is not None and not (self.kind == "delaunay" and 0 < self.longest_percentile <= 100):
            raise ValueError(
                f"longest_percentile: found {self.longest_percentile:g} with kind {self.kind}, expected above 0 and up "
                "to 100 with kind delaunay."
            )
        if self.columns and len(self.columns) not in (2, 3):
            raise ValueError(f"columns: found {len(self.columns)}, expected two or three.")

    @property
    def rule(self) -> str:
        """What makes two cells neighbours, in words."""
        unit = "um" if self.unit == "um" else "the unit of the file"
        if self.kind == "nearest":
            return f"one of the {self.k} nearest cells; distance in {unit}"
        if self.kind == "radius":
            return f"within {self.radius:g} {unit}"
        cut = f" up to percentile {self.longest_percentile:g}" if self.longest_percentile is not None else ""
        return f"Delaunay edge{cut}; distance in {unit}"

    def source_names(self) -> tuple[str, ...]:
        """Places come from source ``spatial``."""
        return (SOURCE,)


class Linked(NamedTuple):
    """Pairs of all libraries by rows of the cells, and by library its cells and those without a neighbour."""

    pairs: Pairs
    size: dict[str, int]
    lonely: dict[str, int]


def neighbours_by_library(places: Places, config: SpatialConfig) -> Linked:
    """Link cells within each library; coordinates are taken as they are.

    Examples
    --------
    >>> points = np.array([[0.0, 0], [1, 0], [0, 0], [0, 2]])
    >>> places = Places(["a", "b", "c", "d"], ["one", "one", "two", "two"], points)
    >>> linked = neighbours_by_library(places, SpatialConfig(k=1))
    >>> linked.pairs.a.tolist(), linked.pairs.b.tolist(), linked.pairs.distance.tolist()
    ([0, 2], [1, 3], [1.0, 2.0])
    """
    names, code = np.unique(np.array(places.library, dtype=object).astype(str), return_inverse=True)
    by_library = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code, minlength=names.size))[:-1])
    parts, size, lonely = [], {}, {}
    for name, rows in zip(names.tolist(), by_library, strict=True):
        found = _pairs(places.points[rows], config)
        parts.append(found._replace(a=rows[found.a], b=rows[found.b]))
        size[name] = rows.size
        lonely[name] = rows.size - np.unique(np.concatenate([found.a, found.b])).size
    a, b, distance, mutual = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Linked(Pairs(a, b, distance, mutual), size, lonely)


def _pairs(points: np.ndarray, config: SpatialConfig) -> Pairs:
    if config.kind == "nearest":
        return nearest(points, config.k)
    if config.kind == "radius" and config.radius is not None:
        return within_radius(points, config.radius)
    return delaunay(points, config.longest_percentile)


def build_spatial(context: BuildContext, config: SpatialConfig) -> Built:
    """Build tables ``cell``, in the order of the file, and ``cell_cell``, by the names of both cells.

    Libraries of too few cells for ``k`` neighbours are named in the match report of ``cell_cell``.

    Raises
    ------
    UnreadableFile, MissingLayer, DuplicateNames, DataError
        As :func:`heteromics.priors._places.read_places`.
    PriorError
        As :func:`heteromics.priors.neighbours.within_radius` and :func:`heteromics.priors.neighbours.delaunay`.
    """
    source = context.source(SOURCE)
    places = read_places(source.path, Where(config.obsm, config.columns, config.cell, config.library))
    places = places._replace(points=places.points * (config.um_per_unit or 1.0))
    context.progress(f"linking {len(places.cell):,} cells")
    linked = neighbours_by_library(places, config)
    clipped = [
        Match(source.label, name or "all cells", "clipped", f"{n:,} cells: {n - 1} neighbours each, not {config.k}")
        for name, n in linked.size.items()
        if config.kind == "nearest" and n <= config.k
    ]
    lonely = sum(linked.lonely.values())
    counts = [
        Count(source.label, "matched", len(places.cell) - lonely),
        Count(source.label, "out_of_reach", lonely),
        Count(f"{source.label}, libraries", "matched", len(linked.size) - len(clipped)),
        Count(f"{source.label}, libraries", "clipped", len(clipped)),
    ]
    return Built(
        {"cell": _cell_table(places), "cell_cell": _pair_table(places, linked.pairs, config)},
        {"cell": [source], "cell_cell": [source]},
        {"cell_cell": clipped},
        {"cell": [Count(source.label, "matched", len(places.cell))], "cell_cell": counts},
    )


def _cell_table(places: Places) -> pa.Table:
    deep = places.points.shape[1] == 3
    return pa.table(
        {
            "cell_id": pa.array(places.cell, pa.string()),
            "library": pa.array(places.library, pa.string()),
            "x": places.points[:, 0],
            "y": places.points[:, 1],
            "z": places.points[:, 2] if deep else pa.nulls(len(places.cell), pa.float64()),
        }
    )


def _pair_table(places: Places, pairs: Pairs, config: SpatialConfig) -> pa.Table:
    """Name the cells of each pair, the smaller name first."""
    name = pa.array(places.cell, pa.string())
    rank = np.empty(len(places.cell), np.int64)
    rank[np.array(sorted(range(len(places.cell)), key=places.cell.__getitem__), np.int64)] = np.arange(rank.size)
    swap = rank[pairs.a] > rank[pairs.b]
    a: Ints = np.where(swap, pairs.b, pairs.a)
    b: Ints = np.where(swap, pairs.a, pairs.b)
    order = np.lexsort((rank[b], rank[a]))
    return pa.table(
        {
            "cell_a": name.take(pa.array(a[order])),
            "cell_b": name.take(pa.array(b[order])),
            "distance": pairs.distance[order],
            "mutual": pairs.mutual[order],
            "evidence": pa.repeat(pa.scalar(config.rule), order.size),
        }
    )


def estimate_spatial(plan: PlanContext, config: SpatialConfig) -> Estimated:
    """Estimate cells and pairs; how many pairs a radius makes, only the places tell."""
    path = plan.path(SOURCE)
    cells = None if path is None else _cells(path, plan)
    if cells is None:
        return {"cell": None, "cell_cell": None}
    pairs = {"nearest": round(cells * config.k * PAIRS_PER_LINK), "radius": None, "delaunay": 3 * cells}
    return {"cell": cells, "cell_cell": pairs[config.kind]}


def _cells(path: Path, plan: PlanContext) -> int | None:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return int(pyarrow.parquet.read_metadata(path).num_rows)
    if path.suffix != ".h5ad":
        return plan.count(SOURCE, lambda lines: len(lines) - 1)
    with h5py.File(path, "r") as file:
        return int(file["obs"][file["obs"].attrs["_index"]].shape[0])
