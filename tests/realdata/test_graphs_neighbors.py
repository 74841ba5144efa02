"""Neighbour graphs on CITE-seq and ASAP-seq proteins of different cells, and on SNARE-seq of the same cells."""

import anndata
import numpy as np
import pytest
from scipy import sparse

from heteromics.data import read
from heteromics.data.transforms import transform
from heteromics.graphs import HeteroGraph, cell_neighbors, mutual_neighbors
from heteromics.graphs.neighbors import NEIGHBORS

pytestmark = pytest.mark.realdata
LABELS = ("cluster", "coarse_cluster", "cell_type", "cell_type_coarse")


def same(graph, etype, label):
    """Share of edges between cells of one label, and that of cells paired by chance."""
    indptr, indices, _ = graph.adjacency(etype)
    left, right = (graph.ndata(ntype)[label].numpy() for ntype in (etype[0], etype[2]))
    size = max(left.max(), right.max()) + 1
    shares = [np.bincount(each, minlength=size) / each.size for each in (left, right)]
    return (np.repeat(left, np.diff(indptr)) == right[indices]).mean(), float(shares[0] @ shares[1])


@pytest.fixture(scope="module")
def proteins(mirror):
    folder = mirror / "protein_cite_asap_pbmc_ctrl"
    return [
        transform(read(folder / f"{name}_protein.h5ad", modality="protein", layer="X"), "log1p")
        for name in ("cite", "asap")
    ]


@pytest.fixture(scope="module")
def snareseq(mirror):
    """RNA and gene activity (accessible regions linked to a gene, summed) of 3,000 cells of the mouse cortex."""
    folder = mirror / "multiome_snareseq_mop"
    rna = read(folder / "rna.h5ad", modality="rna", layer="X")[:3_000].copy()
    atac = read(folder / "atac.h5ad", modality="atac", layer="X")[:3_000]
    linked = sparse.load_npz(folder / "GxR.npz").tocsr()
    activity = anndata.AnnData(
        sparse.csr_matrix(atac.X @ linked.T, dtype=np.float32), obs=atac.obs.copy(), var=rna.var[[]].copy()
    )
    filled = (rna.X.getnnz(axis=1) > 0) & (activity.X.getnnz(axis=1) > 0)
    return [transform(each[filled].copy(), "log1p_cp10k") for each in (rna, activity)]


def test_mutual_neighbours_of_cite_and_asap_are_of_one_type(proteins, tmp_path):
    graph = mutual_neighbors(*proteins, modalities=("cite", "asap"), obs=LABELS, second="bipartite").validate()
    assert graph.meta["match"]["features"]["shared"] == 216
    assert {ntype: graph.num_nodes(ntype) for ntype in graph.ntypes} == {"cite_cell": 5_023, "asap_cell": 3_517}
    for verb, least in (("mutual", 4_000), ("second_order", 10_000)):
        etype = ("cite_cell", verb, "asap_cell")
        assert graph.num_edges(etype) > least
        found, chance = same(graph, etype, "coarse_cluster")
        assert found > 0.94 > 0.6 > chance
        found, chance = same(graph, etype, "cluster")
        assert found > 3.5 * chance
    nodes = graph.card.nodes
    assert all(nodes[ntype].isolated == graph.meta["match"][ntype]["alone"] for ntype in graph.ntypes)
    again = HeteroGraph.load(graph.save(tmp_path / "graph")).validate()
    assert again.meta["match"] == graph.meta["match"]


def test_a_space_of_training_cells_places_the_others_as_well(proteins):
    parts = [each.copy() for each in proteins]
    for part in parts:
        part.obs["part"] = np.where(np.random.default_rng(0).random(part.n_obs) < 0.8, "train", "test")
    graph = mutual_neighbors(*parts, modalities=("cite", "asap"), obs=LABELS, training=("part", "train"))
    indptr, indices, _ = graph.adjacency(("cite_cell", "mutual", "asap_cell"))
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    fresh = ~graph.ndata("cite_cell")["training"].numpy()[row] & ~graph.ndata("asap_cell")["training"].numpy()[indices]
    label = [graph.ndata(ntype)["coarse_cluster"].numpy() for ntype in ("cite_cell", "asap_cell")]
    assert fresh.sum() > 100
    assert (label[0][row[fresh]] == label[1][indices[fresh]]).mean() > 0.9


def test_readings_of_the_second_order_on_paired_cells(snareseq):
    rna, activity = snareseq
    shuffled = activity[np.random.default_rng(0).permutation(activity.n_obs)].copy()
    for second, times in (("bipartite", 2.1), ("pair", 1.8)):
        graph = mutual_neighbors(rna, shuffled, obs=LABELS, second=second).validate()
        found, chance = same(graph, ("rna_cell", "mutual", "atac_cell"), "cell_type_coarse")
        assert found > 2.2 * chance
        further, _ = same(graph, ("rna_cell", "second_order", "atac_cell"), "cell_type_coarse")
        assert further > times * chance
    assert graph.names["atac_cell"].tolist() == rna.obs_names.tolist()
    assert graph.meta["match"]["pairs"]["matched"] == rna.n_obs


def test_neighbours_of_real_cells_are_those_of_scikit_learn(snareseq):
    from sklearn.decomposition import TruncatedSVD
    from sklearn.neighbors import NearestNeighbors

    rna = snareseq[0].copy()
    rna.obsm["X_svd"] = TruncatedSVD(30, random_state=0).fit_transform(rna.X)
    graph = cell_neighbors(rna, 15, rep="X_svd", obs=["cell_type"]).validate()
    found, chance = same(graph, NEIGHBORS, "cell_type")
    assert found > 4 * chance
    indptr, indices, _ = graph.adjacency(NEIGHBORS)
    wide = rna.obsm["X_svd"].astype(np.float64)
    nearest = NearestNeighbors(n_neighbors=15, algorithm="kd_tree").fit(wide).kneighbors()[1]
    theirs = sparse.csr_matrix((np.ones(nearest.size), (np.repeat(np.arange(len(wide)), 15), nearest.ravel())))
    either = (theirs + theirs.T).tocsr()
    either.sort_indices()
    np.testing.assert_array_equal(indptr, either.indptr)
    np.testing.assert_array_equal(indices, either.indices)
