"""Everything that can be wrong with a graph, each as one sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from heteromics.errors import some
from heteromics.graphs import _dgl
from heteromics.graphs._dgl import By, Compressed, EdgeType
from heteromics.graphs.kinds import Data, Feature, known_kind, short

if TYPE_CHECKING:
    from heteromics.graphs.schema import HeteroGraph

Name = TypeVar("Name", str, EdgeType)


def part_problems(
    edges: Mapping[EdgeType, Compressed],
    sizes: Mapping[str, int],
    ndata: Mapping[str, Data],
    edata: Mapping[EdgeType, Data],
    reverse: Mapping[EdgeType, EdgeType],
) -> list[str]:
    """Say what DGL would not notice, or only one at a time."""
    problems = [] if edges else ["no edge type given, expected one or more"]
    for etype, part in edges.items():
        if absent := [ntype for ntype in dict.fromkeys((etype[0], etype[2])) if ntype not in sizes]:
            problems.append(f"edges {etype}: no names given for {', '.join(absent)}")
            continue
        rows, columns = _sides(etype, part.by)
        problems += [f"edges {etype}: {p}" for p in compressed_problems(part, sizes[rows], sizes[columns])]
        problems += _data_problems(f"edges {etype}", "edges", len(part.indices), edata.get(etype, {}))
    for etype in edata.keys() - edges.keys():
        problems.append(f"edges {etype}: data given, but no such edges")
    for ntype, features in ndata.items():
        if ntype not in sizes:
            problems.append(f"nodes '{ntype}': data given, but no names")
        else:
            problems += _data_problems(f"nodes '{ntype}'", "nodes", sizes[ntype], features)
    for turned, origin in reverse.items():
        if origin not in edges:
            problems.append(f"edges {turned}: reverse of {origin}, which is not given")
        elif (turned[0], turned[2]) != (origin[2], origin[0]) or turned in edges:
            problems.append(
                f"edges {turned}: cannot reverse {origin}, expected a new type from {origin[2]} to {origin[0]}"
            )
    return problems


def _sides(etype: EdgeType, by: By) -> tuple[str, str]:
    """Node types of the rows and of the indices of edges compressed by one side."""
    return (etype[0], etype[2]) if by == "src" else (etype[2], etype[0])


def compressed_problems(part: Compressed, rows: int, columns: int) -> list[str]:
    indptr, indices = part.indptr, part.indices
    if indptr.is_floating_point() or indices.is_floating_point():
        return [f"found {short(indptr.dtype)} and {short(indices.dtype)}, expected integers"]
    if indptr.shape != (rows + 1,):
        return [f"indptr has shape {tuple(indptr.shape)}, expected ({rows + 1},): one row per {part.by} node"]
    if int(indptr[0]) or int(indptr[-1]) != len(indices) or bool((indptr.diff() < 0).any()):
        return [
            f"indptr must rise from 0 to the {len(indices)} edges; it runs from {int(indptr[0])} to {int(indptr[-1])}"
        ]
    if not len(indices):
        return []
    least, most = map(int, torch.aminmax(indices))
    if least >= 0 and most < columns:
        return []
    outside = int(((indices < 0) | (indices >= columns)).sum())
    return [f"{outside} of {len(indices)} indices lie outside 0 to {columns - 1}"]


def _data_problems(where: str, unit: str, size: int, data: Data) -> list[str]:
    return [
        f"{where}: '{name}' has shape {tuple(tensor.shape)}, expected one row for each of {size} {unit}"
        for name, tensor in data.items()
        if tensor.ndim == 0 or len(tensor) != size
    ]


def pair_problems(etype: EdgeType, src: Tensor, dst: Tensor, sizes: Sequence[int], data: Data) -> list[str]:
    if len(src) != len(dst):
        return [f"edges {etype}: {len(src)} sources and {len(dst)} destinations, expected as many of each"]
    if src.ndim != 1 or dst.ndim != 1 or src.is_floating_point() or dst.is_floating_point():
        forms = " and ".join(f"{short(side.dtype)} with {side.ndim} axes" for side in (src, dst))
        return [f"edges {etype}: found {forms}, expected integers with 1"]
    problems = _data_problems(f"edges {etype}", "edges", len(src), data)
    for side, nodes, size in (("sources", src, sizes[0]), ("destinations", dst, sizes[1])):
        if outside := int(((nodes < 0) | (nodes >= size)).sum()):
            problems.append(f"edges {etype}: {outside} of {len(nodes)} {side} lie outside 0 to {size - 1}")
    return problems


def graph_problems(graph: HeteroGraph) -> list[str]:
    """Return all problems of a whole graph; see :meth:`heteromics.graphs.HeteroGraph.validate`."""
    problems = []
    for ntype in graph.ntypes:
        problems += _name_problems(graph, ntype)
        problems += _value_problems(f"nodes '{ntype}'", graph.ndata(ntype))
    for etype in graph.canonical_etypes:
        if etype in graph.reverse:
            problems += _reverse_problems(graph, etype)
        else:
            problems += _edge_problems(graph, etype)
            problems += _value_problems(f"edges {etype}", graph.edata(etype))
    problems += _kind_problems(graph)
    try:
        json.dumps(graph.meta)
    except (TypeError, ValueError) as error:
        problems.append(f"meta cannot be written as JSON: {error}")
    return problems


def _name_problems(graph: HeteroGraph, ntype: str) -> list[str]:
    if ntype not in graph.names:
        return [f"nodes '{ntype}': no names, expected {graph.num_nodes(ntype)}"]
    names, problems = graph.names[ntype], []
    if len(names) != graph.num_nodes(ntype):
        problems.append(f"nodes '{ntype}': {len(names)} names for {graph.num_nodes(ntype)} nodes")
    twice = [name for name, times in Counter(names.tolist()).items() if times > 1]
    if twice:
        problems.append(f"nodes '{ntype}': {len(twice)} names stand for more than one node: {some(twice)}")
    return problems


def _value_problems(where: str, data: Data) -> list[str]:
    problems = []
    for name, tensor in data.items():
        if tensor.is_floating_point() and (broken := tensor.numel() - int(torch.isfinite(tensor).sum())):
            problems.append(f"{where}: {broken} of {tensor.numel()} values of '{name}' are NaN or infinite")
    return problems


def _edge_problems(graph: HeteroGraph, etype: EdgeType) -> list[str]:
    part, _ = _dgl.stored(graph.dgl, etype)
    rows, columns = _sides(etype, part.by)
    problems = compressed_problems(part, graph.num_nodes(rows), graph.num_nodes(columns))
    return [f"edges {etype}: {problem}" for problem in problems]


def _reverse_problems(graph: HeteroGraph, etype: EdgeType) -> list[str]:
    origin, where = graph.reverse[etype], f"edges {etype}"
    if origin not in graph.canonical_etypes:
        return [f"{where}: reverse of {origin}, which is not in the graph"]
    if (origin[2], origin[0]) != (etype[0], etype[2]):
        return [f"{where}: cannot reverse {origin}, which joins other node types"]
    problems = []
    by: By = _dgl.stored(graph.dgl, origin)[0].by
    there = _dgl.compressed(graph.dgl, origin, by)
    here = _dgl.compressed(graph.dgl, etype, "dst" if by == "src" else "src")
    if not all(_same(one, other) for one, other in zip(there, here, strict=True)):
        problems.append(f"{where}: does not hold the edges of {origin}, which it is said to reverse")
    ours, theirs = graph.edata(etype), graph.edata(origin)
    differ = sorted(
        {*ours.keys() ^ theirs.keys(), *(n for n in ours.keys() & theirs.keys() if not _same(ours[n], theirs[n]))}
    )
    if differ:
        problems.append(f"{where}: data differ from those of {origin}: {some(differ)}")
    return problems


def _same(one: Tensor, other: Tensor) -> bool:
    shared = one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.dtype == other.dtype
    return shared or torch.equal(one, other)


def _kind_problems(graph: HeteroGraph) -> list[str]:
    kind = known_kind(graph.kind)
    if kind is None:
        return []
    problems = [
        f"a {kind.name} graph needs nodes '{ntype}'" for ntype in kind.nodes if not _fitting(graph.ntypes, ntype)
    ]
    problems += [
        f"a {kind.name} graph needs edges {etype}"
        for etype in kind.edges
        if not _fitting(graph.canonical_etypes, etype)
    ]
    for ntype in graph.ntypes:
        needed, optional = _rules(kind.nodes, ntype), _rules(kind.optional_nodes, ntype)
        problems += _feature_problems(f"nodes '{ntype}'", graph.ndata(ntype), needed, optional)
    for etype in graph.canonical_etypes:
        needed, optional = _rules(kind.edges, etype), _rules(kind.optional_edges, etype)
        problems += _feature_problems(f"edges {etype}", graph.edata(etype), needed, optional)
    return problems


def _fitting(names: Iterable[Name], pattern: Name) -> list[Name]:
    """Return the types, or features, that a rule speaks of; its words may hold ``*``."""
    return [name for name in names if _fits(name, pattern)]


def _fits(name: Name, pattern: Name) -> bool:
    if isinstance(name, str) and isinstance(pattern, str):
        return fnmatchcase(name, pattern)
    return all(fnmatchcase(word, rule) for word, rule in zip(name, pattern, strict=True))


def _rules(rules: Mapping[Name, Mapping[str, Feature]], name: Name) -> dict[str, Feature]:
    """Return the features that all rules for a type ask for."""
    found: dict[str, Feature] = {}
    for pattern, features in rules.items():
        if _fits(name, pattern):
            found |= features
    return found


def _feature_problems(
    where: str, data: Data, needed: Mapping[str, Feature], optional: Mapping[str, Feature]
) -> list[str]:
    problems = [f"{where}: no feature '{name}'" for name in needed if not _fitting(data, name)]
    for pattern, feature in {**optional, **needed}.items():
        found = ((name, feature.problem(data[name])) for name in _fitting(data, pattern))
        problems += [f"{where}: '{name}' {problem}" for name, problem in found if problem]
    return problems
