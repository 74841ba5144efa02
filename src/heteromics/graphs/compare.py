"""What differs between two graphs: names, counts, edges, features and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import some
from heteromics.graphs.kinds import short

if TYPE_CHECKING:
    from heteromics.graphs.schema import EdgeType, HeteroGraph


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
