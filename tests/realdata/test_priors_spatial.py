"""Spatial neighbours of real tissues: sizes, units, ties, and what has no neighbour and why."""

import anndata
import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from heteromics.priors import PriorStore

pytestmark = pytest.mark.realdata

RECIPE = """
recipe: 1
assembly: {{name: {assembly}, sizes: {mirror}/prior_genome_tables/{sizes}.seqinfo.tsv, chrom_style: ucsc}}
sources: {{spatial: {mirror}/{file}}}
edges: {{spatial: {{{keys}}}}}
"""
MERFISH = "spatial_merfish_mouse_poa/merfish_mousePOA.h5ad"
OSMFISH = "spatial_osmfish_mouse_ssc/osmfish.h5ad"
XENIUM = "spatial_xenium_human_breast/xenium_breast_crop.h5ad"
IMAGING = "spatial_imaging_protein/example_data.h5ad"


def build(mirror, folder, file, keys, human=False):
    assembly, sizes = ("GRCh38", "hg38") if human else ("GRCm38", "mm10")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(assembly=assembly, sizes=sizes, mirror=mirror, file=file, keys=keys))
    return PriorStore.build(recipe, folder / "priors.duckdb", progress=False)


def points_of(mirror, file):
    data = anndata.read_h5ad(mirror / file, backed="r")
    return list(data.obs_names), np.asarray(data.obsm["spatial"])


def edges_of(store, names):
    row = {name: number for number, name in enumerate(names)}
    edges = store.frame("cell_cell")
    assert (edges["cell_a"] < edges["cell_b"]).all()
    return edges, {frozenset((row[a], row[b])) for a, b in zip(edges["cell_a"], edges["cell_b"], strict=True)}


def test_nearest_cells_of_merfish_are_those_of_scikit_learn(mirror, tmp_path):
    names, points = points_of(mirror, MERFISH)
    with build(mirror, tmp_path, MERFISH, "k: 6, unit: um, um_per_unit: 1") as store:
        edges, pairs = edges_of(store, names)
        assert len(store.frame("cell")) == 6_509
    graph = NearestNeighbors(n_neighbors=6).fit(points).kneighbors_graph().tocoo()
    assert pairs == {frozenset(pair) for pair in zip(graph.row.tolist(), graph.col.tolist(), strict=True)}
    assert 2 * len(edges) - (~edges["mutual"]).sum() == 6 * 6_509
    assert 5 < edges["distance"].median() < 30  # nuclei of the brain lie 10 to 20 um apart


def test_a_radius_in_um_is_that_of_brute_force_and_leaves_few_cells_of_merfish_alone(mirror, tmp_path):
    names, points = points_of(mirror, MERFISH)
    with build(mirror, tmp_path, MERFISH, "kind: radius, radius: 50, unit: um, um_per_unit: 1") as store:
        edges, pairs = edges_of(store, names)
        summary = store.frame("match_summary").query("table_name == 'cell_cell'")
    graph = NearestNeighbors(radius=50, algorithm="brute").fit(points).radius_neighbors_graph().tocoo()
    assert pairs == {frozenset(pair) for pair in zip(graph.row.tolist(), graph.col.tolist(), strict=True)}
    alone = 6_509 - np.unique(graph.row).size
    assert summary.set_index("outcome")["n"].get("out_of_reach", 0) == alone
    assert edges["distance"].max() <= 50
    assert alone < 65


def test_osmfish_is_in_pixels_and_a_pixel_size_makes_them_um(mirror, tmp_path):
    """The image is 50,000 pixels high, 3.2 mm at 0.065 um a pixel. 527 cells that the authors excluded lie where
    another does: each pair is linked at distance 0, and both have their place's neighbours.
    """
    names, points = points_of(mirror, OSMFISH)
    with build(mirror, tmp_path, OSMFISH, "kind: delaunay, unit: um, um_per_unit: 0.065") as store:
        cells, (edges, pairs) = store.frame("cell"), edges_of(store, names)
    np.testing.assert_allclose(cells[["x", "y"]], points * 0.065)
    assert len(pairs) == len(edges)
    assert len(np.unique(points, axis=0)) == 6_471 - 527
    assert (edges["distance"] == 0).sum() == 527
    place = np.unique(points, axis=0, return_inverse=True)[1].ravel()
    between = {frozenset(place[list(pair)].tolist()) for pair in pairs}
    sides = sum(len(pair) == 2 for pair in between)
    assert 3 * 5_944 - 100 < sides < 3 * 5_944 - 3  # Euler: 3 n - 3 less the points of the outline
    assert 5 < edges["distance"].median() < 30


def test_long_edges_of_a_crop_are_cut(mirror, tmp_path):
    names, points = points_of(mirror, XENIUM)
    with build(mirror, tmp_path, XENIUM, "kind: delaunay, longest_percentile: 99, unit: as_given", human=True) as store:
        edges, _ = edges_of(store, names)
    nearest = cKDTree(points).query(points, 2)[0][:, 1]
    assert 3 * 1_120 * 0.97 < len(edges) < 3 * 1_120
    assert edges["distance"].max() < 120
    assert edges["distance"].min() == pytest.approx(nearest.min())


def test_columns_of_obs_and_an_image_as_library(mirror, tmp_path):
    keys = "columns: [X_position, Y_position], library: ImageId, k: 10"
    with build(mirror, tmp_path, IMAGING, keys, human=True) as store:
        cells, edges = store.frame("cell"), store.frame("cell_cell")
    assert len(cells) == 3_029
    assert cells["library"].nunique() == 1
    assert 2 * edges["mutual"].sum() + (~edges["mutual"]).sum() == 10 * 3_029
