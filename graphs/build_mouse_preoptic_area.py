"""Build the spatial graph of a MERFISH slice of the mouse preoptic area (Moffitt et al. 2018).

    HETEROMICS_DATA=MIRROR python graphs/build_mouse_preoptic_area.py [preoptic_area]

The slice is an item of data_manifest.yaml. Cells that share an edge of the Delaunay triangulation are neighbours; the
longest edges, across holes and around the outline, are left out. How often cells of one type are neighbours is set
beside graphs with the same degrees and edges at random.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from heteromics import data, graphs
from heteromics.graphs import transforms

SLICE = "spatial_merfish_mouse_poa/merfish_mousePOA.h5ad"
ADJOINS = ("cell", "adjoins", "cell")
NULLS = 20


def same_type(graph: graphs.HeteroGraph, types: NDArray[np.str_]) -> float:
    """Return the share of edges whose two cells are of one type."""
    indptr, indices, _ = graph.adjacency(ADJOINS)
    source = np.repeat(types, np.diff(indptr.numpy()))
    return float((source == types[indices.numpy()]).mean())


def main(out: str = "preoptic_area") -> None:
    """Build the graph with codes of its places, write it, print its card and the share of neighbours of one type."""
    cells = data.read(data.locate(SLICE), modality="rna", layer="X", expect="normalised")
    graph = graphs.spatial_delaunay(cells, longest_percentile=99, unit="um", um_per_unit=1.0)
    graphs.add_encoding(graph, "laplacian", ADJOINS, k=10, weight=None)
    graphs.add_encoding(graph, "random_walk", ADJOINS, steps=10, weight=None)
    graph.save(out)
    print(graph.card.text())
    types = cells.obs["celltype"].to_numpy(str)
    null = [same_type(transforms.shuffle_edges(graph, ADJOINS, seed=seed), types) for seed in range(NULLS)]
    print(f"\nneighbours of one type: {same_type(graph, types):.3f}")
    print(f"the same degrees, edges at random: {np.mean(null):.3f} (sd {np.std(null):.3f} of {NULLS})")


if __name__ == "__main__":
    main(*sys.argv[1:])
