import importlib.util
import sys
import warnings

import anndata
import mudata
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import nn

from heteromics.errors import GraphError
from heteromics.graphs import (
    HeteroGraph,
    from_dgl,
    interchange,
    spatial_grid,
    spatial_knn,
    spatial_radius,
    to_anndata,
    to_dgl,
    to_mudata,
    to_networkx,
    to_obsp,
    to_pyg,
)
from heteromics.graphs._dgl import dgl
from heteromics.nn import Relation

EXPRESSES = ("cell", "expresses", "gene")
EXPRESSED_BY = ("gene", "expressed_by", "cell")
REGULATES = ("gene", "regulates", "gene")
NEIGHBORS = ("cell", "neighbors", "cell")
needs_pyg = pytest.mark.skipif(
    importlib.util.find_spec("torch_geometric") is None, reason="torch_geometric is not installed"
)
needs_squidpy = pytest.mark.skipif(importlib.util.find_spec("squidpy") is None, reason="squidpy is not installed")


def names_of(letter, count):
    return [f"{letter}{row}" for row in range(count)]


def random_edges(rng, rows, columns, count):
    """Different pairs, in no order."""
    picked = rng.choice(rows * columns, count, replace=False)
    return picked // columns, picked % columns


def atlas(seed=0, cells=30, genes=12):
    rng = np.random.default_rng(seed)
    edges = {
        EXPRESSES: random_edges(rng, cells, genes, 90),
        REGULATES: random_edges(rng, genes, genes, 25),
        NEIGHBORS: random_edges(rng, cells, cells, 70),
    }
    edata = {
        EXPRESSES: {"weight": torch.from_numpy(rng.random(90, np.float32))},
        REGULATES: {"sign": torch.from_numpy(rng.integers(-1, 2, 25)), "scores": torch.randn(25, 3)},
        NEIGHBORS: {"distance": torch.from_numpy(rng.random(70, np.float32))},
    }
    return HeteroGraph.from_edges(
        edges,
        names={"cell": names_of("c", cells), "gene": names_of("g", genes)},
        ndata={
            "cell": {"statistics": torch.randn(cells, 4), "label": torch.arange(cells)},
            "gene": {"coding": torch.arange(genes) % 2 == 0},
        },
        edata=edata,
        reverse={EXPRESSED_BY: EXPRESSES},
        meta={"builder": "test"},
    ).validate()


def pairs(graph, etype):
    src, dst = (side.numpy() for side in graph.dgl.edges(etype=etype, order="eid"))
    return src, dst


def dense(graph, etype, name):
    """Values as rows = destinations, columns = sources."""
    src, dst = pairs(graph, etype)
    matrix = np.zeros((graph.num_nodes(etype[2]), graph.num_nodes(etype[0])))
    matrix[dst, src] = graph.edata(etype)[name]
    return matrix


def test_dgl_graphs_share_memory_but_no_features():
    graph = atlas()
    taken = to_dgl(graph)
    assert isinstance(taken, dgl.DGLGraph)
    assert taken.nodes["cell"].data["label"].data_ptr() == graph.ndata("cell")["label"].data_ptr()
    taken.nodes["cell"].data["new"] = torch.zeros(30)
    assert "new" not in graph.ndata("cell")


def test_a_layer_of_dgl_runs_on_the_graph_and_agrees_with_a_relation():
    graph = atlas()
    layer = dgl.nn.GraphConv(3, 3, norm="right", weight=False, bias=False, allow_zero_in_degree=True)
    h = torch.randn(12, 3)
    out = layer(to_dgl(graph)[EXPRESSED_BY], (h, torch.zeros(30, 3)))
    relation = Relation.from_graph(graph, EXPRESSED_BY, weight=None)
    mean = relation.spmm(h) / relation.spmm(torch.ones(12, 1)).clamp(min=1)
    torch.testing.assert_close(out, mean)


def test_a_graph_comes_back_from_dgl_as_it_went():
    graph = atlas()
    again = from_dgl(to_dgl(graph), graph.names, meta=graph.meta, reverse=graph.reverse).validate()
    assert again.canonical_etypes == graph.canonical_etypes
    assert again.reverse == graph.reverse
    for ntype in graph.ntypes:
        assert again.names[ntype].tolist() == graph.names[ntype].tolist()
        for name, tensor in graph.ndata(ntype).items():
            assert torch.equal(again.ndata(ntype)[name], tensor)
    for etype in graph.canonical_etypes:
        assert all(np.array_equal(a, b) for a, b in zip(pairs(again, etype), pairs(graph, etype), strict=True))
        for name, tensor in graph.edata(etype).items():
            assert torch.equal(again.edata(etype)[name], tensor)


def test_edges_of_a_homogeneous_graph_are_sorted_with_their_data_and_parallel_ones_kept():
    graph = dgl.graph(([2, 0, 2, 1, 2], [1, 2, 0, 1, 1]), num_nodes=4)
    graph.edata["w"] = torch.arange(5)
    graph.ndata["x"] = torch.arange(4.0)
    taken = from_dgl(graph, {"_N": ["a", "b", "c", "d"]}).validate()
    etype = ("_N", "_E", "_N")
    assert [side.tolist() for side in pairs(taken, etype)] == [[0, 1, 2, 2, 2], [2, 1, 0, 1, 1]]
    assert taken.edata(etype)["w"].tolist() == [1, 3, 2, 0, 4]
    assert taken.ndata("_N")["x"].tolist() == [0, 1, 2, 3]
    assert graph.edata["w"].tolist() == [0, 1, 2, 3, 4]
    assert to_dgl(taken).is_homogeneous


def test_types_without_names_are_numbered_and_empty_ones_kept():
    graph = dgl.heterograph({("a", "to", "b"): ([0], [1])}, num_nodes_dict={"a": 2, "b": 2, "c": 0})
    taken = from_dgl(graph, {"b": ["x", "y"]}).validate()
    assert {ntype: listed.tolist() for ntype, listed in taken.names.items()} == {
        "a": ["a_0", "a_1"], "b": ["x", "y"], "c": []
    }  # fmt: skip


def reversed_wrongly(what):
    graph = dgl.heterograph({("a", "to", "b"): ([0, 1], [1, 0]), ("b", "of", "a"): ([1, 0], [0, 1])})
    if what == "edges":
        graph = dgl.heterograph({("a", "to", "b"): ([0, 1], [1, 0]), ("b", "of", "a"): ([1, 0], [0, 0])})
    elif what == "number":
        graph = dgl.heterograph({("a", "to", "b"): ([0, 1], [1, 0]), ("b", "of", "a"): ([1], [0])}, {"a": 2, "b": 2})
    elif what == "data":
        graph.edges["to"].data["w"], graph.edges["of"].data["w"] = torch.ones(2), torch.zeros(2)
    return graph


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (lambda: dgl.batch([dgl.graph(([0], [1]))] * 2), {}, "found a batch of 2 graphs"),
        (lambda: dgl.to_block(dgl.graph(([0], [1])), [1]), {}, "found a block of message passing"),
        (lambda: dgl.graph(([0], [1])), {"names": {"cell": ["a"]}}, "names for cell, but node types are _N"),
        (lambda: dgl.graph(([0], [1])), {"names": {"_N": ["a"]}}, "1 of 1 destinations lie outside 0 to 0"),
        (
            lambda: reversed_wrongly("edges"),
            {"reverse": {("b", "of", "a"): ("a", "to", "b")}},
            "1 of 2 edges that join other nodes",
        ),
        (
            lambda: reversed_wrongly("number"),
            {"reverse": {("b", "of", "a"): ("a", "to", "b")}},
            "has another number of edges",
        ),
        (
            lambda: reversed_wrongly("data"),
            {"reverse": {("b", "of", "a"): ("a", "to", "b")}},
            r"has other data than \('a', 'to', 'b'\): w",
        ),
        (
            lambda: reversed_wrongly("none"),
            {"reverse": {("b", "by", "a"): ("a", "to", "b")}},
            r"reverse: no edge type \('b', 'by', 'a'\)",
        ),
    ],
)
def test_dgl_graphs_that_do_not_fit_are_refused(make, given, message):
    with pytest.raises(GraphError, match=message):
        from_dgl(make(), **given)


@needs_pyg
def test_pyg_data_hold_names_features_and_edges():
    graph = atlas()
    data = to_pyg(graph)
    data.validate()
    assert sorted(data.edge_types) == graph.canonical_etypes
    for ntype in graph.ntypes:
        assert data[ntype].names.tolist() == graph.names[ntype].tolist()
        assert data[ntype].num_nodes == graph.num_nodes(ntype)
        for name, tensor in graph.ndata(ntype).items():
            assert data[ntype][name].data_ptr() == tensor.data_ptr()
    for etype in graph.canonical_etypes:
        index = data[etype].edge_index
        assert index.dtype == torch.int64
        np.testing.assert_array_equal(index.numpy(), np.stack(pairs(graph, etype)))
        for name, tensor in graph.edata(etype).items():
            assert torch.equal(data[etype][name], tensor)


@needs_pyg
def test_a_part_of_pyg_data_keeps_its_names():
    part = to_pyg(atlas()).subgraph({"gene": torch.tensor([3, 5])})
    assert list(part["gene"].names) == ["g3", "g5"]
    assert part["gene"].coding.tolist() == [False, False]


@needs_pyg
def test_a_sage_layer_of_pyg_gives_the_mean_of_a_relation():
    graph = atlas()
    data = to_pyg(graph)
    sage = interchange._pyg() and importlib.import_module("torch_geometric.nn").SAGEConv((5, 5), 5, root_weight=False)
    nn.init.eye_(sage.lin_l.weight)
    nn.init.zeros_(sage.lin_l.bias)
    h = torch.randn(12, 5)
    out = sage((h, torch.zeros(30, 5)), data[EXPRESSED_BY].edge_index)
    relation = Relation.from_graph(graph, EXPRESSED_BY, weight=None)
    mean = relation.spmm(h) / relation.spmm(torch.ones(12, 1)).clamp(min=1)
    torch.testing.assert_close(out, mean)


@needs_pyg
def test_names_that_pyg_uses_itself_are_refused():
    graph = atlas()
    graph.dgl.nodes["gene"].data["num_nodes"] = torch.zeros(12)
    with pytest.raises(GraphError, match="nodes 'gene': HeteroData uses the name num_nodes itself"):
        to_pyg(graph)


def test_pyg_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(GraphError, match="torch_geometric is not installed. Fix: pip install torch-geometric"):
        to_pyg(atlas())


def test_networkx_has_every_edge_with_its_data():
    graph = atlas()
    made = to_networkx(graph)
    assert set(made) == {(ntype, name) for ntype in graph.ntypes for name in graph.names[ntype].tolist()}
    assert made.nodes["gene", "g3"] == {"node_type": "gene", "coding": False}
    assert made.nodes["cell", "c7"] == {"node_type": "cell", "label": 7}
    assert set(made.graph["left_out"]) == {"nodes cell: statistics", "edges gene-regulates-gene: scores"}
    for etype, name in ((EXPRESSES, "weight"), (EXPRESSED_BY, "weight"), (REGULATES, "sign"), (NEIGHBORS, "distance")):
        rows, columns = ([(ntype, one) for one in graph.names[ntype].tolist()] for ntype in (etype[2], etype[0]))
        chosen = nx.MultiDiGraph()
        chosen.add_nodes_from(made)
        chosen.add_edges_from((u, v, data) for u, v, key, data in made.edges(keys=True, data=True) if key == etype[1])
        assert chosen.number_of_edges() == graph.num_edges(etype)
        found = nx.to_scipy_sparse_array(chosen, nodelist=[*dict.fromkeys([*columns, *rows])], weight=name).toarray()
        place = {node: row for row, node in enumerate(dict.fromkeys([*columns, *rows]))}
        picked = found[np.ix_([place[node] for node in columns], [place[node] for node in rows])]
        np.testing.assert_allclose(picked.T, dense(graph, etype, name))


def test_parallel_edges_have_keys_of_their_own():
    etype = ("a", "to", "b")
    graph = HeteroGraph.from_edges(
        {etype: ([0, 0, 0, 1], [1, 1, 0, 1])},
        names={"a": ["x", "y"], "b": ["p", "q"]},
        edata={etype: {"w": torch.arange(4)}},
    )
    listed = sorted((u[1], v[1], key, w) for u, v, key, w in to_networkx(graph).edges(keys=True, data="w"))
    assert listed == [("x", "p", "to", 2), ("x", "q", "to", 0), ("x", "q", "to:1", 1), ("y", "q", "to", 3)]


def test_networkx_of_a_large_graph_has_to_be_wanted():
    graph = atlas()
    with pytest.raises(GraphError, match=r"found 317 nodes and edges, expected 300 at most"):
        to_networkx(graph, most=300)
    assert len(to_networkx(graph, most=317)) == 42


def test_a_graph_without_edges_has_all_forms():
    graph = HeteroGraph.from_edges({NEIGHBORS: ([], [])}, names={"cell": ["a", "b"]}).validate()
    assert to_networkx(graph).number_of_edges() == 0
    assert from_dgl(to_dgl(graph), graph.names).num_edges(NEIGHBORS) == 0
    data = anndata.AnnData(obs=pd.DataFrame(index=["b", "a"]))
    assert to_anndata(graph, data).written == {"obsp['neighbors_connectivities']": 0}


def frame(graph, extra_genes=3, seed=1):
    """Cells and genes of a graph in another order, with genes that it does not have."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(graph.names["cell"])
    genes = rng.permutation([*graph.names["gene"].tolist(), *names_of("x", extra_genes)])
    return anndata.AnnData(
        sparse.csr_matrix((cells.size, genes.size), dtype=np.float32),
        obs=pd.DataFrame(index=cells.astype(str)),
        var=pd.DataFrame(index=genes.astype(str)),
    )


def test_edges_go_to_the_slots_of_anndata_in_its_order(tmp_path):
    graph = atlas()
    data = frame(graph)
    slots = to_anndata(graph, data)
    assert slots.written == {"obsp['neighbors_distance']": 70, "varp['regulates_sign']": 25}
    assert set(slots.left_out) == {
        "cell-expresses-gene", "gene-expressed_by-cell", "gene-regulates-gene, scores"
    }  # fmt: skip
    assert slots.unmatched == {"cell": {"nodes": 0, "rows": 0}, "gene": {"nodes": 0, "rows": 3}}
    cells, genes = graph.index("cell", data.obs_names), [data.var_names.get_loc(g) for g in graph.names["gene"]]
    np.testing.assert_array_equal(
        data.obsp["neighbors_distance"].toarray(), dense(graph, NEIGHBORS, "distance")[np.ix_(cells, cells)]
    )
    signs = data.varp["regulates_sign"].toarray()
    np.testing.assert_array_equal(signs[np.ix_(genes, genes)], dense(graph, REGULATES, "sign"))
    assert np.count_nonzero(signs) == np.count_nonzero(dense(graph, REGULATES, "sign"))
    data.write_h5ad(tmp_path / "slots.h5ad")
    again = anndata.read_h5ad(tmp_path / "slots.h5ad")
    assert (again.obsp["neighbors_distance"] != data.obsp["neighbors_distance"]).nnz == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_data_of_any_precision_become_values_of_slots(dtype):
    weight = torch.tensor([0.5, -0.25], dtype=dtype, requires_grad=True)
    graph = HeteroGraph.from_edges(
        {REGULATES: ([0, 1], [1, 2])}, names={"gene": ["a", "b", "c"]}, edata={REGULATES: {"weight": weight}}
    )
    data = anndata.AnnData(np.zeros((1, 3)), var=pd.DataFrame(index=["c", "b", "a"]))
    to_anndata(graph, data)
    assert data.varp["regulates_weight"].toarray().tolist() == [[0, -0.25, 0], [0, 0, 0.5], [0, 0, 0]]


def test_a_view_is_written_to_as_a_whole():
    graph = atlas()
    whole = frame(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", anndata.ImplicitModificationWarning)
        view = whole[:, ::-1]
        assert len(to_anndata(graph, view).written) == 2
    assert set(view.obsp) == {"neighbors_distance"}
    assert set(view.varp) == {"regulates_sign"}
    assert not whole.obsp


def test_nodes_and_cells_without_a_partner_are_an_error_unless_allowed():
    graph = atlas()
    data = frame(graph)[:20, :].copy()
    with pytest.raises(GraphError, match="10 of 30 nodes 'cell' are not among the 20 cells of the data"):
        to_anndata(graph, data)
    assert not data.obsp
    slots = to_anndata(graph, data, partial=True)
    assert slots.unmatched["cell"] == {"nodes": 10, "rows": 0}
    rows = graph.index("cell", data.obs_names)
    np.testing.assert_array_equal(
        data.obsp["neighbors_distance"].toarray(), dense(graph, NEIGHBORS, "distance")[np.ix_(rows, rows)]
    )
    wider = frame(graph)
    wider = anndata.AnnData(obs=pd.DataFrame(index=[*wider.obs_names, "new1", "new2"]), var=wider.var)
    with pytest.raises(GraphError, match="2 of 32 cells of the data are not among the nodes 'cell' of the graph: new1"):
        to_anndata(graph, wider)
    assert to_anndata(graph, wider, partial=True).unmatched["cell"] == {"nodes": 0, "rows": 2}


def test_slots_that_cannot_be_are_refused():
    graph = atlas()
    with pytest.raises(GraphError, match="no node of cell, gene is among the 2 cells and 0 features"):
        to_anndata(graph, anndata.AnnData(obs=pd.DataFrame(index=["k", "l"])))
    doubled = HeteroGraph.from_edges({NEIGHBORS: ([0, 0], [1, 1])}, names={"cell": ["a", "b"]})
    with pytest.raises(GraphError, match="1 of 2 are parallel to another"):
        to_anndata(doubled, anndata.AnnData(obs=pd.DataFrame(index=["a", "b"])))
    two = HeteroGraph.from_edges(
        {("x_cell", "like", "y_cell"): ([0], [0])}, names={"x_cell": ["a", "b"], "y_cell": ["a", "b"]}
    )
    cells = anndata.AnnData(obs=pd.DataFrame(index=["a", "b"]))
    with pytest.raises(GraphError, match=r"2 node types have names among obs_names: x_cell, y_cell.*cells='x_cell'"):
        to_anndata(two, cells)
    assert to_anndata(two, cells, cells="x_cell").left_out == {
        "x_cell-like-y_cell": "nodes 'y_cell' are not in the data"
    }
    with pytest.raises(GraphError, match="no node type 'z_cell'"):
        to_anndata(two, cells, cells="z_cell")


def two_modalities(seed=0):
    rng = np.random.default_rng(seed)
    near, shares = ("gene", "near", "peak"), ("peak", "overlaps", "peak")
    own = ("rna_cell", "neighbors", "rna_cell")
    graph = HeteroGraph.from_edges(
        {
            near: random_edges(rng, 12, 20, 40),
            shares: random_edges(rng, 20, 20, 15),
            NEIGHBORS: random_edges(rng, 30, 30, 50),
            own: random_edges(rng, 25, 25, 30),
        },
        names={
            "cell": names_of("c", 30),
            "rna_cell": names_of("c", 25),
            "gene": names_of("g", 12),
            "peak": names_of("p", 20),
        },
        edata={near: {"distance": torch.arange(40)}},
    )
    rna = anndata.AnnData(np.zeros((25, 12), np.float32))
    rna.obs_names, rna.var_names = names_of("c", 25)[::-1], names_of("g", 12)
    atac = anndata.AnnData(np.zeros((30, 20), np.float32))
    atac.obs_names, atac.var_names = names_of("c", 30), names_of("p", 20)[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return graph, mudata.MuData({"rna": rna, "atac": atac}), near, shares, own


def test_edges_go_to_the_modality_or_to_the_whole_of_mudata():
    graph, data, near, shares, own = two_modalities()
    slots = to_mudata(graph, data)
    assert slots.written == {
        "obsp['neighbors_connectivities']": 50,
        "rna.obsp['neighbors_connectivities']": 30,
        "varp['near_distance']": 40,
        "atac.varp['overlaps_connectivities']": 15,
    }
    src, dst = pairs(graph, near)
    found = data.varp["near_distance"].tocoo()
    expected = {(f"p{d}", f"g{s}", w) for s, d, w in zip(src, dst, graph.edata(near)["distance"].tolist(), strict=True)}
    names = data.var_names.to_numpy()
    assert set(zip(names[found.row], names[found.col], found.data.tolist(), strict=True)) == expected
    for table, etype, listed in (
        (data["atac"].varp["overlaps_connectivities"], shares, data["atac"].var_names),
        (data["rna"].obsp["neighbors_connectivities"], own, data["rna"].obs_names),
        (data.obsp["neighbors_connectivities"], NEIGHBORS, data.obs_names),
    ):
        matrix = table.tocoo()
        ends = set(zip(listed[matrix.row], listed[matrix.col], strict=True))
        src, dst = pairs(graph, etype)
        names = graph.names[etype[0]]
        assert ends == set(zip(names[dst].tolist(), names[src].tolist(), strict=True))


def tissue(count=150, seed=0):
    rng = np.random.default_rng(seed)
    return anndata.AnnData(
        obs=pd.DataFrame({"fov": pd.Categorical(rng.choice(["a", "b"], count))}, index=names_of("c", count)),
        obsm={"spatial": rng.random((count, 2)) * 100},
    )


def test_spatial_slots_are_in_the_order_of_the_cells_whatever_it_is(tmp_path):
    cells = tissue()
    graph = spatial_radius(cells, 10.0, unit="as_given", library="fov", self_loops=True)
    order = np.random.default_rng(1).permutation(150)
    other = cells[order].copy()
    assert to_obsp(graph, other).unmatched == {"cell": {"nodes": 0, "rows": 0}}
    points = other.obsm["spatial"]
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))
    alike = (other.obs["fov"].to_numpy()[:, None] == other.obs["fov"].to_numpy()) & (apart <= 10)
    np.testing.assert_array_equal(other.obsp["spatial_connectivities"].toarray(), alike)
    np.testing.assert_allclose(other.obsp["spatial_distances"].toarray(), np.where(alike, apart, 0), rtol=1e-6)
    assert other.obsp["spatial_distances"].diagonal().sum() == 0
    other.write_h5ad(tmp_path / "spatial.h5ad")
    said = anndata.read_h5ad(tmp_path / "spatial.h5ad").uns["spatial_neighbors"]
    assert said["connectivities_key"] == "spatial_connectivities"
    assert said["distances_key"] == "spatial_distances"
    assert (said["params"]["coord_type"], said["params"]["radius"]) == ("generic", 10.0)


def test_spatial_slots_need_a_spatial_graph_and_its_cells():
    cells = tissue()
    with pytest.raises(GraphError, match="custom graph has no edges"):
        to_obsp(atlas(), cells)
    with pytest.raises(GraphError, match="50 of 150 nodes 'cell' are not among the 100 cells"):
        to_obsp(spatial_knn(cells), cells[:100].copy())
    part = cells[:100].copy()
    assert to_obsp(spatial_knn(cells), part, key_added="near", partial=True).unmatched["cell"]["nodes"] == 50
    assert set(part.obsp) == {"near_connectivities", "near_distances"}


def hexagons():
    r, q = np.divmod(np.arange(120), 12)
    cells = tissue(120)
    cells.obsm["spatial"] = np.stack([q + 0.5 * (r % 2), np.sqrt(0.75) * r], axis=1) * 100
    return cells


@needs_squidpy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "ours", "mode", "given"),
    [
        (tissue, lambda c: spatial_knn(c, 5, keep="directed", library="fov"), "knn", {"n_neighs": 5}),
        (tissue, lambda c: spatial_radius(c, 12.0, unit="as_given", library="fov"), "radius", {"radius": 12.0}),
        (
            tissue,
            lambda c: spatial_radius(c, 12.0, unit="as_given", library="fov", self_loops=True),
            "radius",
            {"radius": 12.0, "set_diag": True},
        ),
        (
            tissue,
            lambda c: importlib.import_module("heteromics.graphs").spatial_delaunay(c, library="fov"),
            "delaunay",
            {},
        ),
        (hexagons, lambda c: spatial_grid(c, n_rings=1), "grid", {"n_neighs": 6}),
        (hexagons, lambda c: spatial_grid(c, n_rings=3), "grid", {"n_neighs": 6, "n_rings": 3}),
    ],
)
def test_slots_are_those_of_squidpy(make, ours, mode, given):
    import squidpy

    cells = make()
    graph = ours(cells)
    key = {"library_key": "fov"} if graph.meta["parameters"]["library"] else {}
    theirs = getattr(squidpy.gr, f"spatial_neighbors_{mode}")
    to_obsp(graph, cells, key_added="ours")
    theirs(cells, **given, **key)
    for name in ("connectivities", "distances"):
        one, other = cells.obsp[f"ours_{name}"], cells.obsp[f"spatial_{name}"]
        assert (one.shape, one.nnz, one.dtype) == (other.shape, other.nnz, other.dtype)
        np.testing.assert_allclose(one.toarray(), other.toarray(), rtol=1e-6)
    said, known = cells.uns["ours_neighbors"], cells.uns["spatial_neighbors"]
    assert said.keys() == known.keys()
    assert {name: said["params"][name] for name in said["params"].keys() & known["params"].keys()} == {
        name: value for name, value in known["params"].items() if name in said["params"]
    }
    assert {"coord_type", "transform"} <= said["params"].keys() & known["params"].keys()


@needs_squidpy
@pytest.mark.filterwarnings("ignore")
def test_functions_of_squidpy_run_on_the_slots():
    import squidpy

    cells = tissue()
    cells.obs["kind"] = pd.Categorical(np.random.default_rng(2).choice(["x", "y", "z"], 150))
    to_obsp(spatial_radius(cells, 12.0, unit="as_given", library="fov"), cells)
    counted = squidpy.gr.interaction_matrix(cells, "kind", copy=True)
    code = cells.obs["kind"].cat.codes.to_numpy()
    ends = cells.obsp["spatial_connectivities"].tocoo()
    np.testing.assert_array_equal(counted, np.bincount(3 * code[ends.row] + code[ends.col], minlength=9).reshape(3, 3))
