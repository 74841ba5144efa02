"""Shards of cells against the graph built whole: the same nodes, edges and statistics, and the same batches for all."""

import json
import shutil
from itertools import chain
from time import process_time

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from heteromics.errors import DataError, DuplicateNames, EmptyCells, GraphError, NotCounts
from heteromics.graphs import cell_feature, load_graph, recipe
from heteromics.graphs._shard_build import regrouped
from heteromics.graphs.cell_feature import EXPRESSES, INTERACTS, PATHWAY, Interactions
from heteromics.graphs.sampling import CellBatcher, join_cells
from heteromics.graphs.schema import HeteroGraph
from heteromics.graphs.shards import ShardedGraph, build_in_shards, build_shards, save_shards

CELLS, FEATURES = 37, 19


def cells_of(seed=0, *, zeros=True, counts=False):
    """Batches that span shards, stored zeros, features without a cell."""
    rng = np.random.default_rng(seed)
    matrix = sp.random_array((CELLS, FEATURES), density=0.4, rng=rng, format="lil", dtype=np.float32)
    matrix[:, 15] = 0
    matrix[np.arange(CELLS), rng.integers(0, 15, CELLS)] = 1.5
    matrix = sp.csr_matrix(matrix)
    matrix.data[:] = rng.integers(1, 9, matrix.nnz) if counts else rng.uniform(0.1, 5, matrix.nnz)
    if zeros:
        matrix.data[[3, 40]] = 0
    cells = AnnData(matrix)
    cells.obs_names, cells.var_names = [f"cell{i}" for i in range(CELLS)], [f"G{j}" for j in range(FEATURES)]
    cells.obs["batch"] = rng.choice(["one", "two", "three"], CELLS)
    cells.obs["donor"] = rng.choice(["x", "y"], CELLS)
    return cells


SETS = pd.DataFrame({"gene_id": [f"G{j}" for j in range(12)], "pathway_id": list("ppppqqqqqrrr")})


def assert_same(one, other, rtol=0.0):
    assert (one.kind, one.canonical_etypes, one.reverse) == (other.kind, other.canonical_etypes, other.reverse)
    for ntype in one.ntypes:
        np.testing.assert_array_equal(one.names[ntype], other.names[ntype])
        mine, theirs = ({k: v for k, v in g.ndata(ntype).items() if k != "row"} for g in (one, other))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for etype in one.canonical_etypes:
        for mine, theirs in zip(one.adjacency(etype), other.adjacency(etype), strict=True):
            assert torch.equal(mine, theirs)
        assert one.edata(etype).keys() == other.edata(etype).keys()
        for name, values in one.edata(etype).items():
            torch.testing.assert_close(values, other.edata(etype)[name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("size", [1, 10, 37, 100])
def test_shards_end_to_end_are_the_whole_graph_bit_for_bit(tmp_path, size):
    cells = cells_of()
    whole = cell_feature(cells, obs=("batch", "donor"))
    sharded = build_shards(cells, tmp_path / "out", cells_per_shard=size, obs=("batch", "donor")).validate()
    assert sharded.sizes.tolist() == [min(size, CELLS - first) for first in range(0, CELLS, size)]
    assert_same(join_cells(list(sharded)), whole)
    assert {key: whole.meta[key] for key in sharded.meta} == sharded.meta
    assert sharded.meta["explicit_zeros_dropped"] == 2
    for number, shard in enumerate(sharded):
        alone = load_graph(tmp_path / "out" / f"shard-{number:05}").validate()
        assert_same(shard, alone)
        assert shard.ndata("cell")["row"].tolist() == whole.index("cell", shard.names["cell"]).tolist()
    np.testing.assert_array_equal(sharded.names("cell"), whole.names["cell"])
    np.testing.assert_array_equal(sharded.names("feature"), whole.names["feature"])


def test_statistics_of_a_batch_that_spans_shards_are_those_of_the_batch(tmp_path):
    """Against averages computed dense, cell by cell."""
    cells = cells_of(zeros=False)
    dense = cells.X.toarray().astype(np.float64)
    mean = pd.Series(dense.mean(1)).groupby(cells.obs["batch"].to_numpy()).transform("mean")
    greatest = pd.Series(dense.max(1)).groupby(cells.obs["batch"].to_numpy()).transform("mean")
    sharded = build_shards(cells, tmp_path / "out", cells_per_shard=8)
    found = torch.cat([shard.ndata("cell")["statistics"] for shard in sharded]).numpy()
    np.testing.assert_allclose(found[:, 0], mean, rtol=1e-6)
    np.testing.assert_allclose(found[:, 5], greatest, rtol=1e-6)
    for shard in sharded:
        assert shard.ndata("feature")["degree"].tolist() == np.count_nonzero(dense, axis=0).tolist()


@pytest.mark.parametrize("weighting", ["cosine", "one"])
@pytest.mark.parametrize("training", [None, [f"cell{i}" for i in range(4, 30)]], ids=["all", "some"])
def test_pathway_edges_are_those_of_the_whole_graph(tmp_path, weighting, training):
    cells = cells_of()
    options = {"pathways": SETS, "training_cells": training, "weighting": weighting, "threshold": 0.2}
    whole = cell_feature(cells, **options)
    sharded = build_shards(cells, tmp_path / "out", cells_per_shard=9, **options).validate()
    assert sharded.meta["match"] == whole.meta["match"]
    assert whole.num_edges(PATHWAY) > 0
    for shard in sharded:
        assert torch.equal(shard.adjacency(PATHWAY)[1], whole.adjacency(PATHWAY)[1])
    assert_same(join_cells(list(sharded)), whole, rtol=1e-6)


def test_interactions_are_those_of_the_whole_graph(tmp_path):
    cells = cells_of()
    links = Interactions(pd.DataFrame({"gene_a": ["G1", "G2", "G9"], "gene_b": ["G4", "G1", "absent"]}))
    whole = cell_feature(cells, pathways=SETS, interactions=links, weighting="one")
    sharded = build_shards(
        cells, tmp_path / "out", cells_per_shard=15, pathways=SETS, interactions=links, weighting="one"
    ).validate()
    assert whole.num_edges(INTERACTS) == 4
    assert_same(join_cells(list(sharded)), whole)
    assert sharded.meta["match"] == whole.meta["match"]


def test_a_graph_in_memory_is_cut_into_the_same_shards(tmp_path):
    cells = cells_of()
    whole = cell_feature(cells)
    built = build_shards(cells, tmp_path / "built", cells_per_shard=10)
    cut = save_shards(whole, tmp_path / "cut", cells_per_shard=10)
    for one, other in zip(built, cut, strict=True):
        assert_same(one, other)
        assert one.meta["transforms"] == other.meta["transforms"]
    assert built.card == cut.card


def test_the_card_is_that_of_the_whole(tmp_path):
    cells = cells_of()
    whole = cell_feature(cells, pathways=SETS, weighting="one")
    sharded = build_shards(cells, tmp_path / "out", cells_per_shard=10, pathways=SETS, weighting="one")
    assert (sharded.card.nodes, sharded.card.edges) == (whole.card.nodes, whole.card.edges)
    assert sharded.card.nodes["feature"].isolated == 1
    shards = [load_graph(tmp_path / "out" / f"shard-{number:05}").card.bytes for number in range(len(sharded))]
    for part in ("structure", "features"):
        assert sharded.card.bytes[part] == sum(each[part] for each in shards)
    assert sharded.card.bytes["names"] == whole.names["cell"].nbytes + len(shards) * whole.names["feature"].nbytes
    assert "cell_feature graph" in sharded.card.text()


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default")
@pytest.mark.parametrize("form", ["h5ad", "zarr", "backed", "dense"])
def test_files_on_disk_are_read_block_by_block(tmp_path, form):
    cells = cells_of(counts=True, zeros=False)
    whole = cell_feature(cells, expect="counts")
    if form == "dense":
        cells.X = cells.X.toarray()
    path = tmp_path / f"cells.{'zarr' if form == 'zarr' else 'h5ad'}"
    (cells.write_zarr if form == "zarr" else cells.write_h5ad)(path)
    if form == "backed":
        cells = anndata.read_h5ad(path, backed="r")
        sharded = build_shards(cells, tmp_path / "out", cells_per_shard=10, expect="counts", obs=("batch",))
        cells.file.close()
    else:
        sharded = build_shards(path, tmp_path / "out", cells_per_shard=10, expect="counts", obs=("batch",))
        assert sharded.meta["provenance"]["data"]["source"] == path.name
    assert_same(join_cells(list(sharded)), whole)


def heights(matrix, sizes):
    start = 0
    for size in sizes:
        yield matrix[start : start + size]
        start += size


@pytest.mark.parametrize("sizes", [[37], [1] * 37, [3, 0, 20, 14], [10, 10, 10, 7]])
def test_blocks_may_come_from_a_generator_in_any_heights(tmp_path, sizes):
    cells = cells_of()
    empty = AnnData(obs=cells.obs, var=cells.var)
    sharded = build_shards(empty, tmp_path / "out", cells_per_shard=10, blocks=heights(cells.X, sizes))
    assert_same(join_cells(list(sharded)), cell_feature(cells))


def test_one_long_block_costs_what_its_parts_cost():
    """Cut into 10,000 shards: no part of the block is copied again for each."""
    block = sp.random_array((50_000, 100), density=0.1, format="csr", dtype=np.float32, rng=np.random.default_rng(0))

    def seconds(parts):
        start = process_time()
        assert sum(part.shape[0] for part in parts) == 50_000
        return process_time() - start

    alone = seconds(block[first : first + 5] for first in range(0, 50_000, 5))
    assert seconds(regrouped([block], 50_000, 5)) < 4 * alone


@pytest.mark.parametrize(
    ("sizes", "columns", "message"),
    [
        ([30], FEATURES, "blocks: found 30 rows in all, expected 37"),
        ([30, 30], FEATURES, "blocks: found 60 rows or more, expected 37"),
        ([37], 12, "blocks: found 12 columns, expected 19"),
    ],
)
def test_blocks_that_do_not_fit_the_names_are_refused(tmp_path, sizes, columns, message):
    cells = cells_of()
    blocks = [sp.csr_array(np.ones((size, columns), np.float32)) for size in sizes]
    with pytest.raises(DataError, match=message):
        build_shards(AnnData(obs=cells.obs, var=cells.var), tmp_path / "out", cells_per_shard=10, blocks=blocks)
    assert not any(tmp_path.iterdir())


def test_bad_values_are_named_and_leave_nothing(tmp_path):
    cells = cells_of(zeros=False)
    with pytest.raises(NotCounts, match="X, cells 0 to 9: expected counts"):
        build_shards(cells, tmp_path / "out", cells_per_shard=10, expect="counts")
    cells.X.data[cells.X.indptr[33] : cells.X.indptr[34]] = 0
    with pytest.raises(EmptyCells, match="X: 1 of the cells 30 to 36 have no value but zero: cell33"):
        build_shards(cells, tmp_path / "out", cells_per_shard=10)
    cells = cells_of()
    cells.obs_names = [*cells.obs_names[:-1], "cell0"]
    with pytest.raises(DuplicateNames, match="cells"):
        build_shards(cells, tmp_path / "out", cells_per_shard=10)
    for wrong in ({"expect": "counted"}, {"weighting": "two"}, {"cells_per_shard": 0}):
        with pytest.raises(GraphError, match="found"):
            build_shards(cells_of(), tmp_path / "out", **{"cells_per_shard": 10, **wrong})
    with pytest.raises(EmptyCells, match="found no cell"):
        build_shards(cells_of()[:0].copy(), tmp_path / "out", cells_per_shard=10)
    assert not any(tmp_path.iterdir())


def test_a_build_that_breaks_leaves_older_shards(tmp_path):
    out = tmp_path / "out"
    before = build_shards(cells_of(), out, cells_per_shard=10)
    broken = cells_of()
    broken.X.data[-1] = np.nan
    with pytest.raises(DataError, match="X, cells 30 to 36"):
        build_shards(broken, out, cells_per_shard=10)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert_same(join_cells(list(before.validate())), cell_feature(cells_of()))
    assert len(build_shards(cells_of(1), out, cells_per_shard=20)) == 2
    assert sorted(path.name for path in out.iterdir()) == ["shard-00000", "shard-00001", "shards.json"]


def test_what_is_no_shards_is_left_and_not_read(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(GraphError, match="holds no shards of a heteromics graph, so it is left"):
        build_shards(cells_of(), tmp_path, cells_per_shard=10)
    with pytest.raises(GraphError, match="no shards of a heteromics graph there"):
        ShardedGraph.open(tmp_path)
    sharded = build_shards(cells_of(), tmp_path / "out", cells_per_shard=10)
    index = json.loads((sharded.folder / "shards.json").read_text())
    (sharded.folder / "shards.json").write_text(json.dumps(index | {"version": 99}))
    with pytest.raises(GraphError, match="found shards of format 99, this release reads format 1"):
        ShardedGraph.open(sharded.folder)


def test_changed_shards_are_all_named(tmp_path):
    sharded = build_shards(cells_of(), tmp_path / "out", cells_per_shard=10)
    edges = sharded.folder / "shard-00001" / "edges" / "cell-expresses-feature.parquet"
    edges.write_bytes(edges.read_bytes()[:-1])
    shutil.rmtree(sharded.folder / "shard-00002")
    other = build_shards(cells_of(3), tmp_path / "other", cells_per_shard=10)
    shutil.copytree(other.folder / "shard-00003", sharded.folder / "shard-00003", dirs_exist_ok=True)
    assert sharded.shard(0).num_nodes("cell") == 10
    with pytest.raises(GraphError, match="3 problems") as caught:
        sharded.validate()
    assert [problem[:11] for problem in caught.value.problems] == ["shard-00001", "shard-00002", "shard-00003"]


def test_shards_that_do_not_fit_together_are_found(tmp_path):
    """Two sets of shards mixed, with their checksums mended, so that only the contents tell."""
    one = build_shards(cells_of(), tmp_path / "one", cells_per_shard=20)
    narrow = cells_of()[:, :12].copy()
    two = build_shards(narrow[narrow.X.getnnz(axis=1) > 0].copy(), tmp_path / "two", cells_per_shard=20)
    shutil.rmtree(one.folder / "shard-00001")
    shutil.copytree(two.folder / "shard-00000", one.folder / "shard-00001")
    index = json.loads((one.folder / "shards.json").read_text())
    index["shards"][1]["sha256"] = json.loads((two.folder / "shards.json").read_text())["shards"][0]["sha256"]
    (one.folder / "shards.json").write_text(json.dumps(index))
    with pytest.raises(GraphError, match="20 cells, shards.json says 17") as caught:
        ShardedGraph.open(one.folder).validate()
    assert any("nodes 'feature' are not those of the first shard" in problem for problem in caught.value.problems)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return build_shards(cells_of(), tmp_path_factory.mktemp("shards") / "out", cells_per_shard=5)


def flat(lists):
    return list(chain.from_iterable(lists))


def rows(batches):
    return [batch.ndata("cell")["row"].tolist() for batch in batches]


@pytest.mark.parametrize("window", [1, 3, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_ranks_together_make_the_batches_of_one_worker(sharded, window, world_size, epoch):
    options = {"seed": 4, "epoch": epoch, "window": window}
    alone = rows(sharded.batches(2 * world_size, **options))
    ranks = [rows(sharded.batches(2, rank=rank, world_size=world_size, **options)) for rank in range(world_size)]
    assert [flat(parts) for parts in zip(*ranks, strict=True)] == alone
    assert len(alone) == sharded.steps(2, world_size=world_size) == CELLS // (2 * world_size)
    seen = flat(alone)
    assert len(set(seen)) == len(seen) == len(alone) * 2 * world_size


def test_an_epoch_without_dropping_holds_each_cell_once(sharded):
    found = rows(sharded.batches(8, drop_last=False, window=2))
    assert [len(each) for each in found] == [8, 8, 8, 8, 5]
    assert sharded.steps(8, drop_last=False) == 5
    assert sorted(flat(found)) == list(range(CELLS))
    assert flat(rows(sharded.batches(8, drop_last=False, shuffle=False))) == list(range(CELLS))
    assert rows(sharded.batches(8, epoch=0)) == rows(sharded.batches(8, epoch=0))
    assert rows(sharded.batches(8, epoch=0)) != rows(sharded.batches(8, epoch=1))
    assert rows(sharded.batches(8, seed=0)) != rows(sharded.batches(8, seed=1))


def test_a_window_of_one_shard_mixes_within_shards_and_all_shards_mix_all(sharded):
    narrow = flat(rows(sharded.batches(5, window=1, drop_last=False)))
    assert all(len({row // 5 for row in narrow[start : start + 5]}) <= 2 for start in range(0, 35, 5))
    wide = flat(rows(sharded.batches(5, window=100, drop_last=False)))
    assert any(len({row // 5 for row in wide[start : start + 5]}) > 3 for start in range(0, 35, 5))


def test_a_batch_is_the_batch_of_the_whole_graph(sharded):
    whole = cell_feature(cells_of())
    batcher = CellBatcher(whole, 6)
    for batch in sharded.batches(6, seed=2, window=2):
        expected = batcher.batch(batch.ndata("cell")["row"])
        assert_same(batch.validate(), expected)
        assert batch.meta["transforms"][-1]["name"] == "shard_batch"
        assert [each["name"] for each in batch.meta["transforms"]] == ["shard_batch"]
        assert torch.equal(batch.ndata("cell")["row"], expected.ndata("cell")["row"])
    steps = [batch.meta["transforms"][-1]["step"] for batch in sharded.batches(6, drop_last=False)]
    assert steps == list(range(7))


def test_workers_may_divide_the_shards(sharded):
    parts = [[shard.ndata("cell")["row"].tolist() for shard in sharded.iterate(rank, 3)] for rank in range(3)]
    assert sorted(flat(flat(parts))) == list(range(CELLS))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert list(ShardedGraph.open(sharded.folder).iterate(8, 9)) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "found size=0 and window=4"),
        ({"size": 2, "window": 0}, "found size=2 and window=0"),
        ({"size": 19, "world_size": 2}, "found 37 cells, expected 38 or more, those of one global batch"),
        ({"size": 2, "rank": 2, "world_size": 2}, "found rank 2 of 2, expected 0 to 1"),
        ({"size": 2, "world_size": 2, "drop_last": False}, "gives 2 ranks last batches of different sizes"),
    ],
)
def test_impossible_batches_are_refused(sharded, given, message):
    with pytest.raises(GraphError, match=message):
        next(sharded.batches(**given))


def test_batches_may_be_left_before_their_end(sharded):
    batches = sharded.batches(2)
    next(batches)
    batches.close()


def test_graphs_that_shards_would_tear_are_refused(tmp_path):
    joined = HeteroGraph.from_edges({("cell", "neighbors", "cell"): ([0, 1], [1, 0])}, names={"cell": ["a", "b"]})
    with pytest.raises(GraphError, match=r"2 edges \('cell', 'neighbors', 'cell'\) join cells"):
        save_shards(joined, tmp_path / "out", cells_per_shard=1)
    other = HeteroGraph.from_edges({("a", "to", "b"): ([0], [0])}, names={"a": ["x"], "b": ["y"]})
    with pytest.raises(GraphError, match="found a custom graph with nodes a, b, expected nodes 'cell'"):
        save_shards(other, tmp_path / "out", cells_per_shard=1)
    assert not any(tmp_path.iterdir())


def test_a_recipe_builds_in_shards_what_it_builds_whole(tmp_path):
    cells = cells_of(counts=True, zeros=False)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    sets = ['obs=["batch"]', "training.column=donor", "training.value=x"]
    whole = recipe.build("cell_feature", tmp_path / "cells.h5ad", sets=sets)
    sharded = build_in_shards("cell_feature", tmp_path / "cells.h5ad", tmp_path / "out", 10, sets=sets).validate()
    assert_same(join_cells(list(sharded)), whole)
    assert sharded.meta["recipe"] == whole.meta["recipe"]
    assert sharded.meta["parameters"] == whole.meta["parameters"]
    with pytest.raises(GraphError, match="a bipartite graph is not divided into shards by cells"):
        build_in_shards("bipartite", tmp_path / "cells.h5ad", tmp_path / "other", 10)


def test_values_weigh_alike_in_every_shard(tmp_path):
    """Edges of a shard carry the weights of the matrix."""
    cells = cells_of(zeros=False)
    sharded = build_shards(cells, tmp_path / "out", cells_per_shard=11)
    start = 0
    for shard in sharded:
        indptr, indices, _ = shard.adjacency(EXPRESSES)
        values = shard.edata(EXPRESSES)["weight"]
        shape = (shard.num_nodes("cell"), FEATURES)
        found = sp.csr_array((values.numpy(), indices.numpy(), indptr.numpy()), shape=shape).toarray()
        np.testing.assert_array_equal(found, cells.X[start : start + shape[0]].toarray())
        start += shape[0]
    assert start == CELLS
