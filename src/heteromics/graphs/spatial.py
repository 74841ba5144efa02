"""Cells joined to those beside them in a tissue, one function per rule; nothing joins two libraries.

The graphs of SpaFormer ("Single Cells Are Spatial Tokens": a radius, with loops) and of spatial models at large. A
library is a section, slide or field of view: coordinates of two libraries have nothing to do with each other. The pairs
are made in :mod:`heteromics.priors.neighbours`, as are those of ``cell_cell`` in a prior store; the modes are those of
``squidpy.gr.spatial_neighbors_*``, whose slots :func:`heteromics.graphs.to_obsp` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from heteromics import __version__
from heteromics._progress import track
from heteromics.errors import GraphError, PriorError
from heteromics.graphs._tissue import Unit, Where, places
from heteromics.graphs.kinds import Feature, Kind, register
from heteromics.graphs.schema import Compressed, HeteroGraph
from heteromics.priors.neighbours import delaunay, nearest, nearest_rows, on_lattice, rings, within_radius

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ADJOINS", "spatial_delaunay", "spatial_grid", "spatial_knn", "spatial_radius"]

ADJOINS = ("cell", "adjoins", "cell")
Keep = Literal["union", "mutual", "directed"]

register(
    Kind(
        "spatial",
        nodes={
            "cell": {"position": Feature((torch.float32, torch.float64), 2), "library": Feature(torch.int64)},
        },
        edges={ADJOINS: {"distance": Feature(torch.float32)}},
        optional_edges={ADJOINS: {"ring": Feature(torch.int32)}},
    )
)


class _Edges(NamedTuple):
    """Directed edges of one library by its rows, distances, and steps on a lattice or None; shapes (E,)."""

    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    distance: NDArray[np.float64]
    ring: NDArray[np.int64] | None = None


Link = Callable[[NDArray[np.float64]], _Edges]


def spatial_knn(
    adata: AnnData,
    k: int = 6,
    *,
    keep: Keep = "union",
    obsm: str = "spatial",
    columns: Sequence[str] = (),
    library: str | None = None,
    unit: Unit = "as_given",
    um_per_unit: float | None = None,
    self_loops: bool = False,
) -> HeteroGraph:
    """Join each cell with the ``k`` nearest of its library.

    Parameters
    ----------
    adata
        Cells with two or three coordinates. Only ``obs``, ``obsm`` and ``obs_names`` are looked at.
    k
        Number of nearest cells, 1 or more; of cells equally far, those of the lowest row are taken. A library of fewer
        cells gets as many as it has (``meta["match"]["clipped"]`` names it).
    keep
        ``"union"``: edges both ways wherever one is among the nearest of the other. ``"mutual"``: only where each is.
        ``"directed"``: from each of its ``k`` nearest to the cell, so that every cell receives from as many.
    obsm
        Where the coordinates are, unless ``columns`` are named.
    columns
        Two or three columns of ``obs`` with the coordinates.
    library
        Column of ``obs`` with the library (section, slide, field of view). None: column ``library`` where there is one,
        else all cells are of one library.
    unit
        Unit of positions and distances in the graph: ``"as_given"``, or ``"um"``, micrometres.
    um_per_unit
        Micrometres of one unit of the coordinates, such as the pixel size; to be stated with ``unit="um"``, 1 where
        they are in micrometres already.
    self_loops
        Also join each cell with itself, at distance 0.

    Returns
    -------
    HeteroGraph
        Kind ``"spatial"``. Nodes ``cell`` with ``position`` (N, 2 or 3) float32 in ``unit`` and ``library`` int64 codes
        (words in ``meta["categories"]``). Edges ``(cell, adjoins, cell)`` with ``distance`` float32, Euclidean, in
        ``unit``, computed in float64. ``meta["match"]`` counts cells without a neighbour ("lonely"), by library too.

    Raises
    ------
    MissingLayer
        For a slot or column that is not there.
    DataError
        For cells without finite coordinates or without a library, with their number; for a wrong number of axes.
    DuplicateNames
        For cells of one name.
    GraphError
        For a parameter that cannot be.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> cells = AnnData(obs=pd.DataFrame({"x": [0.0, 1.0, 3.0], "y": 0.0}, index=["a", "b", "c"]))
    >>> graph = spatial_knn(cells, k=1, columns=["x", "y"], unit="um", um_per_unit=0.5)
    >>> graph
    HeteroGraph(kind='spatial', cell 3; cell-adjoins-cell 4)
    >>> graph.edata(ADJOINS)["distance"].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    if k < 1 or keep not in get_args(Keep):
        raise GraphError(f"spatial_knn: found k={k} and keep={keep!r}, expected 1 or more and one of {get_args(Keep)}.")

    def link(points: NDArray[np.float64]) -> _Edges:
        if keep == "directed":
            row = nearest_rows(points, k)
            src, dst = row.ravel(), np.repeat(np.arange(len(points)), row.shape[1])
            return _Edges(src, dst, np.sqrt(((points[src] - points[dst]) ** 2).sum(axis=1)))
        pairs = nearest(points, k)
        kept = pairs.mutual if keep == "mutual" else np.ones(pairs.a.size, bool)
        return _both_ways(pairs.a[kept], pairs.b[kept], pairs.distance[kept])

    where = places(adata, obsm, columns, library, unit, um_per_unit)
    graph = _build("spatial_knn", where, link, {"k": k, "keep": keep, "self_loops": self_loops})
    size = np.bincount(where.code, minlength=len(where.libraries))
    graph.meta["match"]["clipped"] = [name for name, n in zip(where.libraries, size, strict=True) if n <= k]
    return graph


def spatial_radius(
    adata: AnnData,
    radius: float,
    *,
    unit: Unit,
    um_per_unit: float | None = None,
    obsm: str = "spatial",
    columns: Sequence[str] = (),
    library: str | None = None,
    self_loops: bool = False,
) -> HeteroGraph:
    """Join all cells of a library that lie within a radius of each other.

    Parameters
    ----------
    adata, um_per_unit, obsm, columns, library, self_loops
        As in :func:`spatial_knn`. SpaFormer's graphs have ``self_loops=True``.
    radius
        In ``unit``, inclusive, above 0.
    unit
        As in :func:`spatial_knn`, to be stated: a radius means nothing without its unit.

    Returns
    -------
    HeteroGraph
        As of :func:`spatial_knn`, edges both ways.

    Raises
    ------
    MissingLayer, DataError, DuplicateNames
        As :func:`spatial_knn`.
    GraphError
        For a parameter that cannot be; where cells of a library have more than 1,000 neighbours on average.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> cells = AnnData(obsm={"spatial": np.array([[0.0, 0], [3, 4], [30, 40]])})
    >>> graph = spatial_radius(cells, 5.0, unit="as_given")
    >>> graph.num_edges(ADJOINS), graph.meta["match"]["cell"]
    (2, {'matched': 2, 'lonely': 1})
    """
    if not 0 < radius < np.inf:
        raise GraphError(f"spatial_radius: found radius={radius:g}, expected above 0.")

    def link(points: NDArray[np.float64]) -> _Edges:
        pairs = within_radius(points, radius)
        return _both_ways(pairs.a, pairs.b, pairs.distance)

    where = places(adata, obsm, columns, library, unit, um_per_unit)
    return _build("spatial_radius", where, link, {"radius": float(radius), "self_loops": self_loops})


def spatial_delaunay(
    adata: AnnData,
    *,
    longest_percentile: float | None = None,
    obsm: str = "spatial",
    columns: Sequence[str] = (),
    library: str | None = None,
    unit: Unit = "as_given",
    um_per_unit: float | None = None,
    self_loops: bool = False,
) -> HeteroGraph:
    """Join cells of a library that share an edge of its Delaunay triangulation.

    Parameters
    ----------
    adata, obsm, columns, library, unit, um_per_unit, self_loops
        As in :func:`spatial_knn`.
    longest_percentile
        Leave out edges longer than this percentile of the edges of their library, above 0 and up to 100: across holes
        and around the outline, neighbours lie far apart.

    Returns
    -------
    HeteroGraph
        As of :func:`spatial_knn`, edges both ways. Cells at one place are joined with each other and share its
        neighbours; see :func:`heteromics.priors.neighbours.delaunay` for lines and planes.

    Raises
    ------
    MissingLayer, DataError, DuplicateNames
        As :func:`spatial_knn`.
    GraphError
        For a parameter that cannot be; where cells share so few places that they have more than 1,000 neighbours on
        average.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> cells = AnnData(obsm={"spatial": np.array([[0.0, 0], [1, 0], [0, 1], [1, 1.1]])})
    >>> spatial_delaunay(cells).num_edges(ADJOINS)
    10
    """
    if longest_percentile is not None and not 0 < longest_percentile <= 100:
        raise GraphError(
            f"spatial_delaunay: found longest_percentile={longest_percentile:g}, expected above 0 and up to 100."
        )

    def link(points: NDArray[np.float64]) -> _Edges:
        pairs = delaunay(points, longest_percentile)
        return _both_ways(pairs.a, pairs.b, pairs.distance)

    where = places(adata, obsm, columns, library, unit, um_per_unit)
    parameters = {"longest_percentile": longest_percentile, "self_loops": self_loops}
    return _build("spatial_delaunay", where, link, parameters)


def spatial_grid(
    adata: AnnData,
    *,
    n_neighbors: Literal[4, 6, 8] = 6,
    n_rings: int = 1,
    obsm: str = "spatial",
    columns: Sequence[str] = (),
    library: str | None = None,
    unit: Unit = "as_given",
    um_per_unit: float | None = None,
    self_loops: bool = False,
) -> HeteroGraph:
    """Join spots of a regular array with those around them, ring by ring.

    Parameters
    ----------
    adata, obsm, columns, library, unit, um_per_unit, self_loops
        As in :func:`spatial_knn`.
    n_neighbors
        Spots around a spot: 6 on a hexagonal array (Visium), 4 on a square one, or 8 with its diagonals.
    n_rings
        Rings of neighbours, 1 or more: a spot is in ring r when r steps, and no fewer, lead to it. Steps go over spots
        that are there, so that what lies behind a hole is further.

    Returns
    -------
    HeteroGraph
        As of :func:`spatial_knn`, edges both ways, with ``ring`` int32 from 1 (a loop: 0) beside ``distance``.

    Raises
    ------
    MissingLayer, DataError, DuplicateNames
        As :func:`spatial_knn`.
    GraphError
        For a parameter that cannot be.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> square = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0)), axis=-1).reshape(-1, 2)
    >>> graph = spatial_grid(AnnData(obsm={"spatial": square}), n_neighbors=4, n_rings=2)
    >>> graph.edata(ADJOINS)["ring"].bincount().tolist()
    [0, 24, 28]
    """
    if n_neighbors not in (4, 6, 8) or n_rings < 1:
        raise GraphError(
            f"spatial_grid: found n_neighbors={n_neighbors} and n_rings={n_rings}, expected 4, 6 or 8 and 1 or more."
        )

    def link(points: NDArray[np.float64]) -> _Edges:
        pairs, ring = rings(on_lattice(points, n_neighbors), points, n_rings)
        return _both_ways(pairs.a, pairs.b, pairs.distance, ring)

    where = places(adata, obsm, columns, library, unit, um_per_unit)
    parameters = {"n_neighbors": n_neighbors, "n_rings": n_rings, "self_loops": self_loops}
    return _build("spatial_grid", where, link, parameters)


def _both_ways(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    distance: NDArray[np.float64],
    ring: NDArray[np.int64] | None = None,
) -> _Edges:
    twice = (np.concatenate([each, each]) for each in (distance, ring) if each is not None)
    return _Edges(np.concatenate([a, b]), np.concatenate([b, a]), *twice)


def _build(builder: str, where: Where, link: Link, parameters: dict[str, Any]) -> HeteroGraph:
    count = len(where.names)
    edges = _by_library(where, link)
    degree = np.bincount(edges.dst, minlength=count) + np.bincount(edges.src, minlength=count)
    lonely = degree == 0
    by_library = zip(
        where.libraries,
        np.bincount(where.code).tolist(),
        np.bincount(where.code[lonely], minlength=len(where.libraries)).tolist(),
        strict=True,
    )
    part, data = _compressed(edges, count, self_loops=parameters["self_loops"])
    alone = int(lonely.sum())
    meta = {
        "builder": builder,
        "heteromics": __version__,
        "parameters": {**parameters, **where.said},
        "categories": {"library": where.libraries},
        "match": {
            "cell": {"matched": count - alone, "lonely": alone},
            "lonely_examples": where.names[lonely][:5].tolist(),
            "library": {name: {"cells": cells, "lonely": without} for name, cells, without in by_library},
        },
        "provenance": where.provenance,
    }
    position = torch.from_numpy(where.points.astype(np.float32))
    return HeteroGraph.from_compressed(
        {ADJOINS: part},
        names={"cell": where.names},
        ndata={"cell": {"position": position, "library": torch.from_numpy(where.code)}},
        edata={ADJOINS: data},
        kind="spatial",
        meta=meta,
    )


def _by_library(where: Where, link: Link) -> _Edges:
    """Link the cells of each library and number them as in the data."""
    order = np.argsort(where.code, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(where.code))[:-1])
    parts = []
    for name, rows in track(list(zip(where.libraries, groups, strict=True)), "joining cells, library by library"):
        try:
            found = link(where.points[rows])
        except PriorError as error:
            raise GraphError(f"library '{name}': {error}") from error
        parts.append(found._replace(src=rows[found.src], dst=rows[found.dst]))
    src, dst, distance = (np.concatenate([part[field] for part in parts]) for field in range(3))
    ring = None if parts[0].ring is None else np.concatenate([part.ring for part in parts])
    return _Edges(src, dst, distance, ring)


def _compressed(edges: _Edges, count: int, *, self_loops: bool) -> tuple[Compressed, dict[str, torch.Tensor]]:
    """Group edges by destination, sources rising within each, with their data in that order."""
    data: dict[str, NDArray[Any]] = {"distance": edges.distance.astype(np.float32)}
    if edges.ring is not None:
        data["ring"] = edges.ring.astype(np.int32)
    src, dst = edges.src, edges.dst
    if self_loops:
        own = np.arange(count)
        src, dst = np.concatenate([src, own]), np.concatenate([dst, own])
        data = {name: np.concatenate([values, np.zeros(count, values.dtype)]) for name, values in data.items()}
    by_dst = sparse.coo_array((np.arange(src.size), (dst, src)), shape=(count, count)).tocsr()
    part = Compressed("dst", torch.from_numpy(by_dst.indptr), torch.from_numpy(by_dst.indices))
    return part, {name: torch.from_numpy(values[by_dst.data]) for name, values in data.items()}
