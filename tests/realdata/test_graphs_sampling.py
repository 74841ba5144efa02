"""Real bone marrow cells in shards and in batches, against the graph built whole."""

import numpy as np
import pytest
import torch

from heteromics.data import read
from heteromics.graphs import CellBatcher, cell_feature, join_cells, partition_cells, recipe
from heteromics.graphs.cell_feature import EXPRESSED_BY, EXPRESSES
from heteromics.graphs.shards import build_in_shards, build_shards
from heteromics.nn import Relation

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def path(mirror):
    return mirror / "cite_bmmc_neurips2021" / "common.output_rna.h5ad"


@pytest.fixture(scope="module")
def whole(path):
    """600 cells of two batches, 1,000 genes."""
    return cell_feature(read(path, modality="rna", layer="counts"), obs=("batch", "cell_type"), expect="counts")


def assert_same(one, other):
    for ntype in one.ntypes:
        np.testing.assert_array_equal(one.names[ntype], other.names[ntype])
        for name in other.ndata(ntype).keys() - {"row"}:
            assert torch.equal(one.ndata(ntype)[name], other.ndata(ntype)[name])
    for etype in one.canonical_etypes:
        for mine, theirs in zip(one.adjacency(etype), other.adjacency(etype), strict=True):
            assert torch.equal(mine, theirs)
        assert torch.equal(one.edata(etype)["weight"], other.edata(etype)["weight"])


def test_marrow_in_shards_is_marrow_whole(path, whole, tmp_path):
    """Both batches span shards; statistics averaged over them are the same bit for bit."""
    assert (whole.num_nodes("cell"), whole.num_nodes("feature")) == (600, 1_000)
    sharded = build_shards(
        path, tmp_path / "shards", cells_per_shard=130, layer="counts", obs=("batch", "cell_type"), expect="counts"
    ).validate()
    assert sharded.sizes.tolist() == [130, 130, 130, 130, 80]
    found = [set(shard.ndata("cell")["batch"].tolist()) for shard in sharded]
    assert all(sum(code in codes for codes in found) > 1 for code in (0, 1))
    assert_same(join_cells(list(sharded)), whole)
    assert (sharded.card.nodes, sharded.card.edges) == (whole.card.nodes, whole.card.edges)
    assert sharded.meta["categories"] == whole.meta["categories"]


def test_the_recipe_gives_in_shards_what_it_gives_whole(path, tmp_path):
    sets = ["data.layer=counts", 'obs=["batch"]']
    sharded = build_in_shards("cell_feature", path, tmp_path / "shards", 250, sets=sets)
    assert_same(join_cells(list(sharded)), recipe.build("cell_feature", path, sets=sets))


def test_messages_to_cells_are_the_same_in_batches_parts_and_whole(whole):
    """Every gene of a cell comes with it, so that one layer of messages to cells needs no other cell."""
    torch.manual_seed(0)
    h = torch.rand(1_000, 8)
    expected = Relation.from_graph(whole, EXPRESSED_BY).spmm(h, reduce="mean")
    for small in (*CellBatcher(whole, 128, seed=1), *partition_cells(whole, 3, "values")):
        found = Relation.from_graph(small, EXPRESSED_BY).spmm(h, reduce="mean")
        torch.testing.assert_close(found, expected[small.ndata("cell")["row"]])


def test_half_of_the_genes_hold_most_of_the_values(whole):
    """Genes drawn in proportion to their degree: 500 of 1,000 keep far more than half of the edges of a batch."""
    share = []
    for batch in CellBatcher(whole, 200, features=0.5, seed=0):
        assert batch.num_nodes("feature") == 500
        every = CellBatcher(whole, 200).batch(batch.ndata("cell")["row"]).num_edges(EXPRESSES)
        share.append(batch.num_edges(EXPRESSES) / every)
    assert min(share) > 0.6
