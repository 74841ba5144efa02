"""Heterographs of cells, genes, peaks and proteins: built from data and priors, checked, kept on disk.

>>> from heteromics.graphs import HeteroGraph
>>> graph = HeteroGraph.from_edges(
...     {("cell", "expresses", "feature"): ([0, 1], [1, 0])}, names={"cell": ["a", "b"], "feature": ["x", "y"]}
... )
>>> graph.validate().num_edges(("cell", "expresses", "feature"))
2
"""

from heteromics.graphs.schema import Compressed, EdgeType, Feature, HeteroGraph, Kind, known_kind, register

__all__ = ["Compressed", "EdgeType", "Feature", "HeteroGraph", "Kind", "known_kind", "register"]
