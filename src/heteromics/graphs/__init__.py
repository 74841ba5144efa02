"""Heterographs of cells, genes, peaks and proteins: built from data and priors, checked, kept on disk.

>>> from heteromics.graphs import HeteroGraph
>>> graph = HeteroGraph.from_edges(
...     {("cell", "expresses", "feature"): ([0, 1], [1, 0])}, names={"cell": ["a", "b"], "feature": ["x", "y"]}
... )
>>> graph.validate().num_edges(("cell", "expresses", "feature"))
2
"""

from heteromics.graphs.bipartite import bipartite
from heteromics.graphs.card import Card
from heteromics.graphs.cell_feature import cell_feature
from heteromics.graphs.io import load_graph, save_graph
from heteromics.graphs.kinds import Feature, Kind, known_kind, register
from heteromics.graphs.pairs import PairBatch, PairBatcher
from heteromics.graphs.schema import Compressed, EdgeType, HeteroGraph

__all__ = [
    "Card",
    "Compressed",
    "EdgeType",
    "Feature",
    "HeteroGraph",
    "Kind",
    "PairBatch",
    "PairBatcher",
    "bipartite",
    "cell_feature",
    "known_kind",
    "load_graph",
    "register",
    "save_graph",
]
