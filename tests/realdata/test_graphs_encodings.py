"""Encodings of a tissue and of a gene network as they are."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.sparse import csgraph

from heteromics.graphs import HeteroGraph, add_encoding, laplacian_encoding, patch_codes, unit_square
from heteromics.graphs._laplacian import _lies_in_a_plane
from heteromics.graphs.encodings import estimated_returns, laplacian_eigenvectors, return_probabilities
from heteromics.nn import LearnablePatches, Relation, SignNet
from heteromics.priors.neighbours import within_radius

pytestmark = pytest.mark.realdata

ADJOINS = ("cell", "adjoins", "cell")


def both_ways(a, b, weight, size):
    return sparse.coo_array((np.r_[weight, weight], (np.r_[a, b], np.r_[b, a])), shape=(size, size)).tocsr()


@pytest.fixture(scope="module")
def tissue(mirror):
    data = anndata.read_h5ad(mirror / "spatial_merfish_mouse_poa/merfish_mousePOA.h5ad")
    points = np.asarray(data.obsm["spatial"], dtype=float)
    pairs = within_radius(points, 40.0)
    return points, both_ways(pairs.a, pairs.b, np.ones(len(pairs.a)), len(points)), list(data.obs_names)


@pytest.fixture(scope="module")
def network(mirror):
    table = pd.read_csv(mirror / "prior_ppi_irefindex_symbols/ppi_symbols.csv.gz")
    names, ends = np.unique(table[["from", "to"]].to_numpy(str), return_inverse=True)
    low, high = np.sort(ends.reshape(-1, 2), axis=1).T
    weight = 1 - table["cost"].to_numpy()
    pairs = sparse.coo_array((weight, (low, high)), shape=(len(names),) * 2)
    kept = (pairs.row != pairs.col) & (pairs.data > 0)
    return both_ways(pairs.row[kept], pairs.col[kept], pairs.data[kept], len(names))


def residuals(matrix, spectrum):
    """How far L v is from its multiple of v, at most."""
    degree = matrix.sum(axis=1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    vectors = spectrum.vectors.double().numpy()
    values = spectrum.values.double().numpy()[spectrum.component]
    applied = vectors - root[:, None] * (matrix @ (root[:, None] * vectors))
    return np.abs(applied - values * vectors).max()


def test_eigenvectors_of_a_tissue_follow_its_space(tissue):
    points, matrix, _ = tissue
    assert _lies_in_a_plane(matrix)
    spectrum = laplacian_eigenvectors(matrix, 10, progress=False)
    count, component = csgraph.connected_components(matrix, directed=False)
    assert spectrum.values.shape == (count, 10)
    assert residuals(matrix, spectrum) < 1e-5
    largest = np.flatnonzero(component == np.bincount(component).argmax())
    own = spectrum.vectors[largest].double()
    np.testing.assert_allclose(own.T @ own, np.eye(10), atol=1e-5)
    alone = np.flatnonzero(np.bincount(component)[component] == 1)
    assert not spectrum.vectors[alone].any()
    first = np.linalg.lstsq(np.c_[points[largest], np.ones(len(largest))], own[:, 0].numpy(), rcond=None)[0]
    fitted = np.c_[points[largest], np.ones(len(largest))] @ first
    assert np.corrcoef(fitted, own[:, 0])[0, 1] > 0.8  # the smoothest wave runs along one direction of the slice


def test_walks_return_in_a_tissue_as_in_dense_powers_of_a_part(tissue):
    _, matrix, _ = tissue
    ours = return_probabilities(matrix, 10, progress=False)
    component = csgraph.connected_components(matrix, directed=False)[1]
    sizes = np.bincount(component)
    for part in np.flatnonzero((sizes > 1) & (sizes < 800))[:20]:
        nodes = np.flatnonzero(component == part)
        dense = matrix[nodes][:, nodes].toarray()
        walk = dense / dense.sum(1, keepdims=True)
        powers = [np.linalg.matrix_power(walk, step).diagonal() for step in range(1, 11)]
        np.testing.assert_allclose(ours[nodes].T, powers, atol=1e-6)
    rows = np.random.default_rng(0).choice(len(component), 50, replace=False)
    degree = np.maximum(matrix.sum(axis=1), 1)[:, None]
    walk = sparse.csr_array(matrix.multiply(1 / degree))
    power = walk[rows]
    for step in range(1, 11):
        np.testing.assert_allclose(ours[rows, step - 1], power[:, rows].diagonal(), atol=1e-6)
        power = power @ walk


def test_eigenvectors_of_a_gene_network_are_those_of_its_laplacian(network):
    assert not _lies_in_a_plane(network)
    spectrum = laplacian_eigenvectors(network, 10, progress=False)
    assert residuals(network, spectrum) < 1e-5
    largest = np.flatnonzero(spectrum.component == np.bincount(spectrum.component).argmax())
    own = spectrum.vectors[largest].double()
    np.testing.assert_allclose(own.T @ own, np.eye(10), atol=1e-5)
    values = spectrum.values[spectrum.component[largest[0]]]
    assert 0 < values[0] < values[-1] < 1


def test_estimated_returns_of_a_gene_network_lie_about_the_exact_ones(network):
    hubs = np.argsort(-np.diff(network.indptr))[:1_500]
    part = network[hubs][:, hubs]
    exact = return_probabilities(part, 8, progress=False).double()
    found = estimated_returns(part, 8, samples=512, progress=False)
    score = ((found.value - exact) / found.error.clamp(min=1e-9))[:, 2:]
    assert (score.abs() < 3).double().mean() > 0.98
    even = (found.value / exact - 1)[exact[:, 1] > 0][:, 3::2]
    assert even.square().mean().sqrt() < 1.1 * (2 / 512) ** 0.5


def test_a_tissue_as_a_graph_gets_all_its_encodings(tissue, tmp_path):
    points, matrix, names = tissue
    coo = matrix.tocoo()
    graph = HeteroGraph.from_edges({ADJOINS: (coo.row, coo.col)}, names={"cell": names})
    graph.dgl.nodes["cell"].data["position"] = torch.from_numpy(points[:, :2]).float()
    add_encoding(graph, "laplacian", ADJOINS, k=4, weight=None, cache=tmp_path, progress=False)
    add_encoding(graph, "patches", "cell")
    again = laplacian_encoding(graph, ADJOINS, 4, weight=None, cache=tmp_path, progress=False)
    data = graph.validate().ndata("cell")
    assert torch.equal(data["laplacian"], again.vectors)
    unit = unit_square(points[:, :2])
    assert unit.max() == 1
    assert unit.min() == 0
    codes = data["patches"]
    assert torch.equal(codes, patch_codes(unit_square(data["position"])))
    assert len(codes.unique()) > 2_000  # 6,509 cells over 10,000 patches
    relation = Relation.from_graph(graph, ADJOINS, weight=None)
    net = SignNet(4, 16).eval()
    with torch.no_grad():
        assert torch.equal(net(data["laplacian"], relation), net(-data["laplacian"], relation))
        assert LearnablePatches(8)(codes).shape == (6_509, 8)
