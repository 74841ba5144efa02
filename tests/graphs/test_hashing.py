import numpy as np
import pytest
import torch

from heteromics.errors import GraphError
from heteromics.graphs import Compressed, HeteroGraph, hashing
from heteromics.graphs.hashing import graph_hash, other_store, store_marks

NEAR, BACK, TIES = ("gene", "near", "peak"), ("peak", "near_to", "gene"), ("gene", "ties", "gene")
NAMES = {"gene": [f"g{i}" for i in range(30)], "peak": [f"p{i}" for i in range(40)], "cell": ["c"]}


def parts(seed=0, edges=300):
    """Edges with parallel ones among them, some of equal data, in no order."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, 30, edges), rng.integers(0, 40, edges)
    return src, dst, {
        "weight": torch.from_numpy(rng.integers(0, 3, edges).astype(np.float32)),
        "pair": torch.from_numpy(rng.integers(-2, 2, (edges, 2))),
        "sure": torch.from_numpy(rng.random(edges) < 0.5),
    }  # fmt: skip


def compressed(by, src, dst, data, names=NAMES, idtype=torch.int64, reverse=None, ndata=None):
    """Group by one side and leave the order within a node as it comes."""
    rows, other = (src, dst) if by == "src" else (dst, src)
    order = np.argsort(rows, kind="stable")
    size = len(names["gene"] if by == "src" else names["peak"])
    indptr = torch.from_numpy(np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))])).to(idtype)
    indices = torch.from_numpy(other[order]).to(idtype)
    edata = {name: tensor[torch.from_numpy(order)] for name, tensor in data.items()}
    return HeteroGraph.from_compressed(
        {NEAR: Compressed(by, indptr, indices)}, names=names, edata={NEAR: edata}, reverse=reverse, ndata=ndata
    )


@pytest.fixture(params=[1 << 22, 7], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(hashing, "_BLOCK", request.param)


@pytest.mark.usefixtures("blocks")
def test_order_of_edges_side_and_id_type_do_not_matter():
    src, dst, data = parts()
    found = {graph_hash(compressed(by, src, dst, data)) for by in ("src", "dst")}
    found.add(graph_hash(compressed("src", src, dst, data, idtype=torch.int32)))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(src))
        moved = {name: tensor[torch.from_numpy(order)] for name, tensor in data.items()}
        found.add(graph_hash(compressed("dst" if seed else "src", src[order], dst[order], moved)))
    assert len(found) == 1
    assert len(found.pop()) == 64


def test_blocks_do_not_matter(monkeypatch):
    graph = compressed("src", *parts())
    found = set()
    for block in (1 << 22, 50, 1):
        monkeypatch.setattr(hashing, "_BLOCK", block)
        found.add(graph_hash(graph))
    assert len(found) == 1


def test_the_graph_is_left_as_it_is_and_a_folder_keeps_the_hash(tmp_path):
    src, dst, data = parts()
    graph = compressed("dst", src, dst, data, reverse={BACK: NEAR})
    before = graph.edata(NEAR)["weight"].clone()
    expected = graph_hash(graph)
    assert torch.equal(graph.edata(NEAR)["weight"], before)
    assert graph_hash(HeteroGraph.load(graph.save(tmp_path / "g"))) == expected


@pytest.mark.usefixtures("blocks")
def test_whatever_is_covered_changes_the_hash():
    src, dst, data = parts()
    weight = data["weight"].clone()
    weight[17] += 1
    other = src.copy()
    other[17] = (other[17] + 1) % 30
    swapped = dict(NAMES, gene=["g1", "g0", *NAMES["gene"][2:]])
    changed = [
        compressed("src", src, dst, data),
        compressed("src", src, dst, data | {"weight": weight}),
        compressed("src", src, dst, data | {"weight": data["weight"].double()}),
        compressed("src", src, dst, {"heavy" if name == "weight" else name: one for name, one in data.items()}),
        compressed("src", src, dst, {name: data[name] for name in ("pair", "sure")}),
        compressed("src", other, dst, data),
        compressed("src", src, dst, data, names=swapped),
        compressed("src", src, dst, data, names=dict(NAMES, cell=["d"])),
        compressed("src", src, dst, data, names={name: NAMES[name] for name in ("gene", "peak")}),
        compressed("src", src, dst, data, reverse={BACK: NEAR}),
        compressed("src", src[:-1], dst[:-1], {name: one[:-1] for name, one in data.items()}),
    ]
    assert len({graph_hash(graph) for graph in changed}) == len(changed)


def test_names_that_read_alike_when_joined_are_told_apart():
    edges = {TIES: ([0], [1])}
    one, other = (HeteroGraph.from_edges(edges, names={"gene": names}) for names in (["ab", "c"], ["a", "bc"]))
    assert graph_hash(one) != graph_hash(other)


def test_parallel_edges_swap_with_their_data_and_not_without():
    def graph(first, second):
        data = {"a": torch.tensor(first), "b": torch.tensor(second)}
        return HeteroGraph.from_edges({TIES: ([0, 0], [1, 1])}, names={"gene": ["A", "B"]}, edata={TIES: data})

    assert graph_hash(graph([1, 2], [5, 6])) == graph_hash(graph([2, 1], [6, 5]))
    assert graph_hash(graph([1, 2], [5, 6])) != graph_hash(graph([2, 1], [5, 6]))


def test_only_the_edge_types_asked_for_count():
    src, dst, data = parts()
    alone = compressed("src", src, dst, data)
    both = compressed("src", src, dst, data, reverse={BACK: NEAR})
    assert graph_hash(alone, [NEAR]) == graph_hash(both, [NEAR]) == graph_hash(both, [NEAR, NEAR])
    assert graph_hash(both, [BACK]) != graph_hash(both, [NEAR])
    renamed = compressed("dst", src, dst, data, names=dict(NAMES, cell=["another"]))
    assert graph_hash(renamed, [NEAR]) == graph_hash(alone, [NEAR])
    with pytest.raises(GraphError, match="no edge type"):
        graph_hash(alone, [TIES])


def test_node_data_count_when_asked_for():
    ndata = {"gene": {"svd": torch.arange(60.0).reshape(30, 2)}}
    other = {"gene": {"svd": ndata["gene"]["svd"].clone()}}
    other["gene"]["svd"][4, 1] += 1
    one, two = (compressed("src", *parts(), ndata=data) for data in (ndata, other))
    assert graph_hash(one) == graph_hash(two) == graph_hash(compressed("src", *parts()))
    assert graph_hash(one, node_data=True) != graph_hash(two, node_data=True)


def test_a_graph_without_edges_has_a_hash():
    empty = [HeteroGraph.from_edges({TIES: ([], [])}, names={"gene": names}) for names in ([], ["A"], ["A", "B"])]
    assert len({graph_hash(graph) for graph in empty}) == 3


def test_stores_are_told_apart_by_content_and_old_ones_by_recipe():
    info = {"assembly": "x", "recipe_hash": "1", "content_hash": "a", "created": "today", "format_version": "2"}
    marks = store_marks(info)
    assert marks == {"assembly": "x", "recipe_hash": "1", "content_hash": "a"}
    assert other_store(marks, dict(info, created="tomorrow")) is None
    assert "content a, this one has content b (the same recipe" in other_store(marks, dict(info, content_hash="b"))
    assert other_store(marks, dict(info, content_hash="b", recipe_hash="2")).endswith("this one has content b")
    old = {"recipe_hash": "1"}
    assert other_store(marks, old) is other_store(old, info) is None
    assert other_store({"recipe_hash": "2"}, info).endswith("a store of recipe 2, this one has recipe 1")
