"""Graphs from recipes: which builder, which layers, which parameters; planned from metadata, built from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heteromics import _config
from heteromics._resources import recipe_path
from heteromics.errors import GraphError, RecipeError
from heteromics.graphs.recipes import KINDS, GraphRecipe

if TYPE_CHECKING:
    from heteromics.graphs.schema import HeteroGraph
    from heteromics.priors import PriorStore


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """What a recipe would build, from the metadata of the data file.

    Attributes
    ----------
    kind
        Of the graph.
    nodes, edges
        Numbers by type; None where only the work itself can tell. Edges of values are the stored ones, of which those
        that are zero will make none.
    bytes
        Of structure and weights of the known edges.
    """

    kind: str
    nodes: dict[str, int | None]
    edges: dict[str, int | None]
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return _config.as_dict(self)

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping per node and edge type: what, type, number."""
        listed = [("nodes", self.nodes), ("edges", self.edges)]
        rows = [{"what": what, "type": key, "number": n} for what, numbers in listed for key, n in numbers.items()]
        return [*rows, {"what": "bytes", "type": "structure and weights", "number": self.bytes}]


def load_recipe(name_or_path: str | Path, sets: Sequence[str] = ()) -> GraphRecipe:
    """Read a graph recipe, shipped or by path, with ``key=value`` changes.

    Raises
    ------
    RecipeError
        For a recipe, key or value nobody knows; the nearest known key is offered.

    Examples
    --------
    >>> load_recipe("bipartite", ["mask=window", "within_bp=50_000"]).within_bp
    50000
    """
    path = recipe_path("graphs", name_or_path)
    mapping = _config.override(_config.read_yaml(path), sets)
    kind = mapping.get("graph")
    if kind not in KINDS:
        raise RecipeError(f"{path.name}: graph: found {kind!r}, expected {' or '.join(KINDS)}.")
    return _config.build(KINDS[kind], mapping, path.name)


def plan(
    recipe: str | Path, data: Path | str, db: Path | str | None = None, *, sets: Sequence[str] = ()
) -> PlannedGraph:
    """Say what :func:`build` would make, without reading a matrix.

    Parameters
    ----------
    recipe, data, db, sets
        As in :func:`build`; the data file must be ``.h5ad``, ``.h5mu`` or ``.zarr``, whose metadata tells sizes.

    Raises
    ------
    GraphError
        When the recipe needs a store and none is given.
    """
    from heteromics.data.readers import size_of

    checked = load_recipe(recipe, sets)
    db = _checked_store(checked, db)
    sizes = [size_of(data, modality=layer.modality, layer=layer.layer) for layer in checked.layers]
    return PlannedGraph(checked.graph, *checked.outline(sizes, store=db is not None))


def build(
    recipe: str | Path, data: Path | str, db: Path | str | None = None, *, sets: Sequence[str] = ()
) -> HeteroGraph:
    """Build the graph of a recipe from a data file and, where it uses one, a prior store.

    Parameters
    ----------
    recipe
        ``"cell_feature"``, ``"bipartite"``, ``"multiomics"``, ``"mutual_neighbors"``, ``"spatial"``, or the path of a
        YAML file.
    data
        AnnData or MuData file, or another that :func:`heteromics.data.read` takes. Its matrices are read whole, since
        they are transformed; :mod:`heteromics.graphs.shards` builds from larger ones.
    db
        Prior store. ``bipartite`` and ``multiomics`` need one; ``cell_feature`` takes pathway edges from it.
    sets
        ``key=value`` over the recipe.

    Returns
    -------
    HeteroGraph
        ``meta["recipe"]`` holds the resolved recipe.

    Raises
    ------
    RecipeError, GraphError, DataError
        For what does not fit; nothing is written.
    """
    from heteromics.data.readers import read
    from heteromics.data.transforms import transform

    checked = load_recipe(recipe, sets)
    db = _checked_store(checked, db)
    matrices = [
        transform(read(data, modality=layer.modality, layer=layer.layer, expect=layer.values), layer.transform)
        for layer in checked.layers
    ]
    with _opened(db) as store:
        graph = checked.build(matrices, store)
    graph.meta["recipe"] = _config.as_dict(checked)
    return graph


def _checked_store(recipe: GraphRecipe, db: Path | str | None) -> Path | str | None:
    if db is None and recipe.store == "needed":
        raise GraphError(
            f"the {recipe.graph} graph takes places and links from a prior store, found none. "
            "Fix: --db FILE, built with `heteromics priors build`."
        )
    return None if recipe.store == "unused" else db


@contextmanager
def _opened(db: Path | str | None) -> Iterator[PriorStore | None]:
    if db is None:
        yield None
        return
    from heteromics.priors import PriorStore

    with PriorStore.open(db) as store:
        yield store
