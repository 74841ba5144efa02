"""Encodings of nodes by their place: Laplacian eigenvectors, returns of random walks, sinusoids, patches of a grid.

The functions of an edge type take a graph and may keep what they computed in a folder, under a name made of the graph's
hash and all parameters. What a model learns on top of them is in :mod:`heteromics.nn.positions`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import GraphError, did_you_mean
from heteromics.graphs._adjacency import adjacency_of
from heteromics.graphs._laplacian import Spectrum, laplacian_eigenvectors
from heteromics.graphs._places import patch_codes, sinusoid_encoding, unit_square
from heteromics.graphs._random_walk import Estimate, estimated_returns, return_probabilities
from heteromics.graphs.hashing import graph_hash

if TYPE_CHECKING:
    from heteromics.graphs.schema import EdgeType, HeteroGraph

__all__ = [
    "Estimate",
    "Spectrum",
    "add_encoding",
    "estimated_returns",
    "laplacian_eigenvectors",
    "laplacian_encoding",
    "patch_codes",
    "random_walk_encoding",
    "return_probabilities",
    "sinusoid_encoding",
    "unit_square",
]

_FORMAT = 1  # rises when the same parameters give other numbers


def laplacian_encoding(
    graph: HeteroGraph,
    etype: EdgeType,
    k: int = 10,
    *,
    weight: str | None = "weight",
    seed: int = 0,
    cache: Path | str | None = None,
    progress: bool = True,
) -> Spectrum:
    """Compute the k smallest non-trivial eigenvectors of the normalised Laplacian, each component on its own.

    Parameters
    ----------
    graph
        Any graph.
    etype
        Edges among the nodes of one type; they count in both directions.
    k
        How many; 10 in SpaFormer and scMoFormer.
    weight
        Edge data used as weights, or None for edges that count 1.
    seed, progress
        See :func:`laplacian_eigenvectors`, which does the work and says more.
    cache
        Folder to keep the result in and to look for it first; None keeps nothing.

    Returns
    -------
    Spectrum
        Eigenvectors (N, k), eigenvalues (C, k) and the component of each node (N,).

    Raises
    ------
    GraphError
        The edge type joins two node types, or weights are not there or negative.

    Examples
    --------
    >>> from heteromics.graphs import HeteroGraph
    >>> etype = ("gene", "interacts", "gene")
    >>> graph = HeteroGraph.from_edges({etype: ([0, 1, 1, 2], [1, 0, 2, 1])}, names={"gene": ["A", "B", "C"]})
    >>> laplacian_encoding(graph, etype, k=2, weight=None).values.round(decimals=3).tolist()
    [[1.0, 2.0]]
    """

    def compute() -> dict[str, Tensor]:
        adjacency = adjacency_of(graph, etype, weight)
        return laplacian_eigenvectors(adjacency, k, seed=seed, progress=progress)._asdict()

    parameters = {"encoding": "laplacian", "etype": list(etype), "k": k, "weight": weight, "seed": seed}
    return Spectrum(**_kept(cache, graph, etype, parameters, compute))


def random_walk_encoding(
    graph: HeteroGraph,
    etype: EdgeType,
    steps: int = 10,
    *,
    weight: str | None = "weight",
    samples: int | None = None,
    seed: int = 0,
    cache: Path | str | None = None,
    progress: bool = True,
) -> Tensor:
    """Compute how likely a walk along the edges is to be back at its start after 1 to ``steps`` steps.

    Parameters
    ----------
    graph
        Any graph.
    etype
        Edges among the nodes of one type; walks go from source to destination, so that an undirected network must
        hold both directions.
    steps
        How many; 10 in scMoFormer.
    weight
        Edge data in proportion to which a walk takes an edge, or None.
    samples
        None: exact (:func:`return_probabilities`). A number: estimate from so many random vectors
        (:func:`estimated_returns`, where the error is stated), for graphs where exact is too much.
    seed
        Of the estimate.
    cache
        Folder to keep the result in and to look for it first; None keeps nothing.
    progress
        Show a bar on stderr.

    Returns
    -------
    Tensor
        float32, shape (N, steps).

    Raises
    ------
    GraphError
        The edge type joins two node types, or weights are not there or negative.

    Examples
    --------
    >>> from heteromics.graphs import HeteroGraph
    >>> etype = ("gene", "interacts", "gene")
    >>> graph = HeteroGraph.from_edges({etype: ([0, 1, 1, 2], [1, 0, 2, 1])}, names={"gene": ["A", "B", "C"]})
    >>> random_walk_encoding(graph, etype, steps=2, weight=None).round(decimals=3).tolist()
    [[0.0, 0.5], [0.0, 1.0], [0.0, 0.5]]
    """

    def compute() -> dict[str, Tensor]:
        adjacency = adjacency_of(graph, etype, weight)
        if samples is None:
            return {"value": return_probabilities(adjacency, steps, progress=progress)}
        return {"value": estimated_returns(adjacency, steps, samples=samples, seed=seed, progress=progress).value}

    parameters = {"encoding": "random_walk", "etype": list(etype), "steps": steps, "weight": weight, "samples": samples}
    if samples is not None:
        parameters["seed"] = seed
    return _kept(cache, graph, etype, parameters, compute)["value"]


def add_encoding(
    graph: HeteroGraph, kind: str, where: EdgeType | str, *, name: str | None = None, **parameters: Any
) -> HeteroGraph:
    """Compute an encoding and store it among the node data of the graph, with a note in ``meta["encodings"]``.

    Parameters
    ----------
    graph
        Is changed: gets node data and a note.
    kind
        ``"laplacian"`` or ``"random_walk"`` of an edge type, ``"sinusoid"`` or ``"patches"`` of a node type that has
        ``position`` (N, 2); these are brought into a unit square, each ``library`` on its own where there is one.
    where
        The edge type or node type.
    name
        Of the node data; by default that of the kind.
    parameters
        Of :func:`laplacian_encoding`, :func:`random_walk_encoding`, :func:`patch_codes`; for ``"sinusoid"``, ``width``
        and ``grid``, the steps along a side (100; positions between steps are kept).

    Returns
    -------
    HeteroGraph
        The graph itself.

    Raises
    ------
    GraphError
        For an unknown kind, or a node type without positions; else as the functions named.

    Examples
    --------
    >>> from heteromics.graphs import HeteroGraph
    >>> etype = ("gene", "interacts", "gene")
    >>> graph = HeteroGraph.from_edges({etype: ([0, 1], [1, 0])}, names={"gene": ["A", "B"]})
    >>> add_encoding(graph, "random_walk", etype, steps=2, weight=None).ndata("gene")["random_walk"].tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    >>> graph.meta["encodings"]
    [{'node': 'gene', 'name': 'random_walk', 'kind': 'random_walk', 'etype': ['gene', 'interacts', 'gene'], \
'steps': 2, 'weight': None}]
    """
    if kind not in _KINDS:
        raise GraphError(f"found encoding {kind!r}; {did_you_mean(kind, _KINDS)}known are {', '.join(_KINDS)}.")
    values = _KINDS[kind](graph, where, **parameters)
    ntype = where if isinstance(where, str) else where[0]
    note: dict[str, Any] = {"node": ntype, "name": name or kind, "kind": kind}
    if not isinstance(where, str):
        note["etype"] = list(where)
    kept = {key: _plain(value) for key, value in parameters.items() if key not in ("cache", "progress")}
    graph.dgl.nodes[ntype].data[note["name"]] = values
    others = [one for one in graph.meta.get("encodings", []) if (one["node"], one["name"]) != (ntype, note["name"])]
    graph.meta["encodings"] = [*others, note | kept]
    return graph


def _laplacian(graph: HeteroGraph, etype: EdgeType, **parameters: Any) -> Tensor:
    return laplacian_encoding(graph, etype, **parameters).vectors


def _sinusoid(graph: HeteroGraph, ntype: str, width: int, grid: int = 100) -> Tensor:
    return sinusoid_encoding(grid * _unit_places(graph, ntype), width)


def _patches(graph: HeteroGraph, ntype: str, **parameters: Any) -> Tensor:
    return patch_codes(_unit_places(graph, ntype), **parameters)


_KINDS: dict[str, Callable[..., Tensor]] = {
    "laplacian": _laplacian,
    "random_walk": random_walk_encoding,
    "sinusoid": _sinusoid,
    "patches": _patches,
}


def _unit_places(graph: HeteroGraph, ntype: str) -> Tensor:
    data = graph.ndata(ntype)
    if "position" not in data:
        raise GraphError(
            f"nodes '{ntype}' have no data called 'position'; they have: {', '.join(data) or 'none'}.\n"
            "  Fix: build the graph with the spatial builder, or write positions (N, 2) into graph.dgl."
        )
    return unit_square(data["position"], data.get("library"))


def _kept(
    cache: Path | str | None,
    graph: HeteroGraph,
    etype: EdgeType,
    parameters: dict[str, Any],
    compute: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return what the cache holds under the graph and these parameters, or compute and keep it."""
    if cache is None:
        return compute()
    from safetensors.torch import save

    parts = {"format": _FORMAT, "graph": graph_hash(graph, [etype]), **parameters}
    key = json.dumps({name: _plain(value) for name, value in parts.items()}, sort_keys=True)
    path = Path(cache) / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if (found := _read(path, key)) is not None:
        return found
    made = {name: tensor.contiguous() for name, tensor in compute().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.part-{uuid.uuid4().hex}")  # threads and machines may write the same
    fresh.write_bytes(save(made, {"key": key, "sha256": _digest(made)}))
    fresh.replace(path)
    return made


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """Read a kept encoding; one that is not what was written is named in a warning and computed again."""
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, the file is no mapping
            about = file.metadata() or {}
    except SafetensorError as error:
        problem = f"cannot be read ({error})"
    else:
        if about.get("key") == key and about.get("sha256") == _digest(found):
            return found
        problem = "is not what was written"
    warnings.warn(f"the kept encoding {path} {problem}; it is computed again and replaced.", stacklevel=5)
    return None


def _plain(value: Any) -> Any:
    """Return the Python number in a NumPy scalar, which JSON takes; others as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
