import warnings

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from heteromics.errors import DataError, DuplicateNames, GraphError, MissingLayer, RecipeError
from heteromics.graphs import HeteroGraph, cell_neighbors, mutual_neighbors, nearest_neighbors
from heteromics.graphs._connectivity import memberships
from heteromics.graphs._shared_space import shared_space
from heteromics.graphs.neighbors import NEIGHBORS
from heteromics.graphs.recipe import build, load_recipe, plan

MUTUAL = ("rna_cell", "mutual", "atac_cell")
SECOND = ("rna_cell", "second_order", "atac_cell")


def matrix(graph, etype, name):
    """Edge data as a dense matrix, -1 where there is no edge."""
    indptr, indices, eids = (each.numpy() for each in graph.adjacency(etype))
    values = graph.edata(etype)[name].numpy()[eids].astype(float)
    found = np.full((len(indptr) - 1, graph.num_nodes(etype[2])), -1.0)
    found[np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), indices] = values
    return found


def cells(n=150, d=6, seed=0, **obs):
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(n)]
    return anndata.AnnData(
        obs=pd.DataFrame(obs, index=names), obsm={"X_pca": rng.standard_normal((n, d)).astype(np.float32)}
    )


UMAP = """
from umap.umap_ import fuzzy_simplicial_set
of = fuzzy_simplicial_set(given["points"], 10, np.random.RandomState(0), "euclidean", knn_indices=given["indices"],
                          knn_dists=given["distance"])[0]
found = {"connectivities": of.toarray()}
"""
SCANPY = """
import anndata, scanpy
adata = anndata.AnnData(obsm={"X_pca": given["points"]})
scanpy.pp.neighbors(adata, n_neighbors=10, use_rep="X_pca")
found = {name: of.toarray() for name, of in adata.obsp.items()}
"""


def test_connectivities_are_those_of_umap(uncompiled):
    adata = cells()
    adata.obsm["X_pca"][10:14] = adata.obsm["X_pca"][10]  # cells at one place
    adata.obsm["X_pca"][20:40] = adata.obsm["X_pca"][20]  # more of them than neighbours
    found = nearest_neighbors(adata.obsm["X_pca"], k=9)
    own = np.arange(150)[:, None]
    indices, distance = (np.concatenate(each, axis=1) for each in ((own, found.indices), (own * 0.0, found.distance)))
    theirs = uncompiled(UMAP, points=adata.obsm["X_pca"], indices=indices, distance=distance.astype(np.float32))
    weight = matrix(cell_neighbors(adata, 9).validate(), NEIGHBORS, "weight")
    np.testing.assert_allclose(np.maximum(weight, 0), theirs["connectivities"], atol=2e-5)


def test_connectivities_and_distances_are_those_of_scanpy(uncompiled):
    adata = cells()
    graph = cell_neighbors(adata, 9)
    expected = uncompiled(SCANPY, points=adata.obsm["X_pca"])
    weight, distance = (matrix(graph, NEIGHBORS, name) for name in ("weight", "distance"))
    np.testing.assert_allclose(np.maximum(weight, 0), expected["connectivities"], atol=2e-5)
    theirs = expected["distances"]
    np.testing.assert_allclose(distance[theirs > 0], theirs[theirs > 0], rtol=1e-4)
    assert ((distance >= 0) == ((theirs > 0) | (theirs.T > 0))).all()
    assert ((matrix(graph, NEIGHBORS, "mutual") == 1) == ((theirs > 0) & (theirs.T > 0))).all()


def test_memberships_add_up_and_keep_the_nearest_at_one():
    distance = torch.rand(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sort(1).values + 0.1
    found = memberships(distance)
    torch.testing.assert_close(found.sum(1), torch.full((40,), np.log2(9)), atol=1e-4, rtol=0, check_dtype=False)
    assert (found[:, 0] == 1).all()
    assert (found.diff(dim=1) <= 0).all()
    torch.testing.assert_close(memberships(distance * 1e6), found, atol=1e-4, rtol=0)
    assert memberships(torch.zeros(3, 4)).tolist() == [[1.0] * 4] * 3
    assert memberships(torch.zeros(0, 4)).shape == (0, 4)


def test_cell_neighbors_keeps_labels_batches_and_parameters(tmp_path):
    adata = cells(batch=["a", "b", "c"] * 50, kind=["x", None, "y"] * 50)
    graph = cell_neighbors(adata, 4, batch="batch", choose="each", weighting="one", obs=["kind"]).validate()
    assert graph.ndata("cell")["kind"][:3].tolist() == [0, -1, 1]
    assert graph.ndata("cell")["batch"][:3].tolist() == [0, 1, 2]
    assert graph.meta["categories"] == {"kind": ["x", "y"], "batch": ["a", "b", "c"]}
    assert graph.meta["parameters"]["choose"] == "each"
    linked = matrix(graph, NEIGHBORS, "weight") > 0
    assert all((linked[:, place::3].sum(1) >= 4).all() for place in range(3))
    np.testing.assert_array_equal(linked, linked.T)
    assert not linked.diagonal().any()
    again = HeteroGraph.load(graph.save(tmp_path / "graph")).validate()
    np.testing.assert_array_equal(matrix(again, NEIGHBORS, "weight") > 0, linked)
    only = cell_neighbors(adata, 4, batch="batch", choose="within")
    batch = only.ndata("cell")["batch"].numpy()
    indptr, indices, _ = only.adjacency(NEIGHBORS)
    assert (batch[np.repeat(np.arange(150), np.diff(indptr))] == batch[indices]).all()


def test_order_of_cells_does_not_matter():
    adata, order = cells(), np.random.default_rng(1).permutation(150)
    one, other = (matrix(cell_neighbors(each, 7), NEIGHBORS, "weight") for each in (adata, adata[order].copy()))
    np.testing.assert_allclose(other, one[np.ix_(order, order)], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param({"rep": "X_umap"}, MissingLayer, "rep: obsm has no 'X_umap'; it has X_pca", id="slot"),
        pytest.param({"rep": np.zeros((3, 2))}, DataError, r"shape \(3, 2\), expected one row .* 150 cells", id="rows"),
        pytest.param({"choose": "each"}, GraphError, "choose='each' needs `batch`", id="batch"),
        pytest.param({"batch": "donor", "choose": "each"}, MissingLayer, "obs has no column 'donor'; it has", id="col"),
        pytest.param({"batch": "batch", "choose": "each"}, DataError, "1 of 150 cells have no obs", id="no batch"),
        pytest.param({"weighting": "gauss"}, GraphError, "weighting='gauss', expected 'umap' or 'one'", id="weighting"),
        pytest.param({"k": 150}, DataError, "found k=150, but a point has only 149 others", id="k"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_said(given, error, message):
    adata = cells(batch=[None, *["a"] * 149])
    with pytest.raises(error, match=message):
        cell_neighbors(adata, **given)


def test_cells_of_one_name_are_refused():
    adata = cells()
    adata.obs_names = ["same", "same", *adata.obs_names[2:]]
    with pytest.raises(DuplicateNames, match=r"cells \(obs_names\): 1 of 149 names are used more than once"):
        cell_neighbors(adata)


def two_views(n=240, m=200, genes=60, seed=0, types=4):
    """Cells of some types in two assays that differ in depth, noise and a strong shift of every gene."""
    rng = np.random.default_rng(seed)
    profile = rng.gamma(2, 1, (types, genes))
    made = []
    for name, count, depth in (("r", n, 6.0), ("a", m, 2.0)):
        kind = rng.integers(0, types, count)
        bias = rng.gamma(2, 0.5, genes)
        counts = rng.poisson(profile[kind] * bias * depth * rng.gamma(8, 1 / 8, (count, 1)))
        view = anndata.AnnData(
            sparse.csr_matrix(counts, dtype=np.float32),
            obs=pd.DataFrame(
                {"cell_type": [f"t{each}" for each in kind], "batch": rng.choice(["x", "y"], count)},
                index=[f"{name}{i}" for i in range(count)],
            ),
            var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]),
        )
        view.X = view.X.log1p()
        made.append(view)
    return made


def same_type(graph, etype=MUTUAL):
    indptr, indices, _ = graph.adjacency(etype)
    left, right = (graph.ndata(ntype)["cell_type"].numpy() for ntype in (etype[0], etype[2]))
    return (np.repeat(left, np.diff(indptr)) == right[indices]).mean()


def test_mutual_neighbors_over_shared_features_join_cells_of_one_type():
    rna, atac = two_views()
    atac.var_names = [*atac.var_names[:50], *[f"other{i}" for i in range(10)]]
    graph = mutual_neighbors(rna, atac, n_components=8, second="bipartite", within=6, keep_embedding=True).validate()
    assert graph.num_edges(MUTUAL) > 100
    assert same_type(graph) > 0.95  # a quarter by chance
    assert same_type(graph, SECOND) > 0.9
    assert graph.meta["match"]["features"] == {
        "shared": 50, "constant": 0, "only_rna": 10, "only_rna_examples": [f"g{i}" for i in range(50, 55)],
        "only_atac": 10, "only_atac_examples": [f"other{i}" for i in range(5)],
    }  # fmt: skip
    indptr, indices, _ = graph.adjacency(MUTUAL)
    alone = {"rna_cell": int((np.diff(indptr) == 0).sum()), "atac_cell": 200 - len(np.unique(indices))}
    assert {ntype: graph.meta["match"][ntype]["alone"] for ntype in alone} == alone
    assert graph.ndata("rna_cell")["embedding"].shape == (240, 8)
    assert graph.ndata("atac_cell")["training"].all()
    back = ("atac_cell", "mutual", "rna_cell")
    np.testing.assert_array_equal(matrix(graph, back, "distance"), matrix(graph, MUTUAL, "distance").T)
    assert graph.num_edges(("rna_cell", "neighbors", "rna_cell")) >= 240 * 6
    assert {"rna_cell", "atac_cell"} == set(graph.ntypes)


@pytest.mark.parametrize("second", ["pair", "bipartite"])
def test_edges_are_those_of_dense_matrices(second):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((80, 5))
    rna, atac = (anndata.AnnData(obsm={"X_joint": z + rng.standard_normal((80, 5)) / 2}) for _ in range(2))
    rna.obs_names = atac.obs_names = [f"c{i}" for i in range(80)]
    graph = mutual_neighbors(rna, atac, rep="X_joint", second=second).validate()
    unit = [each.obsm["X_joint"] / np.linalg.norm(each.obsm["X_joint"], axis=1, keepdims=True) for each in (rna, atac)]
    cosine = unit[0] @ unit[1].T
    rank = np.argsort(np.argsort(-cosine, axis=1), axis=1), np.argsort(np.argsort(-cosine, axis=0), axis=0)
    first = ((rank[0] < 5) & (rank[1] < 5)).astype(int)
    distance = matrix(graph, MUTUAL, "distance")
    np.testing.assert_array_equal(distance >= 0, first == 1)
    np.testing.assert_allclose(distance[first == 1], 1 - cosine[first == 1], atol=1e-6)
    product = (first @ first if second == "pair" else first @ first.T @ first) * (1 - first)
    np.testing.assert_array_equal(np.maximum(matrix(graph, SECOND, "paths"), 0), product)
    turned = ("atac_cell", "second_order", "rna_cell")
    np.testing.assert_array_equal(np.maximum(matrix(graph, turned, "paths"), 0), product.T)


def test_pair_reading_brings_the_right_cells_into_order():
    rng = np.random.default_rng(0)
    rna, atac = (anndata.AnnData(obsm={"Z": rng.standard_normal((50, 4))}) for _ in range(2))
    rna.obs_names = atac.obs_names = [f"c{i}" for i in range(50)]
    order = rng.permutation(50)
    straight, mixed = (
        mutual_neighbors(rna, each, rep="Z", second="pair") for each in (atac, atac[order].copy())
    )  # fmt: skip
    assert mixed.names["atac_cell"].tolist() == straight.names["atac_cell"].tolist()
    for etype, name in ((MUTUAL, "distance"), (SECOND, "paths")):
        np.testing.assert_array_equal(matrix(mixed, etype, name), matrix(straight, etype, name))
    assert straight.meta["match"]["pairs"] == {"matched": 50, "reordered": 0}
    assert mixed.meta["match"]["pairs"] == {"matched": 50, "reordered": int((order != np.arange(50)).sum())}
    with pytest.raises(GraphError, match=r"needs the same cells .*\n  rna: 5 of 50 cells have no pair: c45, c46, c47"):
        mutual_neighbors(rna, atac[:45].copy(), rep="Z", second="pair")


def test_pair_reading_brings_given_embeddings_into_order_with_their_cells():
    rng = np.random.default_rng(0)
    rna, atac = (anndata.AnnData(obsm={"Z": rng.standard_normal((50, 4))}) for _ in range(2))
    rna.obs_names = atac.obs_names = [f"c{i}" for i in range(50)]
    order = rng.permutation(50)
    mixed, options = atac[order].copy(), {"second": "pair", "keep_embedding": True}
    expected = mutual_neighbors(rna, mixed, rep="Z", **options)
    given = mutual_neighbors(rna, mixed, rep=(rna.obsm["Z"], mixed.obsm["Z"]), **options)
    np.testing.assert_array_equal(given.ndata("atac_cell")["embedding"], atac.obsm["Z"].astype(np.float32))
    for etype, name in ((MUTUAL, "distance"), (SECOND, "paths")):
        np.testing.assert_array_equal(matrix(given, etype, name), matrix(expected, etype, name))


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_pair_reading_needs_unique_names():
    rna = anndata.AnnData(obsm={"Z": np.eye(4)})
    rna.obs_names = list("aabc")
    with pytest.raises(DuplicateNames, match="rna_cells"):
        mutual_neighbors(rna, rna[[2, 1, 0, 3]].copy(), k=1, rep="Z", second="pair")


def test_embeddings_in_any_form_that_anndata_holds():
    values = np.random.default_rng(0).standard_normal((30, 4))
    frozen = values.copy()
    frozen.flags.writeable = False
    expected = cell_neighbors(anndata.AnnData(obsm={"Z": values}), 3, rep="Z")
    for form in (frozen, values.astype(">f8"), values.astype(np.longdouble)):
        cells = anndata.AnnData(shape=(30, 0), obsm={"Z": form})
        for rep in ("Z", form):
            found = cell_neighbors(cells, 3, rep=rep)
            np.testing.assert_array_equal(found.edata(NEIGHBORS)["weight"], expected.edata(NEIGHBORS)["weight"])
    with pytest.raises(DataError, match="rep: found a sparse matrix, expected a dense"):
        cell_neighbors(cells, 3, rep=sparse.csr_array(values))
    with pytest.raises(DataError, match="rep: found object, expected numbers"):
        cell_neighbors(cells, 3, rep=values.astype(object))


def test_an_embedding_that_is_kept_is_a_copy():
    cells = [anndata.AnnData(obsm={"Z": np.eye(3, dtype=np.float32)}) for _ in range(2)]
    graph = mutual_neighbors(*cells, k=1, rep="Z", keep_embedding=True)
    cells[0].obsm["Z"][:] = 7
    np.testing.assert_array_equal(graph.ndata("rna_cell")["embedding"], np.eye(3))


def test_batches_keep_apart_and_arrays_and_euclid_do():
    rna, atac = two_views()
    left, right = (np.asarray(each.X.toarray()[:, :8]) for each in (rna, atac))
    graph = mutual_neighbors(rna, atac, rep=(left, torch.as_tensor(right)), metric="euclidean", batch="batch")
    indptr, indices, _ = graph.adjacency(MUTUAL)
    of_left, of_right = (graph.ndata(ntype)["batch"].numpy() for ntype in ("rna_cell", "atac_cell"))
    assert graph.num_edges(MUTUAL) > 50
    assert (np.repeat(of_left, np.diff(indptr)) == of_right[indices]).all()
    assert graph.meta["parameters"]["rep"] == "given"
    assert "training" not in graph.ndata("rna_cell")
    every = mutual_neighbors(rna, atac, rep=(left, right), metric="euclidean")
    assert not np.array_equal(matrix(every, MUTUAL, "distance"), matrix(graph, MUTUAL, "distance"))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param({"rep": "X_none"}, MissingLayer, "rna: rep: obsm has no 'X_none'", id="slot"),
        pytest.param(
            {"rep": (np.zeros((240, 3)), np.zeros((200, 2)))},
            GraphError, "found 3 dimensions for rna and 2 for atac; cells can only", id="width",
        ),
        pytest.param({"n_components": 60}, DataError, "60 dimensions needs more features .* 60 that", id="too many"),
        pytest.param({"second": "third"}, GraphError, "found second='third'", id="second"),
        pytest.param({"modalities": ("rna", "rna")}, GraphError, "two different names", id="names"),
        pytest.param({"training": ("part", "train")}, MissingLayer, "rna: obs has no column 'part'", id="column"),
        pytest.param({"training": ("batch", "z")}, GraphError, "no cell of rna has batch = 'z'; found x", id="value"),
        pytest.param({"batch": "donor"}, MissingLayer, "rna_cell: obs has no column 'donor'", id="batch"),
    ],
)  # fmt: skip
def test_mutual_neighbors_say_what_cannot_be(given, error, message):
    with pytest.raises(error, match=message):
        mutual_neighbors(*two_views(), **given)


def test_columns_do_not_hide_behind_what_is_made():
    rna, atac = two_views()
    atac.obs["training"] = "yes"
    with pytest.raises(GraphError, match="obs names training, which is what the graph itself keeps"):
        mutual_neighbors(rna, atac, obs=["batch", "training"])


def test_modalities_without_a_common_feature_are_refused():
    rna, atac = two_views()
    atac.var_names = [f"chr1:{i}-{i + 1}" for i in range(60)]
    with pytest.raises(GraphError, match=r"no feature name in common: g0, g1, g2 \.\.\. \(60 in all\) and chr1:0-1"):
        mutual_neighbors(rna, atac)


def test_shared_space_is_the_svd_of_both_sides_standardised():
    rna, atac = two_views(60, 40, 20)
    atac.X = sparse.csr_matrix(atac.X.toarray() * (np.arange(20) != 3))
    train = np.arange(60) < 45, np.arange(40) < 30
    found = shared_space(rna.X, atac.X, 4, *train, seed=1)
    assert found.constant == 1
    sides = []
    for view, mask in ((rna, train[0]), (atac, train[1])):
        dense = np.delete(view.X.toarray().astype(float), 3, axis=1)
        sides.append((dense - dense[mask].mean(0)) / dense[mask].std(0))
    stacked = np.concatenate([side[mask] / np.sqrt(mask.sum()) for side, mask in zip(sides, train, strict=True)])
    _, _, vectors = np.linalg.svd(stacked, full_matrices=False)
    for side, place in zip(sides, (found.left, found.right), strict=True):
        np.testing.assert_allclose(np.abs(place), np.abs(side @ vectors[:4].T), rtol=1e-4, atol=1e-4)
    again = shared_space(rna.X, atac.X, 4, *train, seed=1)
    np.testing.assert_array_equal(found.left, again.left)
    other = shared_space(rna.X, atac.X, 4, *train, seed=2)
    np.testing.assert_allclose(found.right, other.right, atol=1e-4)


def test_test_cells_do_not_shape_the_space():
    rna, atac = two_views()
    for view in (rna, atac):
        view.obs["part"] = np.where(np.arange(view.n_obs) < 150, "train", "test")
    changed = rna.copy()
    changed.X = sparse.vstack([rna.X[:150], rna.X[150:] * 7]).tocsr()
    graphs = [
        mutual_neighbors(each, atac, training=("part", "train"), n_components=8, keep_embedding=True)
        for each in (rna, changed)
    ]
    one, other = (graph.ndata("rna_cell")["embedding"] for graph in graphs)
    assert torch.equal(one[:150], other[:150])
    assert not torch.equal(one[150:], other[150:])
    assert graphs[0].ndata("rna_cell")["training"].sum() == 150


@pytest.fixture(scope="module")
def multiome(tmp_path_factory):
    rna, atac = two_views(120, 100)
    for view in (rna, atac):
        view.X = view.X.expm1().rint()
        view.obsm["X_joint"] = np.random.default_rng(view.n_obs).standard_normal((view.n_obs, 5))
    path = tmp_path_factory.mktemp("neighbors") / "two.h5mu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mudata.MuData({"rna": rna, "atac": atac}).write(path)
    return path


def test_recipe_plans_and_builds(multiome, tmp_path):
    sets = ["space.n_components=6", "within=3"]
    planned, graph = plan("mutual_neighbors", multiome, sets=sets), build("mutual_neighbors", multiome, sets=sets)
    assert planned.nodes == {"rna_cell": 120, "atac_cell": 100}
    assert set(planned.edges) == {etype[1] for etype in graph.validate().canonical_etypes}
    assert same_type(graph) > 0.9
    assert graph.meta["recipe"]["space"] == {"obsm": None, "n_components": 6}
    again = HeteroGraph.load(graph.save(tmp_path / "graph")).validate()
    np.testing.assert_array_equal(matrix(again, SECOND, "paths"), matrix(graph, SECOND, "paths"))
    given = build("mutual_neighbors", multiome, sets=["space.obsm=X_joint", "second_order=none", "k=3"])
    assert given.meta["dimensions"] == 5
    assert given.canonical_etypes == [("atac_cell", "mutual", "rna_cell"), MUTUAL]


def test_recipe_needs_two_modalities():
    with pytest.raises(RecipeError, match="found modality rna on both sides, expected two different ones"):
        load_recipe("mutual_neighbors", ["right.modality=rna"])
