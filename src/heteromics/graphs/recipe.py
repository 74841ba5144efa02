"""Graphs from recipes: which builder, which layers, which parameters; planned from metadata, built from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics import _config
from heteromics._resources import recipe_path
from heteromics.errors import GraphError, MissingLayer, RecipeError, some
from heteromics.graphs.kinds import short

if TYPE_CHECKING:
    from anndata import AnnData

    from heteromics.graphs.schema import EdgeType, HeteroGraph

BYTES_PER_EDGE = 8
"""int32 index and float32 weight; a reverse edge type shares both."""


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One matrix of the data file: modality, layer, what its values are, and what is done to them.

    See :func:`heteromics.data.read` and :func:`heteromics.data.transform`.
    """

    modality: str = "rna"
    layer: str = "X"
    values: Literal["counts", "normalised"] = "counts"
    transform: Literal["none", "log1p", "log1p_cp10k"] = "none"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Which cells are training cells: those with ``value`` in a column of ``obs``; all without a column."""

    column: str | None = None
    value: str = "train"


@dataclass(frozen=True, slots=True)
class PathwayConfig:
    """Feature-feature edges from the store's ``gene_pathway``; see :func:`heteromics.graphs.cell_feature`."""

    weighting: Literal["cosine", "one"] = "cosine"
    threshold: float = 0.1


@dataclass(frozen=True, slots=True)
class CellFeatureRecipe:
    """Parameters of :func:`heteromics.graphs.cell_feature`."""

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


@dataclass(frozen=True, slots=True)
class BipartiteRecipe:
    """Parameters of :func:`heteromics.graphs.bipartite`."""

    recipe: Literal[1]
    graph: Literal["bipartite"]
    rna: LayerConfig = field(default_factory=LayerConfig)
    atac: LayerConfig = field(default_factory=lambda: LayerConfig(modality="atac"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mask: Literal["chromosome", "window"] = "chromosome"
    within_bp: int = 150_000
    cell_type: str = "cell_type"
    gene_attributes: tuple[str, ...] | None = None
    peak_attributes: tuple[str, ...] | None = None

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The matrices it reads."""
        return (self.rna, self.atac)


Recipe = CellFeatureRecipe | BipartiteRecipe
KINDS: dict[str, type[Recipe]] = {"cell_feature": CellFeatureRecipe, "bipartite": BipartiteRecipe}


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """What a recipe would build, from the metadata of the data file.

    Attributes
    ----------
    kind
        Of the graph.
    nodes, edges
        Numbers by type; None where only the work itself can tell.
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


def load_recipe(name_or_path: str | Path, sets: Sequence[str] = ()) -> Recipe:
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
        As in :func:`build`; the data file must be ``.h5ad`` or ``.h5mu``, whose metadata tells sizes.

    Raises
    ------
    GraphError
        When the recipe needs a store and none is given.
    """
    from heteromics.data.readers import size_of

    checked = load_recipe(recipe, sets)
    if isinstance(checked, BipartiteRecipe):
        _store(db)
    sizes = [size_of(data, modality=layer.modality, layer=layer.layer) for layer in checked.layers]
    if isinstance(checked, CellFeatureRecipe):
        (only,) = sizes
        nodes: dict[str, int | None] = {"cell": only.cells, "feature": only.features}
        edges: dict[str, int | None] = {"expresses": only.values, "expressed_by": only.values}
        if db is not None:
            edges["pathway"] = None
        known = only.values + only.cells
    else:
        rna, atac = sizes
        nodes = {"rna_cell": rna.cells, "atac_cell": atac.cells, "gene": rna.features, "peak": atac.features}
        edges = {"expresses": rna.values, "opens": atac.values}
        if checked.mask == "window":
            edges["reaches"] = None
        known = rna.values + atac.values + rna.cells + atac.cells
    return PlannedGraph(checked.graph, nodes, edges, known * BYTES_PER_EDGE)


def build(
    recipe: str | Path, data: Path | str, db: Path | str | None = None, *, sets: Sequence[str] = ()
) -> HeteroGraph:
    """Build the graph of a recipe from a data file and, where it uses one, a prior store.

    Parameters
    ----------
    recipe
        ``"cell_feature"``, ``"bipartite"`` or the path of a YAML file.
    data
        AnnData or MuData file.
    db
        Prior store. ``bipartite`` needs one; ``cell_feature`` takes pathway edges from it.
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
    matrices = [
        transform(read(data, modality=layer.modality, layer=layer.layer, expect=layer.values), layer.transform)
        for layer in checked.layers
    ]
    if isinstance(checked, CellFeatureRecipe):
        graph = _cell_feature(checked, matrices[0], db)
    else:
        graph = _bipartite(checked, matrices[0], matrices[1], _store(db))
    graph.meta["recipe"] = _config.as_dict(checked)
    return graph


def diff(a: HeteroGraph, b: HeteroGraph) -> list[dict[str, Any]]:
    """Compare two graphs: names, counts, edges, features and parameters.

    Returns
    -------
    list of dict
        ``what``, ``a``, ``b`` for everything that differs; empty when nothing does. Features of nodes are compared
        where both graphs have the same nodes, those of edges where they have the same edges.
    """
    rows: list[dict[str, Any]] = [{"what": "kind", "a": a.kind, "b": b.kind}]
    for ntype in sorted({*a.ntypes, *b.ntypes}):
        left, right = (set(g.names[ntype].tolist()) if ntype in g.ntypes else set() for g in (a, b))
        rows.append({"what": f"{ntype} nodes", "a": len(left), "b": len(right)})
        rows.append({"what": f"{ntype} in one only", "a": some(sorted(left - right)), "b": some(sorted(right - left))})
        if left == right:
            rows += _node_rows(ntype, a, b)
    for etype in sorted({*a.canonical_etypes, *b.canonical_etypes}):
        counts = [g.num_edges(etype) if etype in g.canonical_etypes else None for g in (a, b)]
        rows.append({"what": f"{'-'.join(etype)} edges", "a": counts[0], "b": counts[1]})
        if counts[0] == counts[1] and etype not in a.reverse:
            rows += _edge_rows(etype, a, b)
    parameters = [_parameters(g) for g in (a, b)]
    rows += [
        {"what": f"parameter {key}", "a": parameters[0].get(key), "b": parameters[1].get(key)}
        for key in sorted({*parameters[0], *parameters[1]})
    ]
    return [row for row in rows if row["a"] != row["b"]]


def _parameters(graph: HeteroGraph) -> dict[str, Any]:
    own = {key: graph.meta[key] for key in ("mask", "within_bp", "standardised", "training_cells") if key in graph.meta}
    return own | graph.meta.get("parameters", {})


def _node_rows(ntype: str, a: HeteroGraph, b: HeteroGraph) -> list[dict[str, Any]]:
    if not np.array_equal(a.names[ntype], b.names[ntype]):
        return [{"what": f"{ntype} order", "a": "as named", "b": "the same names in another order"}]
    return _feature_rows(ntype, dict(a.ndata(ntype)), dict(b.ndata(ntype)))


def _edge_rows(etype: EdgeType, a: HeteroGraph, b: HeteroGraph) -> list[dict[str, Any]]:
    if any(not np.array_equal(a.names[ntype], b.names[ntype]) for ntype in (etype[0], etype[2])):
        return []
    what = "-".join(etype)
    (*one, one_ids), (*other, other_ids) = (g.adjacency(etype) for g in (a, b))
    if not all(torch.equal(left, right) for left, right in zip(one, other, strict=True)):
        return [{"what": f"{what} ends", "a": "as given", "b": "as many edges between other nodes"}]
    left, right = (
        {name: tensor[ids.long()] for name, tensor in g.edata(etype).items()}
        for g, ids in ((a, one_ids), (b, other_ids))
    )
    return _feature_rows(what, left, right)


def _feature_rows(what: str, left: dict[str, Tensor], right: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Forms of features that differ in form, and how many values differ in the others."""
    rows = []
    for name in sorted({*left, *right}):
        one, other = left.get(name), right.get(name)
        forms = [None if t is None else f"{short(t.dtype)} {tuple(t.shape)}" for t in (one, other)]
        if one is not None and other is not None and forms[0] == forms[1] and not torch.equal(one, other):
            forms[1] = f"{int((one != other).sum()):,} of {one.numel():,} values differ"
        rows.append({"what": f"{what} {name}", "a": forms[0], "b": forms[1]})
    return rows


def _store(db: Path | str | None) -> Path | str:
    if db is None:
        raise GraphError(
            "the bipartite graph takes chromosomes and positions from a prior store, found none. "
            "Fix: --db FILE, built with `heteromics priors build`."
        )
    return db


def _training(data: AnnData, config: TrainingConfig) -> NDArray[np.str_] | None:
    if config.column is None:
        return None
    if config.column not in data.obs:
        raise MissingLayer(
            f"training: found no column '{config.column}' in obs. Columns: {some(data.obs.columns, 12)}."
        )
    chosen = data.obs_names[data.obs[config.column].astype(str) == config.value].to_numpy(str)
    if not chosen.size:
        words = sorted(set(data.obs[config.column].astype(str)))
        raise GraphError(f"training: no cell has {config.column} = {config.value!r}; found {some(words, 6)}.")
    return chosen


def _cell_feature(recipe: CellFeatureRecipe, data: AnnData, db: Path | str | None) -> HeteroGraph:
    from heteromics.graphs.cell_feature import cell_feature

    options: dict[str, Any] = {
        "training_cells": _training(data, recipe.training),
        "weighting": recipe.pathways.weighting,
        "threshold": recipe.pathways.threshold,
        "obs": recipe.obs,
    }
    if db is None:
        return cell_feature(data, **options)
    from heteromics.priors import PriorStore

    with PriorStore.open(db) as store:
        return cell_feature(data, pathways=store, **options)


def _bipartite(recipe: BipartiteRecipe, rna: AnnData, atac: AnnData, db: Path | str) -> HeteroGraph:
    from heteromics.graphs.bipartite import bipartite
    from heteromics.priors import PriorStore

    with PriorStore.open(db) as store:
        return bipartite(
            rna,
            atac,
            store,
            mask=recipe.mask,
            within_bp=recipe.within_bp,
            training_cells=_training(rna, recipe.training),
            gene_attributes=recipe.gene_attributes,
            peak_attributes=recipe.peak_attributes,
            cell_type=recipe.cell_type,
        )
