"""A networkx graph as Cytoscape CX2.

Source: Cytoscape Exchange Format Specification (Version 2), cytoscape.org/cx/cx2/specification, of 2025-07-22: a list
of aspects that begins with the descriptor and ends with the status; attributes are declared with their types before
they are used; NaN and infinity do not exist and are left out as missing values are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from heteromics.errors import DataError

if TYPE_CHECKING:
    import networkx as nx

NODE_LOOKS = {
    "tf": {"NODE_BACKGROUND_COLOR": "#D55E00", "NODE_SHAPE": "diamond"},
    "peak": {"NODE_BACKGROUND_COLOR": "#8A8A8A", "NODE_SHAPE": "rectangle"},
    "gene": {"NODE_BACKGROUND_COLOR": "#56B4E9", "NODE_SHAPE": "ellipse"},
}
"""Okabe and Ito's colours, which stay apart under colour blindness, and a shape for each type of node."""

SIGN_LOOKS = {
    -1: {"EDGE_LINE_COLOR": "#D55E00", "EDGE_TARGET_ARROW_SHAPE": "tee"},
    0: {"EDGE_LINE_COLOR": "#8A8A8A", "EDGE_TARGET_ARROW_SHAPE": "triangle"},
    1: {"EDGE_LINE_COLOR": "#009E73", "EDGE_TARGET_ARROW_SHAPE": "triangle"},
}


def cx2_document(graph: nx.MultiDiGraph, name: str) -> list[dict[str, Any]]:
    """Return the aspects of a CX2 document.

    Parameters
    ----------
    graph
        Nodes with ``node_type``; attributes are text, whole numbers, numbers or truth values, None where missing.
    name
        Name of the network.

    Returns
    -------
    list of dict
        Values that JSON knows. Node names are attribute ``name``; nodes and edges are numbered in the graph's order.

    Raises
    ------
    DataError
        When an attribute has values of different kinds, or of a kind that CX2 does not have.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = nx.MultiDiGraph()
    >>> graph.add_node("JUN", node_type="tf")
    >>> [list(aspect)[0] for aspect in cx2_document(graph, "small")]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['CXVersion', 'metaData', 'attributeDeclarations', 'networkAttributes', 'nodes', 'edges', 'visualProperties',
     'status']
    """
    number = {node: place for place, node in enumerate(graph)}
    node_values = [{"name": str(node), **_values(data)} for node, data in graph.nodes(data=True)]
    edge_values = [_values(data) for _, _, data in graph.edges(data=True)]
    declared = {
        "networkAttributes": {"name": {"d": "string"}},
        "nodes": _declared(node_values, "nodes"),
        "edges": _declared(edge_values, "edges"),
    }
    ends = ((number[start], number[end]) for start, end in graph.edges())
    aspects: dict[str, list[Any]] = {
        "attributeDeclarations": [declared],
        "networkAttributes": [{"name": name}],
        "nodes": [{"id": place, "v": values} for place, values in enumerate(node_values)],
        "edges": [
            {"id": place, "s": start, "t": end, "v": values}
            for place, ((start, end), values) in enumerate(zip(ends, edge_values, strict=True))
        ],
        "visualProperties": [_looks(declared)],
    }
    counts = [{"name": aspect, "elementCount": len(elements)} for aspect, elements in aspects.items()]
    return [
        {"CXVersion": "2.0", "hasFragments": False},
        {"metaData": counts},
        *({aspect: elements} for aspect, elements in aspects.items()),
        {"status": [{"error": "", "success": True}]},
    ]


def _values(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain Python values, without those that are missing or not finite; ``id`` is no name CX2 allows."""
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in data.items()}
    return {
        "identifier" if key == "id" else key: value
        for key, value in plain.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def _declared(elements: Iterable[Mapping[str, Any]], what: str) -> dict[str, dict[str, str]]:
    kinds: dict[str, set[str]] = {}
    for element in elements:
        for key, value in element.items():
            kinds.setdefault(key, set()).add(_kind(value, key, what))
    if mixed := {key: found for key, found in kinds.items() if len(found) > 1}:
        key, found = next(iter(mixed.items()))
        raise DataError(
            f"CX2: {len(mixed)} of {len(kinds)} attributes of {what} have values of several kinds: '{key}' has "
            f"{', '.join(sorted(found))}, expected one."
        )
    return {key: {"d": found.pop()} for key, found in kinds.items()}


def _kind(value: Any, key: str, what: str) -> str:
    for kind, name in ((bool, "boolean"), (int, "long"), (float, "double"), (str, "string")):
        if isinstance(value, kind):
            return name
    raise DataError(
        f"CX2: attribute '{key}' of {what} has a {type(value).__name__}, expected text, a number or a truth value."
    )


def _looks(declared: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, Any]:
    """Return a portable style: shape and colour by type of node, arrow and colour by sign of the edge."""
    nodes = {"NODE_LABEL": {"type": "PASSTHROUGH", "definition": {"attribute": "name", "type": "string"}}}
    nodes |= _discrete("node_type", NODE_LOOKS, declared["nodes"])
    return {
        "default": {
            "network": {"NETWORK_BACKGROUND_COLOR": "#FFFFFF"},
            "node": {"NODE_WIDTH": 40.0, "NODE_HEIGHT": 40.0, "NODE_LABEL_FONT_SIZE": 10},
            "edge": {
                "EDGE_LINE_COLOR": "#8A8A8A",
                "EDGE_SOURCE_ARROW_SHAPE": "none",
                "EDGE_TARGET_ARROW_SHAPE": "triangle",
                "EDGE_WIDTH": 1.0,
            },
        },
        "nodeMapping": nodes,
        "edgeMapping": _discrete("sign", SIGN_LOOKS, declared["edges"]),
    }


def _discrete(
    attribute: str, looks: Mapping[Any, Mapping[str, str]], declared: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Any]]:
    if attribute not in declared:
        return {}
    kind = declared[attribute]["d"]
    properties = next(iter(looks.values()))
    return {
        name: {
            "type": "DISCRETE",
            "definition": {
                "attribute": attribute,
                "type": kind,
                "map": [{"v": value, "vp": look[name]} for value, look in looks.items()],
            },
        }
        for name in properties
    }
