"""The card of a graph: what is in it, where it came from and what it weighs, for people and for JSON."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heteromics._files import write_text
from heteromics.graphs import _dgl
from heteromics.graphs.kinds import Data, short

if TYPE_CHECKING:
    from heteromics.graphs._dgl import EdgeType
    from heteromics.graphs.schema import HeteroGraph

__all__ = ["Card", "CardSum", "Coverage", "EdgeCard", "NodeCard", "make_card"]

_QUANTILES = {"least": 0.0, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "most": 1.0}
_LONGEST_LIST = 6
_STYLE = (
    "body { font: 14px/1.5 sans-serif; margin: 2rem; } table { border-collapse: collapse; margin: 0 0 1.5rem; } "
    "caption { font-weight: bold; text-align: left; } th, td { border: 1px solid #ccc; padding: .2rem .6rem; "
    "text-align: left; vertical-align: top; }"
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Nodes of one chromosome, and how many of them have an edge."""

    nodes: int
    with_edges: int


@dataclass(frozen=True, slots=True)
class NodeCard:
    """One node type: its number, nodes without any edge, features as text, coverage by chromosome."""

    number: int
    isolated: int
    features: dict[str, str]
    chromosomes: dict[str, Coverage]


@dataclass(frozen=True, slots=True)
class EdgeCard:
    """One edge type: its number, share of all pairs, degrees at both ends, data as text, what it reverses."""

    number: int
    density: float
    source_degree: dict[str, float]
    destination_degree: dict[str, float]
    features: dict[str, str]
    reverse_of: str | None


@dataclass(frozen=True, slots=True)
class Card:
    """A graph at a glance; shown as a table by notebooks and by :meth:`text`.

    Attributes
    ----------
    kind
    nodes, edges
        By type; an edge type is written ``source-name-destination``.
    bytes
        Memory of ``structure``, ``features`` and ``names``; what two edge types share counts once.
    meta
        Builder, parameters, provenance and what did not join, as the graph carries them.

    Examples
    --------
    >>> from heteromics.graphs import HeteroGraph
    >>> graph = HeteroGraph.from_edges({("a", "to", "b"): ([0, 0], [0, 2])}, names={"a": ["x"], "b": ["p", "q", "r"]})
    >>> print(graph.card.text())
    custom graph, 32 bytes
    node type  number  isolated  features
    a               1         0  -
    b               3         1  -
    edge type  number  density  out-degree  in-degree   features  reverse of
    a-to-b          2    66.7%  2 (2 to 2)  1 (0 to 1)  -         -
    """

    kind: str
    nodes: dict[str, NodeCard]
    edges: dict[str, EdgeCard]
    bytes: dict[str, int]
    meta: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Card:
        """Make the card again from what :meth:`as_dict` returned."""
        nodes = {
            ntype: NodeCard(**{**node, "chromosomes": {k: Coverage(**v) for k, v in node["chromosomes"].items()}})
            for ntype, node in plain["nodes"].items()
        }
        edges = {etype: EdgeCard(**edge) for etype, edge in plain["edges"].items()}
        return cls(plain["kind"], nodes, edges, dict(plain["bytes"]), dict(plain["meta"]))

    def text(self) -> str:
        """Return aligned tables; degrees are the median, with the least and the most."""
        blocks = [f"{self.kind} graph, {sum(self.bytes.values()):,} bytes"]
        blocks += [_aligned(rows) for _, rows in self._tables()]
        return "\n".join(blocks)

    def html(self) -> str:
        """Return one HTML page that stands alone; words of the data are escaped."""
        title = f"{html.escape(self.kind)} graph"
        head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{self._repr_html_()}\n</body></html>\n'

    def save_html(self, path: Path | str) -> Path:
        """Write :meth:`html` to a file, whole or not at all, and return its path."""
        write_text(Path(path), self.html())
        return Path(path)

    def _tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        yield "nodes", self._node_rows()
        yield "edges", self._edge_rows()
        if coverage := self._coverage_rows():
            yield "chromosomes", coverage
        if self.meta:
            yield "about", [["about", "value"], *([key, value] for key, value in _flat(self.meta))]

    def _node_rows(self) -> list[list[str]]:
        rows = [["node type", "number", "isolated", "features"]]
        for ntype, node in self.nodes.items():
            rows.append([ntype, f"{node.number:,}", f"{node.isolated:,}", _listed(node.features)])
        return rows

    def _edge_rows(self) -> list[list[str]]:
        rows = [["edge type", "number", "density", "out-degree", "in-degree", "features", "reverse of"]]
        for etype, edge in self.edges.items():
            degrees = [_range(edge.source_degree), _range(edge.destination_degree)]
            rows.append(
                [
                    etype,
                    f"{edge.number:,}",
                    f"{100 * edge.density:.3g}%",
                    *degrees,
                    _listed(edge.features),
                    edge.reverse_of or "-",
                ]
            )
        return rows

    def _coverage_rows(self) -> list[list[str]]:
        ntypes = [ntype for ntype, node in self.nodes.items() if node.chromosomes]
        labels = dict.fromkeys(label for ntype in ntypes for label in self.nodes[ntype].chromosomes)
        rows = [["chromosome", *(f"{ntype} with edges / all" for ntype in ntypes)]] if ntypes else []
        for label in labels:
            found = [self.nodes[ntype].chromosomes.get(label, Coverage(0, 0)) for ntype in ntypes]
            rows.append([label, *(f"{each.with_edges:,} / {each.nodes:,}" for each in found)])
        return rows

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.kind)}</b> graph, {sum(self.bytes.values()):,} bytes</p>"]
        for caption, (head, *rows) in self._tables():
            lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
            lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
            body = "".join(f"<tr>{line}</tr>" for line in lines)
            parts.append(f"<table><caption>{caption}</caption>{body}</table>")
        return "\n".join(parts)


def make_card(graph: HeteroGraph) -> Card:
    """Read a graph's card; time and memory grow with nodes and edges."""
    total = CardSum()
    total.add(graph)
    return total.card(graph)


class CardSum:
    """The card of a graph that is seen part by part: parts share all node types but one, whose nodes add up.

    Parameters
    ----------
    along
        Node type that is divided among the parts. None: one part, the whole.
    """

    def __init__(self, along: str | None = None) -> None:
        self._along = along
        self._degrees: dict[EdgeType, tuple[list[Tensor], list[Tensor]]] = {}
        self._bytes: list[dict[str, int]] = []

    def add(self, graph: HeteroGraph) -> None:
        """Count one part; it is not kept."""
        for etype in graph.canonical_etypes:
            sides = self._degrees.setdefault(etype, ([], []))
            for ntype, found, degree in zip((etype[0], etype[2]), sides, _degrees(graph, etype), strict=True):
                if ntype == self._along or not found:
                    found.append(degree)
                elif self._along in (etype[0], etype[2]):
                    found[0] = found[0] + degree
        self._bytes.append(graph_bytes(graph))

    def card(self, like: HeteroGraph) -> Card:
        """Return the card of the whole; ``like`` is the first part, which may have got edges that all parts share."""
        degrees = {etype: [torch.cat(found) for found in sides] for etype, sides in self._degrees.items()}
        degrees |= {etype: list(_degrees(like, etype)) for etype in like.canonical_etypes if etype not in degrees}
        weight = {name: sum(part[name] for part in self._bytes) for name in self._bytes[0]}
        for name in ("structure", "features"):  # that every part got
            weight[name] += len(self._bytes) * (graph_bytes(like)[name] - self._bytes[0][name])
        touched: dict[str, Tensor] = {}
        for etype, sides in degrees.items():
            for ntype, degree in zip((etype[0], etype[2]), sides, strict=True):
                touched[ntype] = touched.get(ntype, degree > 0) | (degree > 0)
        for ntype in like.ntypes:
            touched.setdefault(ntype, torch.zeros(like.num_nodes(ntype), dtype=torch.bool))
        edges = {}
        for etype in like.canonical_etypes:
            (out_degree, in_degree), origin = degrees[etype], like.reverse.get(etype)
            number, pairs = int(out_degree.sum()), len(out_degree) * len(in_degree)
            edges["-".join(etype)] = EdgeCard(
                number=number,
                density=number / pairs if pairs else 0.0,
                source_degree=_quantiles(out_degree),
                destination_degree=_quantiles(in_degree),
                features=_features(like.edata(etype)),
                reverse_of="-".join(origin) if origin else None,
            )
        nodes = {ntype: _node_card(like, ntype, touched[ntype]) for ntype in like.ntypes}
        return Card(like.kind, nodes, edges, weight, like.meta)


def graph_bytes(graph: HeteroGraph) -> dict[str, int]:
    """Return the memory of a graph in bytes: ``structure`` as DGL holds it now, ``features`` and ``names``."""
    structure: dict[int, int] = {}
    features: dict[int, int] = {}
    for etype in graph.canonical_etypes:
        for by in _dgl.held(graph.dgl, etype):
            _weigh(structure, graph.dgl.adj_tensors({"src": "csr", "dst": "csc"}[by], etype=etype))
        _weigh(features, graph.edata(etype).values())
    for ntype in graph.ntypes:
        _weigh(features, graph.ndata(ntype).values())
    names = sum(listed.nbytes for listed in graph.names.values())
    return {"structure": sum(structure.values()), "features": sum(features.values()), "names": names}


def _weigh(weighed: dict[int, int], tensors: Any) -> None:
    for tensor in tensors:
        if tensor.numel():
            weighed[tensor.data_ptr()] = max(weighed.get(tensor.data_ptr(), 0), tensor.nbytes)


def _degrees(graph: HeteroGraph, etype: EdgeType) -> tuple[Tensor, Tensor]:
    """Count edges out of every source and into every destination, from the side that is there."""
    part, _ = _dgl.stored(graph.dgl, etype)
    other = graph.num_nodes(etype[2] if part.by == "src" else etype[0])
    degrees = part.indptr.diff(), torch.bincount(part.indices, minlength=other)
    return degrees if part.by == "src" else degrees[::-1]


def _quantiles(degree: Tensor) -> dict[str, float]:
    """Quantiles that are themselves degrees (the nearest lower one); none for no nodes."""
    if not len(degree):
        return {}
    ordered = degree.sort().values
    return {name: float(ordered[int(share * (len(ordered) - 1))]) for name, share in _QUANTILES.items()}


def _node_card(graph: HeteroGraph, ntype: str, touched: Tensor) -> NodeCard:
    data = graph.ndata(ntype)
    chromosomes = {}
    if "chrom" in data:
        labels = graph.meta.get("chromosomes", [])
        for code in data["chrom"].unique().tolist():
            there = data["chrom"] == code
            label = "unknown" if code < 0 else str(labels[code] if code < len(labels) else code)
            chromosomes[label] = Coverage(int(there.sum()), int((there & touched).sum()))
    return NodeCard(len(touched), int((~touched).sum()), _features(data), chromosomes)


def _features(data: Data) -> dict[str, str]:
    shapes = {name: "".join(f" x {size}" for size in tensor.shape[1:]) for name, tensor in data.items()}
    return {name: f"{short(tensor.dtype)}{shapes[name]}" for name, tensor in sorted(data.items())}


def _range(quantiles: Mapping[str, float]) -> str:
    return "{median:.0f} ({least:.0f} to {most:.0f})".format(**quantiles) if quantiles else "-"


def _listed(features: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {form}" for name, form in features.items()) or "-"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Walk nested mappings to ``a.b`` and a short text; long lists are counted, not shown."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _flat(item, f"{path}[{place}]")
    elif isinstance(value, list | tuple):
        shown = ", ".join(map(str, value[:_LONGEST_LIST]))
        yield path, shown if len(value) <= _LONGEST_LIST else f"{shown} ... ({len(value)} in all)"
    else:
        yield path, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _aligned(rows: list[list[str]]) -> str:
    """Columns of numbers to the right, of words to the left."""
    columns = list(zip(*rows, strict=True))
    numeric = [
        all(cell[:1].isdigit() and cell.rstrip("%").replace(",", "").replace(".", "").isdigit() for cell in column[1:])
        for column in columns
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
