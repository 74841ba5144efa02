"""Heterographs of cells, genes, peaks and proteins: built from data and priors, checked, kept on disk.

>>> from heteromics.graphs import HeteroGraph
>>> graph = HeteroGraph.from_edges(
...     {("cell", "expresses", "feature"): ([0, 1], [1, 0])}, names={"cell": ["a", "b"], "feature": ["x", "y"]}
... )
>>> graph.validate().num_edges(("cell", "expresses", "feature"))
2
"""

from heteromics.graphs import transforms
from heteromics.graphs.bipartite import bipartite
from heteromics.graphs.card import Card
from heteromics.graphs.cell_feature import Interactions, cell_feature
from heteromics.graphs.encodings import (
    add_encoding,
    laplacian_encoding,
    patch_codes,
    random_walk_encoding,
    sinusoid_encoding,
    unit_square,
)
from heteromics.graphs.hashing import graph_hash
from heteromics.graphs.interchange import from_dgl, to_dgl, to_networkx, to_pyg
from heteromics.graphs.io import load_graph, save_graph
from heteromics.graphs.kinds import Feature, Kind, known_kind, register
from heteromics.graphs.knn import Neighbors, nearest_neighbors
from heteromics.graphs.multiomics import multiomics, training_messages
from heteromics.graphs.neighbor_sampling import sample_neighbors
from heteromics.graphs.neighbors import cell_neighbors, mutual_neighbors, mutual_pairs, second_order
from heteromics.graphs.pairs import PairBatch, PairBatcher
from heteromics.graphs.sampling import CellBatcher, join_cells, partition_cells, subgraph
from heteromics.graphs.schema import Compressed, EdgeType, HeteroGraph
from heteromics.graphs.slots import Slots, to_anndata, to_mudata, to_obsp
from heteromics.graphs.spatial import spatial_delaunay, spatial_grid, spatial_knn, spatial_radius

__all__ = [
    "Card",
    "CellBatcher",
    "Compressed",
    "EdgeType",
    "Feature",
    "HeteroGraph",
    "Interactions",
    "Kind",
    "Neighbors",
    "PairBatch",
    "PairBatcher",
    "Slots",
    "add_encoding",
    "bipartite",
    "cell_feature",
    "cell_neighbors",
    "from_dgl",
    "graph_hash",
    "join_cells",
    "known_kind",
    "laplacian_encoding",
    "load_graph",
    "multiomics",
    "mutual_neighbors",
    "mutual_pairs",
    "nearest_neighbors",
    "partition_cells",
    "patch_codes",
    "random_walk_encoding",
    "register",
    "sample_neighbors",
    "save_graph",
    "second_order",
    "sinusoid_encoding",
    "spatial_delaunay",
    "spatial_grid",
    "spatial_knn",
    "spatial_radius",
    "subgraph",
    "to_anndata",
    "to_dgl",
    "to_mudata",
    "to_networkx",
    "to_obsp",
    "to_pyg",
    "training_messages",
    "transforms",
    "unit_square",
]
