import copy
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from heteromics.errors import GraphError
from heteromics.graphs import Compressed, Feature, HeteroGraph, Kind, known_kind, register
from heteromics.graphs._dgl import dgl

OUT = ("cell", "expresses", "feature")
BACK = ("feature", "expressed_by", "cell")
NEAR = ("feature", "near", "feature")


def matrix(n_cells=6, n_features=9, seed=0):
    csr = sp.random_array((n_cells, n_features), density=0.4, format="csr", dtype=np.float32, rng=seed)
    csr.sort_indices()
    return csr


def names_of(csr):
    return {"cell": [f"c{i}" for i in range(csr.shape[0])], "feature": [f"f{i}" for i in range(csr.shape[1])]}


def graph_of(csr, by="src", **more):
    held = csr if by == "src" else csr.tocsc()
    part = Compressed(by, *(torch.from_numpy(np.array(array, np.int32)) for array in (held.indptr, held.indices)))
    weight = torch.from_numpy(held.data.copy())
    options = {"names": names_of(csr), "edata": {OUT: {"weight": weight}}, "reverse": {BACK: OUT}, **more}
    return HeteroGraph.from_compressed({OUT: part}, **options)


@pytest.mark.parametrize("by", ["src", "dst"])
@pytest.mark.parametrize(("etype", "side"), [(OUT, "src"), (OUT, "dst"), (BACK, "src"), (BACK, "dst")])
def test_adjacency_is_the_matrix_from_both_ends(by, etype, side):
    csr = matrix()
    graph = graph_of(csr, by).validate()
    indptr, indices, eids = graph.adjacency(etype, by=side)
    by_cell = (etype == OUT) == (side == "src")
    weight = graph.edata(etype)["weight"][eids.long()].numpy()
    found = sp.csr_array((weight, indices.numpy(), indptr.numpy()), shape=csr.shape if by_cell else csr.shape[::-1])
    np.testing.assert_array_equal(found.toarray(), (csr if by_cell else csr.T).toarray())  # bounded: 6 x 9
    assert indptr.dtype == indices.dtype == eids.dtype == torch.int32


def test_both_directions_share_one_copy():
    graph = graph_of(matrix())
    assert graph.edata(OUT)["weight"].data_ptr() == graph.edata(BACK)["weight"].data_ptr()
    for side, other in (("src", "dst"), ("dst", "src")):
        forward, backward = graph.adjacency(OUT, by=side), graph.adjacency(BACK, by=other)
        assert [one.data_ptr() for one in forward[:2]] == [one.data_ptr() for one in backward[:2]]
    stored = graph.dgl.adj_tensors("csr", etype=OUT)
    assert graph.dgl.adj_tensors("csc", etype=BACK)[1].data_ptr() == stored[1].data_ptr()


def test_pairs_in_any_order_are_sorted_with_their_data():
    csr = matrix()
    coo = csr.tocoo()
    order = np.random.default_rng(1).permutation(coo.nnz)
    graph = HeteroGraph.from_edges(
        {OUT: (coo.row[order], coo.col[order])},
        names=names_of(csr),
        edata={OUT: {"weight": torch.from_numpy(coo.data[order])}},
    ).validate()
    indptr, indices, eids = graph.adjacency(OUT)
    assert eids.tolist() == list(range(coo.nnz))
    np.testing.assert_array_equal(indptr, csr.indptr)
    np.testing.assert_array_equal(indices, csr.indices)
    np.testing.assert_array_equal(graph.edata(OUT)["weight"], csr.data)


def test_node_types_without_edges_and_edge_types_without_edges():
    graph = HeteroGraph.from_edges(
        {OUT: ([], [])}, names={"cell": ["a"], "feature": [], "alone": ["x", "y"]}
    ).validate()
    assert graph.num_nodes("alone") == 2
    assert graph.num_edges(OUT) == 0
    assert [len(part) for part in graph.adjacency(OUT, by="dst")] == [1, 0, 0]


def test_parallel_edges_are_kept():
    graph = HeteroGraph.from_edges({OUT: ([0, 0], [1, 1])}, names={"cell": ["a"], "feature": ["x", "y"]})
    assert graph.adjacency(OUT)[1].tolist() == [1, 1]


def test_index_finds_and_names_the_unknown():
    graph = graph_of(matrix())
    assert graph.index("cell", ["c4", "c0", "c4"]).tolist() == [4, 0, 4]
    assert graph.index("cell", []).dtype == np.int64
    with pytest.raises(
        GraphError, match=r"2 of 3 names are not among the 6 nodes of type 'cell': x, y\.\n  The graph has"
    ):
        graph.index("cell", ["c1", "x", "y"])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda g: g.num_nodes("gene"), "no node type 'gene' in this custom graph; it has cell, feature"),
        (lambda g: g.edata(NEAR), "no edge type .*near.* it has .*expresses"),
        (lambda g: g.adjacency(OUT, by="row"), "found by='row', expected 'src' or 'dst'"),
    ],
)
def test_unknown_types_are_named(ask, message):
    with pytest.raises(GraphError, match=message):
        ask(graph_of(matrix()))


def test_data_are_read_only():
    with pytest.raises(TypeError):
        graph_of(matrix()).edata(OUT)["weight"] = torch.zeros(1)


def test_all_misfits_of_the_parts_are_told_at_once():
    indptr, indices = torch.tensor([0, 2, 3]), torch.tensor([0, 7, 1])
    with pytest.raises(GraphError) as raised:
        HeteroGraph.from_compressed(
            {OUT: Compressed("src", indptr, indices), NEAR: Compressed("src", torch.tensor([0, 1]), torch.tensor([0]))},
            names={"cell": ["a", "b"], "feature": ["x", "y"]},
            ndata={"cell": {"size": torch.ones(3)}, "gene": {}},
            edata={OUT: {"weight": torch.ones(2)}, ("a", "b", "c"): {}},
            reverse={BACK: ("no", "such", "type")},
        )
    assert set(raised.value.problems) == {
        f"edges {OUT}: 1 of 3 indices lie outside 0 to 1",
        f"edges {OUT}: 'weight' has shape (2,), expected one row for each of 3 edges",
        f"edges {NEAR}: indptr has shape (2,), expected (3,): one row per src node",
        "edges ('a', 'b', 'c'): data given, but no such edges",
        "nodes 'cell': 'size' has shape (3,), expected one row for each of 2 nodes",
        "nodes 'gene': data given, but no names",
        f"edges {BACK}: reverse of ('no', 'such', 'type'), which is not given",
    }
    assert "7 problems" in str(raised.value)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (([0.0, 1.0], [0, 1]), "found float64 with 1 axes and int64 with 1 axes, expected integers with 1"),
        (([0, 1], [0]), "2 sources and 1 destinations, expected as many of each"),
        (([0, 5], [0, -1]), "1 of 2 sources lie outside 0 to 1"),
        (([0, 5], [0, -1]), "1 of 2 destinations lie outside 0 to 2"),
    ],
)
def test_misfits_of_pairs(pair, problem):
    with pytest.raises(GraphError, match=problem):
        HeteroGraph.from_edges({OUT: pair}, names={"cell": ["a", "b"], "feature": ["x", "y", "z"]})


def test_validate_tells_all_problems_at_once():
    register(
        Kind(
            "test_kind",
            nodes={"cell": {"size": Feature(torch.float32)}, "peak": {}},
            edges={OUT: {"weight": Feature((torch.float32, torch.float64))}, NEAR: {}},
            optional_nodes={"feature": {"code": Feature(torch.int64)}},
        )
    )
    csr = matrix()
    graph = graph_of(csr, kind="test_kind", meta={"bad": {1, 2}})
    graph.dgl.edges[OUT].data["weight"] = torch.full((csr.nnz,), torch.nan)
    graph.dgl.nodes["feature"].data["code"] = torch.ones(9, 2)
    graph.names["cell"] = np.array(["c0", "c0", "c1", "c1"])
    del graph.names["feature"]
    with pytest.raises(GraphError) as raised:
        graph.validate()
    assert set(raised.value.problems) == {
        "nodes 'cell': 4 names for 6 nodes",
        "nodes 'cell': 2 names stand for more than one node: c0, c1",
        "nodes 'feature': no names, expected 9",
        f"edges {OUT}: {csr.nnz} of {csr.nnz} values of 'weight' are NaN or infinite",
        f"edges {BACK}: data differ from those of {OUT}: weight",
        "a test_kind graph needs nodes 'peak'",
        f"a test_kind graph needs edges {NEAR}",
        "nodes 'cell': no feature 'size'",
        "nodes 'feature': 'code' found float32 with 2 axes, expected int64 with 1",
        "meta cannot be written as JSON: Object of type set is not JSON serializable",
    }
    assert known_kind("test_kind").name == "test_kind"
    assert known_kind("custom") is None


def test_validate_sees_a_reverse_type_with_other_edges():
    csr = matrix()
    other = graph_of(matrix(seed=5)).adjacency(OUT)
    ours = graph_of(csr).adjacency(OUT)
    parts = {
        OUT: Compressed("src", *ours[:2]),
        BACK: Compressed("dst", *other[:2]),
    }
    graph = HeteroGraph.from_compressed(parts, names=names_of(csr))
    graph.reverse[BACK] = OUT
    with pytest.raises(GraphError, match="does not hold the edges of"):
        graph.validate()
    graph.reverse[BACK] = NEAR
    with pytest.raises(GraphError, match="which is not in the graph"):
        graph.validate()


def test_validate_sees_node_numbers_that_dgl_lets_pass():
    parts = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([-1], dtype=torch.int32)
    bare = dgl.heterograph(
        {OUT: ("csr", (*parts, torch.empty(0, dtype=torch.int32)))}, num_nodes_dict={"cell": 1, "feature": 2}
    )
    with pytest.raises(GraphError, match="1 of 1 indices lie outside 0 to 1"):
        HeteroGraph(bare, names={"cell": ["a"], "feature": ["x", "y"]}).validate()


def test_a_dgl_graph_can_be_wrapped_as_it_is():
    bare = dgl.heterograph(
        {OUT: (torch.tensor([1, 0, 1]), torch.tensor([0, 2, 1]))}, num_nodes_dict={"cell": 2, "feature": 3}
    )
    bare.edges[OUT].data["weight"] = torch.tensor([10.0, 2.0, 11.0])
    graph = HeteroGraph(bare, names={"cell": ["a", "b"], "feature": ["x", "y", "z"]}).validate()
    indptr, indices, eids = graph.adjacency(OUT)
    assert (indptr.tolist(), indices.tolist()) == ([0, 1, 3], [2, 0, 1])
    assert graph.edata(OUT)["weight"][eids].tolist() == [2.0, 10.0, 11.0]


# ---- plain DGL code on our graphs


def test_dgl_operators_agree_with_scipy():
    csr = matrix(20, 30)
    graph = graph_of(csr)
    h_cell, h_feature = torch.randn(20, 4), torch.randn(30, 4)
    forward = dgl.ops.u_mul_e_sum(graph.dgl[OUT], h_cell, graph.edata(OUT)["weight"])
    backward = dgl.ops.u_mul_e_sum(graph.dgl[BACK], h_feature, graph.edata(BACK)["weight"])
    np.testing.assert_allclose(forward, csr.T @ h_cell.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backward, csr @ h_feature.numpy(), rtol=1e-5, atol=1e-6)


def test_dgl_message_passing_and_layers_agree_with_scipy():
    csr = matrix(20, 30)
    graph = graph_of(csr).dgl
    fn = dgl.function
    with graph.local_scope():
        graph.nodes["cell"].data["h"], graph.nodes["feature"].data["h"] = torch.randn(20, 4), torch.randn(30, 4)
        was = {ntype: graph.nodes[ntype].data["h"].numpy() for ntype in graph.ntypes}
        rule = (fn.u_mul_e("h", "weight", "m"), fn.sum("m", "out"))
        graph.multi_update_all({OUT: rule, BACK: rule}, "sum")
        np.testing.assert_allclose(graph.nodes["feature"].data["out"], csr.T @ was["cell"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(graph.nodes["cell"].data["out"], csr @ was["feature"], rtol=1e-5, atol=1e-6)
    layer = dgl.nn.HeteroGraphConv(
        {
            name: dgl.nn.GraphConv(4, 2, norm="none", weight=False, bias=False, allow_zero_in_degree=True)
            for name in ("expresses", "expressed_by")
        }
    )
    weights = {etype[1]: {"edge_weight": graph.edges[etype].data["weight"]} for etype in (OUT, BACK)}
    out = layer(graph, {ntype: torch.from_numpy(h) for ntype, h in was.items()}, mod_kwargs=weights)
    np.testing.assert_allclose(out["cell"], csr @ was["feature"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out["feature"], csr.T @ was["cell"], rtol=1e-5, atol=1e-6)


def test_dgl_keeps_no_file_and_no_stand_in(tmp_path):
    code = "import heteromics.graphs, sys; assert 'dgl' in sys.modules and 'dgl.graphbolt' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


def test_copying_keeps_what_is_shared():
    graph = graph_of(matrix())
    twin = copy.copy(graph)
    assert twin.dgl is graph.dgl
    assert (
        repr(twin)
        == repr(graph)
        == "HeteroGraph(kind='custom', cell 6, feature 9; cell-expresses-feature 22, feature-expressed_by-cell 22)"
    )
