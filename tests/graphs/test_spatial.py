import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from sklearn.neighbors import kneighbors_graph

from heteromics.errors import DataError, DuplicateNames, GraphError, MissingLayer, RecipeError
from heteromics.graphs import HeteroGraph, spatial_delaunay, spatial_grid, spatial_knn, spatial_radius
from heteromics.graphs.recipe import build, load_recipe, plan
from heteromics.graphs.spatial import ADJOINS
from heteromics.nn import Relation
from tests.priors.test_neighbours import hexagonal, steps_apart

EVERY = {
    "nearest": lambda cells, **given: spatial_knn(cells, 5, **given),
    "mutual": lambda cells, **given: spatial_knn(cells, 5, keep="mutual", **given),
    "directed": lambda cells, **given: spatial_knn(cells, 5, keep="directed", **given),
    "radius": lambda cells, **given: spatial_radius(cells, 9.0, **{"unit": "as_given", **given}),
    "delaunay": spatial_delaunay,
    "grid": spatial_grid,
}


def tissue(count=200, libraries=1, dimensions=2, seed=0):
    rng = np.random.default_rng(seed)
    cells = anndata.AnnData(
        obs=pd.DataFrame(
            {"library": [f"fov{n}" for n in rng.integers(0, libraries, count)]}, index=[f"c{n}" for n in range(count)]
        ),
        obsm={"spatial": rng.random((count, dimensions)) * 100},
    )
    if libraries == 1:
        del cells.obs["library"]
    return cells


def dense(graph, name=None):
    """Return edges, or a datum of theirs, as rows = destinations, columns = sources."""
    src, dst = (side.numpy() for side in graph.dgl.edges(etype=ADJOINS))
    values = np.ones(src.size) if name is None else graph.edata(ADJOINS)[name].numpy()
    assert len(set(zip(src.tolist(), dst.tolist(), strict=True))) == src.size
    matrix = np.zeros((graph.num_nodes("cell"),) * 2)
    matrix[dst, src] = values
    return matrix


def test_knn_is_that_of_scikit_learn_in_all_three_forms():
    cells = tissue(300)
    directed = kneighbors_graph(cells.obsm["spatial"], 5).toarray()
    np.testing.assert_array_equal(dense(spatial_knn(cells, 5, keep="directed")), directed)
    np.testing.assert_array_equal(dense(spatial_knn(cells, 5)), np.maximum(directed, directed.T))
    np.testing.assert_array_equal(dense(spatial_knn(cells, 5, keep="mutual")), np.minimum(directed, directed.T))
    graph = spatial_knn(cells, 5, keep="directed")
    assert graph.dgl.in_degrees(etype=ADJOINS).tolist() == [5] * 300
    assert Relation.from_graph(graph, ADJOINS, weight=None).spmm(torch.ones(300, 1)).ravel().tolist() == [5.0] * 300


@pytest.mark.parametrize("dimensions", [2, 3])
def test_radius_is_that_of_all_pairs(dimensions):
    cells = tissue(400, dimensions=dimensions)
    apart = cdist(cells.obsm["spatial"], cells.obsm["spatial"])
    near = (apart <= 12) & ~np.eye(400, dtype=bool)
    graph = spatial_radius(cells, 12.0, unit="as_given").validate()
    np.testing.assert_array_equal(dense(graph), near)
    np.testing.assert_allclose(dense(graph, "distance"), np.where(near, apart, 0), rtol=1e-6)
    lonely = int((~near.any(axis=1)).sum())
    assert graph.meta["match"]["cell"] == {"matched": 400 - lonely, "lonely": lonely}
    assert graph.ndata("cell")["position"].shape == (400, dimensions)


def test_delaunay_is_symmetric_and_of_the_right_size():
    graph = spatial_delaunay(tissue(500)).validate()
    matrix = dense(graph, "distance")
    np.testing.assert_array_equal(matrix, matrix.T)
    assert 2 * (3 * 500 - 3 - 60) < graph.num_edges(ADJOINS) < 2 * (3 * 500 - 3)
    cut = spatial_delaunay(tissue(500), longest_percentile=90)
    assert cut.num_edges(ADJOINS) == pytest.approx(0.9 * graph.num_edges(ADJOINS), abs=2)


@pytest.mark.parametrize("moved", [0.0, 1e7])
@pytest.mark.parametrize("depth", [None, 7.0])
def test_delaunay_of_an_array_joins_no_far_ends_of_its_outline(moved, depth):
    """Spots of an array in whole pixels: no edge is longer than the step between every second row, 174."""
    row, column = np.divmod(np.arange(3_600), 60)
    points = np.rint(np.stack([100 * column + 50 * (row % 2), 100 * np.sqrt(0.75) * row], axis=1)) + moved
    if depth is not None:
        points = np.column_stack([points, np.full(3_600, depth)])
    graph = spatial_delaunay(anndata.AnnData(obsm={"spatial": points}))
    assert float(graph.edata(ADJOINS)["distance"].max()) < 180


def test_grid_counts_rings_and_keeps_distances():
    points, axial = hexagonal(8, 9)
    cells = anndata.AnnData(obsm={"spatial": points * 137 + 1_000})
    graph = spatial_grid(cells, n_rings=2, unit="um", um_per_unit=0.73).validate()
    apart = steps_apart(axial)
    ring = np.where(apart <= 2, apart, 0)
    np.testing.assert_array_equal(dense(graph, "ring"), ring)
    np.testing.assert_allclose(dense(graph, "distance"), np.where(ring, cdist(points, points) * 100.01, 0), rtol=1e-5)
    assert graph.edata(ADJOINS)["ring"].dtype == torch.int32
    looped = spatial_grid(cells, self_loops=True)
    assert looped.edata(ADJOINS)["ring"].bincount().tolist()[0] == 72


@pytest.mark.parametrize("how", EVERY)
def test_libraries_together_equal_each_alone(how):
    cells = tissue(300, libraries=3)
    whole = dense(EVERY[how](cells), "distance")
    for name in ("fov0", "fov1", "fov2"):
        rows = np.flatnonzero(cells.obs["library"] == name)
        np.testing.assert_array_equal(whole[np.ix_(rows, rows)], dense(EVERY[how](cells[rows].copy()), "distance"))
        whole[np.ix_(rows, rows)] = 0
    assert not whole.any()


@pytest.mark.parametrize("how", EVERY)
def test_order_of_cells_changes_nothing_but_rows(how):
    cells = tissue(200, libraries=2)
    order = np.random.default_rng(3).permutation(200)
    one, other = EVERY[how](cells), EVERY[how](cells[order].copy())
    np.testing.assert_array_equal(dense(other, "distance"), dense(one, "distance")[np.ix_(order, order)])
    assert other.names["cell"].tolist() == one.names["cell"][order].tolist()
    np.testing.assert_array_equal(other.ndata("cell")["library"], one.ndata("cell")["library"][order])


@pytest.mark.parametrize("how", EVERY)
def test_loops_are_added_once_at_distance_zero(how):
    cells = tissue(100, libraries=2)
    plain, looped = EVERY[how](cells), EVERY[how](cells, self_loops=True).validate()
    np.testing.assert_array_equal(dense(looped), dense(plain) + np.eye(100))
    np.testing.assert_array_equal(dense(looped, "distance"), dense(plain, "distance"))
    assert looped.meta["match"] == plain.meta["match"]


@pytest.mark.parametrize("how", EVERY)
def test_one_cell_has_no_neighbour_and_is_counted(how):
    graph = EVERY[how](tissue(1)).validate()
    assert graph.num_edges(ADJOINS) == 0
    assert graph.meta["match"]["cell"] == {"matched": 0, "lonely": 1}
    assert graph.meta["match"]["lonely_examples"] == ["c0"]
    assert graph.meta["match"]["library"] == {"all": {"cells": 1, "lonely": 1}}


def test_small_libraries_are_named():
    cells = tissue(7)
    cells.obs["fov"] = ["small"] * 2 + ["big"] * 5
    graph = spatial_knn(cells, 4, library="fov")
    assert graph.meta["match"]["clipped"] == ["small"]
    assert graph.meta["match"]["library"] == {"big": {"cells": 5, "lonely": 0}, "small": {"cells": 2, "lonely": 0}}
    assert graph.meta["categories"] == {"library": ["big", "small"]}
    assert graph.ndata("cell")["library"].tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_a_unit_scales_radius_positions_and_distances():
    cells = tissue(200)
    um = spatial_radius(cells, 3.0, unit="um", um_per_unit=0.25)
    given = spatial_radius(cells, 12.0, unit="as_given")
    np.testing.assert_array_equal(dense(um), dense(given))
    np.testing.assert_allclose(4 * um.edata(ADJOINS)["distance"], given.edata(ADJOINS)["distance"], rtol=1e-6)
    torch.testing.assert_close(4 * um.ndata("cell")["position"], given.ndata("cell")["position"])
    assert um.meta["parameters"]["unit"] == "um"
    assert um.meta["parameters"]["um_per_unit"] == 0.25


def test_coordinates_come_from_columns_of_obs_too():
    cells = tissue(50)
    cells.obs[["x", "y"]] = cells.obsm["spatial"]
    one, other = spatial_knn(cells), spatial_knn(cells, columns=["x", "y"], obsm="nothing")
    np.testing.assert_array_equal(dense(one), dense(other))
    assert other.meta["parameters"]["coordinates"] == ["x", "y"]


def test_a_graph_comes_back_from_disk(tmp_path):
    graph = spatial_grid(tissue(80, libraries=2), n_rings=2)
    again = HeteroGraph.load(graph.save(tmp_path / "graph"))
    for name in ("distance", "ring"):
        np.testing.assert_array_equal(dense(again, name), dense(graph, name))
    assert again.meta == graph.meta
    assert again.kind == "spatial"


def broken(how):
    cells = tissue(40)
    if how == "nan":
        cells.obsm["spatial"][[3, 5], 0] = [np.nan, np.inf]
    elif how == "library":
        cells.obs["library"] = pd.Series(["a"] * 38 + [None] * 2, index=cells.obs_names, dtype=object)
    elif how == "names":
        cells.obs_names = ["c0", "c0", *cells.obs_names[2:]]
    elif how == "axes":
        cells.obsm["spatial"] = np.zeros((40, 4))
    elif how == "none":
        cells = cells[:0].copy()
    elif how == "words":
        cells.obs["x"], cells.obs["y"] = "left", 1.0
    elif how == "pile":
        cells = tissue(3_000)
        cells.obsm["spatial"][:] = 0
    return cells


@pytest.mark.parametrize(
    ("how", "given", "error", "message"),
    [
        ("nan", {}, DataError, r"obsm\['spatial'\]: 2 of 40 cells have no finite coordinates: c3, c5"),
        ("library", {}, DataError, r"obs\['library'\]: 2 of 40 cells have no library"),
        ("names", {}, DuplicateNames, "1 of 39 names are used more than once"),
        ("axes", {}, DataError, r"shape \(40, 4\), expected one or more cells by 2 or 3"),
        ("none", {}, DataError, r"shape \(0, 2\), expected one or more cells by 2 or 3"),
        ("words", {"columns": ["x", "y"]}, DataError, "coordinates that are no numbers"),
        ("plain", {"obsm": "X_spatial"}, MissingLayer, r"found no obsm\['X_spatial'\]; obsm: spatial"),
        ("plain", {"columns": ["x", "y"]}, MissingLayer, "obs has no column 'x'"),
        ("plain", {"library": "fov"}, MissingLayer, "obs has no column 'fov'"),
        ("plain", {"unit": "um"}, GraphError, "unit 'um' needs um_per_unit"),
        ("plain", {"um_per_unit": 0.5}, GraphError, "'as_given' takes none"),
        ("plain", {"unit": "um", "um_per_unit": 0.0}, GraphError, "um_per_unit: found 0, expected above 0"),
        ("pile", {}, GraphError, "library 'all': within 9, a cell has 2,999 neighbours on average"),
    ],
)
def test_what_cannot_be_is_said_with_numbers(how, given, error, message):
    with pytest.raises(error, match=message):
        EVERY["radius"](broken(how), **given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cells: spatial_knn(cells, 0), "found k=0"),
        (lambda cells: spatial_knn(cells, keep="both"), "keep='both'"),
        (lambda cells: spatial_radius(cells, 0.0, unit="as_given"), "found radius=0, expected above 0"),
        (lambda cells: spatial_radius(cells, np.nan, unit="as_given"), "found radius=nan"),
        (lambda cells: spatial_delaunay(cells, longest_percentile=0), "longest_percentile=0"),
        (lambda cells: spatial_grid(cells, n_neighbors=5), "n_neighbors=5"),
        (lambda cells: spatial_grid(cells, n_rings=0), "n_rings=0"),
    ],
)
def test_impossible_parameters_are_refused(call, message):
    with pytest.raises(GraphError, match=message):
        call(tissue(10))


def test_arrays_on_top_of_each_other_are_refused_until_their_libraries_are_named():
    points = np.tile(hexagonal(5, 6)[0], (2, 1))
    cells = anndata.AnnData(
        obs=pd.DataFrame(
            {"slide": pd.Categorical(["b"] * 30 + ["a"] * 30, ["unused", "b", "a"])},
            index=[f"spot{row}" for row in range(60)],
        ),
        obsm={"spatial": points},
    )
    with pytest.raises(GraphError, match=r"library 'all': 60 of 60 spots lie at the place of another one"):
        spatial_grid(cells)
    both = spatial_grid(cells, library="slide").validate()
    alone = spatial_grid(cells[:30].copy())
    assert both.num_edges(ADJOINS) == 2 * alone.num_edges(ADJOINS)
    assert both.meta["categories"] == {"library": ["a", "b"]}


def test_nearest_cells_of_a_pile_are_refused_before_all_pairs_are_looked_at():
    with pytest.raises(GraphError, match=r"library 'all': 3,000 of 3,000 cells have others equally far from them"):
        spatial_knn(broken("pile"), 3)
    square = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    many = spatial_knn(anndata.AnnData(obsm={"spatial": square}), 1_200, keep="directed")
    assert many.num_edges(ADJOINS) == 1_200 * 1_600


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    placed = tissue(60, libraries=2)
    cells = anndata.AnnData(csr_matrix(np.ones((60, 3), np.float32)), obs=placed.obs, obsm=dict(placed.obsm))
    path = tmp_path_factory.mktemp("spatial") / "tissue.h5ad"
    cells.write_h5ad(path)
    return cells, path


@pytest.mark.parametrize(
    ("sets", "made"),
    [
        ([], lambda cells: spatial_knn(cells, 6)),
        (["k=3", "keep=mutual"], lambda cells: spatial_knn(cells, 3, keep="mutual")),
        (
            ["kind=radius", "radius=20", "unit=um", "um_per_unit=2", "self_loops=true"],
            lambda cells: spatial_radius(cells, 20, unit="um", um_per_unit=2, self_loops=True),
        ),
        (["kind=delaunay", "longest_percentile=90"], lambda cells: spatial_delaunay(cells, longest_percentile=90)),
        (["kind=grid", "n_neighbors=4", "n_rings=2"], lambda cells: spatial_grid(cells, n_neighbors=4, n_rings=2)),
    ],
)
def test_a_recipe_builds_what_the_function_does(stored, sets, made):
    cells, path = stored
    planned, graph, direct = plan("spatial", path, sets=sets), build("spatial", path, sets=sets).validate(), made(cells)
    np.testing.assert_array_equal(dense(graph, "distance"), dense(direct, "distance"))
    assert planned.nodes == {"cell": 60}
    assert planned.edges == {"adjoins": None}
    said = {name: value for name, value in direct.meta.items() if name != "provenance"}
    assert {name: graph.meta[name] for name in said} == said
    assert graph.meta["provenance"]["data"]["source"] == "tissue.h5ad"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["kind=radius"], "found radius None with kind radius"),
        (["radius=5"], "kind radius needs one, no other takes one"),
        (["kind=radius", "radius=5"], "found radius 5 without unit"),
        (["longest_percentile=5"], "only kind delaunay takes one"),
        (["kind=hexagon"], "kind: found 'hexagon'"),
        (["kind=grid", "k=8"], "found k 8 with kind grid; only kind nearest takes it"),
        (["n_rings=2"], "found n_rings 2 with kind nearest; only kind grid takes it"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(sets, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("spatial", sets)
