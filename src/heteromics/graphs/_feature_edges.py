"""Edges between features of one modality: genes that share pathways, genes or proteins that interact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs._cell_values import Modality
from heteromics.graphs._members import join_names, pathway_members, texts
from heteromics.graphs._pathways import clique_pairs, pair_cosine, symmetric_edges
from heteromics.graphs.schema import Compressed

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Interactions", "interaction_edges", "pathway_edges"]

Edges = tuple[Compressed, dict[str, Tensor], dict[str, Any]]
_TABLES = {"protein": "protein_protein"}  # of any other modality: gene_gene


@dataclass(frozen=True, slots=True)
class Interactions:
    """Which links between features become edges.

    Attributes
    ----------
    links
        An open prior store, whose ``protein_protein`` joins proteins and whose ``gene_gene`` joins other features; or a
        table with columns ``gene_a``, ``gene_b`` and optionally ``weight``, whose rows are undirected links.
    weighting
        ``"score"``: weights of the links, for STRING the combined score / 1000. ``"one"``: weights of one.
    threshold
        Least weight of a link that is kept, 0 to 1 for STRING; None keeps all.
    sources
        Of a store: names in column ``source`` of the links that count, such as ``("string",)`` for ``gene_gene``, which
        holds links of pathways too. None takes all.
    """

    links: Any
    weighting: Literal["score", "one"] = "score"
    threshold: float | None = None
    sources: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.weighting not in ("score", "one"):
            raise GraphError(f"interactions: found weighting={self.weighting!r}, expected 'score' or 'one'.")
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise GraphError(f"interactions: found threshold={self.threshold}, expected a number or None.")
        if isinstance(self.sources, str):
            raise GraphError(
                f"interactions: found sources={self.sources!r}, expected a list, such as [{self.sources!r}]."
            )

    def parameters(self) -> dict[str, Any]:
        """Return what is noted in a graph."""
        return {
            "interaction_weighting": self.weighting,
            "interaction_threshold": self.threshold,
            "interaction_sources": None if self.sources is None else list(self.sources),
        }


def pathway_edges(modality: Modality, pathways: Any, training: NDArray[np.bool_], threshold: float | None) -> Edges:
    """Join features that share gene sets; without a threshold all weights are one.

    Returns
    -------
    edges, data, match
        Both directions, ``weight`` float32 and ``shared`` int32, and what joined.
    """
    membership, match = pathway_members(pathways, feature_keys(modality.data))
    a, b, shared = clique_pairs(membership)
    weight = np.ones(len(a), dtype=np.float32)
    if threshold is not None:
        weight = pair_cosine(modality.values if training.all() else modality.values[training], a, b)
        kept = np.abs(weight) > threshold
        match["pairs_below_threshold"] = int(kept.size - kept.sum())
        a, b, shared, weight = a[kept], b[kept], shared[kept], weight[kept]
    data = {"weight": weight, "shared": shared.astype(np.int32)}
    return *_edges(*symmetric_edges(a, b, data, len(modality.features))), match


def interaction_edges(modality: Modality, name: str, interactions: Interactions) -> Edges:
    """Join features that interact; see :class:`Interactions`.

    Parameters
    ----------
    modality, name
        The features, and what their modality is called: which table of a store is asked.
    interactions
        The links.

    Returns
    -------
    edges, data, match
        Both directions, each pair once, no loops, ``weight`` float32: the greatest where a pair is linked more than
        once; and what joined.

    Raises
    ------
    GraphError
        For links of another form, a store without the table, or when no feature has a link's name.
    """
    links = interactions.links
    if callable(getattr(links, "frame", None)):
        edges, data, match = _from_store(modality, name, interactions)
    elif {"gene_a", "gene_b"} <= set(getattr(links, "columns", ())):
        edges, data, match = _from_table(modality, interactions)
    else:
        columns = getattr(links, "columns", ())
        found = f"columns {', '.join(map(str, columns))}" if len(columns) else type(links).__name__
        raise GraphError(
            f"interactions: found {found}, expected a PriorStore, or a table with columns gene_a and gene_b."
        )
    if interactions.weighting == "one":
        data["weight"] = torch.ones_like(data["weight"])
    return edges, data, match


def feature_keys(data: AnnData) -> dict[str, list[str]]:
    """Return what the features may be called, by column of ``var``; empty where nothing is said."""
    keys = {"var_names": np.asarray(data.var_names, dtype=str).tolist()}
    return keys | {
        name: texts(data.var[name]).tolist() for name in ("gene_id", "gene_ids", "symbol") if name in data.var
    }


def _from_store(modality: Modality, name: str, interactions: Interactions) -> Edges:
    from heteromics.graphs._multiomics_joins import place_genes, place_proteins
    from heteromics.graphs._prior_edges import prior_edges

    store, table = interactions.links, _TABLES.get(name, "gene_gene")
    if table not in store.tables():
        raise GraphError(
            f"interactions: {store.path} has no table {table}; it has {some(store.tables(), 12)}.\n"
            "  Fix: build a store with STRING links, or give a table with columns gene_a and gene_b."
        )
    if table == "protein_protein":
        proteins = place_proteins(modality.data, store)
        joined, placed = {"protein": proteins.products}, proteins.match
    else:
        genes = place_genes(modality.data, store)
        joined, placed = {"gene": genes.joined}, genes.match
    least = interactions.threshold
    if least is not None and table == "protein_protein":
        least *= 1000  # its score is STRING's, 0 to 1000
    found = prior_edges(store, table, joined, min_score=least, sources=interactions.sources)
    edges, data = _edges(found.indptr, found.indices, {"weight": found.data["weight"]})
    return edges, data, {"features": placed, table: found.match}


def _from_table(modality: Modality, interactions: Interactions) -> Edges:
    table, size = interactions.links, len(modality.features)
    ends = [texts(table[side]) for side in ("gene_a", "gene_b")]
    try:
        weight = np.ones(len(table)) if "weight" not in table else table["weight"].to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise GraphError(f"interactions: found weights of type {table['weight'].dtype}, expected numbers.") from error
    if broken := int((~np.isfinite(weight)).sum()):
        raise GraphError(
            f"interactions: {broken} of {len(weight)} weights are NaN or infinite. Fix: fill or drop them."
        )
    unique, place = np.unique(np.concatenate(ends), return_inverse=True)
    joined = join_names(unique.tolist(), feature_keys(modality.data))
    if len(unique) and not (joined.row >= 0).any():
        raise GraphError(
            f"interactions: none of {len(unique)} names is a feature.\n"
            f"  names: {some(unique)}\n  features: {some(modality.features)}\n"
            "  Fix: give links of the same species, named as var_names or as var['gene_id']."
        )
    one, two = joined.row[place[: len(table)]], joined.row[place[len(table) :]]
    strong = np.ones(len(weight), bool) if interactions.threshold is None else weight >= interactions.threshold
    inside = (one >= 0) & (two >= 0)
    kept = strong & inside & (one != two)
    match = {
        **joined.counts,
        "rows": len(table),
        "below_threshold": int((~strong).sum()),
        "outside": int((strong & ~inside).sum()),
        "within_one_node": int((strong & inside & (one == two)).sum()),
    }
    a, b, weight = np.minimum(one, two)[kept], np.maximum(one, two)[kept], weight[kept]
    order = np.lexsort((-weight, b, a))
    a, b, weight = a[order], b[order], weight[order]
    first = np.ones(len(a), bool)
    first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    match["merged"] = int((~first).sum())
    data = {"weight": weight[first].astype(np.float32)}
    return *_edges(*symmetric_edges(a[first], b[first], data, size)), match


def _edges(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], data: dict[str, NDArray[Any]]
) -> tuple[Compressed, dict[str, Tensor]]:
    part = Compressed("src", torch.from_numpy(indptr), torch.from_numpy(indices))
    return part, {name: torch.from_numpy(values) for name, values in data.items()}
