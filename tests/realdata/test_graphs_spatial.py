"""Spatial graphs of real tissues: sizes, units, libraries, slots, and graphs that come back from other forms."""

import anndata
import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors

from heteromics.data import read
from heteromics.graphs import (
    HeteroGraph,
    from_dgl,
    spatial_delaunay,
    spatial_grid,
    spatial_knn,
    spatial_radius,
    to_anndata,
    to_dgl,
    to_networkx,
    to_obsp,
)
from heteromics.graphs.recipe import build, plan
from heteromics.graphs.spatial import ADJOINS

pytestmark = pytest.mark.realdata

MERFISH = "spatial_merfish_mouse_poa/merfish_mousePOA.h5ad"
OSMFISH = "spatial_osmfish_mouse_ssc/osmfish.h5ad"
XENIUM = "spatial_xenium_human_breast/xenium_breast_crop.h5ad"
IMAGING = "spatial_imaging_protein/example_data.h5ad"


def matrix(graph, name=None):
    """Return edges, or a datum of theirs, as rows = destinations, columns = sources."""
    indptr, indices, eids = (part.numpy() for part in graph.adjacency(ADJOINS, "dst"))
    values = np.ones(indices.size) if name is None else graph.edata(ADJOINS)[name].numpy()[eids]
    size = graph.num_nodes("cell")
    return csr_matrix((values, indices, indptr), shape=(size, size))


def same(one, other):
    return one.nnz == other.nnz and (one != other).nnz == 0


def test_spaformers_graph_of_merfish_is_that_of_brute_force(mirror):
    """A radius of 30 um in the preoptic area, with loops; all but a few cells have a neighbour."""
    cells = anndata.read_h5ad(mirror / MERFISH)
    graph = spatial_radius(cells, 30.0, unit="um", um_per_unit=1, self_loops=True).validate()
    points = np.asarray(cells.obsm["spatial"])
    near = NearestNeighbors(radius=30, algorithm="brute").fit(points).radius_neighbors_graph(points)
    assert same(matrix(graph), near)
    alone = int((near.getnnz(axis=1) == 1).sum())
    assert graph.meta["match"]["cell"] == {"matched": 6_509 - alone, "lonely": alone}
    assert alone < 0.05 * 6_509
    assert 3 < (near.nnz - 6_509) / 6_509 < 12


def test_nearest_cells_of_merfish_are_those_of_scikit_learn(mirror):
    cells = anndata.read_h5ad(mirror / MERFISH)
    near = NearestNeighbors(n_neighbors=6).fit(np.asarray(cells.obsm["spatial"])).kneighbors_graph()
    assert same(matrix(spatial_knn(cells, keep="directed")), near)
    assert same(matrix(spatial_knn(cells)), near.maximum(near.T))
    assert same(matrix(spatial_knn(cells, keep="mutual")), near.minimum(near.T))


def test_halves_of_a_tissue_are_joined_apart(mirror):
    """Cells of two fields of view on either side of the middle: what is joined is what was, less the edges across."""
    cells = anndata.read_h5ad(mirror / MERFISH)
    x = np.asarray(cells.obsm["spatial"])[:, 0]
    cells.obs["fov"] = np.where(x < np.median(x), "left", "right")
    whole = spatial_radius(cells, 30.0, unit="as_given")
    apart = spatial_radius(cells, 30.0, unit="as_given", library="fov")
    expected = matrix(whole, "distance").tocoo()
    fov = cells.obs["fov"].to_numpy()
    within = fov[expected.row] == fov[expected.col]
    expected = csr_matrix((expected.data[within], (expected.row[within], expected.col[within])), expected.shape)
    assert same(matrix(apart, "distance"), expected)
    assert 0 < whole.num_edges(ADJOINS) - apart.num_edges(ADJOINS) < 0.05 * whole.num_edges(ADJOINS)
    assert {name: found["cells"] for name, found in apart.meta["match"]["library"].items()} == {
        "left": 3_254, "right": 3_255
    }  # fmt: skip


def test_osmfish_joins_cells_at_one_place_and_is_in_um(mirror):
    cells = anndata.read_h5ad(mirror / OSMFISH)
    graph = spatial_delaunay(cells, unit="um", um_per_unit=0.065).validate()
    distance = graph.edata(ADJOINS)["distance"]
    assert int((distance == 0).sum()) == 2 * 527
    assert 5 < float(distance.median()) < 30
    assert same(matrix(graph), matrix(graph).T.tocsr())
    slots = to_obsp(graph, cells)
    assert slots.written["obsp['spatial_connectivities']"] == graph.num_edges(ADJOINS)
    assert slots.written["obsp['spatial_distances']"] == graph.num_edges(ADJOINS) - 2 * 527


def test_slots_of_shuffled_xenium_cells_are_the_same(mirror, tmp_path):
    cells = anndata.read_h5ad(mirror / XENIUM)
    graph = spatial_delaunay(cells, longest_percentile=99)
    shuffled = cells[np.random.default_rng(0).permutation(cells.n_obs)].copy()
    for data in (cells, shuffled):
        to_obsp(graph, data)
        written = to_anndata(graph, data).written
        assert written == {"obsp['adjoins_distance']": graph.num_edges(ADJOINS)}
    back = shuffled[cells.obs_names]
    for slot in ("spatial_connectivities", "spatial_distances", "adjoins_distance"):
        assert same(back.obsp[slot].tocsr(), cells.obsp[slot])
    shuffled.write_h5ad(tmp_path / "xenium.h5ad")
    again = anndata.read_h5ad(tmp_path / "xenium.h5ad")
    assert same(again.obsp["spatial_distances"], shuffled.obsp["spatial_distances"])


def test_proteins_imaged_in_one_tissue_lie_in_columns_of_obs(mirror):
    cells = read(mirror / IMAGING, modality="protein", layer="X", expect="any")
    graph = spatial_knn(cells, 10, columns=["X_position", "Y_position"], library="ImageId").validate()
    points = cells.obs[["X_position", "Y_position"]].to_numpy(float)
    near = NearestNeighbors(n_neighbors=10).fit(points).kneighbors_graph()
    assert same(matrix(graph), near.maximum(near.T))
    assert len(graph.meta["categories"]["library"]) == 1
    torch.testing.assert_close(graph.ndata("cell")["position"], torch.from_numpy(points).float())


def test_cells_laid_on_an_array_have_its_rings(mirror):
    """Cells of xenium moved to the spots of a square array that is too large for them: holes stay holes."""
    cells = anndata.read_h5ad(mirror / XENIUM)
    spots = np.random.default_rng(0).permutation(36 * 36)[: cells.n_obs]
    row, column = np.divmod(spots, 36)
    cells.obsm["array"] = np.stack([column, row], axis=1) * 100.0
    graph = spatial_grid(cells, n_neighbors=4, n_rings=2, obsm="array").validate()
    steps = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    ring = matrix(graph, "ring").toarray()
    np.testing.assert_array_equal(ring == 1, steps == 1)
    one = (steps == 1).astype(np.float32)
    np.testing.assert_array_equal(ring == 2, (one @ one > 0) & (steps == 2))


def test_a_recipe_builds_and_the_graph_comes_back_from_disk_and_dgl(mirror, tmp_path):
    sets = ["kind=radius", "radius=30", "unit=um", "um_per_unit=1"]
    assert plan("spatial", mirror / MERFISH, sets=sets).nodes == {"cell": 6_509}
    graph = build("spatial", mirror / MERFISH, sets=sets).validate()
    assert graph.meta["provenance"]["data"]["source"] == "merfish_mousePOA.h5ad"
    again = HeteroGraph.load(graph.save(tmp_path / "graph"))
    other = from_dgl(to_dgl(graph), graph.names, kind="spatial").validate()
    for form in (again, other):
        assert same(matrix(form, "distance"), matrix(graph, "distance"))
        assert torch.equal(form.ndata("cell")["position"], graph.ndata("cell")["position"])


def test_networkx_has_as_many_islands_as_the_graph(mirror):
    import networkx as nx
    from scipy.sparse.csgraph import connected_components

    graph = spatial_radius(anndata.read_h5ad(mirror / XENIUM), 10.0, unit="as_given")
    made = to_networkx(graph)
    assert made.number_of_edges() == graph.num_edges(ADJOINS)
    assert nx.number_weakly_connected_components(made) == connected_components(matrix(graph))[0] > 1
