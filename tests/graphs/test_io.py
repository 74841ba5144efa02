import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch

from heteromics.errors import GraphError
from heteromics.graphs import Compressed, HeteroGraph, io
from heteromics.graphs._dgl import dgl

OUT = ("cell", "expresses", "feature")
BACK = ("feature", "expressed_by", "cell")
NEAR = ("feature", "near", "feature")


def graph_of(by="src", seed=0):
    torch.manual_seed(seed)
    csr = sp.random_array((6, 9), density=0.4, format="csr", dtype=np.float32, rng=seed)
    csr.sort_indices()
    held = csr if by == "src" else csr.tocsc()
    part = Compressed(by, *(torch.from_numpy(np.array(array, np.int32)) for array in (held.indptr, held.indices)))
    near = Compressed("src", torch.tensor([0, 2] + [2] * 8), torch.tensor([3, 1]))
    return HeteroGraph.from_compressed(
        {OUT: part, NEAR: near},
        names={"cell": [f"c{i}" for i in range(6)], "feature": [f"f {i}·é" for i in range(9)], "alone": []},
        ndata={
            "cell": {"half": torch.rand(6, 2).to(torch.bfloat16), "code": torch.arange(6)},
            "feature": {"turned": torch.rand(3, 9).T, "code": torch.arange(9, dtype=torch.int32)},
        },
        edata={
            OUT: {"weight": torch.from_numpy(held.data.copy())},
            NEAR: {
                "distance": torch.tensor([7, -1]),
                "pair": torch.rand(2, 3, dtype=torch.float64),
                "on": torch.tensor([True, False]),
            },
        },
        kind="somekind",
        meta={"builder": "test", "words": ["ä", 1, None]},
        reverse={BACK: OUT},
    )


def assert_same(one, other):
    assert (one.kind, one.meta, one.reverse, one.ntypes, one.canonical_etypes) == (
        other.kind,
        other.meta,
        other.reverse,
        other.ntypes,
        other.canonical_etypes,
    )
    for ntype in one.ntypes:
        np.testing.assert_array_equal(one.names[ntype], other.names[ntype])
        assert_same_data(one.ndata(ntype), other.ndata(ntype))
    for etype in one.canonical_etypes:
        assert_same_data(one.edata(etype), other.edata(etype))
        for by in ("src", "dst"):
            for mine, theirs in zip(one.adjacency(etype, by), other.adjacency(etype, by), strict=True):
                assert mine.dtype == theirs.dtype
                assert torch.equal(mine, theirs)


def assert_same_data(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name])


@pytest.mark.parametrize("by", ["src", "dst"])
def test_round_trip_is_identical(tmp_path, by):
    graph = graph_of(by)
    assert graph.save(tmp_path / "deep" / "graph") == tmp_path / "deep" / "graph"
    loaded = HeteroGraph.load(tmp_path / "deep" / "graph").validate()
    assert_same(graph, loaded)
    assert loaded.edata(OUT)["weight"].data_ptr() == loaded.edata(BACK)["weight"].data_ptr()
    ours, theirs = loaded.adjacency(OUT, by), loaded.adjacency(BACK, "dst" if by == "src" else "src")
    assert [part.data_ptr() for part in ours[:2]] == [part.data_ptr() for part in theirs[:2]]


def test_saved_after_the_other_side_was_made_is_the_same(tmp_path):
    graph = graph_of("dst")
    graph.adjacency(OUT, by="src")
    graph.save(tmp_path / "g")
    held = {tuple(entry["type"]): entry.get("stored_by") for entry in io.read_schema(tmp_path / "g")["edges"]}
    assert held == {OUT: "dst", NEAR: "src", BACK: None}
    torch.testing.assert_close(HeteroGraph.load(tmp_path / "g").edata(OUT)["weight"], graph.edata(OUT)["weight"])


def test_a_wrapped_graph_comes_back_sorted_with_its_data(tmp_path):
    bare = dgl.heterograph(
        {OUT: (torch.tensor([1, 0, 1]), torch.tensor([0, 2, 1]))}, num_nodes_dict={"cell": 2, "feature": 3}
    )
    bare.edges[OUT].data["weight"] = torch.tensor([10.0, 2.0, 11.0])
    HeteroGraph(bare, names={"cell": ["a", "b"], "feature": ["x", "y", "z"]}).save(tmp_path / "g")
    loaded = HeteroGraph.load(tmp_path / "g")
    assert loaded.adjacency(OUT)[1].tolist() == [2, 0, 1]
    assert loaded.edata(OUT)["weight"].tolist() == [2.0, 10.0, 11.0]


def test_the_folder_is_readable_by_others(tmp_path):
    graph_of().save(tmp_path / "g")
    files = sorted(
        path.relative_to(tmp_path / "g").as_posix() for path in (tmp_path / "g").rglob("*") if path.is_file()
    )
    assert files == [
        "edges/cell-expresses-feature.parquet",
        "edges/feature-near-feature.parquet",
        "features.safetensors",
        "names/alone.parquet",
        "names/cell.parquet",
        "names/feature.parquet",
        "schema.json",
    ]
    edges = pq.read_table(tmp_path / "g" / files[1]).to_pylist()
    assert [(row["src"], row["dst"], row["distance"], row["on"]) for row in edges] == [
        (0, 3, 7, True),
        (0, 1, -1, False),
    ]
    assert len(edges[0]["pair"]) == 3


def test_an_older_graph_is_replaced_and_nothing_else(tmp_path):
    target = tmp_path / "g"
    graph_of(seed=0).save(target)
    graph_of(seed=1).save(target)
    assert_same_data(HeteroGraph.load(target).edata(OUT), graph_of(seed=1).edata(OUT))
    (tmp_path / "empty").mkdir()
    graph_of().save(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(GraphError, match="mine exists and is no heteromics graph, so it is left as it is"):
        graph_of().save(tmp_path / "mine")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(GraphError, match="file exists and is no heteromics graph"):
        graph_of().save(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "g", "mine"]


@pytest.mark.parametrize("moment", ["_write_features", "sha256_of"])
def test_a_save_that_breaks_leaves_the_old_graph(tmp_path, monkeypatch, moment):
    target = tmp_path / "g"
    graph_of(seed=0).save(target)

    def full_disk(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(io, moment, full_disk)
        with pytest.raises(OSError, match="no space left"):
            graph_of(seed=1).save(target)
    assert_same(graph_of(seed=0), HeteroGraph.load(target))
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_a_save_killed_between_the_renames_is_undone(tmp_path, monkeypatch):
    target = tmp_path / "g"
    graph_of(seed=0).save(target)
    rename = type(target).rename

    def breaks(self, to):
        if "partial" in self.name:
            raise OSError("killed")
        return rename(self, to)

    monkeypatch.setattr(type(target), "rename", breaks)
    with pytest.raises(OSError, match="killed"):
        graph_of(seed=1).save(target)
    assert_same(graph_of(seed=0), HeteroGraph.load(target))


def test_features_that_are_parts_of_one_array_are_each_written(tmp_path):
    whole = torch.arange(10.0)
    graph = HeteroGraph.from_edges(
        {("a", "to", "b"): ([0], [1])},
        names={"a": ["x", "y"], "b": ["p", "q"]},
        ndata={"a": {"first": whole[:2]}, "b": {"second": whole[1:3], "same": whole[:2]}},
    )
    again = HeteroGraph.load(graph.save(tmp_path / "g"))
    assert again.ndata("a")["first"].tolist() == again.ndata("b")["same"].tolist() == [0, 1]
    assert again.ndata("b")["second"].tolist() == [1, 2]


def test_an_invalid_graph_is_not_saved(tmp_path):
    graph = graph_of()
    graph.dgl.nodes["feature"].data["turned"] = torch.full((9,), torch.inf)
    with pytest.raises(GraphError, match="9 of 9 values of 'turned' are NaN or infinite"):
        graph.save(tmp_path / "g")
    assert not list(tmp_path.iterdir())


def test_what_parquet_cannot_hold_is_named(tmp_path):
    graph = graph_of()
    graph.dgl.edges[NEAR].data["deep"] = torch.rand(2, 2, 2)
    graph.dgl.edges[NEAR].data["brain"] = torch.rand(2).to(torch.bfloat16)
    with pytest.raises(GraphError, match="cannot be written") as raised:
        graph.save(tmp_path / "g")
    assert len(raised.value.problems) == 2
    graph = graph_of()
    graph.dgl.edges[NEAR].data["empty"] = torch.rand(2, 0)
    with pytest.raises(GraphError, match=r"'empty' \(float32, shape \(2, 0\)\): Parquet takes one or two axes"):
        graph.save(tmp_path / "g")
    odd = HeteroGraph.from_edges({("a/b", "to", "c"): ([0], [0])}, names={"a/b": ["x"], "c": ["y"]})
    with pytest.raises(GraphError, match="type 'a/b': letters, digits and _ only"):
        odd.save(tmp_path / "g")


def change(**fields):
    def edit(folder):
        path = folder / "schema.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return edit


def rewrite_edges(folder):
    path = folder / "edges" / "cell-expresses-feature.parquet"
    pq.write_table(pq.read_table(path).slice(0, 5), path)
    sums = json.loads((folder / "schema.json").read_text())["files"]
    change(files={**sums, "edges/cell-expresses-feature.parquet": io.sha256_of(path)})(folder)


def truncate(folder):
    path = folder / "features.safetensors"
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "schema.json").unlink(), "no heteromics graph there .schema.json not found"),
        (lambda f: (f / "schema.json").write_text("{"), "schema.json is broken: .* Fix: save the graph again"),
        (lambda f: (f / "schema.json").write_text("[]"), "this is no schema of a heteromics graph"),
        (change(format="other"), "this is no schema of a heteromics graph"),
        (lambda f: (f / "schema.json").write_text('{"format": "heteromics graph", "version": 1}'), "no kind, nodes"),
        (change(version=99), r"found graph format 99, this release reads format 1\.\n  Fix: build the graph again"),
        (lambda f: (f / "names" / "cell.parquet").unlink(), "1 of 6 files are missing: names/cell.parquet"),
        (truncate, r"1 of 6 files are not what was saved \(checksum\): features.safetensors"),
        (rewrite_edges, "cell-expresses-feature.parquet: found 5 rows, schema.json says 22"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    folder = graph_of().save(tmp_path / "g")
    damage(folder)
    with pytest.raises(GraphError, match=message):
        HeteroGraph.load(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(GraphError, match="nowhere: no heteromics graph there"):
        HeteroGraph.load(tmp_path / "nowhere")
