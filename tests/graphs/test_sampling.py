"""Batches of cells, sampled neighbours and parts, against DGL's own subgraphs and brute force."""

from itertools import chain

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from heteromics.errors import GraphError
from heteromics.graphs import HeteroGraph, load_graph, save_graph
from heteromics.graphs._dgl import Compressed, dgl
from heteromics.graphs.neighbor_sampling import sample_neighbors
from heteromics.graphs.sampling import (
    CellBatcher,
    cell_parts,
    join_cells,
    partition_cells,
    subgraph,
)
from heteromics.nn import Relation

OUT, BACK = ("cell", "expresses", "gene"), ("gene", "expressed_by", "cell")
MEASURED = ("protein", "measured_in", "cell")  # stored from proteins, so that cells are the side to be made
NEAR, SELF, APART = ("gene", "interacts", "gene"), ("cell", "neighbors", "cell"), ("set", "holds", "gene")


def compressed(matrix, by="src"):
    held = sp.csr_array(matrix) if by == "src" else sp.csr_array(matrix.T)
    held.sort_indices()
    parts = (torch.from_numpy(np.array(array, np.int32)) for array in (held.indptr, held.indices))
    return Compressed(by, *parts), {"weight": torch.from_numpy(held.data.astype(np.float32))}


def graph_of(cells=23, genes=17, proteins=5, *, between=False, seed=0):
    rng = np.random.default_rng(seed)

    def random(rows, columns, density):
        return sp.random_array(
            (rows, columns), density=density, rng=rng, data_sampler=lambda size: rng.uniform(1, 9, size)
        )

    wanted = {
        OUT: random(cells, genes, 0.4),
        MEASURED: random(proteins, cells, 0.6),
        NEAR: random(genes, genes, 0.2),
        APART: random(3, genes, 0.3),
    }
    if between:
        wanted[SELF] = random(cells, cells, 0.2)
    parts = {etype: compressed(matrix) for etype, matrix in wanted.items()}
    names = {"cell": cells, "gene": genes, "protein": proteins, "set": 3}
    return HeteroGraph.from_compressed(
        {etype: part for etype, (part, _) in parts.items()},
        names={ntype: [f"{ntype}{row}" for row in range(size)] for ntype, size in names.items()},
        ndata={"cell": {"batch": torch.from_numpy(rng.integers(0, 4, cells)), "pair": torch.rand(cells, 2)}},
        edata={etype: data for etype, (_, data) in parts.items()},
        kind="drawn",
        meta={"builder": "test"},
        reverse={BACK: OUT},
    )


def edge_set(graph, etype):
    """Edges by the names of their ends, with weights: independent of any order."""
    indptr, indices, eids = (array.numpy() for array in graph.adjacency(etype))
    src = graph.names[etype[0]][np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))]
    weight = graph.edata(etype)["weight"].numpy()[eids]
    return sorted(zip(src.tolist(), graph.names[etype[2]][indices].tolist(), weight.tolist(), strict=True))


def brute_force(graph, etype, kept):
    chosen = {ntype: set(graph.names[ntype][np.asarray(rows)].tolist()) for ntype, rows in kept.items()}
    return [
        (src, dst, weight)
        for src, dst, weight in edge_set(graph, etype)
        if src in chosen.get(etype[0], {src}) and dst in chosen.get(etype[2], {dst})
    ]


KEPT = [
    pytest.param({"cell": [7, 2, 21]}, id="some cells out of order"),
    pytest.param({"cell": [4], "gene": [3, 16, 0, 9]}, id="one cell and drawn genes"),
    pytest.param({"cell": range(23), "protein": [4, 1]}, id="all cells, two proteins"),
    pytest.param({"cell": []}, id="no cell"),
    pytest.param({"gene": [5, 1]}, id="genes alone"),
    pytest.param({}, id="everything"),
]


@pytest.mark.parametrize("kept", KEPT)
def test_subgraph_is_that_of_dgl_and_of_brute_force(kept):
    graph = graph_of(between=True)
    kept = {ntype: np.array(rows, dtype=np.int64) for ntype, rows in kept.items()}
    part = subgraph(graph, kept).validate()
    every = {
        ntype: torch.from_numpy(kept.get(ntype, np.arange(graph.num_nodes(ntype)))).int() for ntype in graph.ntypes
    }
    theirs = dgl.node_subgraph(graph.dgl, every)
    for ntype, rows in every.items():
        np.testing.assert_array_equal(part.names[ntype], graph.names[ntype][rows.numpy()])
        assert part.ndata(ntype)["row"].tolist() == rows.tolist()
    assert torch.equal(part.ndata("cell")["pair"], graph.ndata("cell")["pair"][every["cell"].long()])
    for etype in graph.canonical_etypes:
        assert edge_set(part, etype) == brute_force(graph, etype, kept)
        src, dst = theirs.edges(etype=etype)
        pairs = sorted(zip(src.tolist(), dst.tolist(), theirs.edges[etype].data["weight"].tolist(), strict=True))
        ours = part.dgl.edges(etype=etype)
        weight = part.edata(etype)["weight"].tolist()
        assert sorted(zip(ours[0].tolist(), ours[1].tolist(), weight, strict=True)) == pairs
    assert part.reverse == graph.reverse
    assert part.edata(BACK)["weight"].data_ptr() == part.edata(OUT)["weight"].data_ptr()
    assert part.meta["transforms"][-1]["name"] == "subgraph"
    assert "transforms" not in graph.meta


def test_subgraph_of_a_subgraph_keeps_the_rows_of_the_first_graph():
    graph = graph_of()
    twice = subgraph(subgraph(graph, {"cell": [9, 4, 20]}), {"cell": [2, 0]})
    assert twice.ndata("cell")["row"].tolist() == [20, 9]
    assert edge_set(twice, OUT) == brute_force(graph, OUT, {"cell": [20, 9]})
    assert [each["name"] for each in twice.meta["transforms"]] == ["subgraph", "subgraph"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 23, -1], r"2 of 3 rows of 'cell' lie outside 0 to 22: 23, -1"),
        ([0, 4, 4], "1 of 3 rows of 'cell' stand there more than once"),
        ([0.5], "found torch.float64 with 1 axes, expected integers"),
    ],
)
def test_rows_that_cannot_be_taken_are_named(rows, message):
    with pytest.raises(GraphError, match=message):
        subgraph(graph_of(), {"cell": rows})
    with pytest.raises(GraphError, match=message):
        CellBatcher(graph_of(), 2).batch(rows)


def test_an_epoch_holds_each_cell_once_and_follows_seed_and_epoch():
    graph = graph_of()
    batches = CellBatcher(graph, 5, seed=3)

    def rows(batches):
        return [batch.ndata("cell")["row"].tolist() for batch in batches]

    first = rows(batches)
    assert [len(each) for each in first] == [5, 5, 5, 5, 3]
    assert len(batches) == 5
    assert sorted(chain.from_iterable(first)) == list(range(23))
    assert rows(batches) == first == rows(CellBatcher(graph, 5, seed=3))
    batches.sampler.set_epoch(1)  # as Lightning does before each epoch
    assert rows(batches) != first
    assert rows(CellBatcher(graph, 5, seed=4)) != first
    assert rows(CellBatcher(graph, 5, seed=3, drop_last=True)) == first[:4]
    assert len(CellBatcher(graph, 5, drop_last=True)) == 4
    assert list(chain.from_iterable(rows(CellBatcher(graph, 10, shuffle=False)))) == list(range(23))


def test_batches_are_induced_graphs_that_can_be_saved(tmp_path):
    graph = graph_of()
    for batch in CellBatcher(graph, 6, features={"gene": 0.5, "protein": 2}, seed=1):
        batch.validate()
        kept = {ntype: batch.ndata(ntype)["row"].numpy() for ntype in ("cell", "gene", "protein")}
        assert (len(kept["gene"]), len(kept["protein"]), batch.num_nodes("set")) == (8, 2, 3)
        for etype in graph.canonical_etypes:
            assert edge_set(batch, etype) == brute_force(graph, etype, kept)
    again = load_graph(save_graph(batch, tmp_path / "batch"))
    assert again.ndata("gene")["row"].tolist() == kept["gene"].tolist()
    relation = Relation.from_graph(batch, BACK)
    assert relation.shape == (batch.num_nodes("cell"), 8)


def test_what_is_kept_whole_shares_its_memory():
    graph = graph_of()
    batch = next(iter(CellBatcher(graph, 4)))
    assert batch.edata(NEAR)["weight"].data_ptr() == graph.edata(NEAR)["weight"].data_ptr()
    assert batch.adjacency(NEAR)[1].data_ptr() == graph.adjacency(NEAR)[1].data_ptr()


def test_features_are_drawn_in_proportion_to_their_degree():
    """Against the exact inclusion probabilities of successive draws without replacement, two of four."""
    degree = np.array([1, 2, 3, 4, 0])
    cells = np.repeat(np.arange(5), degree)
    graph = HeteroGraph.from_edges(
        {OUT: (np.concatenate([np.arange(size) for size in degree]), cells)},
        names={"cell": list("abcd"), "gene": [f"g{row}" for row in range(5)]},
    )
    chance = degree / degree.sum()
    expected = chance + [
        sum(chance[other] * chance[gene] / (1 - chance[other]) for other in range(5) if other != gene)
        for gene in range(5)
    ]
    batches = CellBatcher(graph, 4, features=2)
    seen = np.zeros(5)
    for epoch in range(1_000):
        batches.set_epoch(epoch)
        (batch,) = batches
        seen[batch.ndata("gene")["row"]] += 1
    assert seen[4] == 0
    spread = np.sqrt(expected * (1 - expected) / 1_000)
    assert np.all(np.abs(seen / 1_000 - expected) <= 4 * spread)


def test_fewer_features_with_cells_than_asked_for_are_all_drawn():
    graph = HeteroGraph.from_edges({OUT: ([0, 1], [0, 2])}, names={"cell": list("ab"), "gene": list("uvwx")})
    (batch,) = CellBatcher(graph, 2, features=3)
    assert batch.names["gene"].tolist() == ["u", "w"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size: found 0, expected 1 or more"),
        ({"size": 2, "features": 1.5}, "found a share of 1.5, expected above 0"),
        ({"size": 2, "features": 99}, r"features of 'gene': found 99, expected 1 to 17"),
        ({"size": 2, "features": {"set": 1}}, "features: set cannot be drawn; .* gene, protein"),
    ],
)
def test_impossible_batches_are_refused(given, message):
    with pytest.raises(GraphError, match=message):
        CellBatcher(graph_of(), **given)


def test_a_graph_without_cells_is_refused():
    graph = HeteroGraph.from_edges({("a", "to", "b"): ([0], [0])}, names={"a": ["x"], "b": ["y"]})
    for use in (lambda: CellBatcher(graph, 1), lambda: cell_parts(graph, 1), lambda: join_cells([graph])):
        with pytest.raises(GraphError, match="found a custom graph with nodes a, b, expected nodes 'cell'"):
            use()


@pytest.mark.parametrize("by", [None, "values", "batch"])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_hold_each_cell_once_and_join_to_the_whole(by, parts):
    graph = graph_of()
    found = list(partition_cells(graph, parts, by))
    rows = np.concatenate([part.validate().ndata("cell")["row"].numpy() for part in found])
    assert len(found) == parts
    assert sorted(rows.tolist()) == list(range(23))
    for etype in (OUT, MEASURED):
        assert sorted(chain.from_iterable(edge_set(part, etype) for part in found)) == edge_set(graph, etype)
    whole = join_cells(found).validate()
    for etype in graph.canonical_etypes:
        assert edge_set(whole, etype) == edge_set(graph, etype)
    assert torch.equal(whole.ndata("cell")["pair"], graph.ndata("cell")["pair"][rows])
    if by != "batch":
        for mine, theirs in zip(whole.adjacency(OUT), graph.adjacency(OUT), strict=True):
            assert torch.equal(mine, theirs)


def test_parts_are_balanced_or_keep_batches_together():
    graph = graph_of(cells=200)
    assert [len(part) for part in cell_parts(graph, 3)] == [67, 67, 66]
    size = graph.adjacency(OUT)[0].diff() + graph.adjacency(MEASURED, "dst")[0].diff()
    sums = [int(size[rows].sum()) for rows in cell_parts(graph, 4, "values")]
    assert max(sums) - min(sums) <= 2 * int(size.max())
    batch = graph.ndata("cell")["batch"].numpy()
    held = [set(batch[rows].tolist()) for rows in cell_parts(graph, 3, "batch")]
    assert sum(map(len, held)) == len(set.union(*held)) == 4


def test_one_heavy_cell_leaves_no_part_empty():
    src = np.concatenate([np.zeros(50, int), np.arange(1, 5)])
    dst = np.concatenate([np.arange(50), np.zeros(4, int)])
    names = {"cell": list("abcde"), "gene": [f"g{row}" for row in range(50)]}
    graph = HeteroGraph.from_edges({OUT: (src, dst)}, names=names)
    assert [rows.tolist() for rows in cell_parts(graph, 4, "values")] == [[0], [1], [2], [3, 4]]


@pytest.mark.parametrize(
    ("parts", "by", "message"),
    [
        (0, None, "parts: found 0, expected 1 to 23"),
        (24, "values", "parts: found 24, expected 1 to 23"),
        (5, "batch", "parts: found 5, expected at most 4, the number of values of 'batch'"),
        (2, "donor", "by: found 'donor', expected 'values' or one of batch, pair"),
        (2, "pair", r"by: found 'pair' of shape \(23, 2\), expected one value for each cell"),
    ],
)
def test_impossible_parts_are_refused(parts, by, message):
    with pytest.raises(GraphError, match=message):
        cell_parts(graph_of(), parts, by)


def test_edges_between_parts_are_counted_and_not_joined():
    graph = graph_of(between=True)
    found = list(partition_cells(graph, 3))
    inside = sum(part.num_edges(SELF) for part in found)
    assert found[0].meta["transforms"][-1]["edges_between_parts"] == graph.num_edges(SELF) - inside > 0
    with pytest.raises(GraphError, match="join cells of one part only"):
        join_cells(found)


def test_graphs_that_do_not_fit_are_not_joined():
    with pytest.raises(GraphError, match="found no graph"):
        join_cells([])
    with pytest.raises(GraphError, match="nodes 'gene' of graph 1 are not those of graph 0"):
        join_cells([graph_of(), graph_of(genes=16)])
    with pytest.raises(GraphError, match="(?s)graph 1 is .* expected the same types"):
        join_cells([graph_of(), graph_of(between=True)])
    with pytest.raises(GraphError, match="23 of 46 cells have the name of another one"):
        join_cells([graph_of(), graph_of(seed=1)])
    one, other = partition_cells(graph_of(), 2)
    one.meta["categories"], other.meta["categories"] = {"batch": ["a", "b"]}, {"batch": ["b", "c"]}
    with pytest.raises(GraphError, match="codes of graph 1 stand for other words than those of graph 0"):
        join_cells([one, other])


def test_all_neighbours_are_those_of_brute_force():
    graph = graph_of()
    inner, outer = sample_neighbors(graph, {"cell": [3, 8]}, [-1, -1])
    assert outer.dst["cell"].tolist() == [3, 8]
    assert outer.src["gene"].tolist() == inner.dst["gene"].tolist()
    for block in (inner, outer):
        for etype in graph.canonical_etypes:
            edges = block.edges[etype]
            src = graph.names[etype[0]][block.src[etype[0]]][edges.indices.numpy()]
            dst = graph.names[etype[2]][block.dst[etype[2]]]
            dst = np.repeat(dst, edges.indptr.diff().numpy())
            weight = graph.edata(etype)["weight"][edges.eids].tolist()
            heard = set(graph.names[etype[2]][block.dst[etype[2]]].tolist())
            expected = [edge for edge in edge_set(graph, etype) if edge[1] in heard]
            assert sorted(zip(src.tolist(), dst.tolist(), weight, strict=True)) == expected


def test_message_passing_over_all_neighbours_is_that_of_the_whole_graph():
    graph = graph_of()
    torch.manual_seed(0)
    h = {ntype: torch.rand(graph.num_nodes(ntype), 3) for ntype in graph.ntypes}
    (block,) = sample_neighbors(graph, {"cell": [11, 0, 5]}, [-1])
    edges = block.edges[BACK]
    relation = Relation.from_csr(edges.indptr, edges.indices, edges.shape, graph.edata(BACK)["weight"][edges.eids])
    whole = Relation.from_graph(graph, BACK).spmm(h["gene"])
    torch.testing.assert_close(relation.spmm(h["gene"][block.src["gene"]]), whole[[11, 0, 5]])


def test_sampled_neighbours_are_some_of_them_and_follow_the_seed():
    graph = graph_of()
    seeds = {"cell": np.arange(23)}
    one, again, other = (sample_neighbors(graph, seeds, [{BACK: 2}], seed=seed)[0].edges for seed in (0, 0, 1))
    degree = graph.adjacency(BACK, "dst")[0].diff()
    assert torch.equal(one[BACK].indptr.diff().long(), degree.clamp(max=2).long())
    assert len(one[BACK].eids.unique()) == len(one[BACK].eids)
    assert torch.equal(one[BACK].eids, again[BACK].eids)
    assert not torch.equal(one[BACK].eids, other[BACK].eids)
    assert len(one[MEASURED].eids) == 0
    number = sample_neighbors(graph, seeds, [np.int64(2)])[0].edges
    assert torch.equal(number[BACK].indptr, one[BACK].indptr)


def test_fanouts_of_unknown_edges_are_refused():
    with pytest.raises(GraphError, match="fanouts: no edge type"):
        sample_neighbors(graph_of(), {"cell": [0]}, [{("cell", "eats", "gene"): 2}])
